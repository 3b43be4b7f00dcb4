package xdp

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"meridian/fleet"
	"meridian/internal/testkit/netns"
)

// churnSpec is a region with two balancers and six gateways, of which gw5 and gw6
// are added by the test.
const churnSpec = `
regions:
  - {id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.10], v6: ["2001:db8::10"]}}
nodes:
  - {name: lb, region: fra, roles: [l4], addresses: {v4: 10.7.1.2, v6: "fd07:1::2"}}
  - {name: gw1, region: fra, roles: [l7], addresses: {v4: 10.7.2.2, v6: "fd07:2::2"}}
  - {name: gw2, region: fra, roles: [l7], addresses: {v4: 10.7.3.2, v6: "fd07:3::2"}}
  - {name: lb2, region: fra, roles: [l4], addresses: {v4: 10.7.4.2, v6: "fd07:4::2"}}
  - {name: gw3, region: fra, roles: [l7], addresses: {v4: 10.7.5.2, v6: "fd07:5::2"}}
  - {name: gw4, region: fra, roles: [l7], addresses: {v4: 10.7.6.2, v6: "fd07:6::2"}}
  - {name: gw5, region: fra, roles: [l7], addresses: {v4: 10.7.7.2, v6: "fd07:7::2"}, state: disabled}
  - {name: gw6, region: fra, roles: [l7], addresses: {v4: 10.7.8.2, v6: "fd07:8::2"}, state: disabled}
services:
  - service: web
    protocol: http
    ports: [80]
    pools: [{id: main, endpoints: [{address: "10.7.9.9:80"}]}]
  - service: quic
    protocol: https
    http3: true
    ports: [443]
    pools: [{id: main, endpoints: [{address: "10.7.9.9:443"}]}]
  - service: echo
    protocol: udp
    ports: [7]
    pools: [{id: main, endpoints: [{address: "10.7.2.2:7"}, {address: "10.7.3.2:7"}, {address: "10.7.5.2:7"}, {address: "10.7.6.2:7"}]}]
`

// churned is churnSpec after the change: one gateway drains, two are added, one
// has another weight.
var churned = strings.NewReplacer(
	`fd07:7::2"}, state: disabled}`, `fd07:7::2"}}`,
	`fd07:8::2"}, state: disabled}`, `fd07:8::2"}}`,
	`fd07:2::2"}}`, `fd07:2::2"}, state: draining}`,
	`fd07:5::2"}}`, `fd07:5::2"}, weight: 30}`,
).Replace(churnSpec)

// churn is a region under a change, with connections through both balancers.
type churn struct {
	*region
	rig   *quicRig
	conns []*held
	alone bool // without second chance
}

// held is one of the client's connections, of whatever protocol.
type held struct {
	asker
	what   string
	owner  string // who answered first
	broken atomic.Bool
}

// asker gives the name of the node that a connection leads to.
type asker interface{ ask() (string, error) }

// numbers is how many connections of each protocol there are.
type numbers struct{ tcp, udp, quic int }

func newChurn(t *testing.T, n numbers, gateways Config) *churn {
	r := newRegion(t, churnSpec, 1600)
	c := &churn{region: r, rig: newQUICRig(r), alone: gateways.NoSecondChance}
	gateways.Roles = Roles{L7: true}
	for _, ns := range []*netns.NS{r.gw1, r.gw2, r.more["gw3"], r.more["gw4"]} {
		r.run(ns, gateways)
		r.serve(ns)
		c.rig.serve(ns)
	}
	r.ready(r.gw1, r.gw2, r.more["gw3"], r.more["gw4"])
	for _, ns := range []*netns.NS{r.lb, r.more["lb2"]} {
		r.run(ns, Config{Roles: Roles{L4: true}, Health: newTrackers()})
		r.ready(ns)
	}
	c.spread("10.7.1.2", "10.7.4.2")
	c.rig.moves()
	for what, kind := range map[string]struct {
		n    int
		dial func(vip netip.Addr) asker
	}{
		"TCP":  {n.tcp, func(vip netip.Addr) asker { return r.connectTo(vip) }},
		"UDP":  {n.udp, func(vip netip.Addr) asker { return r.datagrams(vip) }},
		"QUIC": {n.quic, func(vip netip.Addr) asker { return c.rig.dial(vip) }},
	} {
		for i := range kind.n {
			c.conns = append(c.conns, &held{asker: kind.dial([]netip.Addr{vip4, vip6}[i%2]), what: what})
		}
	}
	rand.Shuffle(len(c.conns), func(i, j int) { c.conns[i], c.conns[j] = c.conns[j], c.conns[i] })
	owners := map[string]map[string]int{}
	c.each(func(k *held) {
		var err error
		if k.owner, err = k.ask(); err != nil {
			t.Errorf("%s connection: %v", k.what, err)
		}
	})
	for _, k := range c.conns {
		if owners[k.what] == nil {
			owners[k.what] = map[string]int{}
		}
		owners[k.what][k.owner]++
	}
	for what, by := range owners {
		if len(by) != 4 {
			t.Fatalf("%s connections went to %v, expected four nodes", what, by)
		}
	}
	return c
}

// datagrams is a flow of UDP.
type datagrams struct {
	net.Conn
	sent int
}

func (r *region) datagrams(vip netip.Addr) *datagrams {
	r.t.Helper()
	c, err := r.client.Dial(context.Background(), "udp", netip.AddrPortFrom(vip, 7).String())
	r.must(err)
	r.t.Cleanup(func() { c.Close() })
	return &datagrams{Conn: c}
}

