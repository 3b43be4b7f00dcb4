package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"meridian/controlplane"
	"meridian/controlplane/acme"
	"meridian/controlplane/store"
	"meridian/controlplane/xds"
	"meridian/daemon"
	"meridian/dns/keeper"
	"meridian/identity"
	"meridian/node"
	"meridian/synthetic/dashboard"
)

// storePort is the own etcd's port for this process.
const storePort = 7379

// controlParts make the control plane: the store's child process (unless the
// store is an external one), the replica, and the xDS server. With a Spec from
// a file it is one for this node alone. None where this process takes its
// configuration from elsewhere.
func (s *gslbNode) controlParts() ([]daemon.Part, error) {
	switch {
	case s.file != nil:
		return s.fileControl()
	case !s.flags.replica:
		return nil, nil
	}
	creds := s.id.Credentials(s.flags.Node, time.Now, rand.Reader)
	cfg := store.Config{Endpoints: s.flags.StoreEndpoints, TLS: creds.Client(), Identity: s.id, Logger: s.log}
	parts, err := s.storeParts(&cfg, creds)
	if err != nil {
		return nil, err
	}
	client, err := store.New(cfg)
	if err != nil {
		return nil, err
	}
	server, err := xds.NewServer(xds.ServerConfig{Credentials: creds, Logger: s.log})
	if err != nil {
		return nil, err
	}
	keeping, err := s.keep(itemKeys{client}, false)
	if err != nil {
		return nil, err
	}
	leading := []func(context.Context){func(ctx context.Context) { s.certs.Lead(ctx) }}
	s.control, err = controlplane.New(controlplane.Config{Node: s.flags.Node, Store: client, Publisher: server, Leading: leading,
		Disk:    node.NewDisk(filepath.Join(s.flags.Data, "control.world"), s.id),
		Deriver: s.deriver, Problems: s.deriver.Problems, Woken: s.deriver.Woken(), Impact: s.impact, Notify: s.notify, Logger: s.log})
	if err != nil {
		return nil, err
	}
	if s.certs, err = acme.New(acme.Config{Control: s.control, Store: client, Logger: s.log, Notify: s.notifyCertificate, Resolver: s.deriver.resolver}); err != nil {
		return nil, err
	}
	server.SetUpdates(s.control)
	server.SetDemands(s.certs)
	replica := func(ctx context.Context) error {
		defer client.Close()
		return s.control.Run(ctx)
	}
	return append(parts, keeping,
		daemon.Part{Name: "control plane", Run: replica, Register: s.control.Register},
		daemon.Part{Name: "certificates", Register: s.certs.Register},
		daemon.Part{Name: "xDS server", Register: server.Register, Run: listening(s.flags.XDS, "--xds", func(ctx context.Context, l net.Listener) error {
			return server.Run(ctx, l, s.control.Ledger())
		})}), nil
}

// fileControl makes the control plane of a node that has its Spec from a file
// and is alone: it keeps dynamic zones and keys in the data directory.
func (s *gslbNode) fileControl() ([]daemon.Part, error) {
	keeping, err := s.keep(keeper.NewDirStore(filepath.Join(s.flags.Data, keysDir), s.id), true)
	if err != nil {
		return nil, err
	}
	items, err := store.NewFile(store.FileConfig{Spec: s.spec, Dir: filepath.Join(s.flags.Data, "zones"), Identity: s.id, Logger: s.log})
	if err != nil {
		return nil, err
	}
	s.control, err = controlplane.New(controlplane.Config{Node: s.flags.Node, Store: items, Publisher: s.file,
		Deriver: s.deriver, Problems: s.deriver.Problems, Woken: s.deriver.Woken(), DeriveFirst: true, Impact: s.impact, Notify: s.notify, Logger: s.log})
	if err != nil {
		return nil, err
	}
	s.file.Report(s.control.Ledger(), s.flags.Node)
	return []daemon.Part{keeping, {Name: "control plane", Run: s.control.Run, Register: s.control.Register}}, nil
}

