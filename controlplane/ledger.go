package controlplane

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sort"
	"sync"
	"time"

	"meridian/fleet"
)

// Ledger is the publisher's side of the ledger of ACKs: it notes what was sent
// to nodes and what they answered. Its methods are safe for concurrent use and
// do not block.
type Ledger struct{ l *ledger }

// Connected notes that a node is connected to this replica, and which revision
// it says it works with (0: none or not known).
func (l *Ledger) Connected(node string, applied uint64) { l.l.connected(node, applied) }

// Disconnected notes that it no longer is.
func (l *Ledger) Disconnected(node string) { l.l.disconnected(node) }

// Sent notes that a revision was sent to a node.
func (l *Ledger) Sent(node string, revision uint64) { l.l.sent(node, revision) }

// Answered notes a node's ACK, or with an error its NACK.
func (l *Ledger) Answered(node string, revision uint64, nack error) {
	l.l.answered(node, revision, nack)
}

// HasLive notes which live objects a node has.
func (l *Ledger) HasLive(node string, live *fleet.Zones) {
	versions := awaited(live)
	l.l.mu.Lock()
	same := maps.Equal(l.l.own[node].Live, versions)
	l.l.mu.Unlock()
	if same {
		return
	}
	l.l.change(node, func(a *Ack) { a.Live = versions })
}

const (
	putLimit  = 5 * time.Second
	refreshIn = time.Minute // acks of connected nodes are put again: a replica that died says nothing more
	believed  = 5 * refreshIn / 2
)

// ledger holds this replica's acks and mirrors them to the store, where the
// other replicas read them.
type ledger struct {
	self    string
	store   Store
	log     *slog.Logger
	metrics *metrics
	notify  func(Event)

	mu      sync.Mutex
	own     map[string]Ack // nodes that are or were connected here
	theirs  map[string]Ack // as the store has them
	pending map[string]bool
	wake    chan struct{}
	rev     uint64
	at      time.Time // when rev was published here
}

func newLedger(self string, store Store, log *slog.Logger, m *metrics, notify func(Event)) *ledger {
	return &ledger{self: self, store: store, log: log, metrics: m, notify: notify,
		own: map[string]Ack{}, theirs: map[string]Ack{}, pending: map[string]bool{}, wake: make(chan struct{}, 1)}
}

func (l *ledger) published(s *fleet.Snapshot, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rev, l.at = s.Revision, at
}

// change edits a node's ack and queues it for the store.
func (l *ledger) change(node string, edit func(*Ack)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.own[node]
	a.Node, a.Replica = node, l.self
	a.Seen = time.Now()
	edit(&a)
	l.own[node] = a
	l.pending[node] = true
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *ledger) connected(node string, applied uint64) {
	l.change(node, func(a *Ack) {
		a.Online = true
		if applied > 0 {
			a.Applied = applied
			if a.Revision < applied {
				a.Revision, a.State, a.At, a.Error = applied, Acked, time.Now(), ""
			}
		}
	})
}

func (l *ledger) disconnected(node string) { l.change(node, func(a *Ack) { a.Online = false }) }

func (l *ledger) sent(node string, revision uint64) {
	l.change(node, func(a *Ack) {
		a.Revision, a.State, a.SentAt, a.At, a.Error = revision, Sent, time.Now(), time.Time{}, ""
	})
}

func (l *ledger) answered(node string, revision uint64, nack error) {
	now := time.Now()
	l.change(node, func(a *Ack) {
		if a.Revision > revision { // an answer to something overtaken
			return
		}
		a.Revision, a.At = revision, now
		if nack != nil {
			a.State, a.Error = Nacked, nack.Error()
			l.metrics.nacks.Inc()
			return
		}
		a.State, a.Error, a.Applied = Acked, "", revision
		if revision == l.rev {
			l.metrics.ack.Observe(now.Sub(l.at).Seconds())
		}
	})
	if nack != nil {
		l.log.Warn("node refused a revision and keeps the one before", "node", node, "revision", revision, "error", nack)
		l.notify(Event{Time: now, Kind: "nack", Node: node, Revision: revision, Text: fmt.Sprintf("%s refused revision %d: %v", node, revision, nack)})
	}
}

func (l *ledger) others(acks []Ack) {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.theirs)
	for _, a := range acks {
		l.theirs[a.Node] = a
	}
}

// nodes gives the ack of every node of the Spec: this replica's own while the
// node is connected here, else the newest known. Nodes not heard of are listed
// without a state.
func (l *ledger) nodes(s *fleet.Snapshot) []Ack {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Ack
	for i := range s.Spec.Nodes {
		name := s.Spec.Nodes[i].Name
		own, mine := l.own[name]
		a, ok := l.theirs[name]
		a.Online = a.Online && time.Since(a.Seen) < believed
		if mine && (own.Online || !ok || !a.Online && own.At.After(a.At)) {
			a = own
		}
		a.Node = name
		out = append(out, a)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Node < out[j].Node })
	return out
}

// run mirrors changed acks to the store until ctx ends. Without a store they
// wait, the newest of each node only.
func (l *ledger) run(ctx context.Context) error {
	refresh := time.NewTicker(refreshIn)
	defer refresh.Stop()
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		case <-retry:
		case <-refresh.C:
			l.mu.Lock()
			for node, a := range l.own {
				if a.Online {
					a.Seen = time.Now()
					l.own[node], l.pending[node] = a, true
				}
			}
			l.mu.Unlock()
		}
		retry = nil
		if !l.flush(ctx) {
			retry = time.After(2 * time.Second)
		}
	}
}

// flush puts pending acks; false if that failed and they wait.
func (l *ledger) flush(ctx context.Context) bool {
	l.mu.Lock()
	var acks []Ack
	for node := range l.pending {
		acks = append(acks, l.own[node])
	}
	clear(l.pending)
	l.mu.Unlock()
	if len(acks) == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, putLimit)
	defer cancel()
	if l.store.PutAcks(ctx, acks) == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range acks {
		l.pending[a.Node] = true
	}
	return false
}
