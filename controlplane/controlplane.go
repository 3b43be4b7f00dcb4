package controlplane

import (
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

// Publisher hands Worlds to the nodes; the xDS server is one.
type Publisher interface {
	// Publish replaces the World that nodes are served. It is called in order
	// and must not block.
	Publish(w *fleet.World)
}

// Disk keeps the last World across restarts.
type Disk interface {
	// Load gives nil where nothing is kept.
	Load() (*fleet.World, error)
	Save(w *fleet.World) error
}

// Event is something that operators want to know of.
type Event struct {
	Time     time.Time `json:"time"`
	Kind     string    `json:"kind"` // config, nack, shift, store, zone, certificate
	Text     string    `json:"text"`
	Node     string    `json:"node,omitempty"`
	Region   string    `json:"region,omitempty"`
	Revision uint64    `json:"revision,omitempty"`
}

// Config is what a ControlPlane works with.
type Config struct {
	Node        string // this replica
	Store       Store
	Publisher   Publisher
	Disk        Disk                             // nil: nothing is kept across restarts
	Deriver     Deriver                          // nil: zones are served as they are written
	Problems    func() map[fleet.Name]string     // why zones could not be made anew by the Deriver, or are bogus; nil: not told
	Leading     []func(context.Context)          // what the leader does besides; each ends with its context
	RotateECH   time.Duration                    // in place of the Spec's ech.rotate, which is of minutes; 0: the Spec's
	Woken       <-chan struct{}                  // the Deriver wants to be called before its time; nil: never
	DeriveFirst bool                             // derive zones before a new revision is served: for a Store whose revisions are not submitted here
	Impact      func(old, next *fleet.World) any // how much traffic would move, for previews; old may be nil; nil: not told
	Notify      func(Event)                      // nil: nobody listens; must not block
	Logger      *slog.Logger
}

// ControlPlane is one replica. Its methods are safe for concurrent use.
type ControlPlane struct {
	cfg     Config
	log     *slog.Logger
	ledger  *ledger
	metrics *metrics

	updating sync.Mutex // held while a state of the store is taken
	publish  sync.Mutex // held while a World is installed, so that they go out in order
	deriving sync.Mutex // held while the Deriver works
	parsed   parsedZones
	told     toldZones
	turns    [256]chan struct{} // of writers of zones, by the hash of the name; each holds one

	mu          sync.Mutex // guards what follows
	world       *fleet.World
	since       time.Time // when world was installed
	source      string    // store or disk
	stored      Stored
	shown       Stored       // the newest state that is published
	seen        bool         // the store's state is known
	derivedLive *fleet.Zones // that zones were derived with last, here
	derivedOnce bool         // they were
	problem     string       // why the newest stored revision is not served
	refused     bool         // because it could not be derived: to be tried again
	changed     chan struct{}
}

// New checks the configuration.
func New(cfg Config) (*ControlPlane, error) {
	if cfg.Node == "" || cfg.Store == nil || cfg.Publisher == nil || cfg.Logger == nil {
		return nil, errors.New("control plane: expected a node name, a store, a publisher and a logger")
	}
	if cfg.Notify == nil {
		cfg.Notify = func(Event) {}
	}
	c := &ControlPlane{cfg: cfg, log: cfg.Logger, metrics: newMetrics(), changed: make(chan struct{})}
	for i := range c.turns {
		c.turns[i] = make(chan struct{}, 1)
	}
	c.ledger = newLedger(cfg.Node, cfg.Store, cfg.Logger, c.metrics, cfg.Notify)
	return c, nil
}

// Register adds the control plane's metrics.
func (c *ControlPlane) Register(r prometheus.Registerer) { c.metrics.register(r, c) }

// Ledger is where the publisher notes what nodes answer.
func (c *ControlPlane) Ledger() *Ledger { return &Ledger{c.ledger} }

// Run serves the World from disk, then follows the store, until ctx ends.
func (c *ControlPlane) Run(ctx context.Context) error {
	c.loadDisk()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.cfg.Store.Watch(ctx, c.update) })
	g.Go(func() error { return c.ledger.run(ctx) })
	if c.cfg.DeriveFirst {
		g.Go(func() error { return c.retryRefused(ctx) })
	}
	if c.cfg.Deriver != nil || len(c.cfg.Leading) > 0 {
		g.Go(func() error { return c.cfg.Store.Lead(ctx, c.cfg.Node, c.lead) })
	}
	return g.Wait()
}

func (c *ControlPlane) loadDisk() {
	if c.cfg.Disk == nil {
		return
	}
	w, err := c.cfg.Disk.Load()
	if err != nil {
		c.log.Error("last good world on disk not usable; waiting for the store", "error", err)
		return
	}
	if w != nil {
		c.install(w, "disk")
		c.log.Info("serving the last good world from disk", "revision", w.Snapshot.Revision)
	}
}

// Current is the World that this replica serves; nil before there is one.
func (c *ControlPlane) Current() *fleet.World {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.world
}

func (c *ControlPlane) revision() uint64 {
	if w := c.Current(); w != nil {
		return w.Snapshot.Revision
	}
	return 0
}

