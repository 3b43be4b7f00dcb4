package balance

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"meridian/fleet"
)

var policies = []fleet.RoutingPolicy{fleet.RoundRobin, fleet.LeastConnections, fleet.ConsistentHash, fleet.PeakEWMA, fleet.Random}

// members makes endpoints a, b, c … with those weights, all up.
func members(weights ...int) []Member {
	out := make([]Member, len(weights))
	for i, w := range weights {
		out[i] = Member{Name: string(rune('a' + i)), Weight: w, Live: &Live{}}
		out[i].Live.SetState(fleet.Up, 0)
	}
	return out
}

func balancer(t testing.TB, p fleet.RoutingPolicy, ms []Member) *Balancer {
	t.Helper()
	b, err := New(Config{Policy: p}, ms)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// drawn is the k-th ask of a row, with a key and a draw of its own.
func drawn(k int) Ask { return Ask{Key: mix(uint64(k)), Draw: mix(uint64(k) + 1<<40), Now: 1} }

// picks gives the names of n picks in a row.
func picks(b *Balancer, n int) string {
	var s strings.Builder
	for range n {
		s.WriteString(b.members[b.Pick(Ask{}, &Tried{})].Name)
	}
	return s.String()
}

func TestRoundRobin(t *testing.T) {
	if got := picks(balancer(t, fleet.RoundRobin, members(100, 100, 100)), 7); got != "bcabcab" {
		t.Errorf("equal weights: %s", got)
	}
	// Exact shares in each period, and no member twice in a row for long.
	for _, weights := range [][]int{{5, 1, 1}, {1, 1000}, {100, 200, 300}, {7, 13, 1, 29}, {1}} {
		ms := members(weights...)
		b := balancer(t, fleet.RoundRobin, ms)
		total := 0
		for _, w := range b.weights {
			total += int(w)
		}
		got := picks(b, total)
		for i, m := range ms {
			if n := strings.Count(got, m.Name); n != int(b.weights[i]) {
				t.Errorf("%v: %s is picked %d times of %d", weights, m.Name, n, total)
			}
		}
	}
	if got := picks(balancer(t, fleet.RoundRobin, members(5, 1, 1)), 14); strings.Contains(got, "bb") || strings.Contains(got, "cc") || strings.Contains(got, "aaaaaa") {
		t.Errorf("5:1:1 comes in bursts: %s", got)
	}
}

func TestWeightsHoldAmongTheLiving(t *testing.T) {
	ms := members(100, 300, 500)
	ms[2].Live.SetState(fleet.Down, 0)
	got := picks(balancer(t, fleet.RoundRobin, ms), 400)
	if a, b := strings.Count(got, "a"), strings.Count(got, "b"); a != 100 || b != 300 {
		t.Errorf("a %d, b %d", a, b)
	}
}

func TestLeastConnections(t *testing.T) {
	ms := members(100, 200)
	b := balancer(t, fleet.LeastConnections, ms)
	n := [2]int{}
	for range 300 {
		i := b.Pick(Ask{}, &Tried{})
		ms[i].Live.Begin()
		n[i]++
	}
	if n != [2]int{100, 200} {
		t.Errorf("open connections %v, weights 1:2", n)
	}
	for range 50 {
		ms[0].Live.End()
	}
	for range 50 {
		if i := b.Pick(Ask{}, &Tried{}); i != 0 {
			t.Fatalf("picked %d with %d and %d under way", i, ms[0].Live.Active(), ms[1].Live.Active())
		}
		ms[0].Live.Begin()
	}
}

func TestConsistentHash(t *testing.T) {
	ms := members(100, 100, 100, 200)
	b := balancer(t, fleet.ConsistentHash, ms)
	const clients = 20000
	owner := make([]int, clients)
	count := [4]int{}
	key := func(i int) uint64 { return Key(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})) }
	for i := range owner {
		owner[i] = b.Pick(Ask{Key: key(i)}, &Tried{})
		count[owner[i]]++
	}
	for i, want := range []int{clients / 5, clients / 5, clients / 5, 2 * clients / 5} {
		if d := count[i] - want; d*d > want*want/100 {
			t.Errorf("member %d has %d clients, want about %d", i, count[i], want)
		}
	}
	ms[1].Live.SetState(fleet.Down, 0)
	got := [4]int{}
	for i := range owner {
		now := b.Pick(Ask{Key: key(i)}, &Tried{})
		if owner[i] != 1 && now != owner[i] {
			t.Fatalf("client %d of member %d moved to %d, though its own is up", i, owner[i], now)
		}
		if owner[i] == 1 {
			got[now]++
		}
	}
	if got[0] < 500 || got[2] < 500 || got[3] < 1000 || got[1] != 0 {
		t.Errorf("the dead member's clients went to %v", got)
	}
	ms[1].Live.SetState(fleet.Up, 0)
	for i := range owner {
		if b.Pick(Ask{Key: key(i)}, &Tried{}) != owner[i] {
			t.Fatalf("client %d did not come back", i)
		}
	}
}

