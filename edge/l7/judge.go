package l7

import (
	"context"
	"math/rand/v2"
	"time"

	"meridian/edge/l7/outlier"
	"meridian/fleet"
)

// How often pools are judged, and adaptive bounds move.
const (
	judgeEvery = time.Second
	stepEvery  = 100 * time.Millisecond
)

// judgeSoon has the pools judged at once: an endpoint fails again and again.
func (g *Gateway) judgeSoon() {
	select {
	case g.suspects <- struct{}{}:
	default:
	}
}

// judging judges pools until ctx ends.
func (g *Gateway) judging(ctx context.Context) {
	tick := time.NewTicker(stepEvery)
	defer tick.Stop()
	var last time.Duration
	for {
		soon := false
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-g.suspects:
			soon = true
		}
		gen, now := g.gen.Load(), time.Duration(g.now())
		if gen == nil {
			continue
		}
		judge := soon || now-last >= judgeEvery
		if judge {
			last = now
		}
		for _, s := range gen.services {
			if s == nil {
				continue
			}
			if !soon {
				s.budget.settle(s.stats.classes.total())
			}
			for _, p := range s.pools {
				if judge {
					g.judge(s, p, now)
				}
				if p.adaptive != nil && !soon {
					p.adaptive.Step(now, rand.Uint64())
				}
			}
		}
	}
}

// judge ejects the pool's outliers. Those that are out already are checked each
// time: no request that fails would bring their checks forward.
func (g *Gateway) judge(s *service, p *pool, now time.Duration) {
	peers, at := make([]outlier.Peer, 0, len(p.endpoints)), make([]*endpoint, 0, len(p.endpoints))
	for _, e := range p.endpoints {
		if state := e.vital.State(); state != fleet.Drain {
			peers = append(peers, outlier.Peer{Endpoint: &e.vital.outlier, Weight: e.weight, Healthy: state != fleet.Down})
			at = append(at, e)
		}
	}
	for _, e := range at {
		if e.vital.Ejected(now) {
			e.vital.doubt()
		}
	}
	for _, d := range p.rules.Judge(now, peers) {
		g.metrics.outliers.WithLabelValues(s.spec.Service, string(d.Reason)).Inc()
		e := at[d.Index]
		switch d.Reason {
		case outlier.Spared:
		case outlier.Returned:
			g.cfg.Logger.Info("gateway: endpoint is back", "service", s.spec.Service, "pool", p.id, "endpoint", e.address)
		default:
			e.vital.Eject(d.Until)
			g.cfg.Logger.Info("gateway: endpoint ejected", "service", s.spec.Service, "pool", p.id, "endpoint", e.address,
				"reason", string(d.Reason), "for", d.Until-now, "in_a_row", d.InARow, "failed", d.Failed, "mean", d.Mean, "median", d.Median)
		}
	}
}
