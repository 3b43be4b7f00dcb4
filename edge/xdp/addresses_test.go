package xdp

import (
	"math"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"meridian/internal/testkit"
	"meridian/internal/testkit/netns"
)

const addressSpec = `
anycast: {v4: [198.51.100.1], v6: ["2001:db8:a::1"]}
regions: [{id: fra, location: {latitude: 1, longitude: 1}, vips: {v4: [192.0.2.1]}}]
nodes: [{name: gw, region: fra, roles: [l7], addresses: {v4: 10.0.0.2}}]
services: [{service: web, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: '10.9.0.1:80'}]}]}]
`

// onLo lists the addresses of a namespace's loopback device but for its own.
func onLo(t *testing.T, ns *netns.NS) (lo netlink.Link, on []string) {
	t.Helper()
	lo, err := ns.Netlink().LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	list, err := ns.Netlink().AddrList(lo, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if !a.IP.IsLoopback() {
			on = append(on, a.IPNet.String())
		}
	}
	slices.Sort(on)
	return lo, on
}

// VIPs come and go with the World; what an operator or another program put on
// lo stays, even if it becomes one of our VIPs for a while; what a crashed run
// has left does not.
func TestAddresses(t *testing.T) {
	testkit.Root(t)
	ns, err := netns.New("gw")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	expect := func(when string, want ...string) {
		t.Helper()
		if _, got := onLo(t, ns); !slices.Equal(got, want) {
			t.Errorf("%s: on lo are %v, expected %v", when, got, want)
		}
	}
	apply := func(spec string) {
		t.Helper()
		a := NewAddresses("gw", "", nil) // a new one each time, as after a crash
		if err := ns.Do(func() error { return a.Apply(worldOf(t, spec)) }); err != nil {
			t.Fatal(err)
		}
	}
	lo, _ := onLo(t, ns)
	for _, a := range []string{"10.99.0.1/32", "2001:db8:b::1/128"} { // as keepalived has them, deprecated
		other, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		other.ValidLft = math.MaxUint32
		if err := ns.Netlink().AddrAdd(lo, other); err != nil {
			t.Fatal(err)
		}
	}

	apply(addressSpec)
	expect("at first", "10.99.0.1/32", "192.0.2.1/32", "198.51.100.1/32", "2001:db8:a::1/128", "2001:db8:b::1/128")
	apply(addressSpec)
	expect("after a restart", "10.99.0.1/32", "192.0.2.1/32", "198.51.100.1/32", "2001:db8:a::1/128", "2001:db8:b::1/128")
	apply(strings.NewReplacer("192.0.2.1", "192.0.2.2", "2001:db8:a::1", "2001:db8:a::2").Replace(addressSpec))
	expect("after a change", "10.99.0.1/32", "192.0.2.2/32", "198.51.100.1/32", "2001:db8:a::2/128", "2001:db8:b::1/128")

	apply(strings.Replace(addressSpec, "2001:db8:a::1", "2001:db8:b::1", 1))
	expect("with another program's address among the VIPs", "10.99.0.1/32", "192.0.2.1/32", "198.51.100.1/32", "2001:db8:b::1/128")

	a := NewAddresses("gw", "", nil)
	if err := ns.Do(a.Close); err != nil {
		t.Fatal(err)
	}
	expect("after the end", "10.99.0.1/32", "2001:db8:b::1/128")
	if err := ns.Do(func() error { return NewAddresses("other", "", nil).Apply(worldOf(t, addressSpec)) }); err == nil {
		t.Error("a node that is not in the Spec got addresses")
	}
}