// The same clients go to the same endpoints on every gateway, in any order of
// the Spec.
func TestConsistentHashIsTheSameEverywhere(t *testing.T) {
	ms := members(100, 200, 300)
	one, two := balancer(t, fleet.ConsistentHash, ms), balancer(t, fleet.ConsistentHash, []Member{ms[2], ms[0], ms[1]})
	for i := range 1000 {
		key := Key(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}))
		if a, b := one.members[one.Pick(Ask{Key: key}, &Tried{})].Name, two.members[two.Pick(Ask{Key: key}, &Tried{})].Name; a != b {
			t.Fatalf("client %d: %s and %s", i, a, b)
		}
	}
}

func TestBestStateFirst(t *testing.T) {
	for _, p := range policies {
		for _, tc := range []struct {
			states []fleet.State
			tried  []int
			want   string // members that may be picked
		}{
			{[]fleet.State{fleet.Up, fleet.Down, fleet.Up}, nil, "ac"},
			{[]fleet.State{fleet.Up, fleet.Unknown, fleet.Drain}, nil, "a"},
			{[]fleet.State{fleet.Drain, fleet.Unknown, fleet.Down}, nil, "b"},
			{[]fleet.State{fleet.Drain, fleet.Down, fleet.Down}, nil, "a"},
			{[]fleet.State{fleet.Down, fleet.Down, fleet.Down}, nil, "abc"}, // fail open
			{[]fleet.State{fleet.Up, fleet.Up, fleet.Up}, []int{0}, "bc"},
			{[]fleet.State{fleet.Up, fleet.Up, fleet.Up}, []int{0, 2}, "b"},
			{[]fleet.State{fleet.Up, fleet.Up, fleet.Up}, []int{0, 1, 2}, "abc"},
			{[]fleet.State{fleet.Up, fleet.Down, fleet.Drain}, []int{0}, "c"}, // drain still serves
			{[]fleet.State{fleet.Up, fleet.Down, fleet.Down}, []int{0}, "a"},  // rather again than a dead one
			{[]fleet.State{fleet.Down, fleet.Down, fleet.Down}, []int{0, 1}, "c"},
		} {
			ms := members(100, 100, 100)
			for i, s := range tc.states {
				ms[i].Live.SetState(s, 0)
			}
			var tried Tried
			for _, i := range tc.tried {
				tried.Add(i)
			}
			b := balancer(t, p, ms)
			got := map[string]bool{}
			for k := range 200 {
				got[ms[b.Pick(drawn(k), &tried)].Name] = true
			}
			if len(got) != len(tc.want) || !containsAll(tc.want, got) {
				t.Errorf("%s, %v, tried %v: picked %v, want %s", p, tc.states, tc.tried, got, tc.want)
			}
		}
	}
}

func containsAll(s string, set map[string]bool) bool {
	for k := range set {
		if !strings.Contains(s, k) {
			return false
		}
	}
	return true
}

func TestNobodyToPick(t *testing.T) {
	for _, p := range policies {
		if i := balancer(t, p, nil).Pick(Ask{}, &Tried{}); i != -1 {
			t.Errorf("%s: picked %d of none", p, i)
		}
	}
	if _, err := New(Config{Policy: "other"}, members(1)); err == nil {
		t.Error("an unknown policy is accepted")
	}
	if _, err := New(Config{Policy: fleet.RoundRobin}, members(0)); err == nil {
		t.Error("a weight of 0 is accepted")
	}
}

// States change while picks are under way; a pick is always a member.
func TestPicksWhileStatesChange(t *testing.T) {
	for _, p := range policies {
		ms := members(1, 2, 3)
		b := balancer(t, p, ms)
		done := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
					ms[i%3].Live.SetState(fleet.State(i/3%4), 0)
				}
			}
		})
		for k := range 20000 {
			if i := b.Pick(drawn(k), &Tried{}); i < 0 || i > 2 {
				t.Fatalf("%s: picked %d", p, i)
			}
		}
		close(done)
		wg.Wait()
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	for _, p := range policies {
		b := balancer(t, p, members(1, 2, 3))
		var tried Tried
		tried.Add(1)
		if n := testing.AllocsPerRun(100, func() { b.Pick(drawn(7), &tried) }); n != 0 {
			t.Errorf("%s: %v allocations", p, n)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for _, p := range policies {
		for _, n := range []int{3, 100} {
			weights := make([]int, n)
			ms := make([]Member, n)
			for i := range weights {
				ms[i] = Member{Name: fmt.Sprint(i), Weight: 100 + i, Live: &Live{}}
				ms[i].Live.SetState(fleet.Up, 0)
			}
			lb := balancer(b, p, ms)
			b.Run(fmt.Sprintf("%s/%d", p, n), func(b *testing.B) {
				b.ReportAllocs()
				var tried Tried
				for key := uint64(0); b.Loop(); key++ {
					lb.Pick(Ask{Key: mix(key), Draw: mix(key), Now: 1}, &tried)
				}
			})
		}
	}
}
