package acme

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"go.uber.org/zap"

	"meridian/fleet"
)

// Config is what a Manager works with. Zero values stand for the defaults
// named.
type Config struct {
	Control Control
	Store   Store
	Logger  *slog.Logger
	Notify  func(text string) // what operators want to know of; nil: nobody listens; must not block
	// Resolver finds where CNAMEs of _acme-challenge lead, for names whose zones are
	// elsewhere; nil: they are not followed.
	Resolver Resolver

	Retry time.Duration // until the second try at an authority; default 1m
	Look  time.Duration // between looks at a certificate's OCSP response and renewal information; default 1h
	Wait  time.Duration // for nodes to acknowledge a challenge; default 15s
}

// Manager keeps the fleet's certificates issued. Its methods are safe for
// concurrent use.
type Manager struct {
	cfg     Config
	log     *slog.Logger
	storage *storage
	solve   map[fleet.ACMEChallenge]acmez.Solver
	metrics *metrics
	now     func() time.Time

	mu    sync.Mutex // guards what follows
	tasks map[string]*task
	wake  chan struct{} // holds one element when a task has ended
	rates map[string]*allowance
	deny  map[string]time.Time // names that could not be had, until when they are not tried
	cache *certmagic.Cache     // nil while not leading; it is never filled
}

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	if cfg.Control == nil || cfg.Store == nil || cfg.Logger == nil {
		return nil, errors.New("certificates: expected a control plane, a store and a logger")
	}
	if cfg.Notify == nil {
		cfg.Notify = func(string) {}
	}
	if cfg.Retry == 0 {
		cfg.Retry = time.Minute
	}
	if cfg.Look == 0 {
		cfg.Look = time.Hour
	}
	if cfg.Wait == 0 {
		cfg.Wait = 15 * time.Second
	}
	m := &Manager{cfg: cfg, log: cfg.Logger, storage: &storage{store: cfg.Store, held: map[string]func(){}},
		solve: newSolvers(&cfg), now: time.Now,
		tasks: map[string]*task{}, wake: make(chan struct{}, 1), rates: map[string]*allowance{}, deny: map[string]time.Time{}}
	m.metrics = newMetrics(m)
	return m, nil
}

const (
	workers = 4           // certificates that are worked on at once
	idle    = time.Minute // how often is looked whether anything is due
	pace    = 10 * time.Millisecond
	lookFor = 10 * time.Minute // names that could not be had are not tried again
)

// Lead works as the leader until ctx ends.
func (m *Manager) Lead(ctx context.Context) {
	m.begin()
	defer m.end()
	var g sync.WaitGroup
	defer g.Wait()
	slots := make(chan struct{}, workers)
	var done *fleet.World
	for ctx.Err() == nil {
		changed := m.cfg.Control.Changed()
		next := m.now().Add(idle)
		if w := m.cfg.Control.Current(); w != nil {
			if done == nil || done.Snapshot != w.Snapshot || done.Live != w.Live {
				m.follow(ctx, w)
			}
			done = w
			for _, t := range m.due(&next) {
				g.Go(func() {
					slots <- struct{}{}
					defer func() { <-slots }()
					m.work(ctx, t)
				})
			}
		}
		select {
		case <-ctx.Done():
		case <-changed: // of zones, most often
			pause(ctx, pace)
		case <-m.wake:
			done = nil
		case <-time.After(max(next.Sub(m.now()), time.Millisecond)):
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (m *Manager) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tasks = map[string]*task{}
	m.cache = certmagic.NewCache(certmagic.CacheOptions{Logger: zap.NewNop(), // errors are returned
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return nil, errors.New("nothing is cached") }})
}

func (m *Manager) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cache.Stop()
	m.cache, m.tasks = nil, map[string]*task{}
}

// follow brings the tasks in line with a World.
func (m *Manager) follow(ctx context.Context, w *fleet.World) {
	list, gone := wanted(w)
	refused := m.demands(w, list)
	put := map[fleet.Name][]byte{}
	for _, id := range append(gone, refused...) {
		put[id] = nil
	}
	if len(put) > 0 {
		if _, err := m.cfg.Control.PutLive(ctx, put); err != nil && ctx.Err() == nil {
			m.log.Warn("certificates that nobody wants are not removed yet", "error", err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, one := range list {
		t := m.tasks[id]
		if t == nil {
			t = &task{}
			m.tasks[id] = t
		}
		if !t.made(one, w) {
			t.remake(one, w)
		}
	}
	for id := range m.tasks {
		if _, ok := list[id]; !ok {
			delete(m.tasks, id)
		}
	}
}

// due gives the tasks that are to be worked on now, and brings next forward to
// when the next one is.
func (m *Manager) due(next *time.Time) []*task {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	var out []*task
	for _, t := range m.tasks {
		switch {
		case t.busy:
		case !t.next.After(now):
			t.busy = true
			out = append(out, t)
		case t.next.Before(*next):
			*next = t.next
		}
	}
	return out
}

// ended notes what came of a task.
func (m *Manager) ended(t *task, note func()) {
	m.mu.Lock()
	note()
	t.busy = false
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *Manager) draw() float64 { return rand.Float64() }
