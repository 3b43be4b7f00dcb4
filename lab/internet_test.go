//go:build linux

package lab

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"meridian/anycast/gobgp"
	"meridian/anycast/plan"
	"meridian/fleet"
	"meridian/internal/testkit"
)

// TestMain lets the test binary stand in for the hidden subcommands of gslb,
// which are processes of their own.
func TestMain(m *testing.M) {
	helpers := map[string]func(ctx context.Context, log *slog.Logger) error{
		"lab-router": func(ctx context.Context, log *slog.Logger) error {
			cfg, err := ReadRouterConfig(os.Args[3])
			if err != nil {
				return err
			}
			return RunRouter(ctx, cfg, log)
		},
		"test-speaker": func(ctx context.Context, log *slog.Logger) error { return speak(ctx, os.Args[2], log) },
	}
	if len(os.Args) > 1 && helpers[os.Args[1]] != nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := helpers[os.Args[1]](ctx, slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	os.Exit(m.Run())
}

// speak is the BGP speaker of an edge node that always can serve.
func speak(ctx context.Context, node string, log *slog.Logger) error {
	doc, err := specYAML(World().Spec())
	if err != nil {
		return err
	}
	snap, err := fleet.Compile(doc, 1)
	if err != nil {
		return err
	}
	s, err := gobgp.New(gobgp.Config{Node: node, Logger: log, Secret: func(fleet.Secret) (string, error) { return "", nil }})
	if err != nil {
		return err
	}
	if err := s.Apply(&fleet.World{Snapshot: snap}); err != nil {
		return err
	}
	if err := s.Announce(plan.Make(plan.Input{Snapshot: snap, Node: node}).Ads); err != nil {
		return err
	}
	return s.Run(ctx)
}

// newInternet builds a topology with its routers running.
func newInternet(t *testing.T, top *Topology) (*Internet, *processes) {
	t.Helper()
	testkit.Root(t)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	in, err := Build(top, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- in.Run(ctx) }()
	ps := newProcesses(t.TempDir(), log)
	t.Cleanup(func() {
		if t.Failed() {
			showLogs(t, ps.dir)
		}
		ps.killAll()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	})
	for i := range top.Regions {
		r := &top.Regions[i]
		startRouter(t, in, ps, "core", top.coreConfig(r))
		startRouter(t, in, ps, r.ID, top.routerConfig(r))
	}
	return in, ps
}

func showLogs(t *testing.T, dir string) {
	files, _ := filepath.Glob(filepath.Join(dir, "logs", "*.log"))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		if len(text) > 6000 {
			text = text[len(text)-6000:]
		}
		t.Logf("%s:\n%s", filepath.Base(f), text)
	}
}

func startRouter(t *testing.T, in *Internet, ps *processes, site string, cfg RouterConfig) {
	t.Helper()
	doc, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(ps.dir, cfg.Name+".json")
	if err := os.WriteFile(file, doc, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ps.start(in.Machine(cfg.Name), site, cfg.Name, os.Args[0], "lab-router", "--config", file); err != nil {
		t.Fatal(err)
	}
}

// announce makes an edge node announce the anycast VIPs by a plain router and
// answer at them with the region's name.
func announce(t *testing.T, in *Internet, ps *processes, r *Region, n *Node) {
	t.Helper()
	for _, vip := range in.Topology.Anycast.All() {
		p := netip.PrefixFrom(vip, vip.BitLen())
		if err := in.Machine(n.Name).AddAddr("lo", p); err != nil {
			t.Fatal(err)
		}
		l, err := in.Machine(n.Name).Listen("tcp", netip.AddrPortFrom(vip, 80).String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(c, r.ID)
				c.Close()
			}
		}()
	}
	speakFor(t, in, ps, r, n)
}

// speakFor starts an edge node's BGP speaker.
func speakFor(t *testing.T, in *Internet, ps *processes, r *Region, n *Node) {
	t.Helper()
	if _, err := ps.start(in.Machine(n.Name), r.ID, n.Name, os.Args[0], "test-speaker", n.Name); err != nil {
		t.Fatal(err)
	}
}

// reach says which region answers a city at an address.
func reach(t *testing.T, in *Internet, city string, vip netip.Addr) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	c, err := in.Machine(city).Dial(ctx, "tcp", netip.AddrPortFrom(vip, 80).String())
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	region, err := io.ReadAll(c)
	if err != nil {
		return err.Error()
	}
	return string(region)
}

