package steer

import (
	"meridian/geo"
)

// spill gives for each region the share of the clients that come to it that it
// has room for; nil where all have room for all.
//
// The clients of a region are taken to be where it is: their order of regions
// is that of its own location. What the regions' demands come to, in that
// order and past the regions that are out, is the load that each is offered;
// one that is offered more than its capacity keeps capacity over load of it,
// and the rest goes on to the next in order. What no region has room for stays
// with the first.
func (s *Scene) spill() []float64 {
	flows := s.flows()
	if len(flows) == 0 {
		return nil
	}
	keep := make([]float64, len(s.classes.regions))
	for i := range keep {
		keep[i] = 1
	}
	short := false
	// Each round only lowers keep, so that loads further on only grow; with as
	// many rounds as regions the last of them has heard of the first.
	for range keep {
		offered := make([]float64, len(keep))
		for _, f := range flows {
			left := f.demand
			for _, r := range f.order {
				offered[r] += left
				if left *= 1 - keep[r]; left == 0 {
					break
				}
			}
		}
		changed := false
		for i := range keep {
			if room := float64(s.classes.regions[i].Capacity); offered[i]*keep[i] > room*(1+1e-9) {
				keep[i], changed, short = room/offered[i], true, true
			}
		}
		if !changed {
			break
		}
	}
	if !short {
		return nil
	}
	return keep
}

// flow is the demand of one region's clients, and where they go.
type flow struct {
	demand float64
	order  []uint8 // regions that are up, best first
}

// flows gives the demand of all services; services that are alike make one.
func (s *Scene) flows() []flow {
	type group struct {
		tree int
		out  mask
	}
	at := map[group]int{}
	var times []float64
	var services []int
	for i, t := range s.classes.trees {
		if len(t.st.Demand) == 0 {
			continue
		}
		g := group{t.id, s.health[i].out.and(t.leaves)}
		if j, ok := at[g]; ok {
			times[j]++
			continue
		}
		at[g] = len(services)
		services, times = append(services, i), append(times, 1)
	}
	var out []flow
	for j, service := range services {
		t := s.classes.trees[service]
		for id, demand := range t.st.Demand {
			home, ok := s.classes.index[id]
			if !ok || demand == 0 {
				continue
			}
			loc := &s.classes.regions[home].Location
			w := walk{s: s, t: t, health: &s.health[service], service: service, vantage: -1,
				rank: s.classes.rank(t, geo.Place{Continent: loc.Continent, Country: loc.Country,
					Latitude: loc.Latitude, Longitude: loc.Longitude, Located: true})}
			w.family = 0
			if s.vips[0] == (mask{}) {
				w.family = 1
			}
			if !w.up(0) {
				continue
			}
			w.visit(0, healthy)
			f := flow{demand: times[j] * float64(demand)}
			for _, e := range w.list[:w.n] {
				f.order = append(f.order, e.region)
			}
			out = append(out, f)
		}
	}
	return out
}
