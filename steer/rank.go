package steer

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"meridian/fleet"
	"meridian/geo"
)

// vantages is how many of the regions nearest to a client may lend it their
// prober's view; beyond them only the fleet-wide verdicts count.
const vantages = 3

// rankDepth is how many members of a node are ranked by place; those beyond
// follow in the Spec's order. It bounds the number of rankings in fleets of
// very many regions.
const rankDepth = 24

// Ranking is what one kind of steering makes of a place: an order of members
// for each node of the tree. It is immutable.
type Ranking struct {
	id     uint32    // within its kind
	orders [][]uint8 // by node: positions of members, best first; nil for policies that need no place
	near   []uint8   // the nearest regions, for vantage; empty where the place is not known
	ms     []float32 // by region, for policy latency: from the latency map, or negative: minus the estimate by distance
}

// kind is all rankings that one steering, health left aside, makes.
type kind struct {
	tree *tree    // the first of the kind
	of   []uint32 // by class: the ranking
	list []*Ranking
	byID map[string]uint32
}

// Classes ranks the regions of one Snapshot for every place. Of adds classes
// and is not safe for concurrent use; all else is.
type Classes struct {
	snap     *fleet.Snapshot
	regions  []fleet.Region
	services map[string]int
	index    map[string]int // of regions
	trees    []*tree        // by service
	distinct []*tree        // by id
	kinds    []*kind
	networks []netip.Prefix // of subnets and the latency map; a Place's Mark counts them from 1
	marks    *geo.Marks
	latency  *LatencyMap
	byKey    map[string]geo.Class
	count    int
}

// NewClasses begins with the class of clients of whom nothing is known, which
// is class 0. latency may be nil.
func NewClasses(s *fleet.Snapshot, latency *LatencyMap) *Classes {
	c := &Classes{latency: latency, byKey: map[string]geo.Class{}}
	c.resolve(s)
	kinds := map[string]int{}
	for _, t := range c.distinct {
		intent := rankIntent(t.st)
		k, ok := kinds[intent]
		if !ok {
			k = len(c.kinds)
			kinds[intent] = k
			c.kinds = append(c.kinds, &kind{tree: t, byID: map[string]uint32{}})
		}
		t.kind = k
	}
	c.mark()
	c.Of(geo.Place{})
	return c
}

// resolve makes the trees of a Snapshot.
func (c *Classes) resolve(s *fleet.Snapshot) {
	c.snap, c.regions, c.index = s, s.Spec.Regions, indexRegions(s.Spec)
	c.services, c.trees, c.distinct = map[string]int{}, nil, nil
	known := map[string]*tree{}
	for i := range s.Spec.Services {
		svc := &s.Spec.Services[i]
		c.services[svc.Service] = i
		intent := text(svc.Steering)
		t, ok := known[intent]
		if !ok {
			t = newTree(s.Spec, c.index, &svc.Steering)
			t.id = len(c.distinct)
			known[intent] = t
			c.distinct = append(c.distinct, t)
		}
		c.trees = append(c.trees, t)
	}
}

// mark gathers the networks that the Spec itself tells apart.
func (c *Classes) mark() {
	seen := map[netip.Prefix]bool{}
	add := func(p netip.Prefix) {
		if p = p.Masked(); !seen[p] {
			seen[p] = true
			c.networks = append(c.networks, p)
		}
	}
	measured := false
	for _, k := range c.kinds {
		for i := range k.tree.nodes {
			if s := k.tree.nodes[i].subnets; s != nil {
				for _, list := range []*prefixes[[]string]{&s.own, &s.shared} {
					for p := range list.at {
						add(p)
					}
				}
			}
		}
		measured = measured || k.tree.measured
	}
	if measured && c.latency != nil {
		for p := range c.latency.networks.at {
			add(p)
		}
	}
	slices.SortFunc(c.networks, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits())
	})
	c.marks = geo.NewMarks(c.networks)
}

// Marks are the networks that the Spec itself tells apart, for geo.CompileMarked.
func (c *Classes) Marks() *geo.Marks { return c.marks }

// Locate completes what a database says of an address.
func (c *Classes) Locate(p geo.Place, a netip.Addr) geo.Place {
	p.Mark = c.marks.Of(a)
	return p
}

// Of gives the class of a place, a new one where no place met before was
// ranked alike by all. It serves geo.CompileMarked as its classify.
func (c *Classes) Of(p geo.Place) geo.Class {
	ids := make([]uint32, len(c.kinds))
	key := make([]byte, 0, 4*len(ids))
	km, near := c.distances(p)
	for i, k := range c.kinds {
		r := c.rankAt(k.tree, p, km, near)
		name := r.key()
		id, ok := k.byID[name]
		if !ok {
			id = uint32(len(k.list))
			r.id = id
			k.byID[name] = id
			k.list = append(k.list, r)
		}
		ids[i] = id
		key = binary.BigEndian.AppendUint32(key, id)
	}
	class, ok := c.byKey[string(key)]
	if !ok {
		class = geo.Class(c.count)
		c.count++
		c.byKey[string(key)] = class
		for i, k := range c.kinds {
			k.of = append(k.of, ids[i])
		}
	}
	return class
}

// key tells rankings apart.
func (r *Ranking) key() string {
	var b []byte
	for _, o := range r.orders {
		b = append(append(b, byte(len(o))), o...)
	}
	b = append(append(b, r.near...), 0xff)
	for _, ms := range r.ms {
		b = binary.BigEndian.AppendUint32(b, math.Float32bits(ms))
	}
	return string(b)
}

// Len is the number of classes; they are numbered from 0.
func (c *Classes) Len() int { return c.count }

