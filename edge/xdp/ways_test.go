package xdp

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"meridian/fleet"
	"meridian/internal/testkit"
	"meridian/internal/testkit/netns"
)

// The way to an endpoint is by the kernel's routes, and the kernel keeps the
// neighbour for us; without us it forgets.
func TestWays(t *testing.T) {
	testkit.Root(t)
	r := newRegion(t, regionSpec, 1600)
	var eth0 netlink.Link
	far4, far6, other := netip.MustParseAddr("10.7.2.2"), netip.MustParseAddr("fd07:2::2"), netip.MustParseAddr("127.0.0.9")
	r.must(r.lb.Do(func() error {
		var err error
		eth0, err = netlink.LinkByName("eth0")
		return err
	}))
	w := newWays(r.lb.Netlink(), eth0.Attrs().Index, r.log)
	all := []netip.Addr{far4, far6, other}
	eventually(t, "both next hops", func() bool {
		r.must(r.lb.Do(func() error { return w.refresh(all) }))
		return w.hop(far4).known && w.hop(far6).known
	})
	var router net.HardwareAddr
	r.must(r.router.Do(func() error {
		i, err := net.InterfaceByName("to-lb")
		if err == nil {
			router = i.HardwareAddr
		}
		return err
	}))
	for _, a := range all[:2] {
		h := w.hop(a)
		if string(h.mac[:]) != string(router) || string(h.source[:]) != string(eth0.Attrs().HardwareAddr) || h.mtu != 1600 {
			t.Errorf("way to %s: %+v, expected the router %s and an MTU of 1600", a, h, router)
		}
	}
	if h := w.hop(other); h.known || h.mtu != 0 {
		t.Errorf("way to an address of this machine: %+v", h)
	}
	managed := func() int { return len(keptAt(t, r.lb)) }
	if n := managed(); n != 2 {
		t.Errorf("the kernel keeps %d neighbours, expected 2", n)
	}
	r.must(r.lb.Do(func() error { w.close(); return nil }))
	if n := managed(); n != 0 {
		t.Errorf("after the end the kernel keeps %d neighbours", n)
	}
}

// keptAt lists the neighbours that a namespace's kernel keeps resolved.
func keptAt(t testing.TB, ns *netns.NS) (out []string) {
	t.Helper()
	list, err := ns.Netlink().NeighList(0, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range list {
		if n.FlagsExt&netlink.NTF_EXT_MANAGED != 0 {
			out = append(out, n.IP.String())
		}
	}
	slices.Sort(out)
	return out
}

// pair is two namespaces on a link.
func pair(t *testing.T) (a, b *netns.NS) {
	t.Helper()
	testkit.Root(t)
	for _, ns := range []**netns.NS{&a, &b} {
		n, err := netns.New("pair")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		*ns = n
	}
	if err := netns.Veth(netns.End{NS: a, Dev: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("10.7.1.2/24")}},
		netns.End{NS: b, Dev: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("10.7.1.1/24")}}, 1500); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// A neighbour that the operator has set for good stays as it is: used, and
// neither resolved nor deleted, also when it was resolved before.
func TestStaticNeighboursAreLeftAlone(t *testing.T) {
	a, _ := pair(t)
	link, err := a.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	fixed, late := netip.MustParseAddr("10.7.1.77"), netip.MustParseAddr("10.7.1.78")
	set := func(addr netip.Addr) {
		t.Helper()
		if err := a.Netlink().NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: addr.AsSlice(), State: netlink.NUD_PERMANENT,
			HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}); err != nil {
			t.Fatal(err)
		}
	}
	w := newWays(a.Netlink(), link.Attrs().Index, slog.New(slog.DiscardHandler))
	refresh := func() {
		t.Helper()
		if err := a.Do(func() error { return w.refresh([]netip.Addr{fixed, late}) }); err != nil {
			t.Fatal(err)
		}
	}
	set(fixed)
	refresh()
	set(late)
	refresh()
	for _, addr := range []netip.Addr{fixed, late} {
		if h := w.hop(addr); !h.known || h.mac != [6]byte{2, 0, 0, 0, 0, 9} {
			t.Errorf("%s: %+v", addr, h)
		}
	}
	if err := a.Do(func() error { w.close(); return nil }); err != nil {
		t.Fatal(err)
	}
	list, err := a.Netlink().NeighList(link.Attrs().Index, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	permanent := 0
	for _, n := range list {
		if n.State == netlink.NUD_PERMANENT {
			permanent++
		}
	}
	if permanent != 2 {
		t.Errorf("neighbours afterwards: %v; expected two permanent ones", list)
	}
}

