package server

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A socket that wakes and has no end of work then leaves others their turns on
// its processor: the runtime, which may sleep as well, hears that there is work.
func TestASocketThatWakesLeavesTurnsToOthers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u, err := newUDPSocket(c.(*net.UDPConn), false, &stats{transport: UDP})
	if err != nil {
		t.Fatal(err)
	}
	defer u.close()
	told, tell, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer told.Close()
	defer tell.Close()
	fd := tell.Fd()

	var heard atomic.Bool
	go func() { // another, which waits for the poller
		if n, _ := told.Read(make([]byte, 1)); n == 1 {
			heard.Store(true)
		}
	}()
	peer, err := net.Dial("udp4", u.local.String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	out, err := peer.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	socket := out.Fd()
	took := make(chan time.Duration)
	go func() {
		u.makeRoom()
		err := u.poll.Read(u.receive)
		begun := time.Now()
		one := uintptr(unsafe.Pointer(&u.answers[0][0]))
		unix.RawSyscall(unix.SYS_WRITE, fd, one, 1)
		for err == nil && !heard.Load() && time.Since(begun) < 5*time.Second {
			unix.RawSyscall(unix.SYS_WRITE, socket, one, 1)
			u.makeRoom()
			u.recvmmsg(0)
		}
		took <- time.Since(begun)
	}()
	cmd := exec.Command("sh", "-c", "sleep 0.1; printf x >&3") // when all sleep
	cmd.ExtraFiles = []*os.File{out}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if d := <-took; !heard.Load() || d > 4*time.Second {
		t.Errorf("no other goroutine had a turn for %v", d)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