func hops(t *testing.T, in *Internet, machine string, p netip.Prefix) []netip.Addr {
	t.Helper()
	have, err := routesOf(in.Machine(machine).Netlink())
	if err != nil {
		t.Fatal(err)
	}
	return have[p]
}

func TestInternetRoutesAnycastToTheNearestAndAroundADeadRegion(t *testing.T) {
	top := World()
	in, ps := newInternet(t, top)
	for i := range top.Regions {
		r := &top.Regions[i]
		for _, n := range r.Of(Edge) {
			announce(t, in, ps, r, n)
		}
	}
	fra := top.Region("fra")
	router4, router6 := fra.uplink().host(2)
	iad4, iad6 := coreLink(fra, top.Region("iad")).host(2)
	a4, a6 := top.Addr(fra, fra.Of(Edge)[0])
	b4, b6 := top.Addr(fra, fra.Of(Edge)[1])
	v4, v6 := top.Anycast.V4[0], top.Anycast.V6[0]
	via := func(machine string, hops4, hops6 []netip.Addr) func() bool {
		return func() bool {
			return slices.Equal(hops(t, in, machine, netip.PrefixFrom(v4, 32)), hops4) &&
				slices.Equal(hops(t, in, machine, netip.PrefixFrom(v6, 128)), hops6)
		}
	}
	list := func(a ...netip.Addr) []netip.Addr { return a }

	eventually(t, 15*time.Second, "router-fra balances over its edge nodes", via("router-fra", list(a4, b4), list(a6, b6)))
	eventually(t, 10*time.Second, "core-fra goes to its own region", via("core-fra", list(router4), list(router6)))
	eventually(t, 10*time.Second, "every machine is known everywhere", func() bool {
		return len(hops(t, in, "core-nrt", netip.MustParsePrefix("10.1.0.0/16"))) == 1 &&
			len(hops(t, in, "core-nrt", netip.MustParsePrefix("fd00:1::/32"))) == 1 &&
			len(hops(t, in, "router-fra", netip.MustParsePrefix("10.50.4.0/24"))) == 1
	})
	for _, c := range top.Cities {
		for _, vip := range top.Anycast.All() {
			eventually(t, 10*time.Second, c.ID+" reaches its nearest region at "+vip.String(), func() bool {
				return reach(t, in, c.ID, vip) == c.Region
			})
		}
	}

	ps.get("fra-edge-1").cmd.Process.Kill()
	eventually(t, 15*time.Second, "router-fra goes to the edge node that is left", via("router-fra", list(b4), list(b6)))

	start := time.Now()
	if err := in.setLinks(fra, false); err != nil {
		t.Fatal(err)
	}
	ps.kill("fra", []string{"router-fra", "fra-edge-1", "fra-edge-2"})
	eventually(t, 15*time.Second, "core-fra goes to the next nearest region", via("core-fra", list(iad4), list(iad6)))
	t.Logf("re-routed after %s", time.Since(start))
	// The core routers carry their own regions' routes, not each other's: no
	// detour by a third one.
	nrt4, nrt6 := coreLink(fra, top.Region("nrt")).host(2)
	for p, hop := range map[string]netip.Addr{"10.3.0.0/16": nrt4, "fd00:3::/32": nrt6, "203.0.113.3/32": nrt4} {
		if got := hops(t, in, "core-fra", netip.MustParsePrefix(p)); !slices.Equal(got, list(hop)) {
			t.Errorf("core-fra goes to %s by %v, want %s", p, got, hop)
		}
	}
	for _, city := range []string{"berlin", "london"} {
		eventually(t, 15*time.Second, city+" is served by iad", func() bool { return reach(t, in, city, v4) == "iad" })
	}

	start = time.Now()
	if err := in.setLinks(fra, true); err != nil {
		t.Fatal(err)
	}
	startRouter(t, in, ps, "fra", top.routerConfig(fra))
	for _, n := range fra.Of(Edge) {
		speakFor(t, in, ps, fra, n)
	}
	eventually(t, 15*time.Second, "core-fra goes home", via("core-fra", list(router4), list(router6)))
	t.Logf("home after %s", time.Since(start))
	eventually(t, 15*time.Second, "berlin is served at home", func() bool { return reach(t, in, "berlin", v6) == "fra" })
}
