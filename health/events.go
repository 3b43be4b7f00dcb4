package health

import (
	"slices"
	"sync"
	"time"

	"meridian/fleet"
)

// EventKind is what an Event is about.
type EventKind string

// The kinds of event.
const (
	EventVerdict EventKind = "verdict" // the fleet's verdict on a target
	EventVantage EventKind = "vantage" // one vantage's verdict on a target
	EventNode    EventKind = "node"    // a node was heard of, or fell silent
	EventProber  EventKind = "prober"  // a prober began or ceased to abstain
)

// Event is one change of state, as this node saw it.
type Event struct {
	ID      uint64      `json:"id"` // 1, 2, 3 … since this node started
	Time    time.Time   `json:"time"`
	Kind    EventKind   `json:"kind"`
	Target  string      `json:"target,omitempty"`
	Region  string      `json:"region,omitempty"` // the target's
	Vantage string      `json:"vantage,omitempty"`
	Node    string      `json:"node,omitempty"`
	From    fleet.State `json:"from"`
	To      fleet.State `json:"to"`
	Cause   fleet.Cause `json:"cause"`
	Detail  string      `json:"detail,omitempty"`
}

// keptEvents is how many events a node remembers.
const keptEvents = 1024

// events is a bounded record that any number of readers follow, each at its
// own pace.
type events struct {
	mu   sync.Mutex
	last uint64
	kept []Event       // in order, at most keptEvents
	more chan struct{} // closed when there are more
}

func (e *events) init() { e.more = make(chan struct{}) }

func (e *events) add(groups ...[]Event) {
	news := slices.Concat(groups...)
	if len(news) == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range news {
		e.last++
		news[i].ID = e.last
	}
	e.kept = append(e.kept, news...)
	if n := len(e.kept) - keptEvents; n > 0 {
		e.kept = slices.Clone(e.kept[n:])
	}
	close(e.more)
	e.more = make(chan struct{})
}

// Events gives the events after the one with that ID, 0 for all that are
// remembered, and a channel that is closed as soon as there are more. An ID
// from the future, as of before a restart, gives all.
func (h *Health) Events(after uint64) ([]Event, <-chan struct{}) {
	e := &h.events
	e.mu.Lock()
	defer e.mu.Unlock()
	if after > e.last {
		after = 0
	}
	from, _ := slices.BinarySearchFunc(e.kept, after+1, func(ev Event, id uint64) int {
		return int(int64(ev.ID - id))
	})
	return slices.Clone(e.kept[from:]), e.more
}
