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

	// Where several gateways hold it by demand:
	quota   *quota
	members []string
}

// rates compiles the limits of a service. Limits that several gateways hold
// together are theirs by demand, or else in equal parts.
func (b *builder) rates(s *fleet.Service) ([]rate, error) {
	var out []rate
	for i := range s.Limits.Rates {
		l := &s.Limits.Rates[i]
		members := b.holders(l.Scope)
		r := rate{spec: l, id: b.g.rateID(s.Service + "/" + l.Name), rate: limit.RateOf(l, max(l.Requests/max(len(members), 1), 1)),
			quota: b.quota(s, l, members), members: members}
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

// holders are the gateways that hold a limit together.
func (b *builder) holders(scope fleet.RateScope) (names []string) {
	for _, r := range b.world.Snapshot.Spec.Regions {
		if scope == fleet.ScopeFleet || scope == fleet.ScopeRegion && r.ID == b.g.cfg.Region {
			for _, node := range b.world.Snapshot.NodesWith(r.ID, fleet.RoleL7) {
				if node.State == fleet.Active {
					names = append(names, node.Name)
				}
			}
		}
	}
	return names
}

// now is the rate of this moment, for one request, which counts as demand.
func (r *rate) now() limit.Rate {
	if r.quota == nil {
		return r.rate
	}
	r.quota.asked.Add(1)
	return *r.quota.rate.Load()
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
		if wait := g.rates.Take(time.Duration(g.now()), key, r.now()); wait > 0 {
			return r, wait
		}
	}
	return nil, 0
}