// Kind gives the number of the kind of ranking that a service goes by.
func (c *Classes) Kind(service int) int { return c.trees[service].kind }

// ByClass gives, for a kind, the ranking of each class by its number. The
// caller does not change it.
func (c *Classes) ByClass(kind int) []uint32 { return c.kinds[kind].of }

// Rankings lists the rankings of a kind by number. The caller does not change
// it.
func (c *Classes) Rankings(kind int) []*Ranking { return c.kinds[kind].list }

// Rank gives what a service makes of a place, without numbering it. It is
// safe for concurrent use.
func (c *Classes) Rank(service int, p geo.Place) *Ranking { return c.rank(c.trees[service], p) }

// Intent names all that classes depend on in a Snapshot: two Snapshots with
// the same Intent rank every place alike.
func Intent(s *fleet.Snapshot, latency *LatencyMap) string {
	var b strings.Builder
	for _, r := range s.Spec.Regions {
		fmt.Fprintf(&b, "%s %v %v\n", r.ID, r.Location.Latitude, r.Location.Longitude)
	}
	for i := range s.Spec.Services {
		svc := &s.Spec.Services[i]
		fmt.Fprintf(&b, "%s %s\n", svc.Service, rankIntent(&svc.Steering))
	}
	b.WriteString(text(s.Spec.SubnetMaps))
	if latency != nil {
		b.WriteString(latency.hash)
	}
	return b.String()
}

// For gives the same classes for another Snapshot of the same Intent.
func (c *Classes) For(s *fleet.Snapshot) *Classes {
	if c.snap == s {
		return c
	}
	out := *c
	out.resolve(s)
	for i, t := range out.trees {
		t.kind = c.trees[i].kind
	}
	return &out
}

// distances gives the kilometres from a place to each region, and the nearest
// regions; nil where the place is not known.
func (c *Classes) distances(p geo.Place) (km []float64, near []uint8) {
	if !p.Located {
		return nil, nil
	}
	km, near = make([]float64, len(c.regions)), make([]uint8, len(c.regions))
	for i := range c.regions {
		km[i], near[i] = distance(&c.regions[i], p), uint8(i)
	}
	slices.SortStableFunc(near, func(a, b uint8) int { return cmp.Compare(km[a], km[b]) })
	return km, near[:min(vantages, len(near))]
}

// rank ranks every node's members for a place.
func (c *Classes) rank(t *tree, p geo.Place) *Ranking {
	km, near := c.distances(p)
	return c.rankAt(t, p, km, near)
}

func (c *Classes) rankAt(t *tree, p geo.Place, km []float64, near []uint8) *Ranking {
	r := &Ranking{orders: make([][]uint8, len(t.nodes)), near: near}
	if t.measured {
		r.ms = c.milliseconds(t, p)
	}
	for i := range t.nodes {
		r.orders[i], _ = c.order(&t.nodes[i], p, km, r.ms)
	}
	return r
}

// order ranks a node's members, and says by what. Where the place is not
// known, the order of unmapped stands.
func (c *Classes) order(n *node, p geo.Place, km []float64, ms []float32) (order []uint8, why string) {
	switch n.sel.Policy {
	case fleet.Weighted, fleet.Failover, fleet.All:
		return nil, ""
	case fleet.Latency:
		if ms != nil {
			return nil, "" // by the View as well: see Scene
		}
	}
	order = slices.Clone(n.unmapped)
	if km != nil {
		order = n.byDistance(km)
	}
	switch n.sel.Policy {
	case fleet.Geo:
		if rule := MatchGeo(n.sel.Geo, p); rule >= 0 {
			n.prefer(order, n.sel.Geo[rule].Regions)
			why = fmt.Sprintf("rule %d", rule+1)
		}
	case fleet.Subnet:
		if ids, at := n.subnets.find(c.network(p)); at.IsValid() {
			n.prefer(order, ids)
			why = at.String()
		}
	}
	if len(order) > rankDepth {
		slices.Sort(order[rankDepth:])
	}
	return order, why
}

// network gives the smallest of the Spec's own networks that a place lies in.
func (c *Classes) network(p geo.Place) netip.Prefix {
	if p.Mark == 0 {
		return netip.Prefix{}
	}
	return c.networks[p.Mark-1]
}

// byDistance orders members by kilometres, a group by its nearest region, plus
// bias; equals stay as they are.
func (n *node) byDistance(km []float64) []uint8 {
	at := make([]float64, len(n.members))
	order := make([]uint8, len(n.members))
	for i := range n.members {
		order[i], at[i] = uint8(i), n.distance(i, km)+n.sel.Bias[n.members[i].id]
	}
	slices.SortStableFunc(order, func(a, b uint8) int { return cmp.Compare(at[a], at[b]) })
	return order
}

// distance is that of the nearest region of a member.
func (n *node) distance(member int, km []float64) float64 {
	least := math.Inf(1)
	for _, r := range n.members[member].leaves {
		least = min(least, km[r])
	}
	return least
}

func distance(r *fleet.Region, p geo.Place) float64 {
	return geo.Distance(r.Location.Latitude, r.Location.Longitude, p.Latitude, p.Longitude)
}

// MatchGeo gives the index of the first rule that names the place, or -1.
func MatchGeo(rules []fleet.GeoRule, p geo.Place) int {
	return slices.IndexFunc(rules, func(r fleet.GeoRule) bool {
		return p.Continent != "" && slices.Contains(r.Continents, p.Continent) ||
			p.Country != "" && slices.Contains(r.Countries, p.Country) ||
			p.Subdivision != "" && slices.Contains(r.Subdivisions, p.Subdivision) ||
			p.ASN != 0 && slices.Contains(r.ASNs, p.ASN)
	})
}
