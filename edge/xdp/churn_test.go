package xdp

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"meridian/internal/testkit/netns"
)

// churnSpec is a region with two balancers and five gateways, of which gw5 is
// added by the test.
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
services:
  - service: web
    protocol: http
    ports: [80]
    pools: [{id: main, endpoints: [{address: "10.7.9.9:80"}]}]
`

// churned is churnSpec after the change: one gateway drains, one is added, one
// has another weight.
var churned = strings.NewReplacer(
	`fd07:7::2"}, state: disabled}`, `fd07:7::2"}}`,
	`fd07:2::2"}}`, `fd07:2::2"}, state: draining}`,
	`fd07:5::2"}}`, `fd07:5::2"}, weight: 30}`,
).Replace(churnSpec)

// churn is a region under a change, with connections through both balancers.
type churn struct {
	*region
	conns []*conn
	owner []string // the gateway that each had first
}

func newChurn(t *testing.T, connections int, gateways Config) *churn {
	r := newRegion(t, churnSpec, 1600)
	c := &churn{region: r}
	gateways.Roles = Roles{L7: true}
	for _, ns := range []*netns.NS{r.gw1, r.gw2, r.more["gw3"], r.more["gw4"]} {
		r.run(ns, gateways)
		r.serve(ns)
	}
	for _, ns := range []*netns.NS{r.lb, r.more["lb2"]} {
		l := r.run(ns, Config{Roles: Roles{L4: true}, Health: newTrackers()})
		eventually(t, ns.Name+" ready", func() bool { return l.Ready() == nil })
	}
	c.spread("10.7.1.2", "10.7.4.2")
	for i := range connections {
		vip := vip4
		if i%2 == 1 {
			vip = vip6
		}
		c.conns = append(c.conns, r.connectTo(vip))
	}
	c.owner = make([]string, connections)
	c.each(func(i int, k *conn) {
		var err error
		if c.owner[i], err = k.ask(); err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
	})
	return c
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

// each does something with all connections, some at a time.
func (c *churn) each(do func(i int, k *conn)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range 16 {
		wg.Go(func() {
			for i := range next {
				do(i, c.conns[i])
			}
		})
	}
	for i := range c.conns {
		next <- i
	}
	close(next)
	wg.Wait()
}

// change kills one balancer and, at once, drains one gateway, adds one and
// gives one another weight, while half of the connections go on asking; then
// it asks on all, and gives how many broke.
func (c *churn) change() int64 {
	c.t.Helper()
	var broken atomic.Int64
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for w := range 16 {
		busy.Go(func() {
			for {
				for i := w; i < len(c.conns)/2; i += 16 {
					select {
					case <-stop:
						return
					default:
					}
					if k := c.conns[i]; k.Conn != nil {
						if _, err := k.ask(); err != nil {
							broken.Add(1)
							k.Conn = nil
						}
					}
				}
			}
		})
	}
	c.run(c.more["gw5"], Config{Roles: Roles{L7: true}})
	c.serve(c.more["gw5"])
	c.world = worldOf(c.t, churned)
	for _, l := range c.nodes {
		c.must(l.Apply(c.world))
	}
	c.must(c.lb.Down("eth0")) // it dies: nobody says goodbye
	c.spread("10.7.4.2")
	eventually(c.t, "a connection to the new gateway", func() bool {
		name, err := c.connectTo(vip4).ask()
		c.must(err)
		return name == "gw5"
	})
	close(stop)
	busy.Wait()
	c.each(func(i int, k *conn) {
		if k.Conn == nil {
			return
		}
		name, err := k.ask()
		if err == nil && name != c.owner[i] {
			err = fmt.Errorf("answered by %s, not by %s", name, c.owner[i])
		}
		if err != nil {
			broken.Add(1)
		}
	})
	return broken.Load()
}

// A balancer dies while the set of gateways changes: no connection breaks.
// Without the second chance some do.
func TestNoConnectionBreaks(t *testing.T) {
	for name, c := range map[string]struct {
		gateways Config
		breaks   bool
	}{
		"with second chance":    {Config{}, false},
		"without second chance": {Config{NoSecondChance: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			k := newChurn(t, 2000, c.gateways)
			began := time.Now()
			broken := k.change()
			t.Logf("%d of %d connections broke; took %s", broken, len(k.conns), time.Since(began).Round(time.Millisecond))
			if (broken > 0) != c.breaks {
				t.Errorf("%d of %d connections broke", broken, len(k.conns))
			}
		})
	}
}