// waysAt gives ways by eth0 of a namespace, and what refreshes them and sees what
// the kernel keeps then.
func waysAt(t *testing.T, ns *netns.NS) (w *ways, refresh func(want []string, addrs ...string)) {
	t.Helper()
	link, err := ns.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	w = newWays(ns.Netlink(), link.Attrs().Index, slog.New(slog.DiscardHandler))
	return w, func(want []string, addrs ...string) {
		t.Helper()
		var list []netip.Addr
		for _, a := range addrs {
			list = append(list, netip.MustParseAddr(a))
		}
		if err := ns.Do(func() error { return w.refresh(list) }); err != nil {
			t.Fatal(err)
		}
		if got := keptAt(t, ns); !slices.Equal(got, want) {
			t.Errorf("the kernel keeps %v, expected %v", got, want)
		}
	}
}

// Neighbours that the kernel threw away, since they were flushed or the carrier was
// lost, are kept again.
func TestNeighboursAreKeptAgain(t *testing.T) {
	a, b := pair(t)
	w, refresh := waysAt(t, a)
	both := []string{"10.7.1.1", "10.7.1.9"}
	refresh(both, both...)
	for what, lose := range map[string]func() error{
		"flushed": func() error {
			for _, n := range both {
				if err := a.Do(neighbour{w.device, netip.MustParseAddr(n)}.release); err != nil {
					return err
				}
			}
			return nil
		},
		"carrier lost": func() error { return b.Down("eth0") },
	} {
		if err := lose(); err != nil {
			t.Fatal(err)
		}
		eventually(t, what, func() bool { return len(keptAt(t, a)) == 0 })
		refresh(both, both...)
	}
	if err := b.Up("eth0"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the carrier is back", func() bool {
		link, err := a.Netlink().LinkByName("eth0")
		return err == nil && link.Attrs().OperState == netlink.OperUp
	})
	eventually(t, "the neighbour is resolved", func() bool {
		w.moved.Store(true)
		refresh(both, both...)
		return w.hop(netip.MustParseAddr("10.7.1.1")).known
	})
}

// What a process before asked the kernel to keep is let go of, and what another
// program did is not.
func TestNeighboursOfAnEarlierProcess(t *testing.T) {
	a, _ := pair(t)
	_, refresh := waysAt(t, a)
	refresh([]string{"10.7.1.1", "10.7.1.9"}, "10.7.1.1", "10.7.1.9")
	w, refresh := waysAt(t, a)
	if err := a.Netlink().NeighSet(&netlink.Neigh{LinkIndex: w.device, IP: net.ParseIP("10.7.1.77"), FlagsExt: netlink.NTF_EXT_MANAGED}); err != nil {
		t.Fatal(err)
	}
	refresh([]string{"10.7.1.1", "10.7.1.77", "10.7.1.8"}, "10.7.1.1", "10.7.1.8", "10.7.1.77")
	refresh([]string{"10.7.1.1", "10.7.1.77"}, "10.7.1.1")
	if err := a.Do(releaseNeighbours); err != nil {
		t.Fatal(err)
	}
	if got := keptAt(t, a); !slices.Equal(got, []string{"10.7.1.77"}) {
		t.Errorf("afterwards the kernel keeps %v", got)
	}
}

// An endpoint to which no route leads by layer 4's device is no neighbour there,
// though the kernel would take it for one.
func TestNoRouteIsNoNeighbour(t *testing.T) {
	a, b := pair(t)
	ends := func(host int) []netip.Prefix {
		return []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.8.0.%d/24", host))}
	}
	if err := netns.Veth(netns.End{NS: a, Dev: "eth1", Addrs: ends(2)}, netns.End{NS: b, Dev: "eth1", Addrs: ends(1)}, 1500); err != nil {
		t.Fatal(err)
	}
	for _, via := range []string{"10.99.0.0/24 10.8.0.1", "10.98.0.0/24 10.8.0.1"} { // by a device that takes no redirects
		dst, gw, _ := strings.Cut(via, " ")
		if err := a.AddRoute(netip.MustParsePrefix(dst), netip.MustParseAddr(gw)); err != nil {
			t.Fatal(err)
		}
	}
	eth0, err := a.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	more := &netlink.Route{Dst: netns.IPNet(netip.MustParsePrefix("10.98.0.0/24")), Gw: net.ParseIP("10.7.1.1"), LinkIndex: eth0.Attrs().Index, Priority: 9}
	if err := a.Netlink().RouteAdd(more); err != nil {
		t.Fatal(err)
	}
	w, refresh := waysAt(t, a)
	refresh([]string{"10.7.1.1"}, "10.99.0.1", "10.98.0.1")
	if h := w.hop(netip.MustParseAddr("10.99.0.1")); h != (hop{}) {
		t.Errorf("a way without a route: %+v", h)
	}
}

