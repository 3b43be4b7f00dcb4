package controlplane

import (
	"context"
	"log/slog"
	"sync"

	"meridian/fleet"
)

// Direct hands what a control plane publishes to the agent of the same
// process, without a network between: it is a Publisher and a node.Source.
type Direct struct {
	log    *slog.Logger
	ledger *Ledger // nil: answers are logged alone
	node   string
	mu     sync.Mutex
	next   *fleet.World
	news   chan struct{} // holds one element when next is another
}

// NewDirect makes one; refusals of the agent are logged.
func NewDirect(log *slog.Logger) *Direct {
	return &Direct{log: log, news: make(chan struct{}, 1)}
}

// Report has the agent's answers noted as those of node. It is called before
// Run.
func (d *Direct) Report(l *Ledger, node string) { d.ledger, d.node = l, node }

// Publish implements Publisher.
func (d *Direct) Publish(w *fleet.World) {
	d.mu.Lock()
	d.next = w
	d.mu.Unlock()
	select {
	case d.news <- struct{}{}:
	default:
	}
}

// Run calls apply with the newest World whenever there is another, until ctx
// ends.
func (d *Direct) Run(ctx context.Context, apply func(*fleet.World) error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.news:
		}
		d.mu.Lock()
		w := d.next
		d.mu.Unlock()
		err := apply(w)
		if d.ledger != nil { // it logs what is refused
			d.ledger.Connected(d.node, 0)
			d.ledger.Answered(d.node, w.Snapshot.Revision, err)
			if err == nil {
				d.ledger.HasLive(d.node, w.Live)
			}
			continue
		}
		if err != nil {
			d.log.Error("configuration not usable; the state before stays", "revision", w.Snapshot.Revision, "error", err)
		}
	}
}