// The node does not claim VIPs by ARP on any of its links, be they there or come
// later, and takes packets from any way.
func TestAddressesSettleTheLinks(t *testing.T) {
	r := newRegion(t, regionSpec, 1500)
	for _, c := range []string{"net/ipv4/conf/all/rp_filter", "net/ipv4/conf/eth0/rp_filter", "net/ipv4/conf/all/arp_announce"} {
		r.must(r.gw1.Sysctl(c, "1"))
	}
	r.must(r.gw1.Sysctl("net/ipv4/conf/all/arp_ignore", "8"))
	a := NewAddresses("gw1", "", r.log)
	apply := func(want map[string]string) {
		t.Helper()
		r.must(r.gw1.Do(func() error {
			if err := a.Apply(r.world); err != nil {
				return err
			}
			for key, want := range want {
				b, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + key)
				if got := strings.TrimSpace(string(b)); err != nil || got != want {
					t.Errorf("%s is %q, %v; expected %s", key, got, err, want)
				}
			}
			return nil
		}))
	}
	apply(map[string]string{"all/arp_ignore": "8", "all/arp_announce": "2", "eth0/rp_filter": "2"}) // what is stricter stays
	r.must(r.gw1.Sysctl("net/ipv4/conf/all/arp_ignore", "0"))
	apply(map[string]string{"all/arp_ignore": "1"})

	own := netip.MustParseAddr("10.8.0.2")
	r.must(netns.Veth(netns.End{NS: r.gw1, Dev: "late", Addrs: []netip.Prefix{netip.PrefixFrom(own, 24)}},
		netns.End{NS: r.router, Dev: "late", Addrs: []netip.Prefix{netip.MustParsePrefix("10.8.0.1/24")}}, 1500))
	late, err := r.router.Netlink().LinkByName("late")
	r.must(err)
	for _, addr := range []netip.Addr{vip4, own} { // who is asked for first would answer first
		r.must(r.router.Do(neighbour{late.Attrs().Index, addr}.keep))
	}
	answers := func(addr netip.Addr) bool {
		var have neighbours
		r.must(r.router.Do(func() (err error) { have, err = listNeighbours(); return err }))
		return have.macs[neighbour{late.Attrs().Index, addr}] != [6]byte{}
	}
	eventually(t, "an answer for the link's own address", func() bool { return answers(own) })
	if answers(vip4) {
		t.Error("a link that came later answers for a VIP")
	}
}

// Networks of VIPs are local routes, which come and go with the World; other
// local routes stay.
func TestNetworksOfAddresses(t *testing.T) {
	testkit.Root(t)
	ns, err := netns.New("gw")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	apply := func(prefixes string) {
		t.Helper()
		spec := strings.Replace(addressSpec, "v4: [192.0.2.1]", "v4: [192.0.2.1], prefixes: ["+prefixes+"]", 1)
		if err := ns.Do(func() error { return NewAddresses("gw", "", nil).Apply(worldOf(t, spec)) }); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(when string, want map[string]bool) {
		t.Helper()
		for addr, local := range want {
			if err := ns.Holds(netip.MustParseAddr(addr)); (err == nil) != local {
				t.Errorf("%s: %s: %v", when, addr, err)
			}
		}
	}
	lo, err := ns.Netlink().LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	other := localRoute(lo, netip.MustParsePrefix("10.98.0.0/24"))
	other.Protocol = 4
	if err := ns.Netlink().RouteAdd(other); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		apply(`203.0.113.0/28, "2001:db8:b::/64"`)
		expect("at first", map[string]bool{"203.0.113.1": true, "203.0.113.15": true, "203.0.113.16": false, "2001:db8:b::99": true, "10.98.0.7": true})
	}
	apply("203.0.113.0/27")
	expect("after a change", map[string]bool{"203.0.113.1": true, "203.0.113.31": true, "2001:db8:b::99": false, "10.98.0.7": true})
	if err := ns.Do(NewAddresses("gw", "", nil).Close); err != nil {
		t.Fatal(err)
	}
	expect("after the end", map[string]bool{"203.0.113.1": false, "10.98.0.7": true})
}

// The segments that clients are told to send leave room for either outer
// header.
func TestMSS(t *testing.T) {
	if got4, got6 := MSS(1500, false), MSS(1500, true); got4 != 1412 || got6 != 1392 {
		t.Errorf("MSS %d and %d, expected 1412 and 1392", got4, got6)
	}
}
