// Package synthetic watches the fleet from outside, as its users do: it
// schedules, for this region's prober, the checks of every region's services,
// nameservers and anycast VIPs, and emits an Observation for each.
//
// It is a runtime room: it imports fleet alone. probe runs its checks and
// health takes its Observations, both through the interfaces below. No other
// room but the programs imports it.
package synthetic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/fleet"
)

// Prober runs one check.
type Prober interface {
	Probe(ctx context.Context, p fleet.Probe) fleet.ProbeResult
}

// Observer takes in what was seen.
type Observer interface {
	Observe(o fleet.Observation) fleet.Verdict
}

// maxInFlight bounds the probes that run at once on this node. A probe that
// would be one more is left out and counted.
const maxInFlight = 4096

// Config is what a Synthetic needs.
type Config struct {
	Node     string // this node's name
	Region   string // the vantage in its Observations
	Prober   Prober
	Observer Observer
	Logger   *slog.Logger
}

// Synthetic runs the schedule of one prober.
type Synthetic struct {
	cfg   Config
	slots chan struct{} // one token for each probe in flight
	fresh chan struct{} // there is a new plan

	mu   sync.Mutex
	plan []check // guarded by mu; replaced as a whole

	probes  *prometheus.CounterVec
	skipped prometheus.Counter
	expiry  *prometheus.GaugeVec
}

// New makes a Synthetic; it starts nothing.
func New(cfg Config) (*Synthetic, error) {
	if cfg.Node == "" || cfg.Region == "" || cfg.Prober == nil || cfg.Observer == nil || cfg.Logger == nil {
		return nil, errors.New("synthetic: node, region, prober, observer and logger are needed")
	}
	return &Synthetic{
		cfg: cfg, slots: make(chan struct{}, maxInFlight), fresh: make(chan struct{}, 1),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meridian_synthetic_probes_total",
			Help: "Probes made, by check and what came of them."}, []string{"check", "result"}),
		skipped: prometheus.NewCounter(prometheus.CounterOpts{Name: "meridian_synthetic_skipped_total",
			Help: "Probes left out because too many were in flight."}),
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "meridian_synthetic_certificate_expiry_timestamp_seconds",
			Help: "When the first certificate of the chain that a target shows expires."}, []string{"target", "check"}),
	}, nil
}

// Register offers the metrics; call it once for each registry.
func (s *Synthetic) Register(r prometheus.Registerer) {
	r.MustRegister(s.probes, s.skipped, s.expiry, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "meridian_synthetic_probes_in_flight", Help: "Probes running now."},
		func() float64 { return float64(len(s.slots)) }))
}

// Apply replaces the schedule. Checks that stay as they are go on undisturbed;
// those that are gone stop at once and observe no more.
func (s *Synthetic) Apply(w *fleet.World) error {
	if w == nil || w.Snapshot == nil {
		return errors.New("synthetic: the world has no snapshot")
	}
	plan, err := planOf(w, s.cfg.Node, s.cfg.Region)
	if err != nil {
		return fmt.Errorf("synthetic: %w", err)
	}
	s.mu.Lock()
	s.plan = plan
	s.mu.Unlock()
	select {
	case s.fresh <- struct{}{}:
	default:
	}
	return nil
}

// runner is one check that is being made.
type runner struct {
	check  check
	cancel context.CancelFunc
}

// Run makes the checks until ctx ends, and returns nil when all are done.
func (s *Synthetic) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	running := map[checkKey]runner{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.fresh:
		}
		s.mu.Lock()
		plan := s.plan
		s.mu.Unlock()
		wanted := make(map[checkKey]check, len(plan))
		for _, c := range plan {
			wanted[c.key] = c
		}
		for key, r := range running {
			if c, ok := wanted[key]; !ok || !c.equal(&r.check) {
				r.cancel()
				delete(running, key)
				s.expiry.DeleteLabelValues(key.target.String(), key.name)
			}
		}
		for key, c := range wanted {
			if _, ok := running[key]; ok {
				continue
			}
			cctx, stop := context.WithCancel(ctx)
			running[key] = runner{c, stop}
			all.Go(func() { s.repeat(cctx, &c) })
		}
		s.cfg.Logger.Debug("probe schedule in force", "checks", len(running))
	}
}

// repeat starts the check's probes one interval after the other. A probe does
// not wait for the one before: a target that does not answer is found out in
// fall intervals and one timeout, not in fall timeouts.
func (s *Synthetic) repeat(ctx context.Context, c *check) {
	var inFlight sync.WaitGroup
	defer inFlight.Wait()
	var order order
	p := newPace(c.interval, c.probes[0].Timeout)
	timer := time.NewTimer(p.first(c.key.spread(s.cfg.Node)))
	defer timer.Stop()
	for next := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		now := time.Now()
		if next = next.Add(c.interval); next.Before(now) {
			next = now.Add(c.interval) // the machine slept: do not catch up
		}
		timer.Reset(p.jittered(next.Sub(now)))
		select {
		case s.slots <- struct{}{}:
			n := order.start()
			inFlight.Go(func() {
				defer func() { <-s.slots }()
				s.once(ctx, c, p, &order, n)
			})
		default:
			s.skipped.Inc()
		}
	}
}

// order numbers the probes of one check in the order of their start. It is
// safe for concurrent use.
type order struct {
	mu     sync.Mutex
	last   uint64 // the youngest probe that was started
	passed uint64 // the youngest probe that passed
}

func (o *order) start() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last++
	return o.last
}

// counts says whether the result of probe n is news. A failure is not where a
// younger probe has passed already: it tells of the time before, and would
// hold up the recovery of a target by the timeouts of its dark hours.
func (o *order) counts(n uint64, ok bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if ok {
		o.passed = max(o.passed, n)
		return true
	}
	return n > o.passed
}

// once makes the check and emits what it saw, unless it was stopped meanwhile.
func (s *Synthetic) once(ctx context.Context, c *check, p *pace, o *order, n uint64) {
	r := c.run(ctx, s.cfg.Prober, p)
	if ctx.Err() != nil {
		return
	}
	s.probes.WithLabelValues(c.probes[0].Check, r.Cause.String()).Inc()
	if !r.Expiry.IsZero() {
		s.expiry.WithLabelValues(c.key.target.String(), c.key.name).Set(float64(r.Expiry.Unix()))
	}
	if o.counts(n, r.OK) {
		s.cfg.Observer.Observe(r.Observation(c.key.target, s.cfg.Region, c.key.name, time.Now()))
	}
}
