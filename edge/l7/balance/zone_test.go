package balance

import (
	"math"
	"strings"
	"testing"
	"time"

	"meridian/fleet"
)

// placed makes members from words as "a0" (zone a, priority 0), all up.
func placed(words ...string) []Member {
	out := fresh(len(words))
	for i, w := range words {
		out[i].Zone, out[i].Priority = strings.Trim(w[:1], "-"), int(w[1]-'0')
	}
	return out
}

func setDown(ms []Member, list ...int) {
	for _, i := range list {
		ms[i].Live.SetState(fleet.Down, 1)
	}
}

// sums adds the shares by a property of the members.
func sums(b *Balancer, got []float64, by func(Member) string) map[string]float64 {
	out := map[string]float64{}
	for i, s := range got {
		out[by(b.members[i])] += s
	}
	return out
}

func zone(m Member) string { return m.Zone }

// even is a region with as many gateways in each of three zones.
var even = map[string]int{"a": 100, "b": 100, "c": 100}

func TestAGatewayPrefersItsZone(t *testing.T) {
	for _, p := range policies {
		b := made(t, Config{Policy: p, Zone: "b", Gateways: even}, placed("a0", "a0", "b0", "b0", "c0", "c0"))
		if got := shares(b, 2000, 1); !near(got, 0.05, 0, 0, .5, .5, 0, 0) {
			t.Errorf("%s: %v", p, got)
		}
	}
	b := made(t, Config{Policy: fleet.Random, Gateways: even}, placed("a0", "b0", "c0"))
	if got := shares(b, 30000, 1); !near(got, 0.02, 1./3, 1./3, 1./3) {
		t.Errorf("a gateway without a zone: %v", got)
	}
	b = made(t, Config{Policy: fleet.Random, Zone: "d", Gateways: even}, placed("a0", "b0", "c0"))
	if got := shares(b, 30000, 1); !near(got, 0.02, 1./3, 1./3, 1./3) {
		t.Errorf("a gateway of a zone without endpoints: %v", got)
	}
}

// What the zone's healthy endpoints cannot bear goes to zones with room.
func TestAZoneSpillsOver(t *testing.T) {
	members := placed("a0", "a0", "a0", "a0", "b0", "b0", "b0", "b0", "c0", "c0", "c0", "c0")
	b := made(t, Config{Policy: fleet.Random, Zone: "a", Gateways: even}, members)
	setDown(members, 0)
	// 3 of 11 healthy bear 1.4 x 3/11 = 0.38: more than the third that comes.
	if got := sums(b, shares(b, 10000, 1), zone); got["a"] < 0.999 {
		t.Errorf("one of four down: %v", got)
	}
	setDown(members, 1, 2)
	// 1 of 9 bears 1.4/9 = 0.156 of 0.333: 47 %; the others have as much room each.
	if got := sums(b, shares(b, 30000, 1), zone); math.Abs(got["a"]-.467) > 0.02 || math.Abs(got["b"]-got["c"]) > 0.03 {
		t.Errorf("three of four down: %v", got)
	}
	setDown(members, 3)
	if got := sums(b, shares(b, 30000, 1), zone); got["a"] != 0 || math.Abs(got["b"]-.5) > 0.03 {
		t.Errorf("all down: %v", got)
	}
}

// Were every gateway to spill as it does, no zone would bear more than its
// endpoints can: with zones of unlike size, whatever is down.
func TestZonesTogetherBearNoMoreThanTheyCan(t *testing.T) {
	gateways := map[string]int{"a": 300, "b": 100, "c": 200}
	words := []string{"a0", "a0", "b0", "b0", "b0", "b0", "b0", "c0", "c0", "c0"}
	for _, gone := range [][]int{nil, {0}, {2, 3, 4}, {7, 8}, {0, 2, 7}, {7, 8, 9}} {
		load := map[string]float64{}
		capacity := map[string]float64{}
		for z, w := range gateways {
			members := placed(words...)
			setDown(members, gone...)
			b := made(t, Config{Policy: fleet.Random, Zone: z, Gateways: gateways}, members)
			for where, s := range sums(b, shares(b, 20000, 1), zone) {
				load[where] += s * float64(w) / 600
			}
			clear(capacity)
			for _, m := range members {
				if m.Live.State() == fleet.Up {
					capacity[m.Zone] += 1 / float64(len(words)-len(gone))
				}
			}
		}
		for z := range gateways {
			if load[z] > 1.4*capacity[z]+0.02 {
				t.Errorf("down %v: zone %s bears %.3f and can %.3f", gone, z, load[z], 1.4*capacity[z])
			}
		}
	}
}

