package l7

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"meridian/edge/l7/limit"
	"meridian/fleet"
)

// reshareEvery is how often gateways tell what they want of limits that they hold
// together, and take what is their part.
const reshareEvery = time.Second

// demandFalls is what is left of a demand after each second in which less came: so a
// moment's pause gives nothing away.
const demandFalls = 0.8

// holders tells other gateways what this one holds of limits, and what they hold; it
// is safe for concurrent use. health.Health is one.
type holders interface {
	Hold(list []fleet.Holding)
	Holdings() map[string]fleet.Holdings
}

// quota is what lasts of a limit that gateways hold together from one generation to
// the next.
type quota struct {
	id    uint64 // of the limit and its numbers, the same at all gateways
	asked atomic.Int64
	held  atomic.Int64
	rate  atomic.Pointer[limit.Rate]

	// Of reshare alone, but for the beginning.
	made   time.Duration
	demand float64 // requests in the limit's time
	steady limit.Steady
}

// quota finds or makes what is to last of a limit; nil where this gateway holds an
// equal part whatever the demand: nobody carries its word, it does not hold the limit
// with others, or there are more limits than gateways tell of.
func (b *builder) quota(s *fleet.Service, l *fleet.RequestLimit, members []string) *quota {
	if b.g.cfg.Holders == nil || len(members) < 2 || !slices.Contains(members, b.g.cfg.Node) {
		return nil
	}
	id := quotaID(s.Service, l)
	if b.quotas[id] != nil || len(b.quotas) >= fleet.MaxHoldings {
		return b.quotas[id]
	}
	q := b.g.quotas[id]
	if q == nil {
		q = &quota{id: id, made: time.Duration(b.g.now())}
		q.hold(l, int64(l.Requests/len(members)), q.made)
	}
	b.quotas[id] = q
	return q
}

func quotaID(service string, l *fleet.RequestLimit) uint64 {
	h := fnv.New64a()
	h.Write([]byte(service + "/" + l.Name + "/" + string(l.Scope)))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(l.Requests)))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(l.Per)))
	return h.Sum64()
}

// hold takes so many of the limit's requests as this gateway's part.
func (q *quota) hold(l *fleet.RequestLimit, part int64, now time.Duration) {
	q.held.Store(part)
	rate := limit.RateOf(l, int(max(part, 1)))
	refill := time.Duration(float64(l.Per) / float64(l.Requests) * float64(l.Burst))
	steady := limit.RateOf(l, int(max(q.steady.Of(now, refill, part), 1)))
	rate.Burst = min(rate.Burst, steady.Burst)
	q.rate.Store(&rate)
}

// reshare tells and takes until ctx ends.
func (g *Gateway) reshare(ctx context.Context) {
	for last := time.Now(); pauseFor(ctx, reshareEvery); {
		now := time.Now()
		g.reshareOnce(now.Sub(last))
		last = now
	}
}

// reshareOnce goes by what came in the time since the last.
func (g *Gateway) reshareOnce(since time.Duration) {
	gen := g.gen.Load()
	if gen == nil {
		return
	}
	heard := g.cfg.Holders.Holdings()
	var own []fleet.Holding
	for _, s := range gen.services {
		if s == nil {
			continue
		}
		for i := range s.rates {
			if r := &s.rates[i]; r.quota != nil {
				own = append(own, r.reshare(g.cfg.Node, heard, time.Duration(g.now()), since))
			}
		}
	}
	g.cfg.Holders.Hold(own)
}

// reshare takes this gateway's part of one limit, and gives what to tell of it.
func (r *rate) reshare(node string, heard map[string]fleet.Holdings, now, since time.Duration) fleet.Holding {
	q := r.quota
	came := float64(q.asked.Swap(0)) * float64(r.spec.Per) / float64(max(since, 1))
	q.demand = min(max(came, q.demand*demandFalls), math.MaxUint32)
	others := map[string]limit.Claim{}
	for _, name := range r.members {
		if name != node {
			others[name] = r.claim(heard[name], now)
		}
	}
	q.hold(r.spec, limit.Portion(int64(r.spec.Requests), node, int64(q.demand), q.held.Load(), others), now)
	return fleet.Holding{Limit: q.id, Demand: uint32(q.demand), Held: uint32(q.held.Load())}
}

// claim is what another gateway says of the limit. One that has not spoken of it holds
// an equal part, as all do at first.
func (r *rate) claim(said fleet.Holdings, now time.Duration) limit.Claim {
	for _, h := range said.List {
		if h.Limit == r.quota.id {
			return limit.Claim{Demand: int64(h.Demand), Held: min(int64(h.Held), int64(r.spec.Requests)), Age: said.Age}
		}
	}
	return limit.Claim{Held: int64(r.spec.Requests / len(r.members)), Age: max(now-r.quota.made, limit.Fresh)}
}
