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
	log  *slog.Logger
	mu   sync.Mutex
	next *fleet.World
	news chan struct{} // holds one element when next is another
}

// NewDirect makes one; refusals of the agent are logged.
func NewDirect(log *slog.Logger) *Direct {
	return &Direct{log: log, news: make(chan struct{}, 1)}
}

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
		if err := apply(w); err != nil {
			d.log.Error("configuration not usable; the state before stays", "revision", w.Snapshot.Revision, "error", err)
		}
	}
}
