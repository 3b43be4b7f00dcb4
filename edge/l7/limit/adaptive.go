package limit

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"

	"meridian/fleet"
)

// AdaptiveRules are the bounds within which an Adaptive moves.
type AdaptiveRules struct {
	Min, Max int
	Tolerate float64       // how much longer than at rest answers may take: 0.5 for half as long again
	Probe    time.Duration // between measurements at rest
}

// AdaptiveOf gives the rules of a service that has some.
func AdaptiveOf(a *fleet.Adaptive) AdaptiveRules {
	return AdaptiveRules{Min: a.Min, Max: a.Max, Tolerate: float64(a.Tolerate) / 100, Probe: a.Probe.D()}
}

// enough is how many answers make a median.
const enough = 25

// longestProbe ends a probe during which too few answers come.
const longestProbe = time.Second

// Adaptive bounds the requests under way at a pool by how long its answers
// take: while the median is near what it is at rest the bound grows, when it is
// above what is tolerated the bound shrinks by as much (after Netflix's
// concurrency-limits and Envoy's gradient controller). What is at rest is
// measured when little is under way; where that does not happen by itself, the
// bound falls to its least for so long as some answers take.
//
// Enter and Leave are safe for concurrent use; Step is called by one goroutine,
// each 100 ms or so.
type Adaptive struct {
	limit, in, peak atomic.Int64
	refused         atomic.Uint64
	rest            atomic.Int64 // how long answers take when little is under way, in ns
	answers         histogram

	rules  AdaptiveRules
	size   float64       // the limit, but for a probe
	busy   int64         // most under way since the last measurement at rest
	next   time.Duration // when that is to be made anew
	probe  probe
	probed time.Duration // when the present probe began
}

// probe is how far a measurement at rest has come.
type probe uint8

const (
	idle      probe = iota
	emptying        // what is under way beyond the least goes
	measuring       // answers are counted
)

// NewAdaptive gives one that begins at its highest bound, so that a gateway
// that starts refuses nobody before it knows why. The first measurement at rest
// is due at first.
func NewAdaptive(rules AdaptiveRules, first time.Duration) *Adaptive {
	a := &Adaptive{rules: rules, size: float64(rules.Max), next: first}
	a.limit.Store(int64(rules.Max))
	return a
}

// Enter lets a request in, if there is room: Leave must follow.
func (a *Adaptive) Enter() bool {
	if !enter(&a.in, a.limit.Load(), &a.refused) {
		return false
	}
	n := a.in.Load()
	for most := a.peak.Load(); n > most && !a.peak.CompareAndSwap(most, n); {
		most = a.peak.Load()
	}
	return true
}

// Leave notes that a request is over, and how long its answer took up to the
// header; 0 for one that got none.
func (a *Adaptive) Leave(took time.Duration) {
	a.in.Add(-1)
	if took > 0 {
		a.answers.add(took)
	}
}

// In is how many are under way, Refused how many were not let in, Limit the
// bound, and Rest how long answers take at rest (0: not known yet).
func (a *Adaptive) In() int64           { return a.in.Load() }
func (a *Adaptive) Refused() uint64     { return a.refused.Load() }
func (a *Adaptive) Limit() int64        { return a.limit.Load() }
func (a *Adaptive) Rest() time.Duration { return time.Duration(a.rest.Load()) }

// Step sets the bound by what has come since the last one. The draw, random,
// spreads the probes of gateways.
func (a *Adaptive) Step(now time.Duration, draw uint64) {
	peak := a.peak.Swap(a.in.Load())
	a.busy = max(a.busy, peak)
	if a.probe == idle && now >= a.next && a.busy > int64(a.rules.Min) {
		a.probe, a.probed = emptying, now
		a.limit.Store(int64(a.rules.Min))
	}
	switch a.probe {
	case emptying:
		if a.in.Load() <= int64(a.rules.Min) {
			a.answers.clear()
			a.probe = measuring
		} else if now-a.probed > longestProbe {
			a.end(now, draw)
		}
	case measuring:
		// At most Min of the answers began before the probe.
		if n := a.answers.count(); n >= max(enough, 3*a.rules.Min) || n >= enough && now-a.probed > longestProbe {
			a.rest.Store(int64(a.answers.median()))
			a.end(now, draw)
		} else if now-a.probed > longestProbe {
			a.end(now, draw)
		}
	default:
		a.adjust(now, peak, draw)
	}
}

// end goes back to the bound of before a probe.
func (a *Adaptive) end(now time.Duration, draw uint64) {
	a.answers.clear()
	a.probe, a.busy = idle, 0
	a.later(now, draw)
	a.limit.Store(int64(a.size))
}

func (a *Adaptive) later(now time.Duration, draw uint64) {
	a.next = now + a.rules.Probe*9/10 + time.Duration(float64(a.rules.Probe/5)*float64(draw>>11)/(1<<53))
}

// adjust moves the bound.
func (a *Adaptive) adjust(now time.Duration, peak int64, draw uint64) {
	if a.answers.count() < enough {
		return
	}
	took, rest := a.answers.median(), a.Rest()
	a.answers.clear()
	switch {
	case peak <= int64(a.rules.Min):
		rest, a.busy = took, 0 // this is rest
		a.later(now, draw)
	case rest == 0 || took < rest:
		rest = took
	}
	a.rest.Store(int64(rest))
	gradient := min(max((1+a.rules.Tolerate)*float64(rest)/float64(took), 0.5), 2)
	size := a.size*gradient + math.Sqrt(a.size)
	if size > a.size && float64(peak) < a.size/2 {
		return // what is not used is no proof that more would do
	}
	a.size = min(max(size, float64(a.rules.Min)), float64(a.rules.Max))
	a.limit.Store(int64(a.size))
}

// histogram counts durations in buckets of a quarter of an octave, from 1 µs to
// 70 minutes.
type histogram [4 * 32]atomic.Uint32

func (h *histogram) add(d time.Duration) { h[bucket(d)].Add(1) }

func bucket(d time.Duration) int {
	us := max(uint64(d/time.Microsecond), 1)
	octave := bits.Len64(us) - 1
	quarter := us << 2 >> octave & 3
	return min(octave*4+int(quarter), len(histogram{})-1)
}

func (h *histogram) count() int {
	n := 0
	for i := range h {
		n += int(h[i].Load())
	}
	return n
}

func (h *histogram) clear() {
	for i := range h {
		h[i].Store(0)
	}
}

// median is exact to a quarter of an octave, and within it by interpolation.
func (h *histogram) median() time.Duration {
	half := float64(h.count()) / 2
	for i := range h {
		n := float64(h[i].Load())
		if n > 0 && half <= n {
			low := float64(time.Microsecond) * math.Pow(2, float64(i/4)) * (1 + float64(i%4)/4)
			return time.Duration(low + half/n*float64(time.Microsecond)*math.Pow(2, float64(i/4))/4)
		}
		half -= n
	}
	return 0
}