// A node whose device is made anew, with its address, goes on there.
func TestDeviceMadeAnew(t *testing.T) {
	for _, keeps := range []bool{false, true} {
		t.Run(fmt.Sprintf("pins=%v", keeps), func(t *testing.T) {
			r := newRegion(t, regionSpec, 1600)
			r.start(Native)
			r.stop["lb"]()
			cfg := Config{Roles: Roles{L4: true}, Mode: Native, Health: newTrackers()}
			if keeps {
				cfg.Pins = pinned(t)
			}
			lb := r.run(r.lb, cfg)
			eventually(t, "ready", func() bool { return lb.Ready() == nil })
			eth0, err := r.lb.Netlink().LinkByName("eth0")
			r.must(err)
			r.must(r.lb.Netlink().LinkDel(eth0))
			eventually(t, "a reason", func() bool {
				err := lb.Ready()
				return err != nil && strings.Contains(err.Error(), "the device is gone")
			})
			r.connect(r.lb, 1, 1600)
			r.must(r.router.AddRoute(netip.PrefixFrom(vip4, 32), netip.MustParseAddr("10.7.1.2")))
			eventually(t, "ready again", func() bool { return lb.Ready() == nil })
			if _, err := r.post(vip4, 1000); err != nil {
				t.Error(err)
			}
			r.stop["lb"]()
		})
	}
}

// A way that cannot be found out keeps no dead gateway in its ring.
func TestFailingWaysKeepNothingElse(t *testing.T) {
	testkit.Root(t)
	l, err := New(Config{Node: "lb", Roles: Roles{L4: true}, Health: newTrackers()})
	if err != nil {
		t.Fatal(err)
	}
	d, err := plan(worldOf(t, members(true, 1, 2)), "lb", Roles{L4: true})
	if err != nil {
		t.Fatal(err)
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	m := newMemory(t, func() bool { return false })
	s := &session{l: l, want: d, ways: newWays(handle, 1<<30, l.cfg.Log), rec: newReconciler(m, Key{7}), cookies: &cookies{}}
	for _, want := range []int{2, 1} {
		stale := true
		if err := s.step(t.Context(), &stale); err == nil || !stale {
			t.Fatalf("%v, still to be done: %v", err, stale)
		}
		if got := l.ringMembers("gateways/ipip/v4"); got != want || len(m.rings[0]) != want {
			t.Errorf("%d members in the ring, %d in the table, expected %d", got, len(m.rings[0]), want)
		}
		l.state.set(t.Context(), gatewayNumber(2), fleet.Down)
	}
}

// Messages about neighbours that nobody awaits do not count.
func TestStrangersNeighboursAreNoNews(t *testing.T) {
	a, _ := pair(t)
	w, refresh := waysAt(t, a)
	refresh([]string{"10.7.1.1"}, "10.7.1.1")
	asked, ended := make(chan string, 100), make(chan error)
	watcher := &watcher{events: make(chan struct{}, 1), awaits: func(n neighbour) bool {
		asked <- n.addr.String()
		return w.awaits(n)
	}}
	var socket *nl.NetlinkSocket
	if err := a.Do(func() (err error) {
		socket, err = nl.Subscribe(unix.NETLINK_ROUTE, watched...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- watcher.receive(socket) }()
	for _, addr := range []string{"10.7.1.50", "10.7.1.51", "10.7.1.1"} {
		if watcher.neighbours.Load() {
			t.Error("a stranger's neighbour is news")
		}
		n := &netlink.Neigh{LinkIndex: w.device, IP: net.ParseIP(addr), State: netlink.NUD_STALE, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}
		if err := a.Netlink().NeighSet(n); err != nil {
			t.Fatal(err)
		}
		for <-asked != addr { // and what was said before is noted
		}
	}
	eventually(t, "the one that is awaited", watcher.neighbours.Load)
	socket.Close()
	<-ended
}
