// Package balance picks an endpoint for a request: weighted round robin,
// weighted least connections, consistent hash.
//
// A pick reads the endpoints' live states by atomic loads: it takes no lock
// and does not allocate. Of the endpoints it takes those in the best state
// that there is (up, unknown, drain, down), so that a pool whose endpoints are
// all down is served as if they were up (fail open).
//
// Pure floor: it imports fleet and edge/maglev. No I/O, clock, goroutine or
// logger.
package balance

import (
	"fmt"
	"sync/atomic"

	"meridian/edge/maglev"
	"meridian/fleet"
)

// Live is what changes about one endpoint. It is shared by every Balancer that
// holds the endpoint, so that a new generation goes on where the old one is.
// The zero Live is in the state unknown. It is safe for concurrent use.
type Live struct {
	state  atomic.Uint32
	active atomic.Int64
}

// State gives what is known of the endpoint.
func (l *Live) State() fleet.State { return fleet.State(l.state.Load()) }

// SetState notes a new verdict.
func (l *Live) SetState(s fleet.State) { l.state.Store(uint32(s)) }

// Begin notes a request under way at the endpoint; End must follow.
func (l *Live) Begin() { l.active.Add(1) }

// End notes that the request is over.
func (l *Live) End() { l.active.Add(-1) }

// Active is the number of requests under way.
func (l *Live) Active() int64 { return l.active.Load() }

// Member is one endpoint of a pool.
type Member struct {
	Name   string // unique in the pool and the same on every gateway: ADDRESS:PORT
	Weight int    // 1 to 1000
	Live   *Live
}

// maxTries bounds the tries of one request: the first and ten more.
const maxTries = 11

// Tried notes the members that one request has tried already. The zero Tried
// is empty.
type Tried struct {
	members [maxTries]int32
	n       int
}

// Add notes a member; more than eleven are forgotten.
func (t *Tried) Add(i int) {
	if t.n < maxTries {
		t.members[t.n] = int32(i)
		t.n++
	}
}

// Has says whether the member was tried.
func (t *Tried) Has(i int) bool {
	for _, m := range t.members[:t.n] {
		if int(m) == i {
			return true
		}
	}
	return false
}

// Balancer picks members by one policy. It is safe for concurrent use.
type Balancer struct {
	policy  fleet.RoutingPolicy
	members []Member
	weights []uint32 // divided by their greatest common divisor
	equal   bool     // all weights are the same
	turn    atomic.Uint64
	ring    maglev.Ring // consistent hash only
}

// New makes a Balancer. Where there are no members, every pick fails.
func New(policy fleet.RoutingPolicy, members []Member) (*Balancer, error) {
	b := &Balancer{policy: policy, members: members, weights: make([]uint32, len(members)), equal: true}
	var common uint32
	for i, m := range members {
		if m.Weight < 1 || m.Weight > 1000 {
			return nil, fmt.Errorf("endpoint %s: weight %d is not between 1 and 1000", m.Name, m.Weight)
		}
		b.weights[i] = uint32(m.Weight)
		common = gcd(common, b.weights[i])
	}
	for i := range b.weights {
		b.weights[i] /= common
		b.equal = b.equal && b.weights[i] == b.weights[0]
	}
	switch policy {
	case fleet.RoundRobin, fleet.LeastConnections:
	case fleet.ConsistentHash:
		var err error
		if b.ring, err = newRing(members); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("routing policy %q is unknown", policy)
	}
	return b, nil
}

// ranks orders the states by how fit an endpoint in that state is for a new
// request, fittest first. Its index is a fleet.State.
var ranks = [4]uint8{fleet.Up: 0, fleet.Unknown: 1, fleet.Drain: 2, fleet.Down: 4}

// A member that was tried already comes after all others but those that are
// down, and is last where it is down itself.
const (
	again     = 3
	againDown = 5
	rankCount = 6
)

// rank says how fit the member is for the next try, 0 for the fittest.
func (b *Balancer) rank(i int, tried *Tried) uint8 {
	r := ranks[b.members[i].Live.state.Load()&3]
	switch {
	case tried.n == 0 || !tried.Has(i):
		return r
	case r < again:
		return again
	}
	return againDown
}

// choice is the set of members that one pick may take: all of the best rank.
type choice struct {
	rank  uint8
	tried *Tried
	total uint32 // of weights; 0 where there are no members
}

// choose reads every member's state once.
func (b *Balancer) choose(tried *Tried) choice {
	var totals [rankCount]uint32
	for i := range b.members {
		totals[b.rank(i, tried)] += b.weights[i]
	}
	for r, total := range totals {
		if total > 0 {
			return choice{uint8(r), tried, total}
		}
	}
	return choice{}
}

// takes says whether the member belongs to the choice. States may change
// while a pick is under way; one that finds none left takes any: see first.
func (b *Balancer) takes(c *choice, i int) bool { return b.rank(i, c.tried) == c.rank }

// Pick gives the index of the member to try next, or -1 where there are none.
// The key steers consistent hash only. A member in tried is taken again only
// where all others are tried or down.
func (b *Balancer) Pick(key uint64, tried *Tried) int {
	c := b.choose(tried)
	if c.total == 0 {
		return -1
	}
	switch b.policy {
	case fleet.LeastConnections:
		return b.least(&c)
	case fleet.ConsistentHash:
		return b.hashed(&c, key)
	}
	return b.next(&c)
}

// next is weighted round robin. The turn walks the sum of weights in steps
// that are coprime to it, near the golden section: over one period each member
// has exactly its share, and in between its turns lie far apart. Where weights
// are equal the step is 1, the plain order.
func (b *Balancer) next(c *choice) int {
	step := uint64(1)
	if !b.equal {
		step = stride(c.total)
	}
	at := uint32(b.turn.Add(1) % uint64(c.total) * step % uint64(c.total))
	for i := range b.members {
		if !b.takes(c, i) {
			continue
		}
		if at < b.weights[i] {
			return i
		}
		at -= b.weights[i]
	}
	return b.first(c)
}

// stride gives a number coprime to n near its golden section.
func stride(n uint32) uint64 {
	for s := uint32(uint64(n) * 618 / 1000); s > 1; s-- {
		if gcd(s, n) == 1 {
			return uint64(s)
		}
	}
	return 1
}

func gcd(a, b uint32) uint32 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// least is weighted least connections: the fewest requests under way for each
// unit of weight, this one counted; equals take turns.
func (b *Balancer) least(c *choice) int {
	n := len(b.members)
	start := int(b.turn.Add(1) % uint64(n))
	best, load := -1, int64(0)
	for k := range n {
		i := start + k
		if i >= n {
			i -= n
		}
		if !b.takes(c, i) {
			continue
		}
		// load/weight of i < of best, by cross multiplication.
		l := b.members[i].Live.active.Load() + 1
		if best < 0 || l*int64(b.weights[best]) < load*int64(b.weights[i]) {
			best, load = i, l
		}
	}
	if best < 0 {
		return b.first(c)
	}
	return best
}

// first serves the rare pick during which the states of all members of the
// choice changed: any untried member will do.
func (b *Balancer) first(c *choice) int {
	for i := range b.members {
		if !c.tried.Has(i) {
			return i
		}
	}
	return 0
}
