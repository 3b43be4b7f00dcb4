package balance

import (
	"math"
	"sync/atomic"
	"time"

	"meridian/fleet"
)

// Live is what changes about one endpoint. It is shared by every Balancer that
// holds the endpoint, so that a new generation goes on where the old one is.
// The zero Live is in the state unknown. It is safe for concurrent use.
type Live struct {
	state   atomic.Uint32
	active  atomic.Int64
	since   atomic.Int64  // when it last became up
	until   atomic.Int64  // the end of its last ejection; 0: there was none
	latency atomic.Uint64 // see sample
}

// State gives what is known of the endpoint by its checks.
func (l *Live) State() fleet.State { return fleet.State(l.state.Load()) }

// SetState notes a new verdict. One that becomes up begins its slow start.
func (l *Live) SetState(s fleet.State, now time.Duration) {
	if s == fleet.Up && l.State() != fleet.Up {
		l.since.Store(int64(now))
	}
	l.state.Store(uint32(s))
}

// Begin notes a request under way at the endpoint; End must follow.
func (l *Live) Begin() { l.active.Add(1) }

// End notes that the request is over.
func (l *Live) End() { l.active.Add(-1) }

// Active is the number of requests under way.
func (l *Live) Active() int64 { return l.active.Load() }

// Eject leaves the endpoint out until a time; then its share grows back over
// its slow start, or ten seconds where that is shorter.
func (l *Live) Eject(until time.Duration) { l.until.Store(int64(until)) }

// Ejected says whether the endpoint is left out now.
func (l *Live) Ejected(now time.Duration) bool { return int64(now) < l.until.Load() }

// EjectedUntil gives the end of the last ejection, 0 where there was none.
func (l *Live) EjectedUntil() time.Duration { return time.Duration(l.until.Load()) }

const (
	full     = 100              // percent of its weight that an endpoint has once it is warm
	least    = 10               // and with which it begins
	comeback = 10 * time.Second // shortest ramp after an ejection
)

// ramp gives the percentage of its weight that the endpoint has now: it grows
// evenly over slow from when it became up, or was no longer ejected.
func (l *Live) ramp(now, slow time.Duration) uint32 {
	begin := time.Duration(l.since.Load())
	if until := time.Duration(l.until.Load()); until > begin {
		begin, slow = until, max(slow, comeback)
	}
	passed := max(now-begin, 0)
	if passed >= slow {
		return full
	}
	return least + uint32((full-least)*passed/slow)
}

// Decay is the time in which the memory of a latency falls to 1/e.
const Decay = 10 * time.Second

// Observe notes how long an answer took, up to its header. One that took longer
// than the mean counts at once in full (its peak), a shorter one draws the mean
// down with time. The caller gives for a try that failed what the client would
// have waited at worst, else an endpoint that fails fast would look fast.
func (l *Live) Observe(now, took time.Duration) {
	at, value := tick(now), float32(max(took, 1))
	for {
		old := sample(l.latency.Load())
		mean, age := old.value(), old.age(at)
		if value < mean {
			if age == 0 {
				return // so short a time weighs nothing
			}
			w := decay(age)
			value = mean*w + value*(1-w)
		}
		if l.latency.CompareAndSwap(uint64(old), uint64(newSample(value, at))) {
			return
		}
		value = float32(max(took, 1))
	}
}

// Latency gives the peak-sensitive mean of how long answers took, falling while
// none comes, so that a slow endpoint is tried again; 0 where none came yet.
func (l *Live) Latency(now time.Duration) time.Duration {
	s := sample(l.latency.Load())
	return time.Duration(s.value() * decay(s.age(tick(now))))
}

// sample is a latency in nanoseconds as a float32, above the tick at which it
// was noted.
type sample uint64

const tickBits = 20 // a tick is 2^20 ns, about a millisecond; 32 bits of them 52 days

func tick(now time.Duration) uint32 { return uint32(now >> tickBits) }

func newSample(ns float32, at uint32) sample {
	return sample(uint64(math.Float32bits(ns))<<32 | uint64(at))
}

func (s sample) value() float32 { return math.Float32frombits(uint32(s >> 32)) }

// age gives the time since the sample; observations that overtake each other
// have none.
func (s sample) age(at uint32) time.Duration {
	return time.Duration(max(int32(at-uint32(s)), 0)) << tickBits
}

func decay(age time.Duration) float32 {
	if age == 0 {
		return 1
	}
	return float32(math.Exp(-float64(age) / float64(Decay)))
}
