package limit

import (
	"testing"
	"time"

	"meridian/fleet"
)

const s, ms, us = time.Second, time.Millisecond, time.Microsecond

// server works on so many requests at a time, each for so long; the others wait.
type server struct {
	workers int
	takes   time.Duration
	done    []time.Duration // when each worker is free
}

// simulate sends rate requests a second for a time through the limit to the
// server, and gives how many were served and refused, and the longest wait in
// the second half.
func simulate(a *Adaptive, sv *server, from, length time.Duration, rate int) (served, refused int, slowest time.Duration) {
	sv.done = sv.done[:0]
	for range sv.workers {
		sv.done = append(sv.done, 0)
	}
	sent := 0
	type end struct{ at, took time.Duration }
	var ends []end
	for now := from; now < from+length; now += ms {
		for ; sent < int(int64(now-from)*int64(rate)/int64(s)); sent++ {
			if !a.Enter() {
				refused++
				continue
			}
			w := 0 // the worker that is free first
			for i, at := range sv.done {
				if at < sv.done[w] {
					w = i
				}
			}
			sv.done[w] = max(sv.done[w], now) + sv.takes
			ends = append(ends, end{sv.done[w], sv.done[w] - now})
		}
		kept := ends[:0]
		for _, e := range ends {
			if e.at > now {
				kept = append(kept, e)
				continue
			}
			a.Leave(e.took)
			served++
			if now > from+length/2 {
				slowest = max(slowest, e.took)
			}
		}
		ends = kept
		if now%(100*ms) == 0 {
			a.Step(now, uint64(now)*0x9e3779b97f4a7c15)
		}
	}
	for range ends {
		a.Leave(0)
	}
	return served, refused, slowest
}

func rules() AdaptiveRules {
	return AdaptiveRules{Min: 10, Max: 1000, Tolerate: .5, Probe: 20 * s}
}

// A server of 20 workers and 10 ms bears 2000 a second. With twice that, all
// that it can bear is served, soon; the rest is refused at once.
func TestOverloadIsRefusedAndTheRestServedSoon(t *testing.T) {
	a := NewAdaptive(rules(), s)
	served, refused, slowest := simulate(a, &server{workers: 20, takes: 10 * ms}, s, 60*s, 4000)
	if served < 2000*60*85/100 {
		t.Errorf("served %d of %d that could be", served, 2000*60)
	}
	if slowest > 40*ms {
		t.Errorf("answers take up to %v, at rest 10 ms", slowest)
	}
	if refused == 0 || a.Refused() != uint64(refused) {
		t.Errorf("refused %d, counted %d", refused, a.Refused())
	}
	if rest := a.Rest(); rest < 9*ms || rest > 13*ms {
		t.Errorf("at rest answers take %v; 10 ms is true", rest)
	}
}

// Without a limit the same overload makes everyone wait for seconds.
func TestTheSimulationNeedsTheLimit(t *testing.T) {
	r := rules()
	r.Min, r.Max = 1_000_000, 1_000_000
	if _, _, slowest := simulate(NewAdaptive(r, s), &server{workers: 20, takes: 10 * ms}, s, 20*s, 4000); slowest < 5*s {
		t.Errorf("answers take up to %v", slowest)
	}
}

// What the server bears is not refused, but for the moments of measuring.
func TestNoOverloadNoRefusal(t *testing.T) {
	a := NewAdaptive(rules(), s)
	if _, refused, _ := simulate(a, &server{workers: 20, takes: 10 * ms}, s, 60*s, 800); refused != 0 {
		t.Errorf("at 8 under way on average %d are refused", refused)
	}
	a = NewAdaptive(rules(), s)
	served, refused, _ := simulate(a, &server{workers: 20, takes: 10 * ms}, s, 60*s, 1500)
	if refused > served/50 {
		t.Errorf("at three quarters of capacity %d are refused, %d served", refused, served)
	}
}

// A server that becomes slower at rest is measured anew; its bound does not
// fall to the least for good.
func TestRestIsMeasuredAnew(t *testing.T) {
	a := NewAdaptive(rules(), s)
	sv := &server{workers: 40, takes: 10 * ms}
	simulate(a, sv, s, 30*s, 3000)
	sv.takes = 40 * ms
	served, _, _ := simulate(a, sv, 31*s, 60*s, 900)
	if rest := a.Rest(); rest < 36*ms || rest > 50*ms {
		t.Errorf("at rest %v; 40 ms is true", rest)
	}
	if served < 900*60*9/10 {
		t.Errorf("served %d of %d", served, 900*60)
	}
}

func TestBoundsOfTheBound(t *testing.T) {
	a := NewAdaptive(AdaptiveRules{Min: 5, Max: 50, Tolerate: .5, Probe: time.Hour}, time.Hour)
	if a.Limit() != 50 {
		t.Errorf("it begins at %d", a.Limit())
	}
	feed := func(n int, took time.Duration) {
		in := 0
		for range n {
			if a.Enter() {
				in++
			}
		}
		for range in {
			a.Leave(took)
		}
	}
	feed(40, 10*ms)
	a.Step(s, 0)
	least := a.Limit()
	for i := range 20 {
		for range 10 {
			feed(100, s)
		}
		a.Step(time.Duration(i+2)*s, 0)
		if a.Limit() < 5 || a.Limit() > 50 {
			t.Fatalf("the bound is %d", a.Limit())
		}
		least = min(least, a.Limit())
	}
	if least != 5 {
		t.Errorf("in slowness the bound falls to %d", least)
	}
	feed(5, s)
	was := a.Limit()
	a.Step(time.Minute, 0)
	if a.Limit() != was {
		t.Error("five answers moved the bound")
	}
}

func TestRulesOfASpec(t *testing.T) {
	got := AdaptiveOf(&fleet.Adaptive{Min: 1, Max: 2, Tolerate: 50, Probe: fleet.Duration(s)})
	if got != (AdaptiveRules{Min: 1, Max: 2, Tolerate: .5, Probe: s}) {
		t.Errorf("%+v", got)
	}
}

func TestMedianOfAHistogram(t *testing.T) {
	for _, d := range []time.Duration{1 * us, 3 * us, 100 * us, 999 * us, 10 * ms, 1234 * ms, 59 * s} {
		var h histogram
		for i := range 101 {
			h.add(d * time.Duration(50+i) / 100)
		}
		if got := h.median(); d > 10*us && (got < d*80/100 || got > d*125/100) {
			t.Errorf("median about %v: %v", d, got)
		}
	}
	var h histogram
	if h.median() != 0 {
		t.Error("a median of nothing")
	}
	h.add(-s)
	h.add(1000 * time.Hour)
	if h.count() != 2 {
		t.Error("a duration beyond the buckets is lost")
	}
}

func BenchmarkAdaptive(b *testing.B) {
	a := NewAdaptive(rules(), s)
	b.ReportAllocs()
	for b.Loop() {
		a.Enter()
		a.Leave(ms)
	}
}
