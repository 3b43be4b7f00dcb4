package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/controlplane"
	"meridian/controlplane/acme"
	"meridian/controlplane/api"
	"meridian/daemon"
	dnsserver "meridian/dns/server"
	"meridian/dns/transfer"
	"meridian/fleet"
	"meridian/identity"
	"meridian/node"
	"meridian/probe"
	"meridian/serving"
	"meridian/synthetic"
	"meridian/synthetic/dashboard"
)

// gslbNode is one gslb node: what its parts share.
type gslbNode struct {
	flags    *serveFlags
	log      *slog.Logger
	id       *identity.Identity
	token    string
	daemon   *daemon.Daemon
	self     *serving.Server
	registry *prometheus.Registry
	control  *controlplane.ControlPlane // nil where this process runs none
	deriver  *deriver                   // of the control plane
	certs    *acme.Manager              // likewise; nil with a Spec from a file
	keys     http.Handler               // zones' keys, where this process keeps them
	feed     *api.Feed                  // the admin API's events
	board    *dashboard.Feed
	dns      atomic.Pointer[dnsserver.Server]  // nil before the first World, or without the role
	transfer atomic.Pointer[transfer.Transfer] // likewise
	file     *controlplane.Direct              // brings the Spec of a file; nil with control planes
	spec     *node.FileSource                  // reads that file
	steered  steeredCache
}

// static makes the parts that run whether or not there is a World: the
// control plane, since it is what brings the first one; the admin API, which
// takes it; and the word to systemd.
func (s *gslbNode) static() ([]daemon.Part, error) {
	parts, err := s.controlParts()
	if err != nil {
		return nil, err
	}
	if s.self, err = selfServing(s.log, s.daemon.Ready); err != nil {
		return nil, err
	}
	s.board = dashboard.NewFeed(dashboard.FeedConfig{Node: s.flags.Node, Steering: s.steering, Nodes: s.nodes})
	page, err := dashboard.New(dashboard.Config{Source: s.board, Log: s.log})
	if err != nil {
		return nil, err
	}
	var pages http.Handler
	if s.flags.Role(fleet.RoleDashboard) {
		pages = page
	}
	admin, err := api.New(s.apiConfig(pages))
	if err != nil {
		return nil, err
	}
	parts = append(parts,
		daemon.Part{Name: "systemd", Run: s.self.Run},
		daemon.Part{Name: "admin API", Run: listening(s.flags.Admin, "--admin", admin.Run)})
	if s.flags.Dashboard != "" && pages != nil {
		alone, err := api.New(api.Config{Token: s.token, Dashboard: page, Agent: s.daemon.Agent().Status, Ready: s.daemon.Ready, Logger: s.log})
		if err != nil {
			return nil, err
		}
		parts = append(parts, daemon.Part{Name: "dashboard's listener", Run: listening(s.flags.Dashboard, "--dashboard", alone.Run)})
	}
	return append(parts, daemon.Part{Name: "dashboard", Run: page.Run, Register: page.Register}), nil
}

// listening gives a part's Run that opens the address and serves it.
func listening(address, flag string, serve func(context.Context, net.Listener) error) func(context.Context) error {
	return func(ctx context.Context) error {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
		return serve(ctx, l)
	}
}

func (s *gslbNode) apiConfig(pages http.Handler) api.Config {
	cfg := api.Config{
		Token: s.token, Events: s.feed, Dashboard: pages, Logger: s.log, Explain: s.explain,
		Agent:   s.daemon.Agent().Status,
		Ready:   s.daemon.Ready,
		World:   s.daemon.World,
		Metrics: s.registry,
		View: func() *fleet.View {
			if b := s.daemon.Base(); b != nil {
				return b.Health.View()
			}
			return nil
		},
	}
	if s.control != nil {
		cfg.Control, cfg.Zones = s.control, s.control
		cfg.Keys = s.keys
	}
	cfg.Served = servedZones{&s.dns}
	cfg.ZoneState, cfg.ZoneAction = s.zoneState, s.zoneAction
	cfg.Queries = http.HandlerFunc(s.queries)
	return cfg
}

// build makes the parts of a node whose place in the fleet is known.
func (s *gslbNode) build(b *daemon.Base) ([]daemon.Part, error) {
	parts := []daemon.Part{
		{Name: "events", Run: func(ctx context.Context) error { return s.pump(ctx, b) }},
		{Name: "board", Apply: s.board.Apply, SetView: s.board.SetView},
	}
	if b.Has(fleet.RoleDNS) {
		more, err := s.dnsParts(b)
		if err != nil {
			return nil, err
		}
		parts = append(parts, more...)
	}
	if b.Has(fleet.RoleProbe) {
		p, err := synthetic.New(synthetic.Config{Node: b.Node, Region: b.Region, Prober: probe.New(probe.Config{}), Observer: b.Health, Logger: b.Log})
		if err != nil {
			return nil, err
		}
		parts = append(parts, daemon.Part{Name: "prober", Apply: p.Apply, Run: p.Run, Register: p.Register})
	}
	return parts, nil
}

// pump hands what health notes on to the admin API's events.
func (s *gslbNode) pump(ctx context.Context, b *daemon.Base) error {
	var last uint64
	for {
		events, more := b.Health.Events(last)
		for _, e := range events {
			s.feed.Add("health", e)
			last = e.ID
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil
		}
	}
}
