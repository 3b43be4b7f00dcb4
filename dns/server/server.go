// Package server answers DNS over UDP and TCP from the plan that dns/answer
// compiles, and keeps the plan in step with intent, health and geo data.
//
// Runtime floor: it owns the sockets' goroutines and is wired by cmd; it sees
// the fleet through Apply and SetView alone.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"meridian/dns/answer"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/geo"
)

// Config is what a server needs.
type Config struct {
	Listen   []netip.AddrPort // each for UDP and TCP; the unspecified IPv6 address stands for both families
	Identity answer.Identity
	Geo      geo.Source // may be nil, and replaced by SetGeo
	Logger   *slog.Logger
	Sockets  int           // UDP sockets for each address; 0 for one a processor
	MaxTCP   int           // connections at a time; 0 for 1024
	Idle     time.Duration // of a TCP connection; 0 for 10s
}

// Server is a nameserver. All methods are safe for concurrent use; Apply,
// SetGeo and the zone loaders run one after another.
type Server struct {
	cfg     Config
	log     *slog.Logger
	plan    atomic.Pointer[answer.Plan]
	changed chan struct{} // holds one token when the plan has changed
	conns   atomic.Int64  // open TCP connections

	exchanges sync.Pool // of *exchange

	building sync.Mutex // held while a plan is compiled
	world    *fleet.World
	source   geo.Source

	swapping sync.Mutex // held for the moment in which a plan is swapped
	view     *fleet.View

	opening sync.Mutex
	udp     []*udpSocket
	tcp     []*tcpListener
	addrs   []netip.AddrPort
	stats   []*stats
}

// New checks the configuration; it opens nothing.
func New(cfg Config) (*Server, error) {
	if len(cfg.Listen) == 0 {
		return nil, errors.New("dns server: no address to listen on")
	}
	if cfg.Logger == nil {
		return nil, errors.New("dns server: no logger")
	}
	if cfg.Sockets == 0 {
		cfg.Sockets = runtime.GOMAXPROCS(0)
	}
	if cfg.MaxTCP == 0 {
		cfg.MaxTCP = 1024
	}
	if cfg.Idle == 0 {
		cfg.Idle = 10 * time.Second
	}
	s := &Server{cfg: cfg, log: cfg.Logger, source: cfg.Geo, changed: make(chan struct{}, 1)}
	s.exchanges.New = func() any { return new(exchange) }
	s.plan.Store(answer.Empty(cfg.Identity))
	return s, nil
}

// Apply compiles the plan for a World beside the one in use and swaps it in;
// on an error the old one stays.
func (s *Server) Apply(w *fleet.World) error {
	s.building.Lock()
	defer s.building.Unlock()
	if err := s.compile(w, s.source); err != nil {
		return err
	}
	s.world = w
	return nil
}

// SetGeo takes another geo database into use; on an error the old one stays.
func (s *Server) SetGeo(source geo.Source) error {
	s.building.Lock()
	defer s.building.Unlock()
	if s.world != nil {
		if err := s.compile(s.world, source); err != nil {
			return err
		}
	}
	s.source = source
	return nil
}

func (s *Server) compile(w *fleet.World, source geo.Source) error {
	s.swapping.Lock()
	view := s.view
	s.swapping.Unlock()
	p, err := answer.Compile(s.cfg.Identity, w, source, view, time.Now(), s.plan.Load())
	if err != nil {
		return fmt.Errorf("dns server: %w", err)
	}
	s.swap(p, view)
	return nil
}

// swap takes a plan into use that was compiled under a View; where another
// View has come since, it is laid over the plan first.
func (s *Server) swap(p *answer.Plan, view *fleet.View) {
	s.swapping.Lock()
	defer s.swapping.Unlock()
	if s.view != view {
		p = p.WithView(s.view, time.Now())
	}
	s.plan.Store(p)
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// SetView takes another View into use. It does not wait for a plan that is
// being compiled.
func (s *Server) SetView(v *fleet.View) {
	s.swapping.Lock()
	defer s.swapping.Unlock()
	s.view = v
	s.plan.Store(s.plan.Load().WithView(v, time.Now()))
}

// SetZones serves zones alone, without a fleet.
func (s *Server) SetZones(zones []*zone.Zone) {
	s.building.Lock()
	defer s.building.Unlock()
	s.world = nil
	s.swap(answer.Zones(s.cfg.Identity, zones), nil)
}

// Plan is the one in use.
func (s *Server) Plan() *answer.Plan { return s.plan.Load() }

// Ready says whether there is anything to serve.
func (s *Server) Ready() bool { return s.plan.Load().Ready() }

// Run serves until ctx ends, and returns when all its goroutines are gone. It
// opens the sockets where Open has not.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Open(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, u := range s.udp {
		g.Go(func() error { return u.serve(ctx, s) })
	}
	for _, l := range s.tcp {
		g.Go(func() error { return l.serve(ctx, s) })
	}
	g.Go(func() error { s.expire(ctx); return nil })
	s.log.Info("serving DNS", "addresses", s.addrs)
	return g.Wait()
}

// expire makes decisions anew when a shift runs out.
func (s *Server) expire(ctx context.Context) {
	for {
		var at <-chan time.Time
		timer := (*time.Timer)(nil)
		if next := s.plan.Load().Expires(time.Now()); !next.IsZero() {
			timer = time.NewTimer(time.Until(next))
			at = timer.C
		}
		select {
		case <-ctx.Done():
		case <-s.changed:
		case <-at:
			s.swapping.Lock()
			s.plan.Store(s.plan.Load().WithView(s.view, time.Now()))
			s.swapping.Unlock()
		}
		if timer != nil {
			timer.Stop()
		}
		if ctx.Err() != nil {
			return
		}
	}
}
