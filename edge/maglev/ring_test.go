package maglev

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func equals(n int) []Member {
	out := make([]Member, n)
	for i := range out {
		out[i] = Member{Name: fmt.Sprintf("node-%d", i), Weight: 100}
	}
	return out
}

func build(t testing.TB, members []Member, slots int, seed uint64) Ring {
	t.Helper()
	r, err := Build(members, slots, seed)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func shares(r Ring, n int) []int {
	out := make([]int, n)
	for _, m := range r {
		out[m]++
	}
	return out
}

// Shares of equal members differ by less than the published quality of a
// Maglev ring of this size: most loaded member over the average.
func TestEqualMembersShareEvenly(t *testing.T) {
	for _, c := range []struct {
		members int
		over    float64
	}{{2, 1.001}, {10, 1.001}, {100, 1.002}, {1000, 1.016}} {
		got := slices.Max(shares(build(t, equals(c.members), Slots, 7), c.members))
		if over := float64(got) * float64(c.members) / Slots; over > c.over {
			t.Errorf("%d members: the fullest has %.4f of the average, more than %.4f", c.members, over, c.over)
		}
	}
}

// Shares follow the weights at every ratio, not only in the first round.
func TestSharesFollowWeights(t *testing.T) {
	for _, weights := range [][]int{{1, 1}, {1, 2}, {1, 3, 5, 7}, {1, 1000}, {999, 1000}, {100, 100, 50, 25}, {3, 1000, 1000, 1000}} {
		members, sum := equals(len(weights)), 0
		for i, w := range weights {
			members[i].Weight = w
			sum += w
		}
		for i, got := range shares(build(t, members, Slots, 1), len(members)) {
			want := float64(Slots) * float64(weights[i]) / float64(sum)
			if d := float64(got) - want; d > 2+want/500 || -d > 2+want/500 {
				t.Errorf("weights %v: member %d has %d slots, expected about %.0f", weights, i, got, want)
			}
		}
	}
}

// moved counts the slots whose member changed by name, and of these the ones
// whose old member is still there: the excess over what must move.
func moved(a Ring, am []Member, b Ring, bm []Member) (all, excess float64) {
	still := map[string]bool{}
	for _, m := range bm {
		still[m.Name] = true
	}
	for i := range a {
		if old := am[a[i]].Name; old != bm[b[i]].Name {
			all++
			if still[old] {
				excess++
			}
		}
	}
	return 100 * all / float64(len(a)), 100 * excess / float64(len(a))
}

// The loss or gain of a member moves little more than its own slots; bounds
// in percent of the ring, a little above what the method is known to give.
func TestAChangeMovesFewSlots(t *testing.T) {
	for _, c := range []struct {
		members                     int
		all, excess, five, addition float64
	}{
		{10, 10.6, 0.6, 0.6, 0.6},
		{100, 1.9, 0.9, 1.2, 0.9},
		{1000, 1.0, 0.9, 3.8, 0.9},
	} {
		before := equals(c.members)
		ring := build(t, before, Slots, 3)
		without := slices.Delete(slices.Clone(before), c.members/2, c.members/2+1)
		if all, excess := moved(ring, before, build(t, without, Slots, 3), without); all > c.all || excess > c.excess {
			t.Errorf("%d members, one leaves: %.2f %% move, %.2f %% needlessly; bounds %.2f and %.2f", c.members, all, excess, c.all, c.excess)
		}
		five := before[max(1, c.members/20):]
		if _, excess := moved(ring, before, build(t, five, Slots, 3), five); excess > c.five {
			t.Errorf("%d members, one in twenty leaves: %.2f %% move needlessly; bound %.2f", c.members, excess, c.five)
		}
		more := append(slices.Clone(before), Member{Name: "another", Weight: 100})
		all, _ := moved(ring, before, build(t, more, Slots, 3), more)
		if must := 100 / float64(c.members+1); all > must+c.addition {
			t.Errorf("%d members, one comes: %.2f %% move; bound %.2f", c.members, all, must+c.addition)
		}
	}
}

func TestRingDependsOnSetAndSeedAlone(t *testing.T) {
	a := equals(20)
	b := slices.Clone(a)
	slices.Reverse(b)
	ra, rb := build(t, a, 4099, 5), build(t, b, 4099, 5)
	for i := range ra {
		if a[ra[i]].Name != b[rb[i]].Name {
			t.Fatalf("slot %d: %s or %s, by the order of the members", i, a[ra[i]].Name, b[rb[i]].Name)
		}
	}
	if slices.Equal(ra, build(t, a, 4099, 6)) {
		t.Error("another seed gives the same ring")
	}
}

// The ring is an agreement among the nodes of a region and among releases.
func TestRingIsStable(t *testing.T) {
	got := fmt.Sprint(build(t, []Member{{"a", 1}, {"b", 2}, {"c", 3}}, 13, 42))
	if want := "[2 2 2 0 1 1 2 2 2 1 1 0 2]"; got != want {
		t.Errorf("the ring is %s, was %s in the first release", got, want)
	}
}

func TestEveryHashHasASlot(t *testing.T) {
	r := Ring(make([]uint16, Slots))
	for hash, want := range map[uint64]int{0: 0, 1<<32 - 1: 0, 1 << 63: Slots / 2, 1<<64 - 1: Slots - 1} {
		if got := r.Of(hash); got != want {
			t.Errorf("hash %#x: slot %d, expected %d", hash, got, want)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	for _, c := range []struct {
		members []Member
		slots   int
		msg     string
	}{
		{nil, 13, "0 members: expected 1 to 13"},
		{equals(14), 13, "14 members: expected 1 to 13"},
		{equals(2), 12, "12 slots: expected a prime number"},
		{[]Member{{"a", 0}}, 13, `member "a": weight 0 is below 1`},
		{[]Member{{"a", 1}, {"b", 1}, {"a", 2}}, 13, `member "a": is there twice`},
	} {
		if _, err := Build(c.members, c.slots, 0); err == nil || !strings.HasSuffix(err.Error(), c.msg) {
			t.Errorf("%d members, %d slots: error %v, expected %q", len(c.members), c.slots, err, c.msg)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{3, 100, 1000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			m := equals(n)
			for b.Loop() {
				build(b, m, Slots, 1)
			}
		})
	}
}