// ask sends again what is lost on the way, as clients do, and takes only the
// answer to what it sent last: each datagram is longer than the one before.
func (d *datagrams) ask() (name string, err error) {
	buf := make([]byte, 100)
	for range 10 {
		d.sent = d.sent%7000 + 1
		if _, err := d.Write(make([]byte, d.sent)); err != nil {
			return "", err
		}
		d.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		for {
			var n, length int
			if n, err = d.Read(buf); err != nil {
				break
			}
			if _, err := fmt.Sscan(string(buf[:n]), &name, &length); err == nil && length == d.sent {
				return name, nil
			}
		}
	}
	return "", err
}

// spread has the router send packets for the VIPs to these balancers, by flow,
// as it does with routes that BGP brings.
func (c *churn) spread(balancers ...string) {
	c.t.Helper()
	c.must(c.router.Sysctl("net/ipv4/fib_multipath_hash_policy", "1"))
	c.must(c.router.Sysctl("net/ipv6/fib_multipath_hash_policy", "1"))
	for _, vip := range []netip.Prefix{netip.PrefixFrom(vip4, 32), netip.PrefixFrom(vip6, 128)} {
		route := &netlink.Route{Dst: netns.IPNet(vip)}
		for _, b := range balancers {
			hop := netip.MustParseAddr(b)
			if vip.Addr().Is6() {
				hop = netip.MustParseAddr(fmt.Sprintf("fd07:%d::2", hop.As4()[2]))
			}
			route.MultiPath = append(route.MultiPath, &netlink.NexthopInfo{Gw: hop.AsSlice()})
		}
		c.must(c.router.Netlink().RouteReplace(route))
	}
}

// each does something with all connections that hold, some at a time.
func (c *churn) each(do func(*held)) {
	var wg sync.WaitGroup
	next := make(chan *held)
	for range 16 {
		wg.Go(func() {
			for k := range next {
				do(k)
			}
		})
	}
	for _, k := range c.conns {
		if !k.broken.Load() {
			next <- k
		}
	}
	close(next)
	wg.Wait()
}

// holds asks, and notes whether the connection has broken.
func (c *churn) holds(k *held) {
	if k.broken.Load() {
		return
	}
	name, err := k.ask()
	if err == nil && name != k.owner {
		err = fmt.Errorf("answered by %s", name)
	}
	if err != nil {
		c.t.Logf("%s connection with %s: %v", k.what, k.owner, err)
		k.broken.Store(true)
	}
}

// broken is how many connections have broken, by protocol.
func (c *churn) broken() (n numbers) {
	for _, k := range c.conns {
		if k.broken.Load() {
			*map[string]*int{"TCP": &n.tcp, "UDP": &n.udp, "QUIC": &n.quic}[k.what]++
		}
	}
	return n
}

// change kills one balancer and, at once, drains one gateway, adds two and
// gives one another weight, while half of the connections go on asking; then
// it asks on all.
func (c *churn) change() {
	c.t.Helper()
	stop := make(chan struct{})
	var busy sync.WaitGroup
	end := sync.OnceFunc(func() {
		close(stop)
		busy.Wait()
	})
	defer end() // also where the test fails
	const workers = 16
	for w := range workers {
		busy.Go(func() {
			for {
				for i := w; i < len(c.conns)/2; i += workers {
					select {
					case <-stop:
						return
					default:
						c.holds(c.conns[i])
					}
				}
			}
		})
	}
	was := fleet.GatewaySet{Revision: 1, Until: time.Now(), Gateways: c.world.Snapshot.Gateways("fra")}
	c.world = worldAfter(c.t, churned, was)
	for _, name := range []string{"gw5", "gw6"} { // which know of the gateways before them what they are told
		c.run(c.more[name], Config{Roles: Roles{L7: true}})
		c.serve(c.more[name])
		c.rig.serve(c.more[name])
	}
	for _, l := range c.nodes {
		c.must(l.Apply(c.world))
	}
	c.must(c.lb.Down("eth0")) // it dies: nobody says goodbye
	c.spread("10.7.4.2")
	met := map[string]bool{}
	eventually(c.t, "a connection to each new gateway", func() bool {
		name, err := c.connectTo(vip4).ask()
		if !c.alone {
			c.must(err)
		}
		met[name] = err == nil
		return met["gw5"] && met["gw6"]
	})
	end()
	c.each(c.holds)
}

// A balancer dies while the set of gateways changes: no connection breaks,
// whatever its protocol, busy or idle. Without the second chance some do.
func TestNoConnectionBreaks(t *testing.T) {
	all := numbers{tcp: 1600, udp: 250, quic: 200}
	t.Run("with second chance", func(t *testing.T) {
		c := newChurn(t, all, Config{})
		began := time.Now()
		c.change()
		t.Logf("%d connections; the change took %s", len(c.conns), time.Since(began).Round(time.Millisecond))
		if n := c.broken(); n != (numbers{}) {
			t.Fatalf("%+v of %+v connections broke", n, all)
		}
		c.each(func(k *held) { // and clients with QUIC may move
			if q, ok := k.asker.(*quicConn); ok {
				if err := c.rig.migrate(q); err != nil {
					t.Errorf("move: %v", err)
				}
				c.holds(k)
			}
		})
		if n := c.broken(); n != (numbers{}) {
			t.Errorf("%+v connections broke when their clients moved", n)
		}
	})
	t.Run("without second chance", func(t *testing.T) {
		c := newChurn(t, all, Config{NoSecondChance: true})
		c.change()
		n := c.broken()
		t.Logf("%+v of %+v connections broke", n, all)
		if n.tcp == 0 {
			t.Error("no connection broke, expected some")
		}
	})
}
