package server

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"meridian/internal/testkit"
	"meridian/internal/testkit/netns"
)

// Port 0 stands for one that is free for UDP and for TCP, of however few.
func TestPortFreeForBoth(t *testing.T) {
	testkit.Root(t)
	ns, err := netns.New("ports")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	const first, last = 40000, 40003
	err = ns.Do(func() error {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", fmt.Appendf(nil, "%d %d", first, last), 0); err != nil {
			return err
		}
		for port := first; port < last; port++ {
			c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
			if err != nil {
				return err
			}
			defer c.Close()
		}
		s, err := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Logger: quiet})
		if err != nil {
			return err
		}
		if err := s.Open(t.Context()); err != nil {
			return err
		}
		for _, o := range s.open {
			defer o.close()
		}
		if got := s.Addrs(); len(got) != 1 || got[0].Port() != last {
			return fmt.Errorf("listening at %v, want port %d", got, last)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
