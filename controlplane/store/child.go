package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"

	"meridian/identity"
)

// Member is one member of the store's cluster.
type Member struct {
	Name    string // the node's name
	Address string // ADDRESS:PORT that the other members reach it at
}

// ParseMembers reads NAME=ADDRESS:PORT,… as --store-peers gives it; https://
// before the address is the same.
func ParseMembers(s string) ([]Member, error) {
	var out []Member
	seen := map[string]bool{}
	for _, part := range strings.Split(s, ",") {
		name, addr, ok := strings.Cut(strings.TrimSpace(part), "=")
		addr = strings.TrimPrefix(addr, "https://")
		if !ok || name == "" || !strings.Contains(addr, ":") || seen[name] {
			return nil, fmt.Errorf("store peers: %q: expected NAME=ADDRESS:PORT, each name once", part)
		}
		seen[name] = true
		out = append(out, Member{name, addr})
	}
	if len(out)%2 == 0 {
		return nil, fmt.Errorf("store peers: expected an odd number of members (1, 3 or 5), found %d", len(out))
	}
	return out, nil
}

// ChildConfig is what the child process needs to know; it reads it as JSON
// from its standard input. Secrets are in files.
type ChildConfig struct {
	Name         string   // this member, among Peers where there are any
	Dir          string   // its data directory
	Fleet        string   // identity.FleetID; a data directory of another fleet is refused
	ListenClient string   // ADDRESS:PORT for this node's own client
	ListenPeer   string   // ADDRESS:PORT for the other members; empty: the own address in Peers
	Peers        []Member // the whole cluster; empty for a single member
	TickMs       uint     // heartbeat between members; 0: 300 in a cluster, 100 alone
	Cert         string   // PEM files, both for members and for clients
	Key          string
	CA           string
}

const (
	quota        = 2 << 30 // octets of the backend; at more etcd refuses writes
	startTimeout = 5 * time.Minute
	closeTimeout = 3 * time.Second
)

// RunChild is the child process's whole work: an etcd server, until ctx ends
// or stdin does (the parent is gone). The error says why the server ended.
func RunChild(ctx context.Context, stdin io.Reader) error {
	dec := json.NewDecoder(stdin)
	var c ChildConfig
	if err := dec.Decode(&c); err != nil {
		return fmt.Errorf("store child: configuration on standard input: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the process, at the latest
		_, _ = io.Copy(io.Discard, io.MultiReader(dec.Buffered(), stdin))
		cancel()
	}()
	if err := guardDir(c); err != nil {
		return err
	}
	cfg, err := c.embed()
	if err != nil {
		return err
	}
	return serve(ctx, cfg)
}

func serve(ctx context.Context, cfg *embed.Config) error {
	type started struct {
		e   *embed.Etcd
		err error
	}
	start := make(chan started, 1)
	go func() {
		e, err := embed.StartEtcd(cfg)
		start <- started{e, err}
	}()
	var e *embed.Etcd
	select {
	case <-ctx.Done(): // not ready yet: the process's end is the clean-up
		return nil
	case s := <-start:
		if s.err != nil {
			return fmt.Errorf("etcd: %w", s.err)
		}
		e = s.e
	}
	defer closeWithin(e, closeTimeout)
	select {
	case <-e.Server.ReadyNotify():
	case <-ctx.Done():
		return nil
	case err := <-e.Err():
		return fmt.Errorf("etcd: %w", err)
	case <-e.Server.StopNotify():
		return errors.New("etcd: stopped before it was ready")
	case <-time.After(startTimeout):
		return fmt.Errorf("etcd: not ready after %s", startTimeout)
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-e.Err():
		return fmt.Errorf("etcd: %w", err)
	case <-e.Server.StopNotify():
		return errors.New("etcd: stopped by itself")
	}
}

// closeWithin closes the server, which hands its leadership over. That may
// hang without a quorum or if it never was ready (etcd #9533); the process ends
// after it in any case, and what was acknowledged is on disk.
func closeWithin(e *embed.Etcd, limit time.Duration) {
	done := make(chan struct{})
	go func() {
		e.Close()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

// guardDir refuses a data directory that belongs to another fleet or member:
// etcd would ignore the new cluster's flags and hang or join the old one.
func guardDir(c ChildConfig) error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("store directory: %w", err)
	}
	path := filepath.Join(c.Dir, "cluster-id")
	want := "fleet " + c.Fleet + "\nmember " + c.Name + "\n"
	have, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			return fmt.Errorf("store directory: %w", err)
		}
	case err != nil:
		return fmt.Errorf("store directory: %w", err)
	case string(have) != want:
		return fmt.Errorf("store directory %s belongs to another fleet key or node name; move it away to start afresh", c.Dir)
	}
	return nil
}

// embed gives etcd's own configuration.
func (c ChildConfig) embed() (*embed.Config, error) {
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = c.Name, filepath.Join(c.Dir, "etcd")
	cfg.InitialClusterToken = c.Fleet
	client := url.URL{Scheme: "https", Host: c.ListenClient}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	// Clients' gRPC must not share its port with HTTP, which starves watches
	// (etcd #15402); the HTTP listener that etcd then wants gets any port.
	cfg.ListenClientHttpUrls = []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}
	cfg.EnableGRPCGateway = false
	if err := c.cluster(cfg); err != nil {
		return nil, err
	}
	tls := transport.TLSInfo{
		CertFile: c.Cert, KeyFile: c.Key, TrustedCAFile: c.CA, ClientCertAuth: true,
		// Certificates name nodes, not addresses: any member of the fleet is
		// as good as any other.
		ServerName: identity.ServerName, SkipClientSANVerify: true,
	}
	cfg.PeerTLSInfo, cfg.ClientTLSInfo = tls, tls
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModePeriodic, "1h"
	cfg.QuotaBackendBytes = quota
	cfg.WatchProgressNotifyInterval = 2 * time.Second
	cfg.GRPCKeepAliveMinTime = time.Second
	cfg.LogLevel, cfg.LogFormat, cfg.LogOutputs = "warn", "json", []string{"stderr"}
	return cfg, nil
}

func (c ChildConfig) cluster(cfg *embed.Config) error {
	if len(c.Peers) == 0 {
		// Nobody connects to a single member: any port will do, and the
		// advertised one is only a name.
		cfg.ListenPeerUrls = []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}
		cfg.AdvertisePeerUrls = []url.URL{{Scheme: "https", Host: "127.0.0.1:2380"}}
		cfg.InitialCluster = c.Name + "=https://127.0.0.1:2380"
		return nil
	}
	// Members stand in different regions: a heartbeat each 300 ms and an
	// election after 3 s suit round trips of up to 300 ms.
	cfg.TickMs = 300
	if c.TickMs > 0 {
		cfg.TickMs = c.TickMs
	}
	cfg.ElectionMs = 10 * cfg.TickMs
	var all []string
	for _, m := range c.Peers {
		all = append(all, m.Name+"=https://"+m.Address)
		if m.Name == c.Name {
			cfg.AdvertisePeerUrls = []url.URL{{Scheme: "https", Host: m.Address}}
		}
	}
	if len(cfg.AdvertisePeerUrls) == 0 {
		return fmt.Errorf("store peers: %q is not among them", c.Name)
	}
	cfg.ListenPeerUrls = cfg.AdvertisePeerUrls
	if c.ListenPeer != "" {
		cfg.ListenPeerUrls = []url.URL{{Scheme: "https", Host: c.ListenPeer}}
	}
	cfg.InitialCluster = strings.Join(all, ",")
	return nil
}
