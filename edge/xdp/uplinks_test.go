package xdp

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"meridian/fleet"
	"meridian/internal/testkit/netns"
)

// uplink gives the balancer a second link to the router, eth1 to to-lb1.
func (r *region) uplink(mtu int) {
	r.t.Helper()
	ends := func(host int) []netip.Prefix {
		return []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.7.101.%d/24", host)), netip.MustParsePrefix(fmt.Sprintf("fd07:101::%d/64", host))}
	}
	r.must(netns.Veth(netns.End{NS: r.lb, Dev: "eth1", Addrs: ends(2)}, netns.End{NS: r.router, Dev: "to-lb1", Addrs: ends(1)}, mtu))
}

// byUplink has the balancer's kernel reach a gateway by eth1.
func (r *region) byUplink(gateway string) {
	r.t.Helper()
	net := map[string]string{"gw1": "2", "gw2": "3"}[gateway]
	r.must(r.lb.AddRoute(netip.MustParsePrefix("10.7."+net+".2/32"), netip.MustParseAddr("10.7.101.1")))
	r.must(r.lb.AddRoute(netip.MustParsePrefix("fd07:"+net+"::2/128"), netip.MustParseAddr("fd07:101::1")))
}

// reachedBy gives what the balancer's tables say of the ways to a gateway: the
// device's name and the next hop's MAC address, for each family.
func (r *region) reachedBy(gateway string) (out []string) {
	r.t.Helper()
	for _, e := range r.endpoints("lb", gateway) {
		dev := "eth0"
		if e.Device != 0 {
			link, err := r.lb.Netlink().LinkByIndex(int(e.Device))
			r.must(err)
			dev = link.Attrs().Name
		}
		if e.NextHop.Set == 0 {
			dev += " unknown"
		} else {
			dev += " " + net.HardwareAddr(e.NextHop.Octet[:]).String()
		}
		out = append(out, dev)
	}
	slices.Sort(out)
	return out
}

// endpoints gives the records that a node's tables have of a gateway.
func (r *region) endpoints(node, gateway string) (out []edgeEndpoint) {
	r.t.Helper()
	l := r.nodes[node]
	r.must(l.tables.look(func(k *kernel, d *desired) error {
		for key, o := range *l.orders.Load() {
			if key.target.Node != gateway {
				continue
			}
			var e edgeEndpoint
			if err := k.Endpoints.Lookup(uint32(o.endpoint), &e); err != nil {
				return err
			}
			out = append(out, e)
		}
		return nil
	}))
	return out
}

// routersMAC is that of one of the router's devices.
func (r *region) routersMAC(dev string) string {
	r.t.Helper()
	link, err := r.router.Netlink().LinkByName(dev)
	r.must(err)
	return link.Attrs().HardwareAddr.String()
}

// follows waits until the tables say that a gateway is reached by a device of the
// balancer's, by the router's at its other end.
func (r *region) follows(gateway, dev, routers string) {
	r.t.Helper()
	want := dev + " " + r.routersMAC(routers)
	eventually(r.t, gateway+" is reached by "+want, func() bool { return slices.Equal(r.reachedBy(gateway), []string{want, want}) })
}

// reachedAll sees gateways answer through the VIPs, and gives how many packets
// came to the router by a device meanwhile.
func (r *region) reachedAll(dev string) uint64 {
	r.t.Helper()
	packets := func() uint64 {
		link, err := r.router.Netlink().LinkByName(dev)
		r.must(err)
		return link.Attrs().Statistics.RxPackets
	}
	before := packets()
	for _, vip := range []netip.Addr{vip4, vip6} {
		r.reachesBoth(vip)
		for range 8 { // to either gateway
			if got, err := r.post(vip, 100_000); err != nil || !strings.HasSuffix(got, " 100000") {
				r.t.Errorf("%s: %q, %v", vip, got, err)
			}
		}
	}
	return packets() - before
}

