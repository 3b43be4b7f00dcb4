package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/cli"
	"meridian/controlplane"
	"meridian/controlplane/api"
	"meridian/controlplane/store"
	"meridian/daemon"
	"meridian/dns/xdp"
	"meridian/fleet"
	"meridian/node"
	"meridian/serving"
)

// serveFlags are what gslb serve takes besides a daemon's.
type serveFlags struct {
	daemon.Flags
	Zones          string
	Watch          bool
	TLSCert        string
	TLSKey         string
	ListenTLS      cli.List
	ListenHTTPS    cli.List
	Listen         cli.List
	Admin          string
	AdminTokenFile string
	Dashboard      string
	XDS            string
	StorePeers     string
	StoreEndpoints cli.List
	StoreClient    string
	StoreCA        string
	StoreCert      string
	StoreKey       string
	Geo            cli.List
	XDP            string
	XDPMode        string
	XDPMemory      int

	replica bool // this process runs a control plane; set by complete
}

// serveCommands run the nameserver, and the store's child process.
func serveCommands() []cli.Command {
	return []cli.Command{
		{Name: "serve", Summary: "run the nameserver, control plane, prober and dashboard", Run: runServe},
		{Name: "store-child", Hidden: true, Run: func(ctx context.Context, _ []string) error {
			return store.RunChild(ctx, os.Stdin)
		}},
	}
}

func (f *serveFlags) register(fs *flag.FlagSet) {
	f.Flags.Register(fs, "/var/lib/gslb", "dns,control,probe,dashboard")
	fs.StringVar(&f.Zones, "zones", "", "serve the zones in `DIR` (NAME.zone each, root.zone for the root) and nothing else; SIGHUP reloads")
	fs.BoolVar(&f.Watch, "watch", false, "with --zones: take changed files into use at once, without SIGHUP")
	fs.StringVar(&f.TLSCert, "tls-cert", "", "with --zones: `FILE` with a certificate chain in PEM; serves DNS over TLS, QUIC and HTTPS too")
	fs.StringVar(&f.TLSKey, "tls-key", "", "with --zones: `FILE` with its private key")
	fs.Var(&f.ListenTLS, "listen-tls", "with --tls-cert: `ADDR:PORT` for DNS over TLS and QUIC; repeatable (default :853)")
	fs.Var(&f.ListenHTTPS, "listen-https", "with --tls-cert: `ADDR:PORT` for DNS over HTTPS at /dns-query; repeatable (default :443)")
	fs.Var(&f.Listen, "listen", "`ADDR:PORT` for DNS over UDP and TCP; repeatable (default the Spec's dns.listen, :53 with --zones)")
	fs.StringVar(&f.XDP, "xdp", "", "answer queries over UDP that come to `DEVICE` in the kernel, as far as they are plain; the sockets answer the rest")
	fs.StringVar(&f.XDPMode, "xdp-mode", "auto", "native, generic, or auto: native where the driver can, but for veth")
	fs.IntVar(&f.XDPMemory, "xdp-memory", xdp.DefaultMemory>>20, "`MIB` of memory that answers may take in the kernel; zones that have no room are answered by the sockets")
	fs.StringVar(&f.Admin, "admin", "127.0.0.1:8053", "`ADDR:PORT` of the admin API")
	fs.StringVar(&f.AdminTokenFile, "admin-token-file", "", "`FILE` with the admin API's token (default DIR/admin.token, made if absent)")
	fs.StringVar(&f.Dashboard, "dashboard", "", "`ADDR:PORT` for the dashboard alone; it is at --admin in any case")
	fs.StringVar(&f.XDS, "xds", ":7443", "`ADDR:PORT` at which this control plane serves the nodes")
	fs.StringVar(&f.StorePeers, "store-peers", "", "`NAME=ADDR:PORT,...` of the store's members, this node among them; 1, 3 or 5")
	fs.Var(&f.StoreEndpoints, "store-endpoints", "`URL,...` of an external etcd, in place of the own one")
	fs.StringVar(&f.StoreCA, "store-ca", "", "`FILE` with the authorities of an external etcd (default the fleet's own)")
	fs.StringVar(&f.StoreCert, "store-cert", "", "`FILE` with the certificate to show an external etcd; with --store-key")
	fs.StringVar(&f.StoreKey, "store-key", "", "`FILE` with its private key")
	fs.StringVar(&f.StoreClient, "store-client", "", "`ADDR:PORT` of the own etcd for this process (default port 7379 at this node's address in --store-peers, else 127.0.0.1)")
	fs.Var(&f.Geo, "geo", "geo database `FILE` (GeoIP2 schema), repeatable: one with places, one with AS numbers; reloaded when replaced (default the embedded country database)")
}

