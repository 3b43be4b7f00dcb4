package limit

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

func TestShares(t *testing.T) {
	for _, tc := range []struct {
		demand map[string]int64
		quota  int64
		want   map[string]int64
	}{
		{map[string]int64{}, 100, map[string]int64{}},
		{map[string]int64{"a": 0}, 100, map[string]int64{"a": 100}},
		{map[string]int64{"a": 0, "b": 0}, 100, map[string]int64{"a": 50, "b": 50}},
		{map[string]int64{"a": 1000, "b": 1000}, 100, map[string]int64{"a": 50, "b": 50}},
		{map[string]int64{"a": 1000, "b": 0}, 100, map[string]int64{"a": 95, "b": 5}},
		{map[string]int64{"a": 20, "b": 60}, 100, map[string]int64{"a": 30, "b": 70}},
		{map[string]int64{"a": 20, "b": 1000, "c": 1000}, 300, map[string]int64{"a": 20, "b": 140, "c": 140}},
		{map[string]int64{"a": 5, "b": 5, "c": 5}, 10, map[string]int64{"a": 3, "b": 3, "c": 4}},
		{map[string]int64{"a": 5, "b": 5}, 0, map[string]int64{"a": 0, "b": 0}},
	} {
		if got := Shares(tc.demand, tc.quota); fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("%v of %d: %v, want %v", tc.demand, tc.quota, got, tc.want)
		}
	}
	// Whatever the demand: all of the quota and no more; nobody who lacks has less than another who lacks.
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		demand, quota := map[string]int64{}, r.Int64N(10000)
		for i := range 1 + r.IntN(8) {
			demand[fmt.Sprint(i)] = r.Int64N(5000)
		}
		sum := int64(0)
		got := Shares(demand, quota)
		for name, share := range got {
			sum += share
			for other, more := range got {
				if share < demand[name] && more > share+1 && more > quota/int64(10*len(demand))+1 && more > demand[other]+1 {
					t.Fatalf("%v of %d: %s lacks and %s has more than it wants: %v", demand, quota, name, other, got)
				}
			}
		}
		if sum != quota {
			t.Fatalf("%v of %d: shares sum up to %d", demand, quota, sum)
		}
	}
}

const lapse = 30 * s

// region is a member with the reports on their way to it.
type world struct {
	quota   int64
	now     time.Duration
	members []string
	ledgers []*Ledger
	demand  []int64
}

func newWorld(n int, quota int64) *world {
	w := &world{quota: quota, now: time.Hour, demand: make([]int64, n)}
	for i := range n {
		w.members = append(w.members, fmt.Sprintf("r%d", i))
	}
	for i := range n {
		w.ledgers = append(w.ledgers, w.fresh(i))
	}
	return w
}

func (w *world) fresh(i int) *Ledger {
	return NewLedger(1, w.quota, w.members, w.members[i], lapse, w.now)
}

// round lets a second pass in which all report to those whom reaches allows.
func (w *world) round(reaches func(from, to int) bool) {
	w.now += s
	for i, l := range w.ledgers {
		if l == nil {
			continue
		}
		r := l.Report(w.now, w.demand[i])
		for j, other := range w.ledgers {
			if j != i && other != nil && reaches(i, j) {
				other.Merge(w.now, r)
			}
		}
	}
}

func (w *world) sum(of func(*Ledger) int64) int64 {
	n := int64(0)
	for _, l := range w.ledgers {
		if l != nil {
			n += of(l)
		}
	}
	return n
}

func (w *world) shares() int64    { return w.sum(func(l *Ledger) int64 { return l.Share(w.now) }) }
func (w *world) allowance() int64 { return w.sum(func(l *Ledger) int64 { return l.Allowance(w.now) }) }

func everyone(int, int) bool { return true }

func (w *world) settle(rounds int) {
	for range rounds {
		w.round(everyone)
	}
}

