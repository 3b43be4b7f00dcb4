package lab

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"meridian/internal/testkit"
)

// TestMain lets the test binary stand in for the hidden subcommands of gslb,
// which are processes of their own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "lab-router" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		cfg, err := ReadRouterConfig(os.Args[3])
		if err == nil {
			err = RunRouter(ctx, cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	os.Exit(m.Run())
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

// announcer makes the edge node announce prefixes by a plain router.
func announcer(t *testing.T, in *Internet, ps *processes, r *Region, n *Node, prefixes ...netip.Prefix) {
	t.Helper()
	v4, v6 := r.nodeLink(n).host(1)
	in.Machine("router-" + r.ID)
	cfg := RouterConfig{Name: n.Name, ASN: r.asnEdge(), RouterID: first(r.Addr(n)), Originate: prefixes,
		Neighbors: []RouterNeighbor{
			{Address: v4, ASN: r.asnRouter(), Device: "eth0", Preference: 100, V4: true},
			{Address: v6, ASN: r.asnRouter(), Device: "eth0", Preference: 100, V6: true},
		}}
	startRouter(t, in, ps, r.ID, cfg)
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
	v4 := netip.MustParsePrefix("198.51.100.1/32")
	v6 := netip.MustParsePrefix("2001:db8:ca57::1/128")
	for i := range top.Regions {
		r := &top.Regions[i]
		for _, n := range r.Of(Edge) {
			announcer(t, in, ps, r, n, v4)
		}
	}
	fra := top.Region("fra")
	toward := func(r *Region, family func(netip.Addr, netip.Addr) netip.Addr) netip.Addr {
		return family(coreLink(fra, r).host(2))
	}
	_ = toward
	_ = v6

	// Both edge nodes of the region share the load.
	e1, _ := fra.Addr(fra.Of(Edge)[0])
	e2, _ := fra.Addr(fra.Of(Edge)[1])
	eventually(t, 10*time.Second, "router-fra balances over its edge nodes", func() bool {
		return slices.Equal(hops(t, in, "router-fra", v4), []netip.Addr{e1, e2})
	})
	router, _ := fra.uplink().host(2)
	iad, _ := coreLink(fra, top.Region("iad")).host(2)
	eventually(t, 10*time.Second, "core-fra goes to its own region", func() bool {
		return slices.Equal(hops(t, in, "core-fra", v4), []netip.Addr{router})
	})
	eventually(t, 10*time.Second, "every machine is reachable from every core", func() bool {
		return len(hops(t, in, "core-nrt", netip.MustParsePrefix("10.1.0.0/16"))) == 1 &&
			len(hops(t, in, "core-nrt", netip.MustParsePrefix("fd00:1::/32"))) == 1 &&
			len(hops(t, in, "router-fra", netip.MustParsePrefix("10.50.4.0/24"))) == 1
	})

	// One edge node dies: the other takes all.
	ps.get("fra-edge-1").cmd.Process.Kill()
	eventually(t, 5*time.Second, "router-fra goes to the edge node that is left", func() bool {
		return slices.Equal(hops(t, in, "router-fra", v4), []netip.Addr{e2})
	})

	// The whole region dies.
	start := time.Now()
	if err := in.setLinks(fra, false); err != nil {
		t.Fatal(err)
	}
	ps.kill("fra", []string{"router-fra", "fra-edge-1", "fra-edge-2"})
	eventually(t, 3*time.Second, "core-fra goes to the next nearest region", func() bool {
		return slices.Equal(hops(t, in, "core-fra", v4), []netip.Addr{iad})
	})
	t.Logf("re-routed after %s", time.Since(start))

	// And comes back.
	start = time.Now()
	if err := in.setLinks(fra, true); err != nil {
		t.Fatal(err)
	}
	startRouter(t, in, ps, "fra", top.routerConfig(fra))
	for _, n := range fra.Of(Edge) {
		announcer(t, in, ps, fra, n, v4)
	}
	eventually(t, 10*time.Second, "core-fra goes home", func() bool {
		return slices.Equal(hops(t, in, "core-fra", v4), []netip.Addr{router})
	})
	t.Logf("home after %s", time.Since(start))
}
