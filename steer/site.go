package steer

import (
	"fmt"
	"math"
	"slices"

	"meridian/fleet"
	"meridian/geo"
)

// site is a place as rankings see it, and room to make them in: of hundreds of
// thousands of places only a few rank regions in a new way.
type site struct {
	place geo.Place
	km    []float64 // to each region; nil where the place is not known
	order []uint8   // all regions, the nearest first

	roomKM  []float64
	at      []float64 // by member: kilometres and bias
	ranking Ranking
	orders  [][]uint8 // what the ranking's orders are made in
	key     []byte
}

// unit gives a point of the globe as a vector of length 1.
func unit(latitude, longitude float64) [3]float64 {
	const rad = math.Pi / 180
	sinLat, cosLat := math.Sincos(latitude * rad)
	sinLon, cosLon := math.Sincos(longitude * rad)
	return [3]float64{cosLat * cosLon, cosLat * sinLon, sinLat}
}

// earthRadius is the mean radius of the earth in kilometres.
const earthRadius = 6371.0088

// set makes the site that of another place.
func (s *site) set(c *Classes, p geo.Place) {
	s.place, s.km, s.order = p, nil, s.order[:0]
	if !p.Located {
		return
	}
	here := unit(p.Latitude, p.Longitude)
	s.roomKM = s.roomKM[:0]
	for i := range c.points {
		x, y, z := here[0]-c.points[i][0], here[1]-c.points[i][1], here[2]-c.points[i][2]
		chord := math.Sqrt(x*x + y*y + z*z)
		s.roomKM = append(s.roomKM, 2*earthRadius*math.Asin(min(1, chord/2)))
		s.order = append(s.order, uint8(i))
	}
	s.km = s.roomKM
	sortBy(s.order, s.km)
}

// sortBy puts numbers in order of what they stand for, equals in their own
// order. It is quick where little is to be moved.
func sortBy(order []uint8, at []float64) {
	for i := 1; i < len(order); i++ {
		m := order[i]
		j := i
		for ; j > 0 && (at[order[j-1]] > at[m] || at[order[j-1]] == at[m] && order[j-1] > m); j-- {
			order[j] = order[j-1]
		}
		order[j] = m
	}
}

// rank ranks every node's members for a place. It is safe for concurrent use.
func (c *Classes) rank(t *tree, p geo.Place) *Ranking {
	var s site
	s.set(c, p)
	return s.rank(c, t)
}

// rank ranks every node's members. The ranking holds until the next call.
func (s *site) rank(c *Classes, t *tree) *Ranking {
	r := &s.ranking
	*r = Ranking{orders: r.orders[:0]}
	r.near.n = uint8(copy(r.near.at[:], s.order))
	if t.measured {
		r.ms = c.milliseconds(t, s.place)
	}
	for len(s.orders) < len(t.nodes) {
		s.orders = append(s.orders, nil)
	}
	for i := range t.nodes {
		n := &t.nodes[i]
		if !n.byPlace() || n.sel.Policy == fleet.Latency && r.ms != nil { // the latter is by the View as well: see Scene
			r.orders = append(r.orders, nil)
			continue
		}
		s.orders[i] = s.members(c, n, s.orders[i][:0])
		r.orders = append(r.orders, s.orders[i])
	}
	return r
}

// clone gives a ranking that holds for good.
func (r *Ranking) clone() *Ranking {
	out := &Ranking{near: r.near, ms: r.ms}
	for _, o := range r.orders {
		out.orders = append(out.orders, slices.Clone(o))
	}
	return out
}

// members appends a node's members in order. Where the place is not known, the
// order of unmapped stands.
func (s *site) members(c *Classes, n *node, order []uint8) []uint8 {
	if s.km != nil {
		order = s.byDistance(n, order)
	} else {
		order = append(order, n.unmapped...)
	}
	if ids, _ := c.rule(n, s.place); ids != nil {
		n.prefer(order, ids)
	}
	if len(order) > rankDepth {
		slices.Sort(order[rankDepth:])
	}
	return order
}

// rule gives the regions that a rule of the node names for a place, and which
// rule it is; nothing where there is none.
func (c *Classes) rule(n *node, p geo.Place) (ids []string, why func() string) {
	switch n.sel.Policy {
	case fleet.Geo:
		if rule := MatchGeo(n.sel.Geo, p); rule >= 0 {
			return n.sel.Geo[rule].Regions, func() string { return fmt.Sprintf("rule %d", rule+1) }
		}
	case fleet.Subnet:
		if ids, at := n.subnets.find(c.network(p)); at.IsValid() {
			return ids, at.String
		}
	}
	return nil, nil
}

// byDistance appends members in order of kilometres, a group by its nearest
// region, plus bias; equals stay as they are.
func (s *site) byDistance(n *node, order []uint8) []uint8 {
	s.at = s.at[:0]
	for i := range n.members {
		s.at = append(s.at, n.distance(i, s.km)+n.members[i].bias)
	}
	for _, r := range s.order { // much as it will be
		order = append(order, n.at[r]...)
	}
	sortBy(order, s.at)
	return order
}

// byPlace says whether a node's order depends on where the client is.
func (n *node) byPlace() bool {
	switch n.sel.Policy {
	case fleet.Weighted, fleet.Failover, fleet.All:
		return false
	}
	return true
}