func priority(m Member) string { return string(rune('0' + m.Priority)) }

func TestPrioritiesFailOver(t *testing.T) {
	for _, tc := range []struct {
		down []int
		want [3]float64
	}{
		{nil, [3]float64{1, 0, 0}},
		{[]int{0}, [3]float64{1, 0, 0}},                               // 3/4 x 1.4 > 1
		{[]int{0, 1}, [3]float64{.7, .3, 0}},                          // 2/4 x 1.4
		{[]int{0, 1, 2}, [3]float64{.35, .65, 0}},                     // 1/4 x 1.4
		{[]int{0, 1, 2, 3}, [3]float64{0, 1, 0}},                      // none
		{[]int{0, 1, 2, 3, 4, 5, 6}, [3]float64{0, .35, .65}},         // and the next
		{[]int{0, 1, 2, 4, 5, 6, 8}, [3]float64{.35, .35, .3}},        // 3/4 of the third left
		{[]int{0, 1, 2, 4, 5, 6, 8, 9, 10}, [3]float64{.35, .35, .3}}, // 1.05 of all
	} {
		members := placed("-0", "-0", "-0", "-0", "-1", "-1", "-1", "-1", "-2", "-2", "-2", "-2")
		setDown(members, tc.down...)
		b := made(t, Config{Policy: fleet.Random}, members)
		got := sums(b, shares(b, 30000, 1), priority)
		if !near([]float64{got["0"], got["1"], got["2"]}, 0.03, tc.want[:]...) {
			t.Errorf("down %v: %v, want %v", tc.down, got, tc.want)
		}
	}
}

// A client whose key goes to another priority or zone stays there.
func TestAHashedClientKeepsItsGroup(t *testing.T) {
	members := placed("a0", "a0", "b0", "b0", "b0", "b0", "a1", "b1")
	setDown(members, 0, 2, 3)
	b := made(t, Config{Policy: fleet.ConsistentHash, Zone: "a", Gateways: even}, members)
	for k := range 200 {
		a := drawn(k)
		first := b.Pick(a, &Tried{})
		for j := range 20 {
			a.Draw = mix(uint64(j))
			if got := b.Pick(a, &Tried{}); got != first {
				t.Fatalf("client %d went to %d, then to %d", k, first, got)
			}
		}
	}
}

// A retry goes on to what is fresh: in its group, then anywhere.
func TestARetryLeavesAGroupThatIsExhausted(t *testing.T) {
	members := placed("a0", "b0", "a1")
	b := made(t, Config{Policy: fleet.Random, Zone: "a", Gateways: even}, members)
	for k := range 500 {
		var tried Tried
		seen := ""
		for range 3 {
			i := b.Pick(drawn(k), &tried)
			tried.Add(i)
			seen += string(rune('0' + i))
		}
		if seen != "012" && seen != "021" {
			t.Fatalf("tries went to %s", seen)
		}
	}
}

