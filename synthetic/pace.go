package synthetic

import (
	"math/rand/v2"
	"sync"
	"time"

	"meridian/fleet"
)

// pace is the timing of one check: jitter, and for one-round-trip checks how
// long to wait for an answer. It is safe for concurrent use.
type pace struct {
	interval time.Duration
	limit    time.Duration // the Spec's timeout

	mu     sync.Mutex
	srtt   time.Duration // smoothed round trip; 0 before the first
	rttvar time.Duration // its mean deviation
	fails  int           // failures in a row
}

// An answer to a one-round-trip check is late, and the check has failed, once
// it takes markedly longer than answers have taken lately, but never before
// leastWait.
const (
	leastWait = 250 * time.Millisecond
	firstWait = time.Second            // before the first answer
	slack     = 100 * time.Millisecond // for a busy host at the other end
	patience  = 3                      // failures, after which to wait as long as the Spec allows
)

func newPace(interval, limit time.Duration) *pace { return &pace{interval: interval, limit: limit} }

// first gives the wait before the first probe: the checks of a node are spread
// over the interval, each by its share of 0 to 1.
func (p *pace) first(share float64) time.Duration { return time.Duration(share * float64(p.interval)) }

// jittered moves a wait by up to a twentieth of the interval, so that probers
// do not fall in step.
func (p *pace) jittered(wait time.Duration) time.Duration {
	return max(0, wait+time.Duration((rand.Float64()-0.5)/10*float64(p.interval)))
}

// wait gives how long to wait for the answer to a one-round-trip probe that
// starts now, after RFC 6298: smoothed round trip and four deviations, though
// at least a quarter of it. After some failures it is all that the Spec
// allows, so that a path that became slow for good is found to work again.
func (p *pace) wait() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := firstWait
	switch {
	case p.fails >= patience:
		d = p.limit
	case p.srtt > 0:
		d = max(leastWait, p.srtt+max(4*p.rttvar, p.srtt/4)+slack)
	}
	return min(d, p.limit)
}

// learn takes in what came of a probe.
func (p *pace) learn(r fleet.ProbeResult) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !r.OK {
		p.fails++
		return
	}
	p.fails = 0
	if p.srtt == 0 {
		p.srtt, p.rttvar = max(r.Latency, 1), r.Latency/2
		return
	}
	p.rttvar += ((p.srtt - r.Latency).Abs() - p.rttvar) / 4
	p.srtt += (r.Latency - p.srtt) / 8
}
