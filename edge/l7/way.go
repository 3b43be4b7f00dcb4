package l7

import (
	"reflect"
	"time"

	"meridian/edge/l7/filter"
	"meridian/edge/l7/route"
	"meridian/fleet"
)

// way is what a generation knows of one route.
type way struct {
	*route.Route
	set     *filter.Set
	retry   *retryRules
	timeout time.Duration // 0: none
	answer  *filter.Plain // of a route that answers itself
	mirror  *pool         // nil: none
	forward *pool         // that is asked whether requests may pass; nil: none
	stale   *staleStore   // nil: none

	plain   bool // nothing is to be done before an endpoint is asked
	changes bool // endpoints are asked something else than the client asked
	shapes  bool // answers may change on their way
}

// ways compiles the routes of an http or https service.
func (b *builder) ways(s *fleet.Service, out *service, gen *generation, index int) error {
	if !s.Protocol.Gateway() {
		return nil
	}
	sets, err := filter.Compile(s, b.world.Objects, b.g.salt)
	if err != nil {
		return err
	}
	had := b.g.gen.Load().service(s.Service)
	out.set = sets.Service
	for i := range s.Routes {
		w := &way{Route: gen.table.RouteOf(index, i), set: sets.Routes[i], retry: out.retry, timeout: s.Timeouts.Request.D(), answer: sets.Answers[i]}
		if r := s.Routes[i].Retries; r != nil {
			w.retry = newRetryRules(r.RetryOn, *r.Attempts, r.PerTryTimeout.D())
		}
		if t := s.Routes[i].Timeouts; t != nil && t.Request != nil {
			w.timeout = t.Request.D()
		}
		if w.Mirror >= 0 && w.Share > 0 {
			w.mirror = out.pools[w.Mirror]
		}
		if w.set.Forward != nil {
			w.forward = out.pools[w.set.ForwardPool]
		}
		w.stale = out.staleStore(w.set.Stale, had)
		if w.set.Basic != nil && had != nil {
			for _, old := range had.ways {
				w.set.Basic.Adopt(old.set.Basic)
			}
		}
		w.plain = w.set.Plain()
		w.changes = w.Rewrite != nil || w.set.Request != nil || w.set.Basic != nil || w.set.JWT != nil || w.set.Forward != nil || gen.tells
		w.shapes = w.set.Shapes() || w.Split != nil
		out.ways = append(out.ways, w)
	}
	return nil
}

// staleStore gives the service's store of answers, that of the generation before
// where its bounds are the same, and the routes, which answers are kept by.
func (s *service) staleStore(spec *fleet.Stale, had *service) *staleStore {
	switch {
	case spec == nil:
		return nil
	case s.stale != nil:
	case had != nil && had.stale != nil && had.stale.size == spec.Size && reflect.DeepEqual(had.spec.Routes, s.spec.Routes):
		s.stale = had.stale
	default:
		s.stale = newStaleStore(spec.Size)
	}
	return s.stale
}

// set gives the filters of the request's route, else those of its service; nil
// where there is none.
func (x *exchange) set() *filter.Set {
	switch {
	case x.way != nil:
		return x.way.set
	case x.service != nil:
		return x.service.set
	}
	return nil
}

// vars are what the variables of the Spec stand for.
func (x *exchange) vars(status int) *filter.Vars {
	v := &x.shaped.vars
	v.Client, v.Region, v.Node, v.Scheme = x.client, x.g.cfg.Region, x.g.cfg.Node, x.scheme()
	v.Host, v.Method, v.Path, v.Query, v.RequestID, v.Status = octets(x.host), octets(x.method), x.h.Path(), x.h.Query(), x.id, status
	v.Service, v.Route = "", ""
	if x.service != nil {
		v.Service = x.service.spec.Service
	}
	if x.way != nil {
		v.Route = x.way.Name
	}
	return v
}
