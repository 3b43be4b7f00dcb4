// Package server answers DNS over UDP, TCP, TLS, HTTPS and, by dns/quic, QUIC,
// from the plan that dns/answer compiles, and keeps the plan in step with
// intent, health and geo data. Messages that are not for the plan (transfers,
// NOTIFY, UPDATE) it hands to a Handler.
//
// Runtime floor: it owns the sockets' goroutines and is wired by cmd; it sees
// the fleet through Apply and SetView alone.
package server

import (
	"context"
	"errors"
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
	Listen   []netip.AddrPort // each for UDP and TCP, in place of dns.listen; the unspecified IPv6 address stands for both families
	Identity answer.Identity
	Geo      geo.Source // may be nil, and replaced by SetGeo
	Logger   *slog.Logger
	Special  Handler   // takes what is not for the plan; nil: it is answered NOTIMP or REFUSED
	QUIC     Datagrams // speaks the protocols over QUIC; nil: there are none
	Tap      Tap       // takes copies of messages; nil for none
	Fast     Fast      // answers ahead of the UDP sockets; nil for none
	Sockets  int       // UDP sockets for each address; 0 for one a processor

	// DNS says how to serve while there is no World: its listeners, TCP,
	// RateLimit and Proxies. Objects has the certificates that it names.
	DNS     fleet.DNS
	Objects map[fleet.ObjectKey]fleet.Object
}

// Server is a nameserver. All methods are safe for concurrent use; Apply,
// SetGeo and the zone loaders run one after another.
type Server struct {
	cfg         Config
	log         *slog.Logger
	plan        atomic.Pointer[moment]
	settings    atomic.Pointer[settings]
	changed     chan struct{} // holds one token when the plan has changed
	another     chan struct{} // holds one token when settings have changed before Run could listen
	fastChanged chan struct{} // likewise, for cfg.Fast
	fastRing    ring          // of what it answered
	clients     clients

	exchanges sync.Pool     // of *exchange
	specials  chan special  // messages over UDP for cfg.Special
	handling  chan struct{} // one for each message over a stream with cfg.Special
	fair      shares        // of handling

	building sync.Mutex // held while a plan is compiled
	world    *fleet.World
	source   geo.Source
	watchers []func(old, new *zone.Zone) // guarded by building

	swapping sync.Mutex // held for the moment in which a plan is swapped
	view     *fleet.View
	turn     int // counts the Views and the ends of shifts

	opening sync.Mutex // guards what follows
	open    []*opened
	stats   []*stats // of open sockets
	retired [HTTPS + 1]counters
	running *group // nil while Run does not run

	loading sync.Mutex  // held while zone files are read
	loaded  atomic.Bool // a zone was read from a file
	files   zoneFiles
}

// moment is the plan in use and what it was compiled from.
type moment struct {
	*answer.Plan
	revision uint64 // of the Snapshot; 0 without a fleet
	view     uint64 // of the View; 0 for none
}

// New checks the configuration; it opens nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		return nil, errors.New("dns server: no logger")
	}
	if cfg.Sockets == 0 {
		cfg.Sockets = runtime.GOMAXPROCS(0)
	}
	if cfg.Identity.Each == nil {
		cfg.Identity.Each = each
	}
	s := &Server{cfg: cfg, log: cfg.Logger, source: cfg.Geo, changed: make(chan struct{}, 1), another: make(chan struct{}, 1), fastChanged: make(chan struct{}, 1),
		specials: make(chan special, specialQueue), handling: make(chan struct{}, specialStreams),
		fair: shares{each: specialClient}}
	set, err := compileSettings(&s.cfg, &cfg.DNS, cfg.Objects, nil, time.Now())
	if err != nil {
		return nil, err
	}
	s.settings.Store(set)
	s.exchanges.New = func() any { return new(exchange) }
	s.plan.Store(&moment{Plan: answer.Empty(cfg.Identity)})
	return s, nil
}

// each calls do for each of 0 to n-1, as many at a time as there are processors.
func each(n int, do func(i int)) {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range n {
		g.Go(func() error { do(i); return nil })
	}
	_ = g.Wait()
}

// SetSpecial sets Config.Special, for a Handler that needs the server to be
// made. Call it before Run.
func (s *Server) SetSpecial(h Handler) { s.cfg.Special = h }

// Run serves until ctx ends, and returns when all its goroutines are gone. It
// opens the sockets where Open has not; those of a Spec as soon as it can.
func (s *Server) Run(ctx context.Context) error {
	if err := s.listenAtLast(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	if err := s.begin(&group{ctx: ctx, errgroup: g}); err != nil {
		return err
	}
	g.Go(func() error { s.expire(ctx); return nil })
	if s.cfg.Fast != nil {
		g.Go(func() error { s.feedFast(ctx); return nil })
	}
	if s.cfg.Special != nil {
		g.Go(func() error { s.handleSpecials(ctx); return nil })
	}
	err := g.Wait()
	s.opening.Lock()
	defer s.opening.Unlock()
	s.running = nil
	for _, o := range s.open {
		o.close()
	}
	s.open = nil
	return err
}

// begin serves what is open, and what settings have asked for since that was
// opened.
func (s *Server) begin(g *group) error {
	s.opening.Lock()
	defer s.opening.Unlock()
	want := s.settings.Load().listen
	fresh, err := s.openNew(g.ctx, want)
	if err != nil {
		return err
	}
	s.running = g
	for _, o := range s.open {
		s.serve(o)
	}
	s.install(fresh, want)
	return nil
}

// group is the goroutines of Run.
type group struct {
	ctx      context.Context
	errgroup *errgroup.Group
}
