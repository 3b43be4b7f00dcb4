package dashboard

import (
	"sync"
	"time"

	"meridian/fleet"
)

// keptEvents bounds the timeline.
const keptEvents = 200

// FeedConfig is what a Feed asks of the rest of the node. Both functions are
// called from State's goroutine and may be nil.
type FeedConfig struct {
	Node     string                                         // this node's name
	Steering func(w *fleet.World, v *fleet.View) []Steering // where clients go, by the nameserver's own code
	Nodes    func() map[string]NodeStatus                   // what is known of the nodes, by name
}

// Feed is the Source of a real node: it takes the World and the View as they
// come, and keeps the timeline of what changed from one to the next. Its
// methods may be called concurrently.
type Feed struct {
	cfg FeedConfig

	mu      sync.Mutex
	world   *fleet.World
	view    *fleet.View
	pending []Event // added and not yet in the timeline

	watchMu  sync.Mutex
	watchers map[int]func()
	nextID   int

	// What follows belongs to the one State call at a time that holds stateMu.
	stateMu sync.Mutex
	history history
	events  []Event
	lastID  uint64
}

// NewFeed makes a Feed that knows nothing yet.
func NewFeed(cfg FeedConfig) *Feed {
	return &Feed{cfg: cfg, watchers: map[int]func(){}}
}

// Apply takes the World; it never refuses one.
func (f *Feed) Apply(w *fleet.World) error {
	f.mu.Lock()
	f.world = w
	f.mu.Unlock()
	f.changed()
	return nil
}

// SetView takes the View.
func (f *Feed) SetView(v *fleet.View) {
	f.mu.Lock()
	f.view = v
	f.mu.Unlock()
	f.changed()
}

// Add puts an event in the timeline that neither World nor View tells of, as
// a route that came or went. Its ID is given by the Feed; a zero Time is now.
func (f *Feed) Add(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	f.mu.Lock()
	f.pending = append(f.pending, e)
	if n := len(f.pending) - keptEvents; n > 0 {
		f.pending = f.pending[n:]
	}
	f.mu.Unlock()
	f.changed()
}

// Touch says that what Nodes or Steering tell has changed.
func (f *Feed) Touch() { f.changed() }

// Subscribe implements Source.
func (f *Feed) Subscribe(changed func()) (cancel func()) {
	f.watchMu.Lock()
	defer f.watchMu.Unlock()
	id := f.nextID
	f.nextID++
	f.watchers[id] = changed
	return func() {
		f.watchMu.Lock()
		defer f.watchMu.Unlock()
		delete(f.watchers, id)
	}
}

func (f *Feed) changed() {
	f.watchMu.Lock()
	defer f.watchMu.Unlock()
	for _, w := range f.watchers {
		w()
	}
}

// State implements Source. It compares with what the previous call saw, and
// so also brings the timeline forward.
func (f *Feed) State() State {
	f.stateMu.Lock()
	defer f.stateMu.Unlock()
	f.mu.Lock()
	in := Input{Node: f.cfg.Node, World: f.world, View: f.view, Now: time.Now()}
	events := f.pending
	f.pending = nil
	f.mu.Unlock()

	if in.World != nil && f.cfg.Steering != nil {
		in.Steering = f.cfg.Steering(in.World, in.View)
	}
	if f.cfg.Nodes != nil {
		in.Nodes = f.cfg.Nodes()
	}
	st := Show(in)
	events = append(events, f.history.changes(&in, &st)...)
	for _, e := range events {
		f.lastID++
		e.ID = f.lastID
		f.events = append(f.events, e)
	}
	if n := len(f.events) - keptEvents; n > 0 {
		f.events = append([]Event{}, f.events[n:]...)
	}
	st.Events = append([]Event{}, f.events...)
	return st
}