// update takes a new state of the store.
func (c *ControlPlane) update(st Stored) {
	c.updating.Lock()
	defer c.updating.Unlock()
	defer c.signal()
	c.mu.Lock()
	before := c.stored
	c.stored, c.seen = st, true
	old := c.world
	c.mu.Unlock()
	c.ledger.others(st.Acks)
	w, err := c.follow(old, before, st)
	refused := false
	if err == nil && w != nil && c.cfg.DeriveFirst && (old == nil || old.Snapshot.Revision != w.Snapshot.Revision) {
		w.Zones, err = c.deriveFirst(w, st)
		refused = err != nil
	}
	c.mu.Lock()
	was := c.problem
	c.problem, c.refused = "", refused
	if err != nil {
		c.problem = err.Error()
	}
	now := c.problem
	c.mu.Unlock()
	if err != nil {
		if was != now {
			c.log.Error("revision not usable; serving the one before", "revision", st.Revision, "error", err)
		}
		return
	}
	if w != nil {
		c.install(w, "store")
	}
	c.mu.Lock()
	c.shown = st
	c.mu.Unlock()
}

// signal wakes those who await something.
func (c *ControlPlane) signal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

// follow gives the World of a stored state, nil where there is none; before is
// the stored state that old was made of, if it was.
func (c *ControlPlane) follow(old *fleet.World, before, st Stored) (*fleet.World, error) {
	have := uint64(0)
	if old != nil {
		have = old.Snapshot.Revision
	}
	switch {
	case st.Revision == 0 && old == nil:
		return nil, nil
	case st.Revision < have:
		return nil, fmt.Errorf("the store is at revision %d, behind the %d served here; submit the Spec again", st.Revision, have)
	case st.Revision == have:
		w := rules.WithShifts(old, st.Shifts)
		w.Zones = nextServed(old, before, st)
		w.Live = unchanged(old.Live, st.Live)
		return w, nil
	}
	s, err := rules.Compile(st.Doc, st.Revision)
	if err != nil {
		return nil, err
	}
	w, err := rules.World(s, st.Objects, st.Shifts)
	if err == nil {
		w.Zones, w.Live = served(s, st.Zones, st.Derived), st.Live
		if old != nil {
			w.Zones, w.Live = unchanged(old.Zones, w.Zones), unchanged(old.Live, w.Live)
		}
	}
	return w, err
}

// install makes a World the current one, unless a newer one is.
func (c *ControlPlane) install(w *fleet.World, source string) {
	c.publish.Lock()
	defer c.publish.Unlock()
	c.installLocked(w, source)
}

// installNewer installs a revision that has just been stored, under the shifts
// of this moment; where the store's watch was faster there is nothing to do.
func (c *ControlPlane) installNewer(w *fleet.World) {
	c.publish.Lock()
	defer c.publish.Unlock()
	if now := c.Current(); now != nil {
		if now.Snapshot.Revision >= w.Snapshot.Revision {
			return
		}
		for _, sh := range now.Shifts {
			if sh.Check(w.Snapshot) == nil {
				w.Shifts = append(w.Shifts, sh)
			}
		}
	}
	c.installLocked(w, "store")
}

// installLocked is called with publish held.
func (c *ControlPlane) installLocked(w *fleet.World, source string) {
	c.mu.Lock()
	old := c.world
	if old != nil && (w.Snapshot.Revision < old.Snapshot.Revision ||
		w.Snapshot.Revision == old.Snapshot.Revision && sameShifts(old.Shifts, w.Shifts) && old.Zones == w.Zones && old.Live == w.Live) {
		c.source = source
		c.mu.Unlock()
		return
	}
	fresh := old == nil || old.Snapshot.Revision != w.Snapshot.Revision
	c.world, c.source = w, source
	if fresh {
		c.since = time.Now()
	}
	c.mu.Unlock()
	if fresh {
		c.ledger.published(w.Snapshot, time.Now())
	}
	c.cfg.Publisher.Publish(w)
	c.signal()
	if source == "store" {
		c.announce(old, w)
		c.save(w)
	}
}

func sameShifts(a, b []fleet.Shift) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].ID != b[i].ID || a[i].Share != b[i].Share || a[i].Drain != b[i].Drain || !a[i].Expires.Equal(b[i].Expires) || !a[i].Created.Equal(b[i].Created) {
			return false
		}
	}
	return true
}

// announce tells what changed.
func (c *ControlPlane) announce(old, w *fleet.World) {
	rev := w.Snapshot.Revision
	if old == nil || old.Snapshot.Revision != rev {
		c.log.Info("serving a new revision", "revision", rev, "hash", w.Snapshot.Hash[:12])
		c.cfg.Notify(Event{Time: time.Now(), Kind: "config", Text: fmt.Sprintf("Revision %d is current", rev), Revision: rev})
	}
	had := map[string]bool{}
	if old != nil {
		for _, sh := range old.Shifts {
			had[sh.ID] = true
		}
	}
	for _, sh := range w.Shifts {
		if !had[sh.ID] {
			c.cfg.Notify(Event{Time: time.Now(), Kind: "shift", Text: describe(&sh), Region: sh.From})
		}
		delete(had, sh.ID)
	}
	if old == nil {
		return
	}
	for _, sh := range old.Shifts {
		if had[sh.ID] {
			c.cfg.Notify(Event{Time: time.Now(), Kind: "shift", Text: "Shift " + sh.ID + " has ended", Region: sh.From})
		}
	}
}

func describe(sh *fleet.Shift) string {
	what := fmt.Sprintf("Shift %s moves %g %% of %s away", sh.ID, sh.Share*100, sh.From)
	if sh.Drain {
		what = fmt.Sprintf("Region %s is drained", sh.From)
	}
	if !sh.Expires.IsZero() {
		what += " until " + sh.Expires.UTC().Format(time.RFC3339)
	}
	if sh.Reason != "" {
		what += ": " + sh.Reason
	}
	return what
}

func (c *ControlPlane) save(w *fleet.World) {
	if c.cfg.Disk == nil {
		return
	}
	if err := c.cfg.Disk.Save(w); err != nil {
		c.log.Error("world not kept on disk", "error", err)
	}
}
