package l7

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"meridian/fleet"
)

// Each endpoint is checked by one gateway; one that goes leaves its endpoints to the
// others, and theirs where they are.
func TestChecksAreDivided(t *testing.T) {
	var targets []fleet.Target
	var up []fleet.State
	for i := range 600 {
		targets = append(targets, fleet.Target{Kind: fleet.TargetEndpoint, Region: "fra", Service: "web", Pool: "main", Endpoint: fmt.Sprintf("10.0.0.%d:80", i)})
		up = append(up, fleet.Up)
	}
	// mine says which endpoints each of the gateways checks itself.
	mine := func(nodes ...string) map[string]map[fleet.Target]bool {
		out := map[string]map[fleet.Target]bool{}
		for _, own := range nodes {
			states := map[string][]fleet.State{}
			for _, n := range nodes {
				if n != own {
					states[n] = up
				}
			}
			others := divide(own, targets, states)
			out[own] = map[fleet.Target]bool{}
			for _, target := range targets {
				if _, ok := others[target]; !ok {
					out[own][target] = true
				}
			}
		}
		return out
	}
	three, two := mine("n1", "n2", "n3"), mine("n1", "n2")
	for _, target := range targets {
		n := 0
		for _, node := range []string{"n1", "n2", "n3"} {
			if three[node][target] {
				n++
			}
		}
		if n != 1 {
			t.Fatalf("%s is checked by %d gateways", target, n)
		}
		if three["n1"][target] && !two["n1"][target] || three["n2"][target] && !two["n2"][target] {
			t.Errorf("%s moved though its gateway is there", target)
		}
	}
	for node, list := range three {
		if len(list) < 150 || len(list) > 250 {
			t.Errorf("%s checks %d of 600", node, len(list))
		}
	}
}

// What its gateway has no word on yet, everybody checks; so does one that is alone.
func TestWhatNobodyKnowsEverybodyChecks(t *testing.T) {
	target := fleet.Target{Kind: fleet.TargetEndpoint, Endpoint: "10.0.0.1:80"}
	if s := divide("n1", []fleet.Target{target}, nil); len(s) != 0 {
		t.Errorf("alone: %v", s)
	}
	for _, own := range []string{"n1", "n2"} {
		other := map[string]string{"n1": "n2", "n2": "n1"}[own]
		if s := divide(own, []fleet.Target{target}, map[string][]fleet.State{other: {fleet.Unknown}}); len(s) != 0 {
			t.Errorf("%s, unknown: %v", own, s)
		}
	}
}

// others stands for the frames of one other gateway.
type others struct {
	mu      sync.Mutex
	targets []fleet.Target
	states  map[string][]fleet.State
}

func (o *others) Colleagues() ([]fleet.Target, map[string][]fleet.State) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.targets, o.states
}

func (o *others) Forget(fleet.Target) {}

func (o *others) say(states map[string][]fleet.State) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.states = states
}

// probed counts the checks that a gateway makes itself.
type countingProber struct {
	prober
	mu sync.Mutex
	n  int
}

func (c *countingProber) Probe(ctx context.Context, p fleet.Probe) fleet.ProbeResult {
	c.mu.Lock()
	c.n++
	c.mu.Unlock()
	return c.prober.Probe(ctx, p)
}

func (c *countingProber) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// A gateway goes by the word of the one whose turn an endpoint is, without checking
// it; it checks itself when that one falls silent.
func TestChecksOfColleaguesCount(t *testing.T) {
	b := backend(t, "b", nil)
	target := fleet.Target{Kind: fleet.TargetEndpoint, Region: "fra", Service: "web", Pool: "main", Endpoint: b}
	owner := "n2"
	for i := 0; weigh(owner, target.String()) < weigh("n1", target.String()); i++ {
		owner = fmt.Sprintf("other-%d", i)
	}
	o := &others{targets: []fleet.Target{target}}
	var probes *countingProber
	r := newRig(t, httpSpec("healthcheck: {interval: 100ms, timeout: 100ms}", b), func(c *Config) {
		probes = &countingProber{prober: c.Prober}
		c.Colleagues, c.Prober = o, probes
	})
	r.waitState(b, fleet.Up) // checked by itself, as nobody else is there
	o.say(map[string][]fleet.State{owner: {fleet.Down}})
	r.waitState(b, fleet.Down) // by the other's word alone: it answers
	had := probes.count()
	o.say(map[string][]fleet.State{owner: {fleet.Up}})
	r.waitState(b, fleet.Up)
	if n := probes.count(); n > had+1 {
		t.Errorf("%d checks while another made them", n-had)
	}
	had = probes.count()
	o.say(nil)
	eventually(t, "checks of its own, when cut off", func() bool { return probes.count() > had+2 })
}
