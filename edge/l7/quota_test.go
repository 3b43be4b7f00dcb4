package l7

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"meridian/fleet"
	"meridian/health"
)

// wires join the Healths of several gateways; frames from and to a gateway that is
// cut off get lost.
type wires struct {
	mu    sync.Mutex
	ports []*mouth
	cut   string
}

type mouth struct {
	*wires
	node    string
	receive func([]byte)
}

func (p *mouth) Receive(f func([]byte))               { p.receive = f }
func (p *mouth) Exchange(func() []byte, func([]byte)) {}
func (p *mouth) Broadcast(frame []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.ports {
		if o != p && o.node != p.cut && p.node != p.cut {
			o.receive(slices.Clone(frame))
		}
	}
}

func (w *wires) cutOff(node string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = node
}

// join starts a Health of that node.
func (w *wires) join(t *testing.T, node string, world *fleet.World) *health.Health {
	t.Helper()
	p := &mouth{wires: w, node: node}
	h, err := health.New(health.Config{Node: node, Region: "fra", Roles: []fleet.Role{fleet.RoleL7}, Transport: p, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Apply(world); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.ports = append(w.ports, p)
	w.mu.Unlock()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = h.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	return h
}

// busy are gateways that hold one limit together.
type busy struct {
	t    *testing.T
	rigs []*rig
	ask  []*http.Client
}

func (b *busy) quota(i int) *quota { return b.rigs[i].g.gen.Load().service("web").rates[0].quota }

func (b *busy) sum() (n int64) {
	for i := range b.rigs {
		n += b.quota(i).held.Load()
	}
	return n
}

// until sends requests to the gateways that are named until ok.
func (b *busy) until(what string, ok func() bool, to ...int) {
	b.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			b.t.Fatalf("%s: %d, %d and %d are held", what, b.quota(0).held.Load(), b.quota(1).held.Load(), b.quota(2).held.Load())
		}
		for _, i := range to {
			for range 10 {
				get(b.t, b.ask[i], "http://www.demo.test/")
			}
		}
		<-time.After(20 * time.Millisecond)
	}
}

// A limit that three gateways hold together goes where the requests are: one with all
// of them gets nearly the whole of it, its burst too. One that is cut off keeps its part
// and the others theirs, and afterwards it goes by demand again.
func TestALimitHeldTogetherFollowsDemand(t *testing.T) {
	var n atomic.Int64
	spec := httpSpec(noChecks+"limits: {rates: [{name: all, key: all, scope: fleet, requests: 30}]}\n", counting(t, &n, 200))
	spec = strings.Replace(spec, "nodes: [", "nodes: [{name: n2, region: fra, roles: [l7], addresses: {v4: 10.0.0.2}}, {name: n3, region: fra, roles: [l7], addresses: {v4: 10.0.0.3}}, ", 1)
	world := &fleet.World{Snapshot: compile(t, spec)}
	w, b := &wires{}, &busy{t: t}
	for _, name := range []string{"n1", "n2", "n3"} {
		r := newRig(t, spec, func(c *Config) { c.Node, c.Holders = name, w.join(t, name, world) })
		r.others = true
		b.rigs, b.ask = append(b.rigs, r), append(b.ask, r.client("192.0.2.1:80", nil))
	}
	burst := func(i int) int { return b.quota(i).rate.Load().Burst }
	if burst(0) != 10 || b.sum() != 30 {
		t.Fatalf("at first a burst of %d, %d together", burst(0), b.sum())
	}
	b.until("all to one", func() bool { return b.quota(0).held.Load() == 28 && burst(0) == 28 }, 0)
	if b.sum() > 30 {
		t.Errorf("%d are held of 30", b.sum())
	}

	w.cutOff("n1")
	b.until("one is cut off", func() bool {
		if b.sum() > 30 {
			t.Errorf("%d are held of 30", b.sum())
		}
		return b.rigs[1].g.cfg.Holders.Holdings()["n1"].Age > 5*time.Second
	}, 1, 2)
	if held := b.quota(0).held.Load(); held != 28 {
		t.Errorf("the one that is cut off holds %d", held)
	}

	w.cutOff("")
	b.until("together again", func() bool {
		return b.quota(0).held.Load() <= 10 && b.quota(1).held.Load() >= 10 && b.quota(2).held.Load() >= 10 && b.sum() == 30
	}, 1, 2)
	if share := b.rigs[1].metric("meridian_l7_rate_share_ratio", "limit", "all"); share < 0.3 {
		t.Errorf("the metric says %v", share)
	}
}

// Changes of the Spec keep what is held, and one of the numbers begins anew; limits of
// one gateway alone have no quota.
func TestQuotasOutliveApply(t *testing.T) {
	at := func(requests, scope string) string {
		s := httpSpec(noChecks+"limits: {rates: [{name: all, scope: "+scope+", requests: "+requests+"}]}\n", "127.0.0.1:1")
		return strings.Replace(s, "nodes: [", "nodes: [{name: n2, region: fra, roles: [l7], addresses: {v4: 10.0.0.2}}, ", 1)
	}
	w := &wires{}
	r := newRig(t, at("30", "region"), func(c *Config) {
		c.Holders = w.join(t, "n1", &fleet.World{Snapshot: compile(t, at("30", "region"))})
	})
	r.others = true
	quota := func() *quota { return r.g.gen.Load().service("web").rates[0].quota }
	first := quota()
	for _, tc := range []struct {
		requests, scope string
		kept            bool
	}{{"30", "region", true}, {"40", "region", false}, {"40", "gateway", false}} {
		if err := r.apply(at(tc.requests, tc.scope)); err != nil {
			t.Fatal(err)
		}
		if got := quota(); (got == first) != tc.kept || (got == nil) != (tc.scope == "gateway") {
			t.Errorf("%+v: %v", tc, got)
		}
	}
}
