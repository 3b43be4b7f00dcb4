package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"meridian/controlplane/api"
	"meridian/daemon"
	"meridian/dns/answer"
	"meridian/dns/quic"
	"meridian/dns/server"
	"meridian/fleet"
)

// serveZones serves plain zones from a folder: no Spec, no fleet.
func (f *serveFlags) serveZones(ctx context.Context, log *slog.Logger) error {
	fast, register, err := f.fastPath(log)
	if err != nil {
		return err
	}
	s, err := f.zoneServer(log, fast)
	if err != nil {
		return err
	}
	ready := func() error {
		if !s.Ready() {
			return errors.New("no zone is served")
		}
		return nil
	}
	self, err := selfServing(log, ready)
	if err != nil {
		return err
	}
	zones := newReloader(f.Zones, s, f.Watch, self.Reload, log)
	if err := zones.Load(ctx); err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	s.Register(registry)
	if register != nil {
		register(registry)
	}
	cfg := api.Config{Ready: ready, Problem: zones.Problem, Metrics: registry, Logger: log}
	if f.AdminTokenFile != "" { // zones may be changed, and are written back
		if cfg.Token, err = f.token(); err != nil {
			return err
		}
		cfg.Zones = &zoneFolder{dir: f.Zones, server: plainServer{s}}
	}
	admin, err := api.New(cfg)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", f.Admin)
	if err != nil {
		return fmt.Errorf("--admin: %w", err)
	}
	defer daemon.OnHangup(func() { zones.Reload(); f.reloadCertificate(s, log) })()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.Run(ctx) })
	g.Go(func() error { return admin.Run(ctx, l) })
	g.Go(func() error { return self.Run(ctx) })
	g.Go(func() error { return zones.Run(ctx) })
	return g.Wait()
}

// zoneServer makes the nameserver for plain zones.
func (f *serveFlags) zoneServer(log *slog.Logger, fast server.Fast) (*server.Server, error) {
	listen, err := f.listen([]string{":53"})
	if err != nil {
		return nil, err
	}
	dns, objects, err := f.encrypted()
	if err != nil {
		return nil, err
	}
	var secret [16]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return nil, fmt.Errorf("DNS cookies: %w", err)
	}
	return server.New(server.Config{
		Listen: listen, Logger: log, QUIC: quic.New(log), Fast: fast, DNS: *dns, Objects: objects,
		Identity: answer.Identity{Node: f.Node, Cookie: func(int64) [16]byte { return secret }},
	})
}

// encrypted gives what --tls-cert asks for.
func (f *serveFlags) encrypted() (*fleet.DNS, map[fleet.ObjectKey]fleet.Object, error) {
	dns := new(fleet.DNS)
	if f.TLSCert == "" {
		return dns, nil, nil
	}
	chain, err := os.ReadFile(f.TLSCert)
	if err != nil {
		return nil, nil, fmt.Errorf("--tls-cert: %w", err)
	}
	private, err := os.ReadFile(f.TLSKey)
	if err != nil {
		return nil, nil, fmt.Errorf("--tls-key: %w", err)
	}
	key := fleet.ObjectKey{Kind: fleet.ObjectCertificate, ID: f.TLSCert}
	at := func(given []string, fallback string) *fleet.DNSListener {
		if len(given) == 0 {
			given = []string{fallback}
		}
		return &fleet.DNSListener{Listen: given, Certificate: key.ID}
	}
	dns.TLS, dns.QUIC, dns.HTTPS = at(f.ListenTLS, ":853"), at(f.ListenTLS, ":853"), at(f.ListenHTTPS, ":443")
	data := append(append(chain, '\n'), private...)
	return dns, map[fleet.ObjectKey]fleet.Object{key: {Key: key, Data: data, File: f.TLSCert}}, nil
}

// reloadCertificate reads the certificate again.
func (f *serveFlags) reloadCertificate(s *server.Server, log *slog.Logger) {
	dns, objects, err := f.encrypted()
	if err == nil {
		err = s.Configure(dns, objects)
	}
	if err != nil {
		log.Error("the certificate stays as it was", "error", err)
	}
}
