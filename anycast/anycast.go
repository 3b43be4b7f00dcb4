// Package anycast keeps a BGP speaker in line with what this node should
// announce: it joins the World, the View and the node's own readiness, lets
// anycast/plan decide, and hands the speaker the complete set when it changes.
//
// Runtime: imports anycast/plan and fleet. The speaker (anycast/gobgp) and the
// data plane come in through what Config asks for.
package anycast

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/anycast/plan"
	"meridian/fleet"
)

// Speaker is a BGP speaker: it announces exactly the set given last.
type Speaker interface {
	Announce(ads []fleet.Advertisement) error
}

// Config is what an Anycast needs.
type Config struct {
	Node    string
	Speaker Speaker
	// Local says why the node's data plane cannot serve what comes to the
	// VIPs; nil when it can. Called every quarter of a second; must not wait.
	Local  func() error
	Logger *slog.Logger
}

// checkEvery is the time between looks at the node's own readiness and at the
// shifts' expiry.
const checkEvery = 250 * time.Millisecond

// Anycast is the runtime. Apply, SetView, Status and Register may be called
// from any goroutine.
type Anycast struct {
	cfg  Config
	kick chan struct{}

	mu    sync.Mutex
	world *fleet.World
	view  *fleet.View
	now   Status

	prefixes, degraded, ready prometheus.Gauge
	changes, failures         prometheus.Counter
}

// Status is what the node announces, for people and for /health.
type Status struct {
	Ads    []fleet.Advertisement
	Silent string // why nothing is announced
	Err    error  // why the speaker could not be told
}

// New checks the configuration.
func New(cfg Config) (*Anycast, error) {
	if cfg.Node == "" || cfg.Speaker == nil || cfg.Local == nil || cfg.Logger == nil {
		return nil, errors.New("anycast: node, speaker, local and logger are required")
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "meridian_anycast_" + name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "meridian_anycast_" + name, Help: help})
	}
	return &Anycast{
		cfg: cfg, kick: make(chan struct{}, 1), now: Status{Silent: "no configuration yet"},
		prefixes: gauge("announced_prefixes", "Prefixes that the node announces."),
		degraded: gauge("degraded_prefixes", "Prefixes that the node announces as less wanted than others."),
		ready:    gauge("local_ready_state", "1 while the node's data plane can serve, after fall and rise."),
		changes:  counter("changes_total", "Changes of the announced set."),
		failures: counter("speaker_failures_total", "Times the speaker refused the announced set."),
	}, nil
}

// Apply takes a new World. It never fails: what could not be announced is
// refused with the Spec (plan.Check).
func (a *Anycast) Apply(w *fleet.World) error {
	a.mu.Lock()
	a.world = w
	a.mu.Unlock()
	a.wake()
	return nil
}

// SetView takes a new View.
func (a *Anycast) SetView(v *fleet.View) {
	a.mu.Lock()
	a.view = v
	a.mu.Unlock()
	a.wake()
}

// Status gives what is announced now.
func (a *Anycast) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now
}

// Register adds the metrics.
func (a *Anycast) Register(r prometheus.Registerer) {
	r.MustRegister(a.prefixes, a.degraded, a.ready, a.changes, a.failures)
}

func (a *Anycast) wake() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// Run plans and announces until ctx ends, then withdraws everything.
func (a *Anycast) Run(ctx context.Context) error {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	var hold plan.Hold
	var since time.Time // when readiness began
	for {
		now := time.Now()
		local := hold.Update(a.cfg.Local(), now)
		if local != nil || since.IsZero() {
			since = now
		}
		a.step(local, since, now)
		select {
		case <-ctx.Done():
			return a.leave()
		case <-a.kick:
		case <-tick.C:
		}
	}
}

// step announces the plan of this moment where it differs from what was last
// announced, or where the speaker did not take that.
func (a *Anycast) step(local error, since, now time.Time) {
	a.mu.Lock()
	world, view, was := a.world, a.view, a.now
	a.mu.Unlock()
	if world == nil {
		return
	}
	a.ready.Set(boolean(local == nil))
	p := plan.Make(plan.Input{Snapshot: world.Snapshot, Node: a.cfg.Node, Local: local, Ready: since, View: view, Shifts: world.Shifts, Now: now})
	next := Status{Ads: p.Ads, Silent: p.Silent}
	if was.Err == nil && reflect.DeepEqual(was, next) {
		return
	}
	next.Err = a.announce(p.Ads)
	a.mu.Lock()
	a.now = next
	a.mu.Unlock()
	if next.Err != nil {
		if was.Err == nil || was.Err.Error() != next.Err.Error() {
			a.cfg.Logger.Error("announcements not made", "err", next.Err)
		}
		return
	}
	a.cfg.Logger.Info("announcements", "set", describe(p))
}

func (a *Anycast) announce(ads []fleet.Advertisement) error {
	if err := a.cfg.Speaker.Announce(ads); err != nil {
		a.failures.Inc()
		return fmt.Errorf("anycast: announce: %w", err)
	}
	a.changes.Inc()
	degraded := 0
	for _, ad := range ads {
		if ad.Prepend > 0 {
			degraded++
		}
	}
	a.prefixes.Set(float64(len(ads)))
	a.degraded.Set(float64(degraded))
	return nil
}

// leave withdraws at the end, so that neighbors move traffic before the
// node's data plane stops.
func (a *Anycast) leave() error {
	a.mu.Lock()
	a.now = Status{Silent: "the node is stopping"}
	a.mu.Unlock()
	return a.announce(nil)
}

// describe gives a plan as one line for people.
func describe(p plan.Plan) string {
	if len(p.Ads) == 0 {
		return "none: " + p.Silent
	}
	s := ""
	for i, ad := range p.Ads {
		if i > 0 {
			s += "; "
		}
		s += fmt.Sprintf("%s (%s)", ad.Prefix, ad.Reason)
	}
	return s
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
