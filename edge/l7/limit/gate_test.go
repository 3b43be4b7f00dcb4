package limit

import (
	"sync"
	"sync/atomic"
	"testing"

	"meridian/fleet"
)

func TestGate(t *testing.T) {
	var g Gate
	for range 1000 {
		if !g.Enter() {
			t.Fatal("a gate without a bound refuses")
		}
	}
	g.SetMost(1000)
	if g.Enter() || g.In() != 1000 || g.Refused() != 1 {
		t.Errorf("%d in, %d refused", g.In(), g.Refused())
	}
	g.Leave()
	if !g.Enter() || g.Enter() {
		t.Error("a place that was left is taken once")
	}
	g.SetMost(10) // what is there stays
	g.Leave()
	if g.Enter() || g.In() != 999 {
		t.Errorf("%d in", g.In())
	}
}

// Never more than the bound at one time, whoever comes at once.
func TestGateUnderContention(t *testing.T) {
	var g Gate
	g.SetMost(3)
	var in, most, passed atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 2000 {
				if !g.Enter() {
					continue
				}
				if n := in.Add(1); n > most.Load() {
					most.Store(n)
				}
				passed.Add(1)
				in.Add(-1)
				g.Leave()
			}
		})
	}
	wg.Wait()
	if most.Load() > 3 || g.In() != 0 || uint64(passed.Load())+g.Refused() != 32000 {
		t.Errorf("%d at once, %d in, %d passed, %d refused", most.Load(), g.In(), passed.Load(), g.Refused())
	}
}

func TestCircuitOfASpec(t *testing.T) {
	var c Circuit
	var e EndpointCircuit
	l := &fleet.Limits{Connections: 1, Pending: 2, Requests: 3, Retries: 4, EndpointConnections: 5, EndpointRequests: 6}
	c.Set(l)
	e.Set(l)
	for want, g := range map[int]*Gate{1: &c.Connections, 2: &c.Pending, 3: &c.Requests, 4: &c.Retries, 5: &e.Connections, 6: &e.Requests} {
		n := 0
		for g.Enter() {
			n++
		}
		if n != want {
			t.Errorf("a bound of %d lets in %d", want, n)
		}
	}
}

func TestLimitsDoNotAllocate(t *testing.T) {
	var g Gate
	g.SetMost(1)
	a := NewAdaptive(AdaptiveRules{Min: 1, Max: 10, Tolerate: .5, Probe: s}, s)
	if n := testing.AllocsPerRun(100, func() { g.Enter(); g.Enter(); g.Leave(); a.Enter(); a.Leave(ms) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
