// Package health turns Observations into Verdicts, exchanges them with the
// other nodes as frames, and holds the current View of the fleet.
//
// It is a runtime room: it imports fleet and health/verdict. The programs wire
// it to those who observe (synthetic, the gateway, layer 4) and to those who
// act on the View (dns/server, anycast); health/gossip is its Transport. No
// other room imports it.
package health

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"meridian/fleet"
	"meridian/health/verdict"
)

// Transport carries frames between nodes. Receive and Exchange are called
// once, by New, and never later.
type Transport interface {
	// Broadcast sends a frame to every live member, best effort. It does not
	// wait for anybody and keeps no reference to the frame.
	Broadcast(frame []byte)
	// Receive says where frames of others go. The function keeps no reference
	// to the frame, does not block, and may be called concurrently.
	Receive(f func(frame []byte))
	// Exchange says what to tell a member met anew, or met again now and then
	// to repair what was lost, and what to do with what it tells.
	Exchange(local func() []byte, merge func([]byte))
}

// Period is how often a node repeats its frames, changed or not. A node not
// heard of for three periods has no vote.
const (
	Period  = time.Second
	silence = 3 * Period
)

// loneAfter is how long no prober of another region may be heard of before a
// node goes by the word of its own region alone; see verdict.Conclusion.Lone.
const loneAfter = 10 * time.Second

// Config is what a Health needs.
type Config struct {
	Node      string // this node's name
	Region    string // its region's id
	Roles     []fleet.Role
	Transport Transport // nil: this node is alone
	Logger    *slog.Logger
}

// Health holds this node's trackers, the last frames of all nodes, and the
// View that follows from them. Its methods are safe for concurrent use.
type Health struct {
	cfg         Config
	observers   []verdict.Observer
	incarnation uint64
	view        atomic.Pointer[fleet.View]
	subscribers []func(*fleet.View) // written before Run

	// Only conclude uses these two.
	agreed *fleet.View // by the votes; what is shown may be this region's word alone
	heard  time.Time   // when a prober of another region was last heard of, or the first conclusion made

	changed chan struct{} // a local verdict changed: tell everybody, soon
	dirty   chan struct{} // a frame or the intent changed: conclude anew

	mu       sync.Mutex // guards all below
	intent   intent
	trackers map[fleet.Target]*tracked
	peers    map[peerKey]*peer
	seq      uint64
	live     map[string]bool // nodes live at the last conclusion
	abstain  []string        // nodes abstaining at the last conclusion
	holdings holdings

	events events
	count  counters
}

type tracked struct {
	verdict.Tracker
	params verdict.Params
}

// New makes a Health; it starts nothing.
func New(cfg Config) (*Health, error) {
	switch {
	case cfg.Node == "" || len(cfg.Node) > 63:
		return nil, fmt.Errorf("health: node name %q: expected 1 to 63 octets", cfg.Node)
	case cfg.Region == "" || len(cfg.Region) > 63:
		return nil, fmt.Errorf("health: region %q: expected 1 to 63 octets", cfg.Region)
	case cfg.Logger == nil:
		return nil, errors.New("health: logger is missing")
	}
	h := &Health{
		cfg: cfg, observers: verdict.Observers(cfg.Roles),
		incarnation: uint64(time.Now().UnixNano()),
		changed:     make(chan struct{}, 1), dirty: make(chan struct{}, 1),
		trackers: map[fleet.Target]*tracked{}, peers: map[peerKey]*peer{}, live: map[string]bool{},
		count: newCounters(),
	}
	h.events.init()
	h.agreed = &fleet.View{}
	h.view.Store(h.agreed)
	if t := cfg.Transport; t != nil {
		t.Receive(h.receive)
		t.Exchange(h.localState, h.mergeState)
	}
	return h, nil
}

// Observe takes in one observation by this node and returns its local verdict on
// the target. Observations on what the Snapshot does not have this node watch
// are counted and change nothing.
func (h *Health) Observe(o fleet.Observation) fleet.Verdict {
	h.mu.Lock()
	t, ok := h.trackers[o.Target]
	if !ok {
		h.mu.Unlock()
		h.count.stray.Inc()
		return fleet.Verdict{}
	}
	v, changed := t.Observe(o, t.params)
	h.mu.Unlock()
	if changed {
		poke(h.changed)
	}
	return v
}

// View gives the current View; never nil.
func (h *Health) View() *fleet.View { return h.view.Load() }

// Subscribe has f called with each View in which a state or the set of probers is another
// than in the one before, in order and one at a time; f must not block. Views that differ in
// latencies alone are only shown by View. Subscribe before Run.
func (h *Health) Subscribe(f func(*fleet.View)) { h.subscribers = append(h.subscribers, f) }

// poke leaves a sign for the loop; one that is already there serves as well.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
