package balance

import (
	"cmp"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"meridian/edge/maglev"
	"meridian/fleet"
)

// Member is one endpoint of a pool.
type Member struct {
	Name     string // unique in the pool and the same on every gateway: ADDRESS:PORT
	Weight   int    // 1 to 1000
	Zone     string // part of the region; may be empty
	Priority int    // 0 first
	Leaving  bool   // by the operator's will it gets no clients but those that are held to it
	Live     *Live
}

// Config is how a Balancer picks. The zero value of a field is its default.
type Config struct {
	Policy        fleet.RoutingPolicy
	HashBound     int            // percent of its fair share that an endpoint may have under way; 0: no bound
	SlowStart     time.Duration  // ramp of an endpoint that comes up; 0: none
	Panic         int            // percent of the weight healthy, below which all count as healthy; 0: no panic
	Overprovision int            // percent of its share that a member can bear, from 100; 0: 140
	Zone          string         // this gateway's; empty: no preference
	Gateways      map[string]int // weight of the region's gateways by zone
}

// Ask is what one pick goes by.
type Ask struct {
	Key  uint64        // of the request, for consistent hash: see Key and KeyOf
	Draw uint64        // random and even
	Now  time.Duration // see the package's comment
	Held int           // 1 + the member that the client's cookie names; 0: none
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
	cfg     Config
	over    float64
	members []Member
	weights []uint32 // divided by their greatest common divisor, times full
	groups  []uint8  // of each member: index of its pair of priority and zone
	levels  []level  // by priority
	spread  []float64
	equal   bool    // all weights are the same
	mean    float64 // of weights
	turn    atomic.Uint64
	ring    maglev.Ring // consistent hash only
}

// level is one priority: the groups from first up to end, the gateway's own
// zone first where home is set.
type level struct {
	first, end int
	home       bool
}

// New makes a Balancer. Where there are no members, every pick fails. Errors: a
// weight out of range, an unknown policy, more than fleet.MaxGroups pairs of
// priority and zone, for consistent hash a name used twice.
func New(cfg Config, members []Member) (*Balancer, error) {
	b := &Balancer{cfg: cfg, members: members, weights: make([]uint32, len(members)), equal: true,
		over: float64(max(cmp.Or(cfg.Overprovision, 140), 100)) / 100}
	var common uint32
	for i, m := range members {
		if m.Weight < 1 || m.Weight > 1000 {
			return nil, fmt.Errorf("endpoint %s: weight %d is not between 1 and 1000", m.Name, m.Weight)
		}
		b.weights[i] = uint32(m.Weight)
		common = gcd(common, b.weights[i])
	}
	for i := range b.weights {
		b.weights[i] = b.weights[i] / common * full
		b.equal = b.equal && b.weights[i] == b.weights[0]
		b.mean += float64(b.weights[i]) / float64(len(b.weights))
	}
	if err := b.group(); err != nil {
		return nil, err
	}
	switch cfg.Policy {
	case fleet.RoundRobin, fleet.LeastConnections, fleet.PeakEWMA, fleet.Random:
	case fleet.ConsistentHash:
		var err error
		if b.ring, err = newRing(members); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("routing policy %q is unknown", cfg.Policy)
	}
	return b, nil
}

// group sorts the members into priorities and, where the gateway has a zone,
// zones.
func (b *Balancer) group() error {
	type pair struct {
		priority int
		away     bool
		zone     string
	}
	of := func(m *Member) pair {
		if b.cfg.Zone == "" {
			return pair{priority: m.Priority}
		}
		return pair{m.Priority, m.Zone != b.cfg.Zone, m.Zone}
	}
	var pairs []pair
	for i := range b.members {
		if p := of(&b.members[i]); !slices.Contains(pairs, p) {
			pairs = append(pairs, p)
		}
	}
	if len(pairs) > fleet.MaxGroups {
		return fmt.Errorf("%d pairs of priority and zone; expected at most %d", len(pairs), fleet.MaxGroups)
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		away := func(p pair) int {
			if p.away {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(away(a), away(b)), cmp.Compare(a.zone, b.zone))
	})
	b.groups = make([]uint8, len(b.members))
	for i := range b.members {
		b.groups[i] = uint8(slices.Index(pairs, of(&b.members[i])))
	}
	gateways := 0
	for zone, w := range b.cfg.Gateways {
		if zone != "" {
			gateways += w
		}
	}
	for g, p := range pairs {
		if g == 0 || p.priority != pairs[g-1].priority {
			b.levels = append(b.levels, level{first: g, home: b.cfg.Zone != "" && !p.away})
		}
		b.levels[len(b.levels)-1].end = g + 1
		b.spread = append(b.spread, float64(b.cfg.Gateways[p.zone])/float64(max(gateways, 1)))
	}
	return nil
}

// Pick gives the index of the member to try next, or -1 where there are none.
// A member in tried is taken again only where all others are tried or down.
func (b *Balancer) Pick(a Ask, tried *Tried) int {
	switch {
	case len(b.members) == 0:
		return -1
	case b.held(&a, tried):
		return a.Held - 1
	}
	c := b.choose(&a, tried)
	var turn uint64
	if b.cfg.Policy == fleet.RoundRobin {
		turn = b.turn.Add(1)
	}
	return b.decide(&c, &a, turn)
}

// held says whether the member that the client is held to is usable. One that
// drains is: it finishes what clients have begun with it.
func (b *Balancer) held(a *Ask, tried *Tried) bool {
	i := a.Held - 1
	if i < 0 || i >= len(b.members) || tried.Has(i) {
		return false
	}
	l := b.members[i].Live
	return l.State() != fleet.Down && !l.Ejected(a.Now)
}

// decide takes one member of the choice by the policy.
func (b *Balancer) decide(c *choice, a *Ask, turn uint64) int {
	switch b.cfg.Policy {
	case fleet.LeastConnections:
		return b.fewest(c, a.Draw)
	case fleet.ConsistentHash:
		return b.hashed(c, a.Key)
	case fleet.PeakEWMA, fleet.Random:
		return b.two(c, a.Draw)
	}
	return b.next(c, turn)
}
