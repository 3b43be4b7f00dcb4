package synthetic_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"meridian/fleet"
	"meridian/health"
	"meridian/synthetic"
)

// internet is a simulated network between regions, for use in a synctest
// bubble: probes and frames take half a round trip each way, may be lost, and
// end at regions that are dead or cut off. On it run the real rooms synthetic
// and health, one node a region.
type internet struct {
	t    *testing.T
	rtt  func(a, b string) time.Duration
	loss float64 // of each packet

	mu    sync.Mutex
	rng   *rand.Rand
	dead  map[string]bool                           // regions without power
	cut   map[[2]string]bool                        // paths from, to that lose everything
	drop  func(from, to string, p fleet.Probe) bool // further probes to lose; may be nil
	nodes map[string]*simNode                       // by region
	spec  *fleet.World
	group sync.WaitGroup
}

type simNode struct {
	region  string
	health  *health.Health
	stop    context.CancelFunc
	receive func([]byte)
	merge   func([]byte)
	local   func() []byte

	mu    sync.Mutex // guards views
	views []seen
}

// seen is one View as the node's subscriber got it.
type seen struct {
	at   time.Time
	view *fleet.View
}

func simSpec(regions []string) string {
	var b strings.Builder
	b.WriteString("regions:\n")
	for i, r := range regions {
		fmt.Fprintf(&b, "- {id: %s, location: {latitude: %d, longitude: 0}, vips: {v4: [192.0.2.%d], v6: [\"2001:db8::%d\"]}}\n", r, i, i+1, i+1)
	}
	b.WriteString("anycast: {v4: [198.51.100.1]}\nnodes:\n")
	for i, r := range regions {
		fmt.Fprintf(&b, "- {name: %s-1, region: %s, roles: [dns, probe], addresses: {v4: 10.0.0.%d, v6: \"2001:db8:1::%d\"}}\n", r, r, i+1, i+1)
	}
	b.WriteString(`services:
- {service: web, protocol: https, ports: [443], hosts: [www.example.org], pools: [{id: app, endpoints: [{address: "10.1.0.1:80"}]}]}
- {service: log, protocol: udp, ports: [514], pools: [{id: app, endpoints: [{address: "10.1.0.1:514"}]}]}
zones:
- zone: example.org
  records: "@ 300 IN SOA ns1 host 1 2 3 4 5"
`)
	return b.String()
}

// regionsOf gives n regions a, b, c ….
func regionsOf(n int) []string { return strings.Split("abcdefgh", "")[:n] }

func newInternet(t *testing.T, seed uint64, regions []string, rtt func(a, b string) time.Duration) *internet {
	t.Helper()
	s, err := fleet.Compile([]byte(simSpec(regions)), 1)
	if err != nil {
		t.Fatal(err)
	}
	return &internet{t: t, rtt: rtt, rng: rand.New(rand.NewPCG(seed, 1)), dead: map[string]bool{}, cut: map[[2]string]bool{},
		nodes: map[string]*simNode{}, spec: &fleet.World{Snapshot: s}}
}

// see notes a View; health calls it on its own goroutine.
func (s *simNode) see(v *fleet.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.views = append(s.views, seen{time.Now(), v})
}

// seen gives the Views up to now.
func (s *simNode) seen() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.views)
}

// boot starts the region's node.
func (n *internet) boot(region string) *simNode {
	n.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	node := &simNode{region: region, stop: stop}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	var err error
	node.health, err = health.New(health.Config{Node: region + "-1", Region: region, Roles: []fleet.Role{fleet.RoleDNS, fleet.RoleProbe},
		Transport: &simTransport{n, node}, Logger: log})
	if err != nil {
		n.t.Fatal(err)
	}
	node.health.Subscribe(node.see)
	syn, err := synthetic.New(synthetic.Config{Node: region + "-1", Region: region, Prober: &simProber{n, region}, Observer: node.health, Logger: log})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, apply := range []func(*fleet.World) error{node.health.Apply, syn.Apply} {
		if err := apply(n.spec); err != nil {
			n.t.Fatal(err)
		}
	}
	n.mu.Lock()
	n.nodes[region] = node
	delete(n.dead, region)
	n.mu.Unlock()
	n.group.Go(func() { _ = node.health.Run(ctx) })
	n.group.Go(func() { _ = syn.Run(ctx) })
	return node
}

