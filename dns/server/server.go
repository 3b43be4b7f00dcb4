// Package server answers DNS over UDP and TCP from the plan that dns/answer
// compiles, and keeps the plan in step with intent, health and geo data.
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
	Listen   []netip.AddrPort // each for UDP and TCP; the unspecified IPv6 address stands for both families
	Identity answer.Identity
	Geo      geo.Source // may be nil, and replaced by SetGeo
	Logger   *slog.Logger
	Special  Handler       // takes what is not for the plan; nil: it is answered NOTIMP or REFUSED
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

	exchanges sync.Pool    // of *exchange
	specials  chan special // messages over UDP for cfg.Special

	building sync.Mutex // held while a plan is compiled
	world    *fleet.World
	source   geo.Source

	watchers []func(old, new *zone.Zone) // guarded by building

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
	s := &Server{cfg: cfg, log: cfg.Logger, source: cfg.Geo, changed: make(chan struct{}, 1), specials: make(chan special, specialQueue)}
	s.exchanges.New = func() any { return new(exchange) }
	s.plan.Store(answer.Empty(cfg.Identity))
	return s, nil
}

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
	if s.cfg.Special != nil {
		g.Go(func() error { s.handleSpecials(ctx); return nil })
	}
	s.log.Info("serving DNS", "addresses", s.addrs)
	return g.Wait()
}