// With everyone in touch the members come to own what Shares gives them.
func TestSharesFollowDemand(t *testing.T) {
	w := newWorld(3, 900)
	for _, demand := range [][]int64{{900, 0, 0}, {0, 900, 0}, {2000, 2000, 100}, {0, 0, 0}, {300, 300, 5000}} {
		w.demand = demand
		w.settle(10)
		want := Shares(map[string]int64{"r0": demand[0], "r1": demand[1], "r2": demand[2]}, 900)
		for i, l := range w.ledgers {
			got := l.Allowance(w.now)
			// Who has what it wants need not have its part of what nobody wants.
			if due := want[w.members[i]]; got < min(due, demand[i]) {
				t.Errorf("demand %v: %s has %d, due are %d", demand, w.members[i], got, due)
			}
		}
		if got := w.allowance(); got != 900 {
			t.Errorf("demand %v: together they have %d", demand, got)
		}
	}
}

// Every course of events of some steps: three regions report with much or no
// demand, and reports arrive, arrive late or not at all. Never do their shares
// exceed the quota.
func TestModelOfThreeRegions(t *testing.T) {
	type state struct {
		w    *world
		sent [3]Report // the last one of each
	}
	clone := func(st *state) *state {
		c := &state{w: &world{quota: st.w.quota, now: st.w.now, members: st.w.members, demand: st.w.demand}, sent: st.sent}
		for _, l := range st.w.ledgers {
			n := *l
			n.rows = nil
			for _, r := range l.rows {
				n.rows = append(n.rows, Row{r.Seq, r.Demand, append([]int64(nil), r.Given...)})
			}
			n.heard, n.known = append([]time.Duration(nil), l.heard...), append([]bool(nil), l.known...)
			c.w.ledgers = append(c.w.ledgers, &n)
		}
		return c
	}
	seen := 0
	var walk func(st *state, depth int)
	walk = func(st *state, depth int) {
		seen++
		if got := st.w.shares(); got > st.w.quota {
			t.Fatalf("shares sum up to %d of %d", got, st.w.quota)
		}
		if depth == 0 {
			return
		}
		for i := range 3 {
			for _, demand := range []int64{0, 100} {
				n := clone(st)
				n.sent[i] = n.w.ledgers[i].Report(n.w.now, demand)
				walk(n, depth-1)
			}
			for j := range 3 {
				if i != j && st.sent[i].Rows != nil {
					n := clone(st)
					n.w.ledgers[j].Merge(n.w.now, n.sent[i])
					walk(n, depth-1)
				}
			}
		}
	}
	first := &state{w: newWorld(3, 90)}
	first.w.settle(2) // so that all know of all
	for i, l := range first.w.ledgers {
		first.sent[i] = l.Report(first.w.now, 0)
	}
	walk(first, 4)
	if seen < 20000 {
		t.Errorf("only %d states", seen)
	}
}

// Long random courses: splits of three regions that come and go, lost and late
// reports, demand that jumps. Shares never exceed the quota; allowances, which
// lend out what the long unheard own, never exceed it by more than what those
// cut off own, and never twice the quota. After the split all is as before.
func TestThreeRegionsSplit(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 7))
		w := newWorld(3, 3000)
		w.settle(3)
		side := [3]int{}
		cut := [3]time.Duration{} // since when
		for step := range 400 {
			if r.IntN(20) == 0 {
				w.demand[r.IntN(3)] = r.Int64N(6000)
			}
			if r.IntN(60) == 0 {
				i := r.IntN(3)
				side[i], cut[i] = r.IntN(3), w.now
			}
			w.round(func(i, j int) bool { return side[i] == side[j] && r.IntN(4) > 0 })
			if got := w.shares(); got > 3000 {
				t.Fatalf("seed %d, step %d: shares sum up to %d", seed, step, got)
			}
			if got := w.allowance(); got > 2*3000 {
				t.Fatalf("seed %d, step %d: allowances sum up to %d", seed, step, got)
			}
		}
		side = [3]int{}
		w.demand = []int64{9000, 0, 0}
		w.settle(20)
		if got := w.allowance(); got != 3000 {
			t.Errorf("seed %d: after the split together %d", seed, got)
		}
		if got := w.ledgers[0].Allowance(w.now); got != 2800 {
			t.Errorf("seed %d: after the split the one with demand has %d", seed, got)
		}
	}
}

