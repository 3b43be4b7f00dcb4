package balance

import (
	"fmt"
	"math"
	"testing"
	"time"

	"meridian/fleet"
)

// fresh makes n endpoints of weight 100, all up.
func fresh(n int) []Member {
	out := make([]Member, n)
	for i := range out {
		out[i] = Member{Name: fmt.Sprintf("10.0.0.%d:80", i), Weight: 100, Live: &Live{}}
		out[i].Live.SetState(fleet.Up, 0)
	}
	return out
}

func made(t testing.TB, cfg Config, ms []Member) *Balancer {
	t.Helper()
	b, err := New(cfg, ms)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// shares gives each member's share of n picks in which nothing changes.
func shares(b *Balancer, n int, now time.Duration) []float64 {
	out := make([]float64, len(b.members))
	for k := range n {
		a := drawn(k)
		a.Now = now
		out[b.Pick(a, &Tried{})] += 1 / float64(n)
	}
	return out
}

func near(got []float64, within float64, want ...float64) bool {
	for i := range want {
		if math.Abs(got[i]-want[i]) > within {
			return false
		}
	}
	return len(got) == len(want)
}

// served simulates n requests that come one each step and take each member's
// time, and gives how many went to each.
func served(b *Balancer, n int, step time.Duration, takes []time.Duration) []int {
	type end struct {
		at    time.Duration
		i     int
		began time.Duration
	}
	var under []end
	out := make([]int, len(b.members))
	for k := range n {
		now := time.Hour + time.Duration(k)*step
		kept := under[:0]
		for _, e := range under {
			if e.at > now {
				kept = append(kept, e)
				continue
			}
			b.members[e.i].Live.End()
			b.members[e.i].Live.Observe(e.at, e.at-e.began)
		}
		under = kept
		a := drawn(k)
		a.Now = now
		i := b.Pick(a, &Tried{})
		b.members[i].Live.Begin()
		under = append(under, end{now + takes[i], i, now})
		out[i]++
	}
	return out
}

// One endpoint of five becomes slow: peak EWMA sends it next to nothing, where
// round robin goes on sending a fifth.
func TestPeakEWMALeavesASlowEndpointAlone(t *testing.T) {
	const ms = time.Millisecond
	takes := []time.Duration{5 * ms, 5 * ms, 5 * ms, 5 * ms, 2000 * ms}
	got := served(made(t, Config{Policy: fleet.PeakEWMA}, fresh(5)), 20000, ms, takes)
	if slow := got[4]; slow > 100 {
		t.Errorf("the slow endpoint got %d of 20000: %v", slow, got)
	}
	for i, n := range got[:4] {
		if n < 4000 || n > 6000 {
			t.Errorf("endpoint %d got %d of 20000: %v", i, n, got)
		}
	}
	if rr := served(made(t, Config{Policy: fleet.RoundRobin}, fresh(5)), 20000, ms, takes); rr[4] != 4000 {
		t.Errorf("round robin: %v", rr)
	}
}

// Endpoints that are equally fast share by weight.
func TestTwoChoicesKeepToWeights(t *testing.T) {
	for _, p := range []fleet.RoutingPolicy{fleet.PeakEWMA, fleet.Random} {
		members := fresh(3)
		members[0].Weight, members[1].Weight, members[2].Weight = 100, 200, 300
		takes := []time.Duration{20 * time.Millisecond, 20 * time.Millisecond, 20 * time.Millisecond}
		got := served(made(t, Config{Policy: p}, members), 30000, time.Millisecond, takes)
		if s := []float64{float64(got[0]) / 30000, float64(got[1]) / 30000, float64(got[2]) / 30000}; !near(s, 0.03, 1.0/6, 2.0/6, 3.0/6) {
			t.Errorf("%s: %v for weights 1:2:3", p, s)
		}
	}
}

// The lesser loaded of two: no member is ever far above the others, where one
// choice at random would leave one with many.
func TestTwoChoicesKeepLoadsTogether(t *testing.T) {
	members := fresh(50)
	b := made(t, Config{Policy: fleet.Random}, members)
	for k := range 5000 {
		members[b.Pick(drawn(k), &Tried{})].Live.Begin()
	}
	for _, m := range members {
		if n := m.Live.Active(); n < 90 || n > 106 {
			t.Errorf("%s has %d under way, the mean is 100", m.Name, n)
		}
	}
}

// An endpoint without an answer yet gets one request, not all of them.
func TestAnEndpointThatNeverAnsweredIsTriedOnce(t *testing.T) {
	members := fresh(2)
	b := made(t, Config{Policy: fleet.PeakEWMA}, members)
	members[0].Live.Observe(1, 5*time.Millisecond)
	for k := range 100 {
		members[b.Pick(drawn(k), &Tried{})].Live.Begin()
	}
	if n := members[1].Live.Active(); n != 1 {
		t.Errorf("%d requests under way at it", n)
	}
}

func TestLatencyIsPeakSensitiveAndDecays(t *testing.T) {
	const s = time.Second
	var l Live
	if l.Latency(s) != 0 {
		t.Error("a latency without an answer")
	}
	l.Observe(10*s, 100*time.Millisecond)
	l.Observe(10*s, 2*s) // a peak counts at once
	if got := l.Latency(10 * s); (got - 2*s).Abs() > time.Millisecond {
		t.Errorf("after a peak: %v", got)
	}
	l.Observe(10*s, time.Millisecond)
	if got := l.Latency(10 * s); (got - 2*s).Abs() > time.Millisecond {
		t.Errorf("one quick answer undid the peak: %v", got)
	}
	if got, want := l.Latency(20*s), 735759*time.Microsecond; (got - want).Abs() > 2*time.Millisecond {
		t.Errorf("a decay later: %v, want %v", got, want)
	}
	for at := 10 * s; at <= 70*s; at += 100 * time.Millisecond {
		l.Observe(at, 10*time.Millisecond)
	}
	if got := l.Latency(70 * s); got < 9*time.Millisecond || got > 16*time.Millisecond {
		t.Errorf("after a minute of 10 ms: %v", got)
	}
	l.Observe(60*s, 5*time.Millisecond) // from before: weighs nothing
	if got := l.Latency(70 * s); got < 9*time.Millisecond {
		t.Errorf("an observation out of order moved it to %v", got)
	}
}

// No member has more under way than its bound, rounded up, whatever the keys.
func TestBoundedLoad(t *testing.T) {
	for _, bound := range []int{105, 125, 200} {
		members := fresh(10)
		members[3].Weight = 300
		b := made(t, Config{Policy: fleet.ConsistentHash, HashBound: bound}, members)
		for k := 1; k <= 3000; k++ {
			i := b.Pick(Ask{Key: mix(uint64(k % 3))}, &Tried{}) // three clients make all the load
			members[i].Live.Begin()
			for j, m := range members {
				if most := math.Ceil(float64(bound) / 100 * float64(k) * float64(m.Weight) / 1200); float64(m.Live.Active()) > most {
					t.Fatalf("bound %d %%: member %d has %d of %d under way, at most %v", bound, j, m.Live.Active(), k, most)
				}
			}
		}
	}
	// Below the bound every key stays with its own member.
	members := fresh(10)
	free, bounded := made(t, Config{Policy: fleet.ConsistentHash}, members), made(t, Config{Policy: fleet.ConsistentHash, HashBound: 200}, members)
	for _, m := range members {
		for range 10 {
			m.Live.Begin()
		}
	}
	for k := range 1000 {
		if a := drawn(k); free.Pick(a, &Tried{}) != bounded.Pick(a, &Tried{}) {
			t.Fatalf("key %d moved, though nobody is full", k)
		}
	}
}

// A member more or less moves no more keys than it must, but for Maglev's few.
func TestConsistentHashDisruption(t *testing.T) {
	ten, eleven := made(t, Config{Policy: fleet.ConsistentHash}, fresh(10)), made(t, Config{Policy: fleet.ConsistentHash}, fresh(11))
	moved, gained := 0, 0
	for k := range 20000 {
		a := drawn(k)
		was, is := ten.Pick(a, &Tried{}), eleven.Pick(a, &Tried{})
		switch {
		case is == 10:
			gained++
		case was != is:
			moved++
		}
	}
	if gained < 20000/11*9/10 || gained > 20000/11*11/10 || moved > 20000/100 {
		t.Errorf("of 20000 keys %d went to the new member and %d between old ones", gained, moved)
	}
}

func TestKeysOfTexts(t *testing.T) {
	if KeyOf("/a") != KeyOf([]byte("/a")) || KeyOf("/a") == KeyOf("/b") || KeyOf("") == KeyOf("\x00") {
		t.Error("equal texts have one key, others others")
	}
	// FNV-1a of "a" is 0xaf63dc4c8601ec8c: the key is the same in every process.
	if KeyOf("a") != mix(0xaf63dc4c8601ec8c) {
		t.Error("the key of a text has changed")
	}
}

// An endpoint that comes up gets a tenth of its share, and all of it once its
// slow start is over, by every policy.
func TestSlowStart(t *testing.T) {
	const s = time.Second
	for _, p := range policies {
		members := fresh(4)
		b := made(t, Config{Policy: p, SlowStart: 60 * s}, members)
		members[3].Live.SetState(fleet.Up, 1000*s) // is up already: nothing begins
		if got := shares(b, 4000, 1000*s); !near(got, 0.03, .25, .25, .25, .25) {
			t.Fatalf("%s: all warm: %v", p, got)
		}
		members[3].Live.SetState(fleet.Down, 1000*s)
		members[3].Live.SetState(fleet.Up, 2000*s)
		if p == fleet.LeastConnections {
			for _, m := range members {
				for range 100 {
					m.Live.Begin()
				}
			}
			if got := shares(b, 4000, 2000*s); got[3] != 0 {
				t.Errorf("%s: a cold endpoint with as many requests as warm ones gets %v", p, got)
			}
			continue
		}
		cold, half := shares(b, 20000, 2000*s)[3], shares(b, 20000, 2030*s)[3]
		if math.Abs(cold-.1/3.1) > 0.02 || math.Abs(half-.55/3.55) > 0.03 {
			t.Errorf("%s: share %.3f at first, %.3f half way", p, cold, half)
		}
		if got := shares(b, 4000, 2060*s); !near(got, 0.03, .25, .25, .25, .25) {
			t.Errorf("%s: in the end %v", p, got)
		}
	}
}

// While a key's member warms up its keys come to it one after the other, and
// none goes away again.
func TestSlowStartOfAHashIsSteady(t *testing.T) {
	members := fresh(4)
	b := made(t, Config{Policy: fleet.ConsistentHash, SlowStart: 100 * time.Second}, members)
	members[0].Live.SetState(fleet.Down, time.Second)
	members[0].Live.SetState(fleet.Up, 1000*time.Second)
	had := map[int]bool{}
	for at := 1000 * time.Second; at <= 1100*time.Second; at += 10 * time.Second {
		for k := range 1000 {
			a := drawn(k)
			a.Now = at
			is := b.Pick(a, &Tried{}) == 0
			if had[k] && !is {
				t.Fatalf("key %d left at %v", k, at)
			}
			had[k] = is
		}
	}
}

// An ejected endpoint gets nothing while another is left, and then comes back
// by and by, slow start or not.
func TestEjection(t *testing.T) {
	const s = time.Second
	for _, p := range policies {
		members := fresh(3)
		b := made(t, Config{Policy: p}, members)
		members[1].Live.Eject(100 * s)
		if got := shares(b, 3000, 99*s); got[1] != 0 || got[0] == 0 || got[2] == 0 {
			t.Errorf("%s: while ejected: %v", p, got)
		}
		if p != fleet.LeastConnections {
			if got := shares(b, 20000, 100*s)[1]; math.Abs(got-.1/2.1) > 0.02 {
				t.Errorf("%s: just back: %v", p, got)
			}
		}
		if got := shares(b, 6000, 110*s); !near(got, 0.05, 1.0/3, 1.0/3, 1.0/3) {
			t.Errorf("%s: later: %v", p, got)
		}
		for _, m := range members {
			m.Live.Eject(200 * s)
		}
		if got := shares(b, 3000, 150*s); got[0] == 0 || got[1] == 0 || got[2] == 0 {
			t.Errorf("%s: all ejected: %v", p, got)
		}
	}
}
