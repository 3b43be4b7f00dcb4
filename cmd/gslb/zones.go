package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"meridian/controlplane/api"
	"meridian/daemon"
	"meridian/dns/answer"
	"meridian/dns/server"
)

// serveZones serves plain zones from a folder: no Spec, no fleet.
func (f *serveFlags) serveZones(ctx context.Context, log *slog.Logger) error {
	listen, err := f.listen([]string{":53"})
	if err != nil {
		return err
	}
	s, err := server.New(server.Config{Listen: listen, Identity: answer.Identity{Node: f.Node}, Logger: log})
	if err != nil {
		return err
	}
	if err := s.LoadDir(f.Zones); err != nil {
		if !s.Ready() {
			return err
		}
		log.Error("some zones are not served", "error", err)
	}
	ready := func() error {
		if !s.Ready() {
			return errors.New("no zone is served")
		}
		return nil
	}
	registry := prometheus.NewRegistry()
	s.Register(registry)
	admin, err := api.New(api.Config{Ready: ready, Metrics: registry, Logger: log})
	if err != nil {
		return err
	}
	self, err := selfServing(log, ready)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", f.Admin)
	if err != nil {
		return fmt.Errorf("--admin: %w", err)
	}
	defer daemon.OnHangup(func() {
		defer self.Reload()()
		if err := s.LoadDir(f.Zones); err != nil {
			log.Error("zones reloaded in part; what could not be read stays as it was", "error", err)
			return
		}
		log.Info("zones reloaded", "zones", len(s.Plan().List()))
	})()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.Run(ctx) })
	g.Go(func() error { return admin.Run(ctx, l) })
	g.Go(func() error { return self.Run(ctx) })
	return g.Wait()
}