func runServe(ctx context.Context, args []string) error {
	fs := cli.Flags("gslb serve [flags]", "gslb serve --node fra-dns --data /var/lib/gslb --fleet-key /etc/meridian/fleet.key"+
		" --store-peers fra-dns=10.1.0.2:7380,iad-dns=10.2.0.2:7380,nrt-dns=10.3.0.2:7380\n  gslb serve --zones /etc/zones --listen :53")
	var f serveFlags
	f.register(fs)
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return cli.Usagef(fs, "gslb serve: unexpected argument %q", rest[0])
	}
	if err := f.complete(); err != nil {
		return cli.Usagef(fs, "gslb serve: %v", err)
	}
	log, err := cli.Logger(f.LogLevel, f.LogFormat)
	if err != nil {
		return cli.Usagef(fs, "gslb serve: %v", err)
	}
	if f.Zones != "" {
		return f.serveZones(ctx, log)
	}
	return f.serveNode(ctx, log)
}

// complete checks the flags and fills in what follows from others.
func (f *serveFlags) complete() error {
	for name, addr := range map[string]string{"--admin": f.Admin, "--xds": f.XDS} {
		if _, err := fleet.ParseListen(addr); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if _, err := f.listen(nil); err != nil {
		return err
	}
	if err := f.checkXDP(); err != nil {
		return err
	}
	if (f.TLSCert == "") != (f.TLSKey == "") {
		return errors.New("expected --tls-cert and --tls-key together")
	}
	if f.Zones != "" {
		if f.Spec != "" || len(f.Control) > 0 {
			return errors.New("--zones serves zones alone; it does not go with --spec or --control")
		}
		return nil
	}
	if f.TLSCert != "" || f.Watch {
		return errors.New("--tls-cert and --watch go with --zones")
	}
	if (f.StoreCert == "") != (f.StoreKey == "") {
		return errors.New("expected --store-cert and --store-key together")
	}
	if f.StoreCA != "" && len(f.StoreEndpoints) == 0 {
		return errors.New("--store-ca goes with --store-endpoints")
	}
	if f.StorePeers != "" && len(f.StoreEndpoints) > 0 {
		return errors.New("expected at most one of --store-peers and --store-endpoints")
	}
	if f.replica = f.controls(); f.replica {
		f.Control = append(cli.List{f.ownXDS()}, f.Control...)
	}
	return f.Check()
}

// controls says whether this process is to run a control plane: where it may and
// there is no other that it could take its configuration from.
func (f *serveFlags) controls() bool {
	if !f.Role(fleet.RoleControl) || f.Spec != "" {
		return false
	}
	return len(f.Control) == 0 || f.StorePeers != "" || len(f.StoreEndpoints) > 0
}

// alone says whether this process needs no other node: it runs from a file, or
// is the only control plane.
func (f *serveFlags) alone() bool {
	return f.Spec != "" || f.replica && f.StorePeers == "" && len(f.StoreEndpoints) == 0
}

// ownXDS is where this process reaches its own control plane.
func (f *serveFlags) ownXDS() string {
	a, _ := fleet.ParseListen(f.XDS) // complete has checked it
	if a.Addr().IsUnspecified() {
		a = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
	}
	return a.String()
}

// listen gives where to serve DNS: --listen, else fallback.
func (f *serveFlags) listen(fallback []string) ([]netip.AddrPort, error) {
	from := "dns.listen"
	if len(f.Listen) > 0 {
		from, fallback = "--listen", f.Listen
	}
	var out []netip.AddrPort
	for _, l := range fallback {
		a, err := fleet.ParseListen(l)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", from, err)
		}
		out = append(out, a)
	}
	return out, nil
}

// serveNode runs this node of a fleet.
func (f *serveFlags) serveNode(ctx context.Context, log *slog.Logger) error {
	if err := os.MkdirAll(f.Data, 0o700); err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	id, err := f.LoadIdentity(f.alone())
	if err != nil {
		return err
	}
	token, err := f.token()
	if err != nil {
		return err
	}
	s := &gslbNode{flags: f, log: log, id: id, token: token, feed: api.NewFeed(), registry: prometheus.NewRegistry()}
	cfg := daemon.Config{Program: "gslb", Flags: &f.Flags, Log: log, Identity: id, Registry: s.registry, Build: s.build}
	if f.Spec != "" {
		s.spec, s.file = node.NewFileSource(f.Spec, log), controlplane.NewDirect(log)
		cfg.Source = s.file
	}
	s.daemon, err = daemon.New(cfg)
	if err != nil {
		return err
	}
	static, err := s.static()
	if err != nil {
		return err
	}
	s.daemon.Static(static...)
	s.daemon.Stopping = s.self.Stopping
	defer daemon.OnHangup(func() {
		defer s.self.Reload()()
		if s.spec != nil {
			s.spec.Reload()
		}
	})()
	return daemon.Again(s.daemon.Run(ctx))
}

func (f *serveFlags) token() (string, error) {
	if f.AdminTokenFile != "" {
		return api.LoadToken(f.AdminTokenFile)
	}
	return api.LoadOrCreateToken(f.Data)
}

// selfServing tells systemd how the program does; /health and /ready are the
// admin API's.
func selfServing(log *slog.Logger, ready func() error) (*serving.Server, error) {
	return serving.New(serving.Config{Checks: []serving.Check{{Name: "node", Ready: ready}}, Logger: log})
}