// An endpoint is reached by the link that its route says: the program follows a
// route to another link, another MAC address at its end, and the link's end,
// while connections go on.
func TestSeveralUplinks(t *testing.T) {
	for _, mode := range []Mode{Native, Generic} {
		t.Run(string(mode), func(t *testing.T) {
			r := newRegion(t, regionSpec, 1600)
			r.uplink(1580)
			r.receives("to-lb1")
			r.start(mode)
			r.follows("gw1", "eth0", "to-lb")
			r.follows("gw2", "eth0", "to-lb")
			conns := r.held(vip4)

			ctx, cancel := context.WithCancel(context.Background())
			var traffic sync.WaitGroup
			for _, vip := range []netip.Addr{vip4, vip6} {
				traffic.Go(func() {
					if answered, _, err := r.asking(ctx, vip, 0); err != nil || answered == 0 {
						t.Errorf("%s: %d datagrams answered, %v", vip, answered, err)
					}
				})
			}
			r.byUplink("gw1")
			r.follows("gw1", "eth1", "to-lb1")
			r.follows("gw2", "eth0", "to-lb")
			if n := r.reachedAll("to-lb1"); n < 8 {
				t.Errorf("%d packets came by the second link", n)
			}
			for _, e := range r.endpoints("lb", "gw1") {
				if e.Mtu != 1580 {
					t.Errorf("the MTU of the way is %d, expected the second link's", e.Mtu)
				}
			}

			r.must(r.router.Sysctl("net/ipv4/conf/to-lb1/arp_notify", "1"))
			r.must(r.router.Sysctl("net/ipv6/conf/to-lb1/ndisc_notify", "1"))
			end, err := r.router.Netlink().LinkByName("to-lb1")
			r.must(err)
			r.must(r.router.Netlink().LinkSetHardwareAddr(end, net.HardwareAddr{2, 0, 0, 0, 0, 0x77}))
			r.follows("gw1", "eth1", "to-lb1")
			if n := r.reachedAll("to-lb1"); n < 8 {
				t.Errorf("%d packets came by the second link to its new MAC address", n)
			}

			r.must(r.router.Down("to-lb1"))
			r.follows("gw1", "eth0", "to-lb")
			r.reachedAll("to-lb")
			cancel()
			traffic.Wait()
			for name, list := range conns {
				for _, c := range list {
					if got, err := c.ask(); err != nil || got != name {
						t.Errorf("a connection to %s: %q, %v", name, got, err)
					}
				}
			}
		})
	}
}

// A link whose driver takes nothing from another's program is told of, and not
// used until it does: packets go by the route that leads out of layer 4's device.
func TestUplinkThatTakesNoRedirects(t *testing.T) {
	r := newRegion(t, regionSpec, 1600)
	r.uplink(1600) // and nothing at the router's end
	said := &lines{}
	r.log = slog.New(slog.NewTextHandler(said, nil))
	r.start(Native)
	r.byUplink("gw1")
	eventually(t, "a warning", func() bool { return said.count("no packets leave by this device") == 1 })
	r.follows("gw1", "eth0", "to-lb")
	r.reachedAll("to-lb")
	r.receives("to-lb1") // now it takes them
	r.must(r.lb.AddRoute(netip.MustParsePrefix("10.200.0.0/16"), netip.MustParseAddr("10.7.101.1")))
	r.follows("gw1", "eth1", "to-lb1")
	if r.reachedAll("to-lb1") < 50 || said.count("no packets leave by this device") != 1 {
		t.Error("packets do not come by the second link, or it was said more than once that they do not")
	}
}

// lines is a log to be read.
type lines struct {
	mu   sync.Mutex
	text []byte
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	return len(b), nil
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(string(l.text), what)
}

