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
	near   nearest   // for vantage; none where the place is not known
	ms     []float32 // by region, for policy latency: from the latency map, or negative: minus the estimate by distance
}

// nearest are the regions nearest to a place. It lies in the Ranking itself:
// a change of health asks for it in all rankings.
type nearest struct {
	at [vantages]uint8
	n  uint8
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
	points   [][3]float64 // by region: where it is, as a unit vector
	site     site         // of the place that Of ranks
}

// NewClasses begins with the class of clients of whom nothing is known, which
// is class 0. latency may be nil.
func NewClasses(s *fleet.Snapshot, latency *LatencyMap) *Classes {
	c := &Classes{latency: latency, byKey: map[string]geo.Class{}}
	c.resolve(s)
	for i := range c.regions {
		c.points = append(c.points, unit(c.regions[i].Location.Latitude, c.regions[i].Location.Longitude))
	}
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
	s := &c.site
	s.set(c, p)
	s.key = s.key[:0]
	for _, k := range c.kinds {
		s.key = s.rank(c, k.tree).appendKey(s.key)
	}
	class, ok := c.byKey[string(s.key)]
	if ok {
		return class
	}
	class = geo.Class(c.count)
	c.count++
	c.byKey[string(s.key)] = class
	for _, k := range c.kinds {
		r := s.rank(c, k.tree)
		s.key = r.appendKey(s.key[:0])
		id, ok := k.byID[string(s.key)]
		if !ok {
			id = uint32(len(k.list))
			r = r.clone()
			r.id = id
			k.byID[string(s.key)] = id
			k.list = append(k.list, r)
		}
		k.of = append(k.of, id)
	}
	return class
}

// appendKey appends what tells rankings apart.
func (r *Ranking) appendKey(b []byte) []byte {
	for _, o := range r.orders {
		b = append(append(b, byte(len(o))), o...)
	}
	b = append(append(b, r.near.at[:r.near.n]...), 0xff)
	for _, ms := range r.ms {
		b = binary.BigEndian.AppendUint32(b, math.Float32bits(ms))
	}
	return b
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
	out.site = site{}
	out.resolve(s)
	for i, t := range out.trees {
		t.kind = c.trees[i].kind
	}
	return &out
}

// network gives the smallest of the Spec's own networks that a place lies in.
func (c *Classes) network(p geo.Place) netip.Prefix {
	if p.Mark == 0 {
		return netip.Prefix{}
	}
	return c.networks[p.Mark-1]
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
