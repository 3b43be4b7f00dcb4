// Package tap writes a query log in dnstap format (dnstap.info): Protocol
// Buffers in frame streams, to a file or to a collector's socket.
//
// Adapter floor: it implements dns/server's Tap, and is wired by cmd.
package tap

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/dns/server"
	"meridian/fleet"
)

// queue is how many messages wait to be written before more are dropped.
const queue = 4096

// Config is what a Tap needs.
type Config struct {
	Identity string // of the nameserver, as the messages tell it
	Version  string
	Logger   *slog.Logger
}

// Tap is a query log. Share and Take are safe for concurrent use, take no lock
// but a channel's, and never wait.
type Tap struct {
	cfg    Config
	share  atomic.Uint64 // bits of the float; 0 while nothing is logged
	frames chan *frame
	spare  sync.Pool // of *frame
	wanted atomic.Pointer[fleet.Tap]
	moved  chan struct{} // holds one token when wanted has changed

	taken, dropped, failures prometheus.Counter
}

// frame is one message, encoded.
type frame struct{ b []byte }

// New gives a Tap that logs nothing until Apply.
func New(cfg Config) *Tap {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	t := &Tap{cfg: cfg, frames: make(chan *frame, queue), moved: make(chan struct{}, 1),
		taken:    counter("meridian_dnstap_messages_total", "Messages taken for the query log."),
		dropped:  counter("meridian_dnstap_dropped_total", "Messages not logged, since the file or collector is too slow or away."),
		failures: counter("meridian_dnstap_failures_total", "Times that the file or the collector failed."),
	}
	t.spare.New = func() any { return new(frame) }
	return t
}

// Register adds the metrics to a registry.
func (t *Tap) Register(r prometheus.Registerer) { r.MustRegister(t.taken, t.dropped, t.failures) }

// Apply takes dns.tap of the Spec into use.
func (t *Tap) Apply(w *fleet.World) error {
	next := w.Snapshot.Spec.DNS.Tap
	share := 0.0
	if next != nil {
		share = next.Sample
	}
	t.share.Store(math.Float64bits(share))
	old := t.wanted.Swap(next)
	if old == nil && next == nil || old != nil && next != nil && old.File == next.File && old.Socket == next.Socket {
		return nil
	}
	select {
	case t.moved <- struct{}{}:
	default:
	}
	return nil
}

// Share is the share of queries that is logged.
func (t *Tap) Share() float64 { return math.Float64frombits(t.share.Load()) }

// Take logs one query and its answer, or counts it as dropped.
func (t *Tap) Take(query, answer []byte, client netip.AddrPort, transport server.Transport, at time.Time) {
	t.taken.Inc()
	if len(t.frames) == queue {
		t.dropped.Inc()
		return
	}
	f := t.spare.Get().(*frame)
	f.b = appendMessage(f.b[:0], t.cfg.Identity, t.cfg.Version, query, answer, client, transport, at)
	select {
	case t.frames <- f:
	default:
		t.dropped.Inc()
		t.spare.Put(f)
	}
}

// Run writes the log until ctx ends.
func (t *Tap) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		select {
		case <-t.moved: // what is loaded now is newer
		default:
		}
		to := t.wanted.Load()
		if to == nil {
			select {
			case <-ctx.Done():
			case <-t.moved:
			}
			continue
		}
		if err := t.write(ctx, to); err != nil {
			t.failures.Inc()
			t.cfg.Logger.Error("query log; messages are dropped meanwhile", "err", err)
			t.away(ctx, time.Second)
		}
	}
	return nil
}

// away drops what comes for a while.
func (t *Tap) away(ctx context.Context, d time.Duration) {
	after := time.NewTimer(d)
	defer after.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-after.C:
			return
		case f := <-t.frames:
			t.dropped.Inc()
			t.spare.Put(f)
		}
	}
}

// write writes to one file or collector until it is not wanted any more.
func (t *Tap) write(ctx context.Context, to *fleet.Tap) error {
	s, err := open(ctx, to)
	if err != nil {
		return err
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return errors.Join(t.rest(s), s.close())
		case <-t.moved:
			return errors.Join(t.rest(s), s.close())
		case <-tick.C:
			switch err := s.tick(); {
			case errors.Is(err, errMoved):
				s.abandon()
				return nil
			case err != nil:
				s.abandon()
				return err
			}
		case f := <-t.frames:
			err := s.frame(f.b)
			t.spare.Put(f)
			if err != nil {
				s.abandon()
				return err
			}
		}
	}
}

// rest writes what waits.
func (t *Tap) rest(s *stream) error {
	for {
		select {
		case f := <-t.frames:
			err := s.frame(f.b)
			t.spare.Put(f)
			if err != nil {
				return err
			}
		default:
			return nil
		}
	}
}
