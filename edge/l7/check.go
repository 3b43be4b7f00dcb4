package l7

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"sync/atomic"
	"time"

	"meridian/edge/l7/balance"
	"meridian/edge/l7/limit"
	"meridian/edge/l7/outlier"
	"meridian/fleet"
)

// Pauses between checks where the interval would be too long.
const (
	firstCheck   = 100 * time.Millisecond // new checks start spread over so long
	soonAgain    = 250 * time.Millisecond // while nothing is known of the endpoint
	leastBetween = 100 * time.Millisecond // when requests failed to connect
)

// awayFor is how long an endpoint that requests could not connect to is thought to
// be away, unless checks say so.
const awayFor = time.Second

// vital is what lasts of an endpoint from one generation to the next.
type vital struct {
	balance.Live
	outlier outlier.Endpoint
	answers classes // to tries
	circuit limit.EndpointCircuit
	suspect chan struct{} // holds one sign that a request failed to connect

	missed   atomic.Int32 // tries in a row that got no connection
	missedAt atomic.Int64 // the moment of the last of them
}

// doubt asks for a check of the endpoint soon. A request that fails to connect
// does not judge the endpoint: it only has the check made earlier. So under
// load a dead endpoint is down after fall failures of leastBetween each, and a
// live one never by the fault of requests.
func (v *vital) doubt() {
	select {
	case v.suspect <- struct{}{}:
	default:
	}
}

// met notes whether a try got a connection.
func (v *vital) met(now moment, err error) {
	if err == nil {
		if v.missed.Load() != 0 {
			v.missed.Store(0)
		}
		return
	}
	var connect *connectError // on the heap
	if errors.As(err, &connect) {
		v.missed.Add(1)
		v.missedAt.Store(int64(now))
	}
}

// away says that nobody can be there, though checks do not say so yet: so many
// tries in a row got no connection, the last of them just now.
func (v *vital) away(now moment, row int) bool {
	return row > 0 && int(v.missed.Load()) >= row && !moment(v.missedAt.Load()).add(awayFor).passed(now)
}

// checkRules are what a check does; a check whose rules change starts anew.
type checkRules struct {
	main     fleet.Probe
	ready    fleet.Probe // Path is empty where the service has no ready_path
	interval time.Duration
}

// check watches one endpoint.
type check struct {
	g      *Gateway
	target fleet.Target
	rules  checkRules
	vital  *vital
	stop   context.CancelFunc

	ownUntil time.Time // until when others' word does not count
	forgot   bool      // others check, and this gateway has no word of its own
}

// recheck starts the checks that gen adds and stops those that it does not
// have. The caller holds g.mu.
func (g *Gateway) recheck(gen *generation) {
	wanted := map[fleet.Target]bool{}
	for _, s := range gen.services {
		if s == nil || !checked(s.spec) {
			continue
		}
		for i := range s.spec.Pools {
			p := &s.spec.Pools[i]
			for _, e := range inRegion(p.Endpoints, g.cfg.Region) {
				if e.State == fleet.Disabled {
					continue
				}
				target := g.target(s.spec, p, e.Address)
				wanted[target] = true
				g.ensureCheck(target, rulesOf(gen.world, s.spec, p, e.Address))
			}
		}
	}
	for t, c := range g.checks {
		if !wanted[t] {
			c.stop()
			delete(g.checks, t)
		}
	}
}

func (g *Gateway) ensureCheck(t fleet.Target, rules checkRules) {
	if old := g.checks[t]; old != nil {
		if reflect.DeepEqual(old.rules, rules) && old.vital == g.vitals[t] {
			return
		}
		old.stop()
	}
	ctx, cancel := context.WithCancel(g.base)
	c := &check{g: g, target: t, rules: rules, vital: g.vitals[t], stop: cancel}
	g.checks[t] = c
	g.tasks.run(func() { c.run(ctx) })
}

// checkReady is the check whose failure drains: health/verdict knows it by
// that name.
const checkReady = "ready"

