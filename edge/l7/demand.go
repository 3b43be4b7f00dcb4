package l7

import (
	"context"
	"crypto/tls"
	"sync"
	"time"
)

// demands are the names for which a certificate is being asked for, or was
// refused of late. It bounds what strangers can have the gateway ask for.
type demands struct {
	mu      sync.Mutex
	waiting map[string]*demand
	refused map[string]time.Time // until when
}

// demand is one name that handshakes wait for.
type demand struct{ done chan struct{} }

const (
	maxDemands = 64               // names asked for at once
	maxRefused = 4096             // names that are remembered as refused
	refusedFor = 30 * time.Second // a refused name is not asked for again
)

// demand has a certificate issued for a name that has none, where a certificate
// of the Spec allows it, and gives it once this gateway has it; nil where it is
// refused or does not come in time.
func (g *Gateway) demand(ctx context.Context, name string) []*tls.Certificate {
	gen := g.gen.Load()
	wait, allowed := gen.demanded(name)
	if !allowed {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	d := g.demands.join(name, g.wall(), func(d *demand) {
		g.tasks.run(func() { g.ask(name, d) })
	})
	if d == nil {
		return nil
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for done := d.done; ; {
		if list := g.gen.Load().tls.certs.Find(name); len(list) > 0 {
			return list
		}
		select {
		case <-ctx.Done():
			return nil
		case <-done:
			done = nil // issued: it is on its way here, or refused
			if g.demands.isRefused(name, g.wall()) {
				return nil
			}
		case <-tick.C:
		}
	}
}

// demanded says whether a certificate of the Spec is issued on demand for the
// name, and how long a handshake waits for it.
func (gen *generation) demanded(name string) (time.Duration, bool) {
	for i := range gen.world.Snapshot.Spec.Certificates {
		a := gen.world.Snapshot.Spec.Certificates[i].ACME
		if a != nil && a.OnDemand != nil && a.OnDemand.Allows(name) {
			return a.OnDemand.Wait.D(), true
		}
	}
	return 0, false
}

// demandLimit bounds one question to the control plane.
const demandLimit = 2 * time.Minute

// ask asks the control plane for a certificate.
func (g *Gateway) ask(name string, d *demand) {
	ctx, cancel := context.WithTimeout(g.base, demandLimit)
	defer cancel()
	err := g.cfg.Demand(ctx, name)
	if err != nil {
		g.cfg.Logger.Debug("gateway: no certificate on demand", "name", name, "err", err)
	}
	g.demands.end(name, d, err != nil, g.wall())
}

// join gives the demand for a name, which begin is called with where there was
// none; nil where it was refused of late, or too many names are asked for.
func (d *demands) join(name string, now time.Time, begin func(*demand)) *demand {
	d.mu.Lock()
	defer d.mu.Unlock()
	if until, ok := d.refused[name]; ok && now.Before(until) {
		return nil
	}
	if had := d.waiting[name]; had != nil {
		return had
	}
	if len(d.waiting) >= maxDemands {
		return nil
	}
	if d.waiting == nil {
		d.waiting, d.refused = map[string]*demand{}, map[string]time.Time{}
	}
	next := &demand{done: make(chan struct{})}
	d.waiting[name] = next
	begin(next)
	return next
}

func (d *demands) end(name string, done *demand, refused bool, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.waiting, name)
	if delete(d.refused, name); refused {
		if len(d.refused) >= maxRefused {
			clear(d.refused)
		}
		d.refused[name] = now.Add(refusedFor)
	}
	close(done.done)
}

func (d *demands) isRefused(name string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return now.Before(d.refused[name])
}
