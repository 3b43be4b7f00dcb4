package server

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// RFC 9715 §3.1: sockets do not go by a path MTU that ICMP tells of, so that nobody can have answers fragmented.
func TestRFC9715NoPathMTU(t *testing.T) {
	for _, c := range []struct {
		network, at         string
		v6                  bool
		level, option, want int
	}{
		{"udp4", "127.0.0.1:0", false, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT},
		{"udp6", "[::1]:0", true, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT},
	} {
		lc := net.ListenConfig{Control: controlUDP(c.v6, false)}
		pc, err := lc.ListenPacket(t.Context(), c.network, c.at)
		if err != nil {
			t.Fatal(err)
		}
		defer pc.Close()
		raw, err := pc.(*net.UDPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) {
			if got, err := unix.GetsockoptInt(int(fd), c.level, c.option); err != nil || got != c.want {
				t.Errorf("%s: %d, %v", c.network, got, err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
}
