package steer

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"meridian/fleet"
	"meridian/geo"
)

// vantages is how many of the regions nearest to a client may lend it their
// prober's view; beyond them only the fleet-wide verdicts count.
const vantages = 3

// Class is one set of places that every service ranks alike.
type Class struct {
	ranks []*ranking // by kind of steering; nil for policy weighted
	near  []uint8    // the nearest regions, for vantage; empty where the place is not known
}

// ranking is an order of candidates, best first. Rankings that are the same
// order are one and the same.
type ranking struct {
	id    uint32
	order []uint8
}

// Classes ranks the regions of one Snapshot for every place. Of adds classes
// and is not safe for concurrent use; all else is.
type Classes struct {
	snap    *fleet.Snapshot
	regions []fleet.Region
	kinds   []int             // by service: its kind; services that rank all places alike are of one kind
	kindOf  []int             // by kind: the first service of it
	weighed []*[Slots][]uint8 // by service: the order in each slot; nil for other policies
	list    []*Class
	byKey   map[string]geo.Class
	byOrder map[string]*ranking
}

// NewClasses begins with the class of clients of whom nothing is known, which
// is class 0.
func NewClasses(s *fleet.Snapshot) *Classes {
	c := &Classes{snap: s, regions: s.Spec.Regions, byKey: map[string]geo.Class{}, byOrder: map[string]*ranking{}}
	known := map[string]int{}
	for i := range s.Spec.Services {
		svc := &s.Spec.Services[i]
		intent := intentOf(&svc.Steering)
		kind, ok := known[intent]
		if !ok {
			kind = len(c.kindOf)
			known[intent] = kind
			c.kindOf = append(c.kindOf, i)
		}
		c.kinds = append(c.kinds, kind)
		c.weighed = append(c.weighed, c.weigh(svc))
	}
	c.Of(geo.Place{})
	return c
}

// Of gives the class of a place, a new one where no place met before was
// ranked alike. It serves geo.Compile as its classify.
func (c *Classes) Of(p geo.Place) geo.Class {
	class := c.Rank(p)
	var key []byte
	for i, r := range class.ranks {
		if r == nil {
			continue
		}
		had, ok := c.byOrder[string(r.order)]
		if !ok {
			had = &ranking{uint32(len(c.byOrder)) + 1, r.order}
			c.byOrder[string(r.order)] = had
		}
		class.ranks[i] = had
		key = binary.BigEndian.AppendUint32(key, had.id)
	}
	key = append(key, class.near...)
	id, ok := c.byKey[string(key)]
	if !ok {
		id = geo.Class(len(c.list))
		c.list = append(c.list, class)
		c.byKey[string(key)] = id
	}
	return id
}

// Get gives a class by its number.
func (c *Classes) Get(k geo.Class) *Class { return c.list[k] }

// Len is the number of classes; they are numbered from 0.
func (c *Classes) Len() int { return len(c.list) }

// Intent names all that classes depend on in a Snapshot: two Snapshots with
// the same Intent rank every place alike.
func Intent(s *fleet.Snapshot) string {
	var b strings.Builder
	for _, r := range s.Spec.Regions {
		fmt.Fprintf(&b, "%s %v %v\n", r.ID, r.Location.Latitude, r.Location.Longitude)
	}
	for i := range s.Spec.Services {
		svc := &s.Spec.Services[i]
		fmt.Fprintf(&b, "%s %s\n", svc.Service, intentOf(&svc.Steering))
	}
	return b.String()
}

func intentOf(st *fleet.Steering) string {
	return fmt.Sprintf("%s %v %v %v %v", st.Policy, st.Regions, st.Geo, st.Weights, st.Bias)
}

// Rank gives the class of a place without numbering it. It is safe for
// concurrent use.
func (c *Classes) Rank(p geo.Place) *Class {
	class := &Class{}
	for _, service := range c.kindOf {
		var r *ranking
		if svc := &c.snap.Spec.Services[service]; svc.Steering.Policy != fleet.Weighted {
			r = &ranking{order: c.order(svc, p)}
		}
		class.ranks = append(class.ranks, r)
	}
	if p.Located {
		all := make([]uint8, len(c.regions))
		for i := range all {
			all[i] = uint8(i)
		}
		c.byDistance(all, p, nil)
		class.near = all[:min(vantages, len(all))]
	}
	return class
}

// ranked gives the order of a service's candidates for a class and slot.
func (c *Classes) ranked(service int, class *Class, slot Slot) []uint8 {
	if w := c.weighed[service]; w != nil {
		return w[slot]
	}
	return class.ranks[c.kinds[service]].order
}

// candidates lists the service's regions in the order in which the Spec names
// them.
func (c *Classes) candidates(svc *fleet.Service) []uint8 {
	var out []uint8
	for i := range c.regions {
		if len(svc.Steering.Regions) == 0 || slices.Contains(svc.Steering.Regions, c.regions[i].ID) {
			out = append(out, uint8(i))
		}
	}
	if want := svc.Steering.Regions; len(want) > 0 {
		slices.SortFunc(out, func(a, b uint8) int {
			return cmp.Compare(slices.Index(want, c.regions[a].ID), slices.Index(want, c.regions[b].ID))
		})
	}
	return out
}

// order ranks the candidates for a place by any policy but weighted. Where
// the place is not known, the Spec's order stands.
func (c *Classes) order(svc *fleet.Service, p geo.Place) []uint8 {
	out := c.candidates(svc)
	switch svc.Steering.Policy {
	case fleet.Proximity:
		c.byDistance(out, p, svc.Steering.Bias)
	case fleet.Geo:
		c.byDistance(out, p, nil)
		if rule := MatchGeo(svc.Steering.Geo, p); rule >= 0 {
			want := svc.Steering.Geo[rule].Regions
			slices.SortStableFunc(out, func(a, b uint8) int {
				return cmp.Compare(place(want, c.regions[a].ID), place(want, c.regions[b].ID))
			})
		}
	}
	return out
}

// place gives the index of id in list, or the list's length.
func place(list []string, id string) int {
	if i := slices.Index(list, id); i >= 0 {
		return i
	}
	return len(list)
}

// byDistance sorts regions by kilometres plus bias; equals stay as they are.
func (c *Classes) byDistance(list []uint8, p geo.Place, bias map[string]float64) {
	if !p.Located {
		return
	}
	var km [256]float64
	for _, i := range list {
		km[i] = distance(&c.regions[i], p) + bias[c.regions[i].ID]
	}
	slices.SortStableFunc(list, func(a, b uint8) int { return cmp.Compare(km[a], km[b]) })
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

// For gives the same classes for another Snapshot of the same Intent.
func (c *Classes) For(s *fleet.Snapshot) *Classes {
	out := *c
	out.snap, out.regions = s, s.Spec.Regions
	return &out
}