// Two nodes that balance and unpack, on one link, and each takes the other for the
// owner: what one sends the other keeps.
func TestL2DSRDoesNotCircle(t *testing.T) {
	spec := strings.NewReplacer(`roles: [l7]`, `roles: [l4, l7]`, "protocol: https", "protocol: https, forwarding: l2_dsr").Replace(members(true, 1, 2))
	one, two := newMachine(t, spec, "gw1", Roles{L4: true, L7: true}), newMachine(t, spec, "gw2", Roles{L4: true, L7: true})
	one.state[gatewayNumber(1)], two.state[gatewayNumber(2)] = fleet.Down, fleet.Down
	one.reconcile(t)
	two.reconcile(t)
	for port := range 50 {
		first := fromRouter(sides[0].packet(protoTCP, segment(5000+port, 443, syn)))
		verdict, out, reasons := one.send(t, first)
		if verdict != "tx" {
			t.Fatalf("%s, %v: expected that it is sent to the other", verdict, reasons)
		}
		if verdict, _, reasons := two.send(t, out); verdict != "pass" {
			t.Fatalf("%s, %v: expected that it stays", verdict, reasons)
		}
	}
	lb := newMachine(t, spec, "lb", Roles{L4: true})
	if _, _, reasons := lb.send(t, fromRouter(sides[0].packet(protoTCP, segment(5000, 443, syn)))); !slices.Contains(reasons, "tx_l2") {
		t.Errorf("a node that only balances: %v, expected tx_l2", reasons)
	}
}

// What is missed, for the subscription ended or more came than there was room
// for, is made up for: all counts as changed, and later changes are seen.
func TestWatchGoesOn(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(t *testing.T, a *netns.NS, s *nl.NetlinkSocket)
	}{
		{"ended", func(_ *testing.T, _ *netns.NS, s *nl.NetlinkSocket) { s.Close() }},
		{"overrun", func(t *testing.T, a *netns.NS, s *nl.NetlinkSocket) {
			if err := s.SetReceiveBufferSize(1, false); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, _ := pair(t)
			sockets, done, said := make(chan *nl.NetlinkSocket, 100), make(chan struct{}), &lines{}
			routes := make(chan bool, 1000)
			w := &watcher{log: slog.New(slog.NewTextHandler(said, nil)), done: done, events: make(chan struct{}, 1),
				changed: func(r bool) { routes <- r },
				subscribe: func() (s *nl.NetlinkSocket, err error) {
					err = a.Do(func() error {
						s, err = nl.Subscribe(unix.NETLINK_ROUTE, watched...)
						return err
					})
					sockets <- s
					return s, err
				}}
			wait, err := w.start()
			if err != nil {
				t.Fatal(err)
			}
			c.end(t, a, <-sockets)
			n := 0
			more := func(times int) {
				for range times {
					n++
					if err := a.AddRoute(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 100, byte(n >> 8), byte(n)}), 32), netip.MustParseAddr("10.7.1.1")); err != nil {
						t.Fatal(err)
					}
				}
			}
			eventually(t, "another subscription", func() bool {
				more(50)
				return len(sockets) > 0
			})
			if said.count("may have been missed") != 1 {
				t.Errorf("said: %s", said.text)
			}
			before := len(routes)
			eventually(t, "a change after that", func() bool {
				more(1)
				return len(routes) > before
			})
			close(done)
			wait()
		})
	}
}

// A thousand changes in a second are ten calls, of which one tells of routes and the
// next a second later; and the first is not waited for.
func TestWatchGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done, calls, routes := make(chan struct{}), 0, 0
		began := time.Now()
		w := &watcher{done: done, events: make(chan struct{}, 1), changed: func(r bool) {
			if calls == 0 && time.Since(began) > time.Millisecond {
				t.Errorf("the first change was told after %s", time.Since(began))
			}
			if calls++; r {
				routes++
			}
		}}
		go w.gather()
		for i := range 1000 {
			w.note(i >= 500 && i%2 == 0)
			time.Sleep(time.Millisecond) // of synctest
		}
		time.Sleep(time.Second)
		close(done)
		synctest.Wait()
		if calls < 9 || calls > 13 || routes != 2 {
			t.Errorf("%d calls, %d of them of routes", calls, routes)
		}
	})
}
