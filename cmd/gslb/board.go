package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/answer"
	"meridian/fleet"
	"meridian/synthetic/dashboard"
)

// explain answers /explain with the nameserver's own code, supposing what the
// query and the Spec, which may be nil, say.
func (s *gslbNode) explain(q url.Values, spec []byte) (any, error) {
	d := s.dns.Load()
	if d == nil {
		return nil, errors.New("this node is no nameserver, or has no configuration yet")
	}
	n, err := fleet.ParseName(q.Get("name"))
	if err != nil {
		return nil, fmt.Errorf("name: %w", err)
	}
	t, ok := dns.StringToType[strings.ToUpper(q.Get("type"))]
	if !ok {
		return nil, fmt.Errorf("type: %q is not a record type", q.Get("type"))
	}
	prefix, err := parseClient(q.Get("client"))
	if err != nil {
		return nil, fmt.Errorf("client: %q is not an address or prefix", q.Get("client"))
	}
	p := d.Plan()
	if sup := suppositionOf(q, spec); sup.any() {
		var view *fleet.View
		if b := s.daemon.Base(); b != nil {
			view = b.Health.View()
		}
		if p, err = sup.plan(p, s.daemon.World(), view, time.Now()); err != nil {
			return nil, err
		}
	}
	e, err := p.Explain(n, t, prefix)
	if err == nil && q.Get("record") != "" {
		err = e.WithRecord(p)
	}
	return e, err
}

// nodes is what health and the ledger know of the nodes.
func (s *gslbNode) nodes() map[string]dashboard.NodeStatus {
	out := map[string]dashboard.NodeStatus{}
	base := s.daemon.Base()
	if base == nil {
		return out
	}
	now, current := time.Now(), s.daemon.World().Snapshot.Hash
	for _, n := range base.Health.Nodes() {
		st := dashboard.NodeStatus{Alive: n.Live, Revision: n.Revision, Hash: n.Hash}
		if n.Hash != "" && strings.HasPrefix(current, n.Hash) { // frames carry the beginning only
			st.Hash = current
		}
		if n.Age >= 0 {
			st.Seen = now.Add(-time.Duration(n.Age * float64(time.Second)))
		}
		out[n.Node] = st
	}
	if s.control != nil {
		for _, a := range s.control.Status().Nodes {
			if st, ok := out[a.Node]; ok && a.Error != "" {
				st.Error = a.Error
				out[a.Node] = st
			}
		}
	}
	return out
}

// steeredCache keeps who is steered where for one plan: the page asks often,
// plans change seldom.
type steeredCache struct {
	mu   sync.Mutex
	plan *answer.Plan
	last []dashboard.Steering
}

// steering says where the clients of each country go, by the nameserver's own
// code, and where they would go with health and shifts left aside.
func (s *gslbNode) steering(*fleet.World, *fleet.View) []dashboard.Steering {
	d := s.dns.Load()
	world := s.daemon.World()
	if d == nil || world == nil {
		return nil
	}
	plan := d.Plan()
	c := &s.steered
	c.mu.Lock()
	defer c.mu.Unlock()
	if plan == c.plan {
		return c.last
	}
	home := plan.AtRest()
	c.plan, c.last = plan, nil
	for _, svc := range world.Snapshot.Spec.Services {
		st := dashboard.Steering{Service: svc.Service, Chosen: regions(plan, svc.Service), Home: regions(home, svc.Service)}
		c.last = append(c.last, st)
	}
	return c.last
}

// regions maps countries to the region that most of their clients get.
func regions(p *answer.Plan, service string) map[string]string {
	out := map[string]string{}
	for _, c := range p.Summary(service) {
		if c.Region != "" {
			out[c.Country] = c.Region
		}
	}
	return out
}
