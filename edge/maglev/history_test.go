package maglev

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var begin = time.Unix(1_000_000, 0)

// ids numbers members by name, as a table of endpoints does.
func ids(name string) (id uint16) {
	if _, err := fmt.Sscanf(name, "node-%d", &id); err != nil {
		return 0
	}
	return id + 1
}

func history(t testing.TB, generations ...[]Member) *History {
	t.Helper()
	h := NewHistory(Slots, 7)
	for i, m := range generations {
		if err := h.Next(m, begin.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// Whatever changes, in one generation or in several, the owner that a slot had
// in any ring before is its owner now or one of its former ones.
func TestEveryFormerOwnerIsRemembered(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	members := equals(12)
	h := history(t, members)
	rings := [][]uint16{h.Slots(ids)}
	for range 3 {
		next := slices.Clone(members)
		for range 1 + r.IntN(4) {
			switch i := r.IntN(len(next)); r.IntN(3) {
			case 0:
				next[i].Weight = 1 + r.IntN(200)
			case 1:
				next = slices.Delete(next, i, i+1)
			case 2:
				next = append(next, Member{fmt.Sprintf("node-%d", 20+r.IntN(1000)), 100})
			}
		}
		if err := h.Next(next, begin); err != nil {
			t.Fatal(err)
		}
		members = next
		now, former := h.Slots(ids), h.Former(ids)
		for g, ring := range rings {
			for slot, owner := range ring {
				if owner != now[slot] && !slices.Contains(former[slot][:], owner) {
					t.Fatalf("slot %d: its owner in ring %d, %d, is forgotten: now %d, before %v", slot, g, owner, now[slot], former[slot])
				}
			}
		}
		rings = append(rings, now)
	}
}

// A change leaves former owners at the slots that it moves, and at no other.
func TestSlotsThatDoNotMoveHaveNoFormerOwner(t *testing.T) {
	h := history(t, equals(10))
	if h.Former(ids) != nil {
		t.Fatal("the first ring has former owners")
	}
	before := h.Slots(ids)
	if err := h.Next(equals(11), begin); err != nil {
		t.Fatal(err)
	}
	now, former := h.Slots(ids), h.Former(ids)
	for slot := range now {
		if has := former[slot] != [Formers]uint16{}; has != (now[slot] != before[slot]) {
			t.Fatalf("slot %d went from %d to %d; former owners %v", slot, before[slot], now[slot], former[slot])
		}
	}
}

// The newest former owner stands first, and each but once.
func TestFormerOwnersStandNewestFirst(t *testing.T) {
	a, b, c := []Member{{"node-1", 1}}, []Member{{"node-2", 1}}, []Member{{"node-3", 1}}
	h := history(t, a, b, a, c)
	if got, want := h.Former(ids)[0], ([Formers]uint16{2, 3}); got != want {
		t.Errorf("former owners %v, expected %v", got, want)
	}
	h = history(t, []Member{{"node-5", 1}}, []Member{{"node-4", 1}}, a, b, c, []Member{{"node-9", 1}})
	if got, want := h.Former(ids)[0], ([Formers]uint16{4, 3, 2, 5}); got != want {
		t.Errorf("former owners %v, expected the newest %v", got, want)
	}
}

// A member that lives no more is no former owner.
func TestTheDeadAreNoFormerOwners(t *testing.T) {
	h := history(t, equals(3), equals(4))
	alive := func(name string) uint16 {
		if name == "node-1" {
			return 0
		}
		return ids(name)
	}
	for slot, f := range h.Former(alive) {
		if slices.Contains(f[:], ids("node-1")) {
			t.Fatalf("slot %d: %v names a dead member", slot, f)
		}
	}
}

// Rings that ended long ago are forgotten; the one in force never is.
func TestRingsRetire(t *testing.T) {
	h := history(t, equals(3), equals(4), equals(5))
	if h.Retire(begin) {
		t.Fatal("a ring retired that had not ended by then")
	}
	both := h.Former(ids)
	if !h.Retire(begin.Add(2*time.Second)) || slices.Equal(h.Former(ids), both) || h.Former(ids) == nil {
		t.Fatal("the older ring did not retire, or not alone")
	}
	if h.Retire(begin.Add(time.Hour)); h.Former(ids) != nil || len(h.Members()) != 5 {
		t.Error("not all is safe once all rings are retired")
	}
}

// Rings that are presumed count behind those that have been seen, and do not
// retire; what cannot be a ring is refused, and what was presumed stays.
func TestPresume(t *testing.T) {
	h := history(t, equals(8), equals(9))
	if err := h.Presume(equals(6), nil); err != nil {
		t.Fatal(err)
	}
	seen, presumed := build(t, equals(8), Slots, 7), build(t, equals(6), Slots, 7)
	now := h.Slots(ids)
	for slot, f := range h.Former(ids) {
		var want [Formers]uint16
		for _, id := range []uint16{ids(equals(8)[seen[slot]].Name), ids(equals(6)[presumed[slot]].Name)} {
			if id != now[slot] {
				add(want[:], id)
			}
		}
		if f != want {
			t.Fatalf("slot %d: %v, expected %v", slot, f, want)
		}
	}
	if err := h.Presume([]Member{{"x", 0}}); err == nil {
		t.Error("a ring that cannot be is presumed")
	}
	h.Retire(begin.Add(time.Hour))
	if h.Former(ids) == nil {
		t.Error("what was presumed has retired")
	}
	if err := h.Presume(); err != nil || h.Former(ids) != nil {
		t.Errorf("nothing is presumed any more: %v", err)
	}
}

// A ring of which the slots alone are known counts as well.
func TestRecall(t *testing.T) {
	h, again := history(t, equals(8), equals(9)), history(t, equals(9))
	owners := make([]string, Slots)
	for slot, m := range build(t, equals(8), Slots, 7) {
		owners[slot] = equals(8)[m].Name
	}
	owners[0] = ""
	again.Recall(owners, begin)
	want := h.Former(ids)
	want[0] = [Formers]uint16{}
	if !slices.Equal(want, again.Former(ids)) {
		t.Error("other former owners after Recall")
	}
}

// A ring without members remembers who there was.
func TestNoMembers(t *testing.T) {
	h := history(t, []Member{{"node-1", 1}}, nil)
	if h.Slots(ids)[5] != 0 || h.Former(ids)[5] != [Formers]uint16{2} {
		t.Errorf("owner %d, former %v", h.Slots(ids)[5], h.Former(ids)[5])
	}
}

// A history is bounded, whatever flaps.
func TestHistoryIsBounded(t *testing.T) {
	h := NewHistory(251, 1)
	for i := range 100 {
		if err := h.Next([]Member{{fmt.Sprint("node-", i), 1}, {"node-1000", 1 + i}}, begin); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(h.past); n != keptRings {
		t.Errorf("%d rings kept", n)
	}
	if h.Retire(begin.Add(time.Second)); len(h.past) > 0 {
		t.Errorf("%d rings kept after their time", len(h.past))
	}
}

// Owners retire in time, however often rings change: when each hour one of twenty
// leaves for another, those of the last day are former owners, and no others.
func TestFoldedRingsRetire(t *testing.T) {
	const slots, kept = 251, 24 * time.Hour
	h, members := NewHistory(slots, 7), equals(20)
	last := make([]map[uint16]time.Time, slots) // when each had the slot last
	for slot := range last {
		last[slot] = map[uint16]time.Time{}
	}
	for i := range 200 {
		now := begin.Add(time.Duration(i) * time.Hour)
		for slot, owner := range h.Slots(ids) {
			last[slot][owner] = now
		}
		members = slices.Clone(members)
		members[i%len(members)].Name = fmt.Sprint("node-", 100+i)
		before := h.Clone()
		former := before.Former(ids)
		if err := h.Next(members, now); err != nil {
			t.Fatal(err)
		}
		h.Retire(now.Add(-kept))
		if !slices.Equal(before.Former(ids), former) {
			t.Fatal("a copy of before has changed")
		}
		slotsNow := h.Slots(ids)
		for slot, list := range h.Former(ids) {
			for _, id := range list {
				if at, had := last[slot][id]; id != 0 && (!had || now.Sub(at) > kept) {
					t.Fatalf("hour %d, slot %d: %d had it last at %s", i, slot, id, at)
				}
			}
			recent := 0
			for id, at := range last[slot] {
				if id != 0 && id != slotsNow[slot] && now.Sub(at) <= kept {
					recent++
				}
			}
			if n := Formers - countOf(list[:], 0); n != min(recent, Formers) {
				t.Fatalf("hour %d, slot %d: %d former owners of %d", i, slot, n, recent)
			}
		}
	}
}

func countOf(list []uint16, of uint16) (n int) {
	for _, v := range list {
		if v == of {
			n++
		}
	}
	return n
}

// However many rings there were, a slot's newest former owners are remembered: as
// when thirty gateways are drained one after the other and come back.
func TestFoldedRingsForgetNoOwner(t *testing.T) {
	const slots = 1009
	h, all := NewHistory(slots, 7), equals(30)
	var rings [][]uint16 // newest first
	next := func(members []Member) {
		if err := h.Next(members, begin); err != nil {
			t.Fatal(err)
		}
		rings = slices.Insert(rings, 0, h.Slots(ids))
	}
	next(all)
	for i := range all {
		next(slices.Delete(slices.Clone(all), i, i+1))
		next(all)
		former := h.Former(ids)
		for slot := range slots {
			var want [Formers]uint16
			for _, ring := range rings {
				if ring[slot] != rings[0][slot] {
					add(want[:], ring[slot])
				}
			}
			if former[slot] != want {
				t.Fatalf("after %d rings slot %d had %v, expected %v", len(rings), slot, former[slot], want)
			}
		}
	}
}

func BenchmarkFormer(b *testing.B) {
	h := history(b, equals(100), equals(99), equals(101), equals(90))
	for b.Loop() {
		h.Former(ids)
	}
}
