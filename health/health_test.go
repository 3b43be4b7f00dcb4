package health

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"meridian/fleet"
	"meridian/health/verdict"
)

// hub joins the Healths of one test: frames arrive at once, in order.
type hub struct {
	mu    sync.Mutex
	ports []*port
	mute  map[string]bool // nodes whose frames get lost
}

type port struct {
	hub     *hub
	node    string
	receive func([]byte)
	local   func() []byte
	merge   func([]byte)
	sent    int
}

func (p *port) Receive(f func([]byte))                       { p.receive = f }
func (p *port) Exchange(local func() []byte, m func([]byte)) { p.local, p.merge = local, m }
func (p *port) Broadcast(frame []byte) {
	p.hub.mu.Lock()
	defer p.hub.mu.Unlock()
	p.sent++
	for _, o := range p.hub.ports {
		if o != p && !p.hub.mute[p.node] {
			o.receive(slices.Clone(frame))
		}
	}
}

const doc = `
regions: [{id: a, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.1]}}, {id: b, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.2]}}, {id: c, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.3]}}]
nodes:
- {name: a-1, region: a, roles: [probe], addresses: {v4: 10.0.0.1}}
- {name: b-1, region: b, roles: [probe], addresses: {v4: 10.0.0.2}}
- {name: c-1, region: c, roles: [probe], addresses: {v4: 10.0.0.3}}
- {name: a-e, region: a, roles: [l4, l7], addresses: {v4: 10.0.0.4}}
services:
- {service: web, protocol: tcp, ports: [80], pools: [{id: app, endpoints: [{address: "10.1.0.1:80"}]}]}
`

func world(t testing.TB, doc string, revision uint64) *fleet.World {
	t.Helper()
	s, err := fleet.Compile([]byte(doc), revision)
	if err != nil {
		t.Fatal(err)
	}
	return &fleet.World{Snapshot: s}
}

func web(region string) fleet.Target {
	return fleet.Target{Kind: fleet.TargetService, Region: region, Service: "web"}
}

// node is a running Health.
type node struct {
	*Health
	port  *port
	stop  func()
	views []*fleet.View
}

func start(t *testing.T, h *hub, name string, w *fleet.World, roles ...fleet.Role) *node {
	t.Helper()
	n := &node{}
	cfg := Config{Node: name, Region: name[:1], Roles: roles, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if h != nil {
		n.port = &port{hub: h, node: name}
		cfg.Transport = n.port
	}
	var err error
	if n.Health, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	if h != nil {
		h.mu.Lock()
		h.ports = append(h.ports, n.port)
		h.mu.Unlock()
	}
	n.Subscribe(func(v *fleet.View) { n.views = append(n.views, v) })
	if w != nil {
		if err := n.Apply(w); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = n.Run(ctx) }()
	n.stop = func() {
		cancel()
		<-done
		if h != nil {
			h.mu.Lock()
			h.ports = slices.DeleteFunc(h.ports, func(p *port) bool { return p == n.port })
			h.mu.Unlock()
		}
	}
	return n
}

// see observes a target a number of times in a row.
func (n *node) see(t fleet.Target, ok bool, times int) (v fleet.Verdict) {
	for range times {
		v = n.Observe(fleet.Observation{Target: t, Check: "rtt4", Time: time.Now(), OK: ok,
			Latency: 20 * time.Millisecond, Cause: fleet.CauseTimeout, Detail: "no answer"})
	}
	return v
}

func (n *node) seeAll(states string) {
	for i, r := range []string{"a", "b", "c"} {
		n.see(web(r), states[i] == 'u', 5)
	}
}

func (n *node) states() string {
	var b strings.Builder
	for _, r := range []string{"a", "b", "c"} {
		b.WriteByte("?udD"[n.View().Get(web(r)).State])
	}
	return b.String()
}

func TestAloneItTrustsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, nil, "a-1", world(t, doc, 1), fleet.RoleProbe)
		defer n.stop()
		if v := n.see(web("a"), true, 1); v.State != fleet.Up {
			t.Errorf("local verdict %v", v)
		}
		time.Sleep(10 * time.Millisecond)
		if got := n.states(); got != "u??" {
			t.Errorf("the view is %s", got)
		}
		n.see(web("a"), false, 3)
		time.Sleep(10 * time.Millisecond)
		if got := n.View().From("a", web("a")); got.State != fleet.Down || got.Detail != "rtt4: no answer" {
			t.Errorf("from a: %+v", got)
		}
		if got := n.View().Get(web("a")); got.State != fleet.Down || got.Cause != fleet.CauseTimeout {
			t.Errorf("the verdict: %+v", got)
		}
	})
}

func TestChangeIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hub{}
		w := world(t, doc, 1)
		a, b, c := start(t, h, "a-1", w, fleet.RoleProbe), start(t, h, "b-1", w, fleet.RoleProbe), start(t, h, "c-1", w, fleet.RoleProbe)
		defer a.stop()
		defer b.stop()
		defer c.stop()
		for _, n := range []*node{a, b, c} {
			n.seeAll("uuu")
		}
		time.Sleep(2 * time.Second)
		for _, n := range []*node{a, b, c} {
			if n.states() != "uuu" {
				t.Fatalf("%s has %s", n.cfg.Node, n.states())
			}
		}
		time.Sleep(300 * time.Millisecond) // between two periods
		synctest.Wait()
		before, views := a.port.sent, len(b.views)
		a.see(web("c"), false, 3)
		b.see(web("c"), false, 3)
		time.Sleep(coalesce)
		synctest.Wait()
		for _, n := range []*node{a, b, c} {
			if n.states() != "uud" {
				t.Errorf("%s has %s", n.cfg.Node, n.states())
			}
		}
		if v := b.views[len(b.views)-1]; v.Get(web("c")).State != fleet.Down || v.Revision != b.views[views].Revision+uint64(len(b.views)-1-views) {
			t.Errorf("the subscriber's last view is %+v", v)
		}
		time.Sleep(300 * time.Millisecond)
		synctest.Wait()
		if got := a.port.sent - before; got != 1+len(repeats) {
			t.Errorf("the change was told %d times, want %d", got, 1+len(repeats))
		}
	})
}

func TestSilentVantageLosesItsVote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hub{mute: map[string]bool{}}
		w := world(t, doc, 1)
		a, b, c := start(t, h, "a-1", w, fleet.RoleProbe), start(t, h, "b-1", w, fleet.RoleProbe), start(t, h, "c-1", w, fleet.RoleProbe)
		defer a.stop()
		defer b.stop()
		defer c.stop()
		keep := func(n *node, states string) {
			for range 4 {
				n.seeAll(states)
				time.Sleep(time.Second)
			}
		}
		keep(a, "uuu")
		keep(b, "uuu")
		c.seeAll("uuu")
		time.Sleep(time.Second)
		if !a.View().Probers["c"] {
			t.Fatalf("probers %v", a.View().Probers)
		}
		h.mu.Lock()
		h.mute["c-1"] = true
		h.mu.Unlock()
		time.Sleep(silence + Period + time.Millisecond)
		if _, ok := a.View().Probers["c"]; ok {
			t.Error("the silent prober still counts")
		}
		if v := a.View().From("c", web("a")); v.State != fleet.Unknown {
			t.Errorf("from c: %v", v)
		}
		for _, s := range a.Nodes() {
			if s.Live != (s.Node == "a-1" || s.Node == "b-1") {
				t.Errorf("%+v", s)
			}
		}
	})
}

func TestFramesWaitForTheirSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hub{}
		old, next := world(t, doc, 1), world(t, strings.ReplaceAll(doc, "service: web", "service: site"), 2)
		a, b := start(t, h, "a-1", old, fleet.RoleProbe), start(t, h, "b-1", old, fleet.RoleProbe)
		defer a.stop()
		defer b.stop()
		a.seeAll("uuu")
		b.seeAll("uuu")
		time.Sleep(time.Second)
		if err := b.Apply(next); err != nil {
			t.Fatal(err)
		}
		site := fleet.Target{Kind: fleet.TargetService, Region: "a", Service: "site"}
		b.see(site, true, 1)
		time.Sleep(Period + time.Millisecond)
		if a.View().Probers["b"] {
			t.Error("a takes b's cells for those of another list")
		}
		if !b.View().Probers["a"] {
			t.Error("b has forgotten the list that a still uses")
		}
		if err := a.Apply(next); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		if v := a.View().From("b", site); v.State != fleet.Up {
			t.Errorf("with the Snapshot, b's frame should count: %v", v)
		}
		if _, ok := a.View().Verdicts[web("a")]; ok {
			t.Error("a target that is gone is still in the view")
		}
	})
}

func TestRestartedNodeCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hub{}
		w := world(t, doc, 1)
		a, b := start(t, h, "a-1", w, fleet.RoleProbe), start(t, h, "b-1", w, fleet.RoleProbe)
		defer a.stop()
		b.see(web("a"), true, 1)
		time.Sleep(time.Second)
		b.stop()
		again := start(t, h, "b-1", w, fleet.RoleProbe)
		defer again.stop()
		again.see(web("a"), false, 3)
		time.Sleep(time.Millisecond * 10)
		if v := a.View().From("b", web("a")); v.State != fleet.Down {
			t.Errorf("after a restart: %v", v)
		}
		// With its clock set back, its frames count once its former self is silent.
		f, err := verdict.ParseFrame(again.emit(time.Now())[0])
		if err != nil {
			t.Fatal(err)
		}
		again.stop()
		f.Incarnation = 1
		a.receive(f.Append(nil))
		f.Cells[0] = verdict.Cell{State: fleet.Up}
		time.Sleep(silence + time.Second)
		a.receive(f.Append(nil))
		time.Sleep(time.Millisecond)
		if v := a.View().From("b", web("a")); v.State != fleet.Up {
			t.Errorf("after its clock was set back: %v", v)
		}
	})
}

func TestStateExchangeBringsWhatOthersKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hub{}
		w := world(t, doc, 1)
		a, b := start(t, h, "a-1", w, fleet.RoleProbe), start(t, h, "b-1", w, fleet.RoleProbe)
		defer b.stop()
		b.see(web("c"), true, 1)
		time.Sleep(1500 * time.Millisecond)
		apart := &hub{}
		c := start(t, apart, "c-1", w, fleet.RoleProbe)
		defer c.stop()
		state := a.port.local()
		a.stop()
		c.port.merge(state)
		time.Sleep(time.Millisecond)
		if v := c.View().From("b", web("c")); v.State != fleet.Up {
			t.Errorf("c was told %v", v)
		}
		if !c.View().Probers["a"] {
			t.Errorf("probers %v", c.View().Probers)
		}
		// Frames keep the age that they were told with.
		time.Sleep(silence - 900*time.Millisecond + Period)
		if c.View().Probers["b"] {
			t.Error("a frame got younger on its way")
		}
		c.port.merge(state[:len(state)-3])
		c.port.merge([]byte{1, 2, 3})
	})
}

func TestGatewaysAndEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, nil, "a-e", world(t, doc, 1), fleet.RoleL4, fleet.RoleL7)
		defer n.stop()
		gw := fleet.Target{Kind: fleet.TargetGateway, Region: "a", Node: "a-e"}
		ep := fleet.Target{Kind: fleet.TargetEndpoint, Region: "a", Service: "web", Pool: "app", Endpoint: "10.1.0.1:80"}
		n.see(gw, true, 1)
		n.Observe(fleet.Observation{Target: ep, Check: "http", Time: time.Now(), OK: true})
		for range 3 {
			n.Observe(fleet.Observation{Target: ep, Check: verdict.CheckReady, Time: time.Now()})
		}
		time.Sleep(10 * time.Millisecond)
		if n.View().Get(gw).State != fleet.Up || n.View().Get(ep).State != fleet.Drain || n.View().From("a-e", ep).State != fleet.Drain {
			t.Errorf("gateway %v, endpoint %v", n.View().Get(gw), n.View().Get(ep))
		}
		if v := n.see(web("a"), true, 1); v.State != fleet.Unknown {
			t.Error("it took in an observation that is not its own to make")
		}
	})
}