// A region that is cut off keeps its last share, and the others their own; once
// it is long unheard, those who are most use what it owned.
func TestARegionIsCutOff(t *testing.T) {
	w := newWorld(3, 900)
	w.demand = []int64{600, 0, 900}
	w.settle(10)
	before := [3]int64{}
	for i, l := range w.ledgers {
		before[i] = l.Share(w.now)
	}
	alone := func(i, j int) bool { return i != 2 && j != 2 }
	for range 29 {
		w.round(alone)
	}
	for i, l := range w.ledgers[2:] {
		if got := l.Allowance(w.now); got != before[i+2] {
			t.Errorf("cut off, it has %d, before %d", got, before[i+2])
		}
	}
	if got := w.allowance(); got != 900 {
		t.Errorf("within the lapse together %d", got)
	}
	w.settleWith(alone, 20)
	if got := w.ledgers[2].Allowance(w.now); got != before[2] {
		t.Errorf("long cut off, it has %d, before %d", got, before[2])
	}
	if got, most := w.allowance(), 900+before[2]; got > most || got < most-2 {
		t.Errorf("after the lapse together %d, want about %d", got, most)
	}
	// Those in touch go on sharing what they own between them.
	w.demand = []int64{900, 900, 900}
	w.settleWith(alone, 5)
	if a, b := w.ledgers[0].Share(w.now), w.ledgers[1].Share(w.now); a-b > 2 || b-a > 2 || a+b != 900-before[2] {
		t.Errorf("with equal demand they own %d and %d", a, b)
	}
	w.demand = []int64{600, 0, 900}
	w.settle(1)
	if got := w.allowance(); got != 900 {
		t.Errorf("in touch again together %d", got)
	}
	// Dead for good, its part is not lost.
	w.ledgers[2] = nil
	w.settle(60)
	if got := w.allowance(); got < 898 || got > 900 {
		t.Errorf("with one dead together %d", got)
	}
}

func (w *world) settleWith(reaches func(from, to int) bool, rounds int) {
	for range rounds {
		w.round(reaches)
	}
}

// One that begins anew does not use again what it gave away in its earlier
// life, and gets to know what it owns from the others.
func TestAMemberThatBeginsAnew(t *testing.T) {
	w := newWorld(3, 900)
	w.demand = []int64{900, 0, 0}
	w.settle(10)
	w.ledgers[2] = w.fresh(2)
	if got := w.shares(); got > 900 {
		t.Errorf("shares sum up to %d", got)
	}
	w.settle(5)
	if got := w.allowance(); got != 900 {
		t.Errorf("together %d", got)
	}
	if got := w.ledgers[0].Allowance(w.now); got != 840 {
		t.Errorf("the one with demand has %d", got)
	}
}

func TestReportsThatAreNoneOfIt(t *testing.T) {
	w := newWorld(3, 900)
	l := w.ledgers[0]
	good := w.ledgers[1].Report(w.now, 5)
	for name, bad := range map[string]Report{
		"another epoch": {Epoch: 2, Rows: good.Rows},
		"too few rows":  {Epoch: 1, Rows: good.Rows[:2]},
		"a short row":   {Epoch: 1, Rows: []Row{{}, {}, {}}},
		"less than 0":   {Epoch: 1, Rows: []Row{{Given: []int64{0, -1, 0}}, good.Rows[1], good.Rows[2]}},
	} {
		if l.Merge(w.now, bad) {
			t.Errorf("%s is taken", name)
		}
	}
	if !l.Merge(w.now, good) {
		t.Error("a good one is refused")
	}
}
