//go:build linux

package lab

import (
	"net/netip"
	"slices"
	"strings"
)

// Preferences of routes in the lab: own customers before others, nearer core
// routers before farther ones.
const (
	preferCustomer = 300
	preferNearest  = 200 // less ten for each core router that is nearer
)

// session gives the two neighbors, one for each family, at the given side of a
// link, like n.
func session(l link, side int, n RouterNeighbor) []RouterNeighbor {
	n4, n6 := n, n
	n4.Address, n6.Address = l.host(side)
	n4.V4, n6.V6 = true, true
	return []RouterNeighbor{n4, n6}
}

// routerConfig is the region's own router: it takes the VIPs from its edge
// nodes and gives them to the core.
func (t *Topology) routerConfig(r *Region) RouterConfig {
	cfg := RouterConfig{
		Name: "router-" + r.ID, ASN: r.asnRouter(), RouterID: first(r.uplink().host(2)),
		Originate: r.networks(),
		Neighbors: session(r.uplink(), 1, RouterNeighbor{ASN: r.asnCore(), Device: "core", Preference: 100}),
	}
	for _, n := range r.Of(Edge) {
		v4, _ := t.Addr(r, n)
		cfg.Neighbors = append(cfg.Neighbors, RouterNeighbor{
			Address: v4, ASN: r.asnEdge(), Device: deviceOf(n), Preference: preferCustomer, Customer: true, Passive: true, V4: true, V6: true,
		})
	}
	return cfg
}

// coreConfig is the core router of the region's continent.
func (t *Topology) coreConfig(r *Region) RouterConfig {
	cfg := RouterConfig{
		Name: "core-" + r.ID, ASN: r.asnCore(), RouterID: first(r.uplink().host(1)),
		Neighbors: session(r.uplink(), 2, RouterNeighbor{
			ASN: r.asnRouter(), Device: "region", Preference: preferCustomer, Customer: true, Passive: true}),
	}
	for _, c := range t.CitiesOf(r.ID) {
		l := c.link()
		cfg.Originate = append(cfg.Originate, netip.MustParsePrefix(l.v4+".0/24"), netip.MustParsePrefix(l.v6+"::/64"))
	}
	for rank, o := range t.nearest(r) {
		a, b := r, o
		side := 2
		if o.Index < r.Index {
			a, b, side = o, r, 1
		}
		cfg.Neighbors = append(cfg.Neighbors,
			session(coreLink(a, b), side, RouterNeighbor{
				ASN: o.asnCore(), Device: "to-" + o.ID, Preference: preferNearest - 10*uint32(rank), Passive: o.Index < r.Index})...)
	}
	return cfg
}

// nearest lists the other regions by distance.
func (t *Topology) nearest(r *Region) []*Region {
	var out []*Region
	for i := range t.Regions {
		if t.Regions[i].ID != r.ID {
			out = append(out, &t.Regions[i])
		}
	}
	slices.SortFunc(out, func(a, b *Region) int {
		return int(t.between(r.ID, a.ID) - t.between(r.ID, b.ID))
	})
	return out
}

// deviceOf names the router's device towards a node: its name without the
// region, which fits the kernel's 15 letters.
func deviceOf(n *Node) string {
	_, name, _ := strings.Cut(n.Name, "-")
	return name
}

func first(a, _ netip.Addr) netip.Addr { return a }
