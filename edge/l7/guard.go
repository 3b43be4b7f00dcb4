package l7

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"syscall"
	"time"

	"meridian/edge/l7/balance"
	"meridian/edge/l7/limit"
	"meridian/edge/l7/outlier"
	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// guard is what one pool lets through, whom it leaves out, and which client
// stays with whom. Its circuit and its adaptive bound are shared with the
// generations before and after.
type guard struct {
	circuit  *limit.Circuit
	adaptive *limit.Adaptive // nil: none
	bounds   limit.AdaptiveRules
	rules    outlier.Rules
	affinity *balance.Affinity // nil: no cookie
	cookie   *fleet.BalanceCookie
}

// before gives the pool of the generation before, nil where there was none.
func (b *builder) before(service, id string) *pool {
	if was := b.g.gen.Load().service(service); was != nil {
		if i := slices.IndexFunc(was.pools, func(p *pool) bool { return p.id == id }); i >= 0 {
			return was.pools[i]
		}
	}
	return nil
}

func (b *builder) circuit(service, id string) *limit.Circuit {
	if had := b.before(service, id); had != nil {
		return had.circuit
	}
	return &limit.Circuit{}
}

// guard makes that of a pool, with what the generation before had of it.
func (b *builder) guard(s *fleet.Service, id string, circuit *limit.Circuit, members []balance.Member) guard {
	out := guard{rules: outlier.Of(s), cookie: s.Balancing.Cookie, circuit: circuit}
	had := b.before(s.Service, id)
	if a := s.Limits.Adaptive; a != nil {
		out.bounds = limit.AdaptiveOf(a)
		if had != nil && had.adaptive != nil && had.bounds == out.bounds {
			out.adaptive = had.adaptive
		} else {
			out.adaptive = limit.NewAdaptive(out.bounds, time.Duration(b.g.now())+time.Second)
		}
	}
	if out.cookie != nil {
		out.affinity = balance.NewAffinity(b.g.cfg.AffinityKey, s.Service+"/"+id, members)
	}
	return out
}

// bound puts the generation's circuit limits in force.
func (gen *generation) bound() {
	for _, s := range gen.services {
		if s == nil {
			continue
		}
		for _, p := range s.pools {
			p.circuit.Set(&s.spec.Limits)
			for _, e := range p.endpoints {
				e.vital.circuit.Set(&s.spec.Limits)
			}
		}
	}
}

// enter lets a request into the pool, if there is room; leave must follow.
func (gd *guard) enter() bool {
	if !gd.circuit.Requests.Enter() {
		return false
	}
	if gd.adaptive != nil && !gd.adaptive.Enter() {
		gd.circuit.Requests.Leave()
		return false
	}
	return true
}

// leave notes that a request is over, and how long its answer took; 0 where
// there was none.
func (gd *guard) leave(took time.Duration) {
	gd.circuit.Requests.Leave()
	if gd.adaptive != nil {
		gd.adaptive.Leave(took)
	}
}

// What pick gives where it gives no endpoint.
const (
	nobody  = -1 // the pool is empty
	allFull = -2 // all have as many requests as they may
)

// mostFull is how many endpoints without room a pick passes over.
const mostFull = 8

// pick gives the endpoint to try next, entered: done must follow.
func (p *pool) pick(a balance.Ask, tried *balance.Tried) int {
	for range mostFull {
		i := p.balancer.Pick(a, tried)
		if i < 0 {
			return nobody
		}
		v := p.endpoints[i].vital
		if v.circuit.Requests.Enter() {
			v.Begin()
			return i
		}
		if tried.Has(i) {
			break
		}
		tried.Add(i)
	}
	return allFull
}

// done notes that a try at the endpoint is over.
func (v *vital) done() {
	v.End()
	v.circuit.Requests.Leave()
}

// outcome notes what became of a try, for balance and outlier. One that failed
// counts as one that took as long as worst, so that failing fast is not fast.
func (g *Gateway) outcome(p *pool, v *vital, o outlier.Outcome, took, worst time.Duration) {
	if o != outlier.Success {
		took = max(took, worst)
	}
	v.Observe(time.Duration(g.now()), took)
	if row, refused := v.outlier.Record(o, took); p.rules.Row > 0 && (row == p.rules.Row || refused == p.rules.Row) {
		g.judgeSoon()
	}
}

// outcomeOf tells the sorts of failure apart. A status from 500 on is one.
func outcomeOf(status int, err error) outlier.Outcome {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return outlier.Refused
	case err != nil || status >= http.StatusInternalServerError:
		return outlier.Failure
	}
	return outlier.Success
}

// held gives what Ask.Held wants: the endpoint that the client's cookie names.
func (gd *guard) held(h *wire.Head) int {
	if gd.affinity == nil {
		return 0
	}
	return gd.affinity.Held(h.Cookie(gd.cookie.Name))
}

// hold gives the Set-Cookie that holds a client to an endpoint.
func (gd *guard) hold(i int, secure bool) string {
	s := gd.cookie.Name + "=" + gd.affinity.Value(i) + "; Path=" + gd.cookie.Path + "; HttpOnly"
	if ttl := gd.cookie.TTL.D(); ttl > 0 {
		s += "; Max-Age=" + strconv.FormatInt(int64(ttl/time.Second), 10)
	}
	if secure {
		s += "; Secure"
	}
	return s
}