// kill ends a region: its node, and every packet that is on the way to it.
func (n *internet) kill(region string) {
	n.mu.Lock()
	n.dead[region] = true
	node := n.nodes[region]
	n.mu.Unlock()
	node.stop()
}

// close ends everything; the bubble then holds no goroutine of ours.
func (n *internet) close() {
	for _, node := range n.nodes {
		node.stop()
	}
	n.group.Wait()
}

// passes says whether a packet gets from one region to another now.
func (n *internet) passes(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.dead[from] && !n.dead[to] && !n.cut[[2]string{from, to}] && (n.loss == 0 || n.rng.Float64() >= n.loss)
}

// home finds the region that an address belongs to; anycast ends at the
// nearest live region.
func (n *internet) home(from string, a netip.Addr) string {
	s := n.spec.Snapshot
	best := ""
	for _, r := range s.Spec.Regions {
		for _, v := range r.VIPs.All() {
			if v == a {
				return r.ID
			}
		}
		n.mu.Lock()
		if !n.dead[r.ID] && (best == "" || n.rtt(from, r.ID) < n.rtt(from, best)) {
			best = r.ID
		}
		n.mu.Unlock()
	}
	for _, node := range s.Spec.Nodes {
		if node.Addresses.V4 == a || node.Addresses.V6 == a {
			return node.Region
		}
	}
	return best
}

// simProber makes probes over the internet. A probe other than rtt takes
// three round trips, and TCP sends again, as kernels do, after a second.
type simProber struct {
	n    *internet
	from string
}

func (p *simProber) Probe(ctx context.Context, pr fleet.Probe) fleet.ProbeResult {
	ctx, cancel := context.WithTimeout(ctx, pr.Timeout)
	defer cancel()
	start := time.Now()
	to := p.n.home(p.from, pr.Address.Addr())
	half := p.n.rtt(p.from, to) / 2
	trips := 1
	if pr.Check == "https" {
		trips = 3
	}
	wait := func(d time.Duration) bool {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
	p.n.mu.Lock()
	dropped := p.n.drop != nil && p.n.drop(p.from, to, pr)
	p.n.mu.Unlock()
	for trips > 0 {
		ok := !dropped && wait(half) && p.n.passes(p.from, to)
		ok = ok && wait(half) && p.n.passes(to, p.from)
		switch {
		case ctx.Err() != nil:
			return fleet.ProbeResult{Cause: fleet.CauseTimeout, Latency: time.Since(start)}
		case ok:
			trips--
		case pr.Check == "dns":
			wait(pr.Timeout)
		default:
			wait(time.Second)
		}
	}
	return fleet.ProbeResult{OK: true, Latency: time.Since(start)}
}

// simTransport carries frames over the internet.
type simTransport struct {
	n    *internet
	node *simNode
}

func (tr *simTransport) Receive(f func([]byte)) { tr.node.receive = f }

func (tr *simTransport) Exchange(local func() []byte, merge func([]byte)) {
	tr.node.local, tr.node.merge = local, merge
}

func (tr *simTransport) Broadcast(frame []byte) {
	frame = append([]byte(nil), frame...)
	tr.n.mu.Lock()
	defer tr.n.mu.Unlock()
	for region := range tr.n.nodes {
		if region == tr.node.region {
			continue
		}
		time.AfterFunc(tr.n.rtt(tr.node.region, region)/2, func() {
			if tr.n.passes(tr.node.region, region) {
				tr.n.mu.Lock()
				to := tr.n.nodes[region]
				tr.n.mu.Unlock()
				to.receive(frame)
			}
		})
	}
}
