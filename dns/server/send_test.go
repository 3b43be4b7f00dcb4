package server

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// Where the interface does not keep up, answers wait for it once, not each in
// its turn: meanwhile nothing is received, for other interfaces neither.
func TestAStuckInterfaceIsWaitedForOnce(t *testing.T) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	st := &stats{transport: UDP}
	u, err := newUDPSocket(c.(*net.UDPConn), false, st)
	if err != nil {
		t.Fatal(err)
	}
	defer u.close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0) // stands for a socket whose room is all in use
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	for err == nil {
		err = unix.Send(pair[0], []byte("x"), unix.MSG_DONTWAIT)
	}
	u.fd = uintptr(pair[0])
	for i := range 5 {
		u.outVec[i].SetLen(1)
	}
	u.n = 5
	u.transmit()
	if dropped := st.drops[dropSend].Load(); dropped != 5 || u.calls != 2 {
		t.Errorf("%d answers dropped by %d system calls, want 5 by 2", dropped, u.calls)
	}
}
