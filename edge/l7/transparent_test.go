package l7

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"meridian/internal/testkit"
	"meridian/internal/testkit/netns"
)

// The endpoint sees the client's own address, and its answers come back through the
// gateway, over TCP and UDP, IPv4 and IPv6: with the rule and route of the manual.
func TestTransparent(t *testing.T) {
	testkit.Root(t)
	var spaces []*netns.NS
	for _, name := range []string{"gateway", "endpoint"} {
		ns, err := netns.New(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ns.Close() })
		spaces = append(spaces, ns)
	}
	gateway, endpoint := spaces[0], spaces[1]
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	p := netip.MustParsePrefix
	must(netns.Veth(netns.End{NS: gateway, Dev: "eth0", Addrs: []netip.Prefix{p("10.9.0.1/24"), p("fd09::1/64")}},
		netns.End{NS: endpoint, Dev: "eth0", Addrs: []netip.Prefix{p("10.9.0.2/24"), p("fd09::2/64")}}, 1500))
	for _, way := range []struct {
		clients, all, from string
		family             int
		via                string
	}{
		{"198.51.100.0/24", "0.0.0.0/0", "10.9.0.2/32", unix.AF_INET, "10.9.0.1"},
		{"2001:db8:7::/64", "::/0", "fd09::2/128", unix.AF_INET6, "fd09::1"},
	} {
		must(endpoint.AddRoute(p(way.clients), netip.MustParseAddr(way.via)))
		rule := netlink.NewRule()
		rule.Family, rule.Src, rule.IifName, rule.Table = way.family, netns.IPNet(p(way.from)), "eth0", 100
		must(gateway.Netlink().RuleAdd(rule))
		lo, err := gateway.Netlink().LinkByName("lo")
		must(err)
		must(gateway.Netlink().RouteAdd(&netlink.Route{Dst: netns.IPNet(p(way.all)), LinkIndex: lo.Attrs().Index, Table: 100, Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST}))
	}
	for client, at := range map[string]string{"198.51.100.7": "10.9.0.2:80", "2001:db8:7::7": "[fd09::2]:80"} {
		l, err := endpoint.Listen("tcp", at)
		must(err)
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprint(c, c.RemoteAddr().(*net.TCPAddr).IP)
				c.Close()
			}
		}()
		u, err := endpoint.ListenPacket("udp", at)
		must(err)
		defer u.Close()
		go func() {
			b := make([]byte, 100)
			for {
				_, from, err := u.ReadFrom(b)
				if err != nil {
					return
				}
				u.WriteTo([]byte(from.(*net.UDPAddr).IP.String()), from)
			}
		}()
		for _, network := range []string{"tcp", "udp"} {
			var c net.Conn
			d := net.Dialer{Timeout: 10 * time.Second}
			d.SetMultipathTCP(false)
			transparent(&d, network, netip.MustParseAddr(client))
			must(gateway.Enter(func() (err error) {
				c, err = d.DialContext(context.Background(), network, at)
				return err
			}))
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			_, err = c.Write([]byte("who"))
			must(err)
			b := make([]byte, 100)
			n, err := c.Read(b)
			if err != nil || string(b[:n]) != client {
				t.Errorf("%s: the endpoint saw %q, %v, expected %s", network, b[:n], err, client)
			}
		}
	}
}
