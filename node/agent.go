package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"meridian/fleet"
	"meridian/rules"
)

// Source brings Worlds. It calls apply with each that it gets, one at a time;
// an error of apply means that the node keeps what it had (a NACK).
type Source interface {
	Run(ctx context.Context, apply func(*fleet.World) error) error
}

// Keeper is a Source that brings less when it knows what the node has.
type Keeper interface {
	// Have says which World was applied from disk; it is called before Run.
	Have(w *fleet.World)
}

// Applier depends on intent. Apply installs all of a World or nothing.
type Applier interface {
	Apply(w *fleet.World) error
}

// ApplierFunc is an Applier that is one function.
type ApplierFunc func(*fleet.World) error

// Apply calls the function.
func (f ApplierFunc) Apply(w *fleet.World) error { return f(w) }

// Named is an Applier with its name for messages.
type Named struct {
	Name string
	Applier
}

// Config is what an Agent works with.
type Config struct {
	Name       string  // the node's
	Source     Source  //
	SourceName string  // what the source is, for Status: store or file
	Disk       *Disk   // keeps the last good World; nil: nothing is kept
	Appliers   []Named // in the order in which they are applied
	Logger     *slog.Logger
}

// Status is what the node works with.
type Status struct {
	Node     string    `json:"node"`
	Revision uint64    `json:"revision"`
	Hash     string    `json:"hash,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	Source   string    `json:"source,omitempty"` // disk, store or file; empty before the first World
	Error    string    `json:"error,omitempty"`  // why the newest World was refused; empty once one is applied
}

// Agent applies Worlds. Its methods are safe for concurrent use.
type Agent struct {
	cfg Config
	log *slog.Logger

	applying sync.Mutex // held while a World is applied

	mu     sync.Mutex // guards what follows
	world  *fleet.World
	status Status
	wake   chan struct{} // the next end of a shift may have changed

	applied, refused prometheus.Counter
	took             prometheus.Histogram
}

// New checks the configuration.
func New(cfg Config) (*Agent, error) {
	if cfg.Source == nil || cfg.Logger == nil {
		return nil, errors.New("node agent: expected a source and a logger")
	}
	return &Agent{cfg: cfg, log: cfg.Logger, status: Status{Node: cfg.Name}, wake: make(chan struct{}, 1),
		applied: prometheus.NewCounter(prometheus.CounterOpts{Name: "meridian_node_applied_total", Help: "Worlds applied."}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "meridian_node_refused_total", Help: "Worlds refused; the one before stayed."}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "meridian_node_apply_seconds", Help: "Time to apply a World.",
			Buckets: []float64{.0001, .001, .01, .05, .1, .5, 1, 5, 30}}),
	}, nil
}

// Register adds the agent's metrics.
func (a *Agent) Register(r prometheus.Registerer) {
	r.MustRegister(a.applied, a.refused, a.took,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "meridian_node_revision", Help: "Revision that the node works with."},
			func() float64 { return float64(a.Status().Revision) }))
}

// World is what the node works with; nil before the first.
func (a *Agent) World() *fleet.World {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.world
}

// Status says what the node works with, and since when.
func (a *Agent) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

// Run applies the World from disk, then what the source brings, until ctx
// ends.
func (a *Agent) Run(ctx context.Context) error {
	a.loadDisk()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return a.cfg.Source.Run(ctx, func(w *fleet.World) error { return a.apply(w, a.cfg.SourceName) })
	})
	g.Go(func() error { return a.expire(ctx) })
	return g.Wait()
}

func (a *Agent) loadDisk() {
	if a.cfg.Disk == nil {
		return
	}
	w, err := a.cfg.Disk.Load()
	if err == nil && w != nil {
		if err = a.apply(w, "disk"); err == nil {
			if s, ok := a.cfg.Source.(Keeper); ok {
				s.Have(w)
			}
		}
	}
	if n := a.cfg.Disk.Damaged(); n > 0 {
		a.log.Error("zones or live objects on disk are damaged; waiting for the "+a.cfg.SourceName, "files", n)
	}
	switch {
	case err != nil:
		a.log.Error("last good world on disk not usable; waiting for the "+a.cfg.SourceName, "error", err)
	case w != nil:
		a.log.Info("working with the last good world from disk", "revision", w.Snapshot.Revision, "hash", w.Snapshot.Hash[:12])
	}
}

// apply installs a World everywhere or nowhere.
func (a *Agent) apply(w *fleet.World, source string) error {
	a.applying.Lock()
	defer a.applying.Unlock()
	began := time.Now()
	next := active(w, began)
	old := a.World()
	if !same(old, next) {
		if err := ApplyAll(a.cfg.Appliers, old, next); err != nil {
			a.refused.Inc()
			a.note(func(st *Status) { st.Error = err.Error() })
			return err
		}
		a.applied.Inc()
		a.took.Observe(time.Since(began).Seconds())
	}
	a.mu.Lock()
	a.world = next
	a.mu.Unlock()
	a.note(func(st *Status) {
		if st.Hash != next.Snapshot.Hash || st.Revision != next.Snapshot.Revision {
			st.Since = began
		}
		st.Revision, st.Hash, st.Source, st.Error = next.Snapshot.Revision, next.Snapshot.Hash, source, ""
	})
	if source != "disk" && a.cfg.Disk != nil {
		if err := a.cfg.Disk.Save(w); err != nil {
			// The node works with it all the same: a full disk must not keep
			// intent from being carried out.
			a.log.Error("world not kept on disk", "revision", w.Snapshot.Revision, "error", err)
		}
	}
	select {
	case a.wake <- struct{}{}:
	default:
	}
	return nil
}

func (a *Agent) note(edit func(*Status)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	edit(&a.status)
}

// ApplyAll hands next to each applier in order. If one refuses it, those
// before it get old back, so that the node is never half in one World; old is
// nil where there was none. What goes wrong on the way back is part of the error.
func ApplyAll(appliers []Named, old, next *fleet.World) error {
	for i, ap := range appliers {
		err := ap.Apply(next)
		if err == nil {
			continue
		}
		err = fmt.Errorf("%s: %w", ap.Name, err)
		if old == nil {
			return err
		}
		for j := i - 1; j >= 0; j-- {
			if back := appliers[j].Apply(old); back != nil {
				err = errors.Join(err, fmt.Errorf("%s: going back to the world before: %w", appliers[j].Name, back))
			}
		}
		return err
	}
	return nil
}

// active gives the World without the shifts that have ended.
func active(w *fleet.World, now time.Time) *fleet.World {
	ended := false
	for i := range w.Shifts {
		ended = ended || !w.Shifts[i].Active(now)
	}
	if !ended {
		return w
	}
	next := &fleet.World{Snapshot: w.Snapshot, Objects: w.Objects, Zones: w.Zones, Live: w.Live}
	for _, sh := range w.Shifts {
		if sh.Active(now) {
			next.Shifts = append(next.Shifts, sh)
		}
	}
	return next
}

// expire applies the World again whenever a shift ends: with the store away,
// nobody else says so.
func (a *Agent) expire(ctx context.Context) error {
	for {
		var timer <-chan time.Time
		if at, ok := nextEnd(a.World()); ok {
			timer = time.After(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.wake:
		case <-timer:
			a.dropEnded()
		}
	}
}

func nextEnd(w *fleet.World) (time.Time, bool) {
	var next time.Time
	if w != nil {
		for _, sh := range w.Shifts {
			if !sh.Expires.IsZero() && (next.IsZero() || sh.Expires.Before(next)) {
				next = sh.Expires
			}
		}
	}
	return next, !next.IsZero()
}

func (a *Agent) dropEnded() {
	a.applying.Lock()
	defer a.applying.Unlock()
	old := a.World()
	next := active(old, time.Now())
	if next == old {
		return
	}
	if err := ApplyAll(a.cfg.Appliers, old, next); err != nil {
		a.log.Error("ended shifts could not be taken back", "error", err)
		next = &fleet.World{Snapshot: old.Snapshot, Objects: old.Objects, Zones: old.Zones, Live: old.Live, Shifts: next.Shifts} // not tried in a loop
	}
	a.mu.Lock()
	a.world = next
	a.mu.Unlock()
}

func sameObjects(a, b *fleet.World) bool {
	if len(a.Objects) != len(b.Objects) {
		return false
	}
	for k, o := range a.Objects {
		if have, ok := b.Objects[k]; !ok || !have.Same(o) {
			return false
		}
	}
	return true
}

// same says whether two Worlds are equal in all that is applied.
func same(a, b *fleet.World) bool {
	if a == nil || a.Snapshot.Hash != b.Snapshot.Hash || a.Snapshot.Revision != b.Snapshot.Revision ||
		len(a.Objects) != len(b.Objects) || len(a.Shifts) != len(b.Shifts) {
		return false
	}
	if put, gone := b.Zones.Since(a.Zones); len(put)+len(gone) > 0 || !sameObjects(a, b) {
		return false
	}
	if put, gone := b.Live.Since(a.Live); len(put)+len(gone) > 0 {
		return false
	}
	x, errx := rules.EncodeShifts(a.Shifts)
	y, erry := rules.EncodeShifts(b.Shifts)
	return errx == nil && erry == nil && bytes.Equal(x, y)
}
