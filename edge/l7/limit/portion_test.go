package limit

import (
	"fmt"
	"testing"
	"time"
)

// holders tell each other each second.
type holders struct {
	quota  int64
	now    time.Duration
	demand []int64
	held   []int64
	heard  []map[string]Claim      // by each, Age being when
	cut    func(from, to int) bool // nil: all hear all
	most   int64                   // that was held together since reset
}

func newHolders(n int, quota int64) *holders {
	h := &holders{quota: quota, demand: make([]int64, n)}
	for range n {
		h.held = append(h.held, quota/int64(n))
	}
	for i := range n {
		m := map[string]Claim{}
		for j := range n {
			if j != i {
				m[fmt.Sprint(j)] = Claim{Held: quota / int64(n)}
			}
		}
		h.heard = append(h.heard, m)
	}
	return h
}

func (h *holders) run(seconds int) {
	h.most = 0
	for range seconds {
		h.now += time.Second
		for from := range h.held {
			for to := range h.held {
				if from != to && (h.cut == nil || !h.cut(from, to)) {
					h.heard[to][fmt.Sprint(from)] = Claim{h.demand[from], h.held[from], h.now}
				}
			}
		}
		sum := int64(0)
		for i := range h.held {
			others := map[string]Claim{}
			for name, c := range h.heard[i] {
				c.Age = h.now - c.Age
				others[name] = c
			}
			h.held[i] = Portion(h.quota, fmt.Sprint(i), h.demand[i], h.held[i], others)
			sum += h.held[i]
		}
		h.most = max(h.most, sum)
	}
}

func (h *holders) sum() (n int64) {
	for _, v := range h.held {
		n += v
	}
	return n
}

// Uneven demand gets nearly the whole quota within three rounds, and never more is
// held than the quota.
func TestPortionFollowsDemand(t *testing.T) {
	h := newHolders(3, 3000)
	for _, hot := range []int{0, 2, 1} {
		h.demand = make([]int64, 3)
		h.demand[hot] = 50000
		h.run(3)
		if h.held[hot] != 2800 || h.sum() != 3000 || h.most > 3000 {
			t.Errorf("the hot one %d of %v, at most %d", hot, h.held, h.most)
		}
	}
	h.demand = []int64{50000, 50000, 50000}
	h.run(3)
	if h.held[0] != 1000 || h.held[1] != 1000 || h.held[2] != 1000 || h.most > 3000 {
		t.Errorf("%v, at most %d", h.held, h.most)
	}
}

// A holder that is cut off keeps its part, whatever its demand; the others divide theirs,
// and after Lapse its part too. So all hold at most the quota and what the one held, and when
// they hear each other again, the quota.
func TestPortionOfOneCutOff(t *testing.T) {
	h := newHolders(3, 3000)
	h.demand = []int64{50000, 0, 0}
	h.run(5)
	h.cut = func(from, to int) bool { return from == 0 || to == 0 }
	h.demand = []int64{50000, 50000, 50000}
	h.run(int(Lapse/time.Second) - 2)
	if h.held[0] != 2800 || h.most > 3000 {
		t.Errorf("before the lapse: %v, at most %d", h.held, h.most)
	}
	h.run(60)
	if h.held[0] != 2800 || h.held[1] != 1500 || h.held[2] != 1500 || h.most > 2*3000 {
		t.Errorf("after it: %v, at most %d", h.held, h.most)
	}
	h.cut = nil
	h.run(1)
	if h.most > 3000 {
		t.Errorf("together again: %v", h.held)
	}
	h.run(3)
	if h.held[0] != 1000 || h.sum() != 3000 {
		t.Errorf("later: %v", h.held)
	}
}

// With everybody alone, and with two that part, each keeps what it has.
func TestPortionWithoutMajority(t *testing.T) {
	for _, n := range []int{2, 5} {
		h := newHolders(n, 1000)
		h.demand[0] = 5000
		h.run(5)
		was := fmt.Sprint(h.held)
		h.cut = func(int, int) bool { return true }
		h.demand[1] = 9000
		h.run(120)
		if fmt.Sprint(h.held) != was || h.most > 1000 {
			t.Errorf("%d: %v, before the split %s", n, h.held, was)
		}
	}
}

func TestSteadyIsTheLeastOfAWhile(t *testing.T) {
	var s Steady
	const while = 10 * time.Second
	for _, tc := range []struct {
		at   int
		held int64
		want int64
	}{{0, 30, 30}, {5, 90, 30}, {11, 90, 30}, {20, 90, 30}, {21, 90, 90}, {22, 5, 5}, {23, 90, 5}, {31, 90, 5}, {42, 90, 90}} {
		if got := s.Of(time.Duration(tc.at)*time.Second, while, tc.held); got != tc.want {
			t.Errorf("at %d s, holding %d: %d, want %d", tc.at, tc.held, got, tc.want)
		}
	}
}
