package l7

import (
	"net/netip"
	"time"

	"meridian/edge/l7/limit"
	"meridian/fleet"
)

// rate is one of a service's limits on requests over time.
type rate struct {
	spec *fleet.RequestLimit
	id   uint32 // in the Gateway's table
	rate limit.Rate
	kind fleet.KeyKind
	name string // of the header or cookie
}

// rates compiles the limits of a service. Limits that several gateways hold
// together are in equal parts theirs.
func (b *builder) rates(s *fleet.Service) ([]rate, error) {
	var out []rate
	for i := range s.Limits.Rates {
		l := &s.Limits.Rates[i]
		r := rate{spec: l, id: b.g.rateID(s.Service + "/" + l.Name), rate: limit.RateOf(l, max(l.Requests/b.holders(l.Scope), 1))}
		var err error
		if r.kind, r.name, err = l.Key.Parse(); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// rateID numbers the limit of that name. The caller holds g.mu.
func (g *Gateway) rateID(name string) uint32 {
	id, ok := g.rateIDs[name]
	if !ok {
		id = uint32(len(g.rateIDs) + 1)
		g.rateIDs[name] = id
	}
	return id
}

// holders is how many gateways hold a limit together.
func (b *builder) holders(scope fleet.RateScope) int {
	n := 0
	for _, r := range b.world.Snapshot.Spec.Regions {
		if scope == fleet.ScopeFleet || scope == fleet.ScopeRegion && r.ID == b.g.cfg.Region {
			for _, node := range b.world.Snapshot.NodesWith(r.ID, fleet.RoleL7) {
				if node.State == fleet.Active {
					n++
				}
			}
		}
	}
	return max(n, 1)
}

// overRate takes one from each of the service's limits; where one refuses it
// says which, and for how long. text gives the text of a key: ok is false where
// the request has none, and then it goes by its client.
func (g *Gateway) overRate(s *service, client netip.Addr, text func(fleet.KeyKind, string) (string, bool)) (*rate, time.Duration) {
	for i := range s.rates {
		r := &s.rates[i]
		key, keyed := uint64(0), false
		switch r.kind {
		case fleet.KeyAll:
			key, keyed = g.rates.AllKey(r.id), true
		case fleet.KeyPath, fleet.KeyHeader, fleet.KeyCookie:
			var v string
			if v, keyed = text(r.kind, r.name); keyed {
				key = g.rates.TextKey(r.id, []byte(v))
			}
		}
		if !keyed {
			key = g.rates.ClientKey(r.id, client, r.spec.V4Prefix, r.spec.V6Prefix)
		}
		if wait := g.rates.Take(time.Duration(g.now()), key, r.rate); wait > 0 {
			return r, wait
		}
	}
	return nil, 0
}