// checked says whether there is a check for the service's endpoints: where none is
// configured, a udp service has none.
func checked(s *fleet.Service) bool {
	return s.Protocol != fleet.UDP || s.Healthcheck.Type.Datagram() || s.Healthcheck.Port != 0
}

// rulesOf makes the probes of one endpoint.
func rulesOf(w *fleet.World, s *fleet.Service, p *fleet.Pool, at netip.AddrPort) checkRules {
	h := &s.Healthcheck
	probe := fleet.Probe{Check: string(h.Type), Address: at, Timeout: h.Timeout.D()}
	if h.Port != 0 {
		probe.Address = netip.AddrPortFrom(at.Addr(), h.Port)
	}
	switch h.Type {
	case fleet.CheckDNS:
		probe.Name, _ = fleet.ParseName(h.Name) // checked
	case fleet.CheckUDP:
		probe.Send, probe.Expect = h.Send, h.Expect
	}
	switch {
	case h.Type.Web():
		probe.Host, probe.Path, probe.Expect = h.Host, h.Path, h.Expect
	case h.Type == fleet.CheckGRPC:
		probe.Host, probe.Path = h.Host, h.Path
		if p.TLS != nil {
			probe.Check = "grpcs"
		}
	}
	if (h.Type == fleet.CheckHTTPS || h.Type == fleet.CheckGRPC) && p.TLS != nil {
		probe.TLSName, probe.Insecure = p.TLS.ServerName, p.TLS.Insecure
		probe.CA = w.Objects[fleet.ObjectKey{Kind: fleet.ObjectCA, ID: p.TLS.CA}].Data
		probe.Certificate = w.Objects[fleet.ObjectKey{Kind: fleet.ObjectCertificate, ID: p.TLS.Certificate}].Data
	}
	rules := checkRules{main: probe, interval: h.Interval.D()}
	if h.ReadyPath != "" && h.Type != fleet.CheckTCP {
		rules.ready = probe
		rules.ready.Path = h.ReadyPath
	}
	return rules
}

// run checks at once, spread over a short time, and then at the interval,
// give or take a tenth, so that the gateways of a region do not fall into step.
func (c *check) run(ctx context.Context) {
	wait := time.NewTimer(rand.N(min(firstCheck, c.rules.interval)))
	defer wait.Stop()
	for {
		suspected := false
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		case <-c.vital.suspect:
			suspected = true
		}
		if c.told(suspected) {
			wait.Reset(conferEvery)
			continue
		}
		began := time.Now()
		state := c.once(ctx)
		if ctx.Err() != nil {
			return
		}
		next := c.rules.interval*9/10 + rand.N(c.rules.interval/5)
		if state == fleet.Unknown {
			next = min(next, soonAgain)
		}
		took := time.Since(began)
		wait.Reset(max(next-took, 0))
		if !pauseFor(ctx, leastBetween-took) {
			return
		}
	}
}

// pauseFor waits; false says that ctx ended first.
func pauseFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// once makes the checks, reports them, and installs the verdict.
func (c *check) once(ctx context.Context) fleet.State {
	res := c.g.cfg.Prober.Probe(ctx, c.rules.main)
	if ctx.Err() != nil {
		return fleet.Unknown // cut short: says nothing about the endpoint
	}
	v := c.g.cfg.Health.Observe(res.Observation(c.target, c.g.cfg.Node, c.rules.main.Check, time.Now()))
	if res.OK && c.rules.ready.Path != "" {
		res = c.g.cfg.Prober.Probe(ctx, c.rules.ready)
		if ctx.Err() != nil {
			return fleet.Unknown
		}
		v = c.g.cfg.Health.Observe(res.Observation(c.target, c.g.cfg.Node, checkReady, time.Now()))
	}
	if was := c.vital.State(); was != v.State {
		c.g.cfg.Logger.Info("gateway: endpoint", "target", c.target.String(), "was", was.String(), "is", v.State.String(), "cause", v.Cause.String(), "detail", v.Detail)
	}
	c.vital.SetState(v.State, time.Duration(c.g.now()))
	return v.State
}