// storeParts make the own etcd, or complete cfg for an external one.
func (s *gslbNode) storeParts(cfg *store.Config, creds *identity.Credentials) ([]daemon.Part, error) {
	var err error
	if len(s.flags.StoreEndpoints) > 0 {
		cfg.TLS, err = s.flags.storeTLS(cfg.TLS)
		return nil, err
	}
	child, err := s.supervisor(creds)
	if err != nil {
		return nil, err
	}
	cfg.Endpoints = []string{child.ListenClient}
	sup, err := store.NewSupervisor(store.SupervisorConfig{Command: child.command, Child: child.ChildConfig, Credentials: creds,
		Authority: s.id.AuthorityPEM(), Logger: s.log})
	if err != nil {
		return nil, err
	}
	return []daemon.Part{{Name: "store", Run: sup.Run, Register: sup.Register}}, nil
}

// storeTLS is how to reach an external etcd: plain where all endpoints say
// http://, by its own authority and a certificate that it accepts where those
// are given, else by the fleet's own.
func (f *serveFlags) storeTLS(fleet *tls.Config) (*tls.Config, error) {
	plain := 0
	for _, e := range f.StoreEndpoints {
		if strings.HasPrefix(e, "http://") {
			plain++
		}
	}
	switch {
	case plain == len(f.StoreEndpoints):
		return nil, nil
	case plain > 0:
		return nil, errors.New("--store-endpoints: expected all of them with http:// or none")
	case f.StoreCA == "":
		return fleet, nil
	}
	pem, err := os.ReadFile(f.StoreCA)
	if err != nil {
		return nil, fmt.Errorf("--store-ca: %w", err)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--store-ca: %s holds no certificate in PEM", f.StoreCA)
	}
	if f.StoreCert != "" {
		pair, err := tls.LoadX509KeyPair(f.StoreCert, f.StoreKey)
		if err != nil {
			return nil, fmt.Errorf("--store-cert, --store-key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// child is the store's child process and how to start it.
type child struct {
	store.ChildConfig
	command []string
}

func (s *gslbNode) supervisor(creds *identity.Credentials) (*child, error) {
	f := s.flags
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("own program: %w", err)
	}
	c := &child{command: []string{self, "store-child"}}
	c.Name, c.Dir, c.Fleet = f.Node, filepath.Join(f.Data, "store"), s.id.FleetID()
	c.ListenClient = f.StoreClient
	host := "127.0.0.1"
	if f.StorePeers != "" {
		if c.Peers, err = store.ParseMembers(strings.ReplaceAll(f.StorePeers, "https://", "")); err != nil {
			return nil, err
		}
		i := slices.IndexFunc(c.Peers, func(m store.Member) bool { return m.Name == f.Node })
		if i < 0 {
			return nil, fmt.Errorf("--store-peers: this node, %q, is not among them", f.Node)
		}
		own, err := netip.ParseAddrPort(c.Peers[i].Address)
		if err != nil {
			return nil, fmt.Errorf("--store-peers: %q is not ADDR:PORT", c.Peers[i].Address)
		}
		host = own.Addr().String()
	}
	if c.ListenClient == "" {
		c.ListenClient = net.JoinHostPort(host, fmt.Sprint(storePort))
	}
	return c, nil
}

// notifyCertificate hands on what operators want to know of certificates.
func (s *gslbNode) notifyCertificate(text string) {
	s.notify(controlplane.Event{Time: time.Now(), Kind: "certificate", Text: text})
}

// notify hands what the control plane notes on to the admin API's events and
// the dashboard's timeline. What the timeline sees for itself, revisions and
// shifts, is left out there.
func (s *gslbNode) notify(e controlplane.Event) {
	s.feed.Add("control", e)
	switch e.Kind {
	case "nack", "store", "certificate":
		s.board.Add(dashboard.Event{Kind: "config", Time: e.Time, Region: e.Region, Text: e.Text})
	}
	s.board.Touch()
}