func TestPanic(t *testing.T) {
	for _, p := range policies {
		members := fresh(10)
		b := made(t, Config{Policy: p, Panic: 50}, members)
		setDown(members, 0, 1, 2, 3, 4)
		got := shares(b, 20000, 1)
		for i := range 5 {
			if got[i] != 0 {
				t.Errorf("%s: half is healthy, and member %d, which is down, gets %v", p, i, got[i])
			}
		}
		setDown(members, 5)
		for i, s := range shares(b, 20000, 1) {
			if math.Abs(s-.1) > 0.03 {
				t.Errorf("%s: below the threshold member %d gets %v", p, i, s)
			}
		}
		// Who drains says so itself: it stays out, and does not count.
		for i := range 5 {
			members[i].Live.SetState(fleet.Drain, 1)
		}
		got = shares(b, 20000, 1)
		for i := range 6 {
			if got[i] != 0 {
				t.Errorf("%s: four of five that do not drain are healthy, and member %d gets %v", p, i, got[i])
			}
		}
	}
}

// A panic forgives checks that err, not requests that failed: of those that are
// down only the ejected stay out, unless all are.
func TestPanicKeepsEjections(t *testing.T) {
	members := fresh(4)
	b := made(t, Config{Policy: fleet.Random, Panic: 50}, members)
	setDown(members, 0, 1, 2)
	members[0].Live.Eject(time.Hour)
	if got := shares(b, 30000, 1); !near(got, 0.02, 0, 1./3, 1./3, 1./3) {
		t.Errorf("%v", got)
	}
	for _, m := range members {
		m.Live.Eject(time.Hour)
	}
	if got := shares(b, 30000, 1); !near(got, 0.02, .25, .25, .25, .25) {
		t.Errorf("all ejected: %v", got)
	}
}

// Where the priorities behind can bear the load nobody panics.
func TestNoPanicWhereAPriorityBearsIt(t *testing.T) {
	members := placed("-0", "-0", "-0", "-0", "-0", "-0", "-1", "-1")
	setDown(members, 0, 1, 2, 3, 4, 5)
	b := made(t, Config{Policy: fleet.Random, Panic: 50}, members)
	if got := sums(b, shares(b, 10000, 1), priority); got["1"] < 0.999 {
		t.Errorf("%v", got)
	}
	setDown(members, 6)
	// 1/2 x 1.4 = 0.7 is not enough: all as if healthy, so the first priority.
	if got := sums(b, shares(b, 10000, 1), priority); got["0"] < 0.999 {
		t.Errorf("%v", got)
	}
}

func TestTooManyGroups(t *testing.T) {
	words := make([]string, fleet.MaxGroups+1)
	for i := range words {
		words[i] = string(rune('a'+i)) + "0"
	}
	if _, err := New(Config{Policy: fleet.Random, Zone: "a"}, placed(words...)); err == nil {
		t.Error("more groups than there is room for are accepted")
	}
	if _, err := New(Config{Policy: fleet.Random, Zone: "a"}, placed(words[1:]...)); err != nil {
		t.Error(err)
	}
}

func TestPickAmongGroupsDoesNotAllocate(t *testing.T) {
	for _, p := range policies {
		members := placed("a0", "a0", "b0", "c1", "a1", "b2")
		setDown(members, 0)
		b := made(t, Config{Policy: p, Zone: "a", Gateways: even, Panic: 90, SlowStart: time.Minute, HashBound: 125}, members)
		var tried Tried
		tried.Add(1)
		k := 0
		if n := testing.AllocsPerRun(200, func() { k++; b.Pick(drawn(k), &tried) }); n != 0 {
			t.Errorf("%s: %v allocations", p, n)
		}
		l := members[0].Live
		if n := testing.AllocsPerRun(200, func() { l.Begin(); l.Observe(time.Duration(k)<<20, time.Millisecond); l.End() }); n != 0 {
			t.Errorf("a Live allocates %v", n)
		}
	}
}

func BenchmarkPickAmongGroups(b *testing.B) {
	members := placed("a0", "a0", "a0", "b0", "b0", "b0", "a1", "b1")
	lb := made(b, Config{Policy: fleet.PeakEWMA, Zone: "a", Gateways: even, Panic: 50}, members)
	b.ReportAllocs()
	for k := 0; b.Loop(); k++ {
		lb.Pick(drawn(k), &Tried{})
	}
}
