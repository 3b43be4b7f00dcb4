package hop

import (
	"slices"

	"meridian/fleet"
	"meridian/geo"
)

// Next lists the regions that a region's gateways may pass a service's requests for
// a pool on to, in order: those that the service's steering may choose, active, with
// VIPs of their own and endpoints for the pool. A service steered by failover has its
// own order; else the nearest comes first.
func Next(s *fleet.Spec, svc *fleet.Service, pool *fleet.Pool, own string) []*fleet.Region {
	here := region(s, own)
	if here == nil {
		return nil
	}
	names, ordered := candidates(s, svc), svc.Steering.Policy == fleet.Failover
	var out []*fleet.Region
	for _, name := range names {
		r := region(s, name)
		if r == nil || name == own || r.State != fleet.Active || len(r.VIPs.V4)+len(r.VIPs.V6) == 0 || slices.Contains(out, r) || !serves(pool, name) {
			continue
		}
		out = append(out, r)
	}
	if !ordered {
		far := func(r *fleet.Region) float64 {
			a, b := here.Location, r.Location
			return geo.Distance(a.Latitude, a.Longitude, b.Latitude, b.Longitude)
		}
		slices.SortStableFunc(out, func(a, b *fleet.Region) int {
			switch x, y := far(a), far(b); {
			case x < y:
				return -1
			case x > y:
				return 1
			}
			return 0
		})
	}
	return out
}

// candidates lists the regions of the service's steering, those of its groups in
// their place; all regions where it names none.
func candidates(s *fleet.Spec, svc *fleet.Service) []string {
	var out []string
	seen := map[string]bool{} // groups; they may not hold themselves, but this need not rely on it
	var add func(list []string)
	add = func(list []string) {
		for _, name := range list {
			i := slices.IndexFunc(svc.Steering.Groups, func(g fleet.Group) bool { return g.Group == name })
			if i < 0 {
				out = append(out, name)
			} else if !seen[name] {
				seen[name] = true
				add(svc.Steering.Groups[i].Regions)
			}
		}
	}
	add(svc.Steering.Regions)
	if len(svc.Steering.Regions) == 0 {
		for i := range s.Regions {
			out = append(out, s.Regions[i].ID)
		}
	}
	return out
}

func region(s *fleet.Spec, id string) *fleet.Region {
	for i := range s.Regions {
		if s.Regions[i].ID == id {
			return &s.Regions[i]
		}
	}
	return nil
}

// serves says whether gateways of the region have an active endpoint in the pool.
func serves(p *fleet.Pool, region string) bool {
	for _, e := range p.Endpoints {
		if (e.Region == "" || e.Region == region) && e.State == fleet.Active {
			return true
		}
	}
	return false
}