// Between a tcp service's endpoints and its clients stands layer 4 alone.
func TestLayer4NodeJudgesDirectEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world(t, `
regions: [{id: a, location: {latitude: 1, longitude: 2}, vips: {v4: [192.0.2.1]}}]
nodes: [{name: a-4, region: a, roles: [l4], addresses: {v4: 10.0.0.4}}]
services:
- {service: db, protocol: tcp, ports: [5432], healthcheck: {fall: 4, rise: 2}, pools: [{id: app, endpoints: [{address: "10.1.0.1:5432"}]}]}
- {service: web, protocol: http, ports: [80], pools: [{id: app, endpoints: [{address: "10.1.0.2:80"}]}]}
`, 1)
		n := start(t, nil, "a-4", w, fleet.RoleL4)
		defer n.stop()
		db := fleet.Target{Kind: fleet.TargetEndpoint, Region: "a", Service: "db", Pool: "app", Endpoint: "10.1.0.1:5432"}
		for _, step := range []struct {
			ok    bool
			times int
			want  fleet.State
		}{{true, 1, fleet.Up}, {false, 3, fleet.Up}, {false, 1, fleet.Down}, {true, 1, fleet.Down}, {true, 1, fleet.Up}} {
			if v := n.see(db, step.ok, step.times); v.State != step.want {
				t.Errorf("%d times %v: its own verdict is %v, want %v", step.times, step.ok, v.State, step.want)
			}
			time.Sleep(10 * time.Millisecond)
			if got := n.View().Get(db).State; got != step.want {
				t.Errorf("%d times %v: the view has %v, want %v", step.times, step.ok, got, step.want)
			}
		}
		web := fleet.Target{Kind: fleet.TargetEndpoint, Region: "a", Service: "web", Pool: "app", Endpoint: "10.1.0.2:80"}
		if v := n.see(web, true, 1); v.State != fleet.Unknown {
			t.Errorf("a gateway's endpoint is not layer 4's to judge: %v", v)
		}
	})
}

// One machine may run both programs under one name, each with its own roles.
func TestTwoProgramsOfOneNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hub{}
		w := world(t, doc, 7)
		a, b := start(t, h, "a-e", w, fleet.RoleDNS, fleet.RoleProbe), start(t, h, "a-e", w, fleet.RoleL4, fleet.RoleL7)
		defer a.stop()
		defer b.stop()
		a.see(web("b"), true, 1)
		gw := fleet.Target{Kind: fleet.TargetGateway, Region: "a", Node: "a-e"}
		b.see(gw, true, 1)
		time.Sleep(Period)
		for _, n := range []*node{a, b} {
			if n.View().Get(gw).State != fleet.Up || n.View().Get(web("b")).State != fleet.Up {
				t.Errorf("the view is %+v", n.View().Verdicts)
			}
			for _, s := range n.Nodes() {
				if s.Node == "a-e" && (fmt.Sprint(s.Roles) != "[dns l4 l7 probe]" || s.Revision != 7 || !s.Live) {
					t.Errorf("got %+v", s)
				}
			}
		}
	})
}

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, nil, "a-1", world(t, doc, 1), fleet.RoleProbe)
		defer n.stop()
		n.seeAll("uuu")
		time.Sleep(10 * time.Millisecond)
		seen, more := n.Events(0)
		last := seen[len(seen)-1].ID
		n.see(web("b"), false, 3)
		<-more
		events, _ := n.Events(last)
		if len(events) != 2 {
			t.Fatalf("got %+v", events)
		}
		e := events[0]
		if e.ID != last+1 || e.Kind != EventVerdict || e.Target != "service/web@b" || e.From != fleet.Up || e.To != fleet.Down ||
			e.Cause != fleet.CauseTimeout || e.Detail != "down from 1 of 1 vantages: a" {
			t.Errorf("got %+v", e)
		}
		if e := events[1]; e.Kind != EventVantage || e.Vantage != "a" || e.Detail != "rtt4: no answer" {
			t.Errorf("got %+v", e)
		}
		if all, _ := n.Events(99999); len(all) == 0 {
			t.Error("an ID of another life should give all events")
		}
	})
}

func TestEventsAreBounded(t *testing.T) {
	var e events
	e.init()
	for range 3 * keptEvents {
		e.add([]Event{{}})
	}
	if len(e.kept) != keptEvents || e.kept[0].ID != 2*keptEvents+1 {
		t.Errorf("%d events from %d", len(e.kept), e.kept[0].ID)
	}
}
