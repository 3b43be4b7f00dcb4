package balance

import (
	"time"

	"meridian/fleet"
)

// How fit a member is for a new request, fittest first.
const (
	proven   = iota // up
	unproven        // nothing is known
	draining        // takes no new work
	again           // was tried already, and is one of these
	ejected
	down
	againDown // tried already, and ejected or down
	rankCount
)

// ranks has as index a fleet.State.
var ranks = [4]uint8{fleet.Up: proven, fleet.Unknown: unproven, fleet.Drain: draining, fleet.Down: down}

// choice is the set of members that one pick may take: those of some groups
// that have one rank.
type choice struct {
	tried      *Tried
	now        time.Duration
	panic      bool
	ramping    bool // some member has less than its weight
	rank       uint8
	first, end int    // groups
	total      uint32 // of weights
}

// tally is what a group's members can do, in weights.
type tally struct {
	total, healthy, draining uint32
	ranks                    [rankCount]uint32 // as they are now, by rank
}

// health ranks a member by state alone. A panic forgives what checks say, and
// not what requests have shown: who is ejected stays out as long as there is
// anybody else, else requests would go to what is really dead.
func (b *Balancer) health(c *choice, i int) uint8 {
	l := b.members[i].Live
	r := ranks[l.state.Load()&3]
	if c.panic && r != draining {
		r = proven
	}
	switch {
	case r < ejected && l.Ejected(c.now):
		r = ejected
	case r < draining && b.members[i].Leaving:
		r = draining
	}
	return r
}

// rank says how fit the member is for the next try.
func (b *Balancer) rank(c *choice, i int) uint8 {
	r := b.health(c, i)
	switch {
	case c.tried.n == 0 || !c.tried.Has(i):
		return r
	case r < again:
		return again
	}
	return againDown
}

// weight is the member's now.
func (b *Balancer) weight(c *choice, i int) uint32 {
	if !c.ramping {
		return b.weights[i]
	}
	return b.weights[i] / full * b.members[i].Live.ramp(c.now, b.cfg.SlowStart)
}

// takes says whether the member belongs to the choice. States may change
// while a pick is under way; one that finds none left takes any: see first.
func (b *Balancer) takes(c *choice, i int) bool {
	g := int(b.groups[i])
	return g >= c.first && g < c.end && b.rank(c, i) == c.rank
}

// choose reads every member's state once, twice in a panic.
func (b *Balancer) choose(a *Ask, tried *Tried) choice {
	c := choice{tried: tried, now: a.Now}
	var all [fleet.MaxGroups]tally
	t := all[:b.levels[len(b.levels)-1].end]
	b.count(&c, t)
	if b.panics(t) {
		c.panic = true
		clear(t)
		b.count(&c, t)
	}
	draw := a.Draw
	if b.cfg.Policy == fleet.ConsistentHash {
		draw = a.Key // so that a client keeps its group
	}
	b.aim(&c, t, draw)
	return c
}

func (b *Balancer) count(c *choice, t []tally) {
	for i := range b.members {
		g, w := &t[b.groups[i]], b.weights[i]
		r := b.health(c, i)
		g.total += w
		switch {
		case r <= unproven:
			g.healthy += w
		case r == draining:
			g.draining += w
		}
		if p := b.members[i].Live.ramp(c.now, b.cfg.SlowStart); p < full {
			c.ramping = true
			w = w / full * p
		}
		if c.tried.n > 0 {
			r = b.rank(c, i)
		}
		g.ranks[r] += w
	}
}

// panics says that so little of the pool is healthy that the rest would fall
// under the load as well, or that it is the checks that err. Members that drain
// do so by intent. Where priorities together can bear the load there is no
// panic.
func (b *Balancer) panics(t []tally) bool {
	if b.cfg.Panic == 0 {
		return false
	}
	var healthy, counted uint64
	for g := range t {
		healthy += uint64(t[g].healthy)
		counted += uint64(t[g].total - t[g].draining)
	}
	if healthy*100 >= counted*uint64(b.cfg.Panic) {
		return false
	}
	if len(b.levels) == 1 {
		return true
	}
	sum := 0.0
	for i := range b.levels {
		sum += b.bears(&b.levels[i], t)
	}
	return sum < 1
}

// bears gives what share of all requests a priority can take: all where its
// healthy members, working as far above their share as they can, make up for
// the others.
func (b *Balancer) bears(l *level, t []tally) float64 {
	var healthy, total uint32
	for g := l.first; g < l.end; g++ {
		healthy += t[g].healthy
		total += t[g].total
	}
	return min(1, b.over*float64(healthy)/float64(total))
}

// aim narrows the choice to a priority, a zone and a rank.
func (b *Balancer) aim(c *choice, t []tally, draw uint64) {
	c.first, c.end = b.levels[0].first, b.levels[0].end
	if len(t) > 1 {
		b.aimGroup(c, t, float64(mix(draw)>>11)/(1<<53))
	}
	c.rank = best(t[c.first:c.end])
	if c.rank > unproven && len(t) > 1 {
		// Nobody fresh there: whoever is fittest anywhere.
		c.rank = best(t)
		for i := range b.levels {
			if l := &b.levels[i]; best(t[l.first:l.end]) == c.rank {
				c.first, c.end = l.first, l.end
				break
			}
		}
	}
	for g := c.first; g < c.end; g++ {
		c.total += t[g].ranks[c.rank]
	}
}

func best(t []tally) uint8 {
	rank := rankCount - 1
	for g := range t {
		for r := range rank {
			if t[g].ranks[r] > 0 {
				rank = r
				break
			}
		}
	}
	return uint8(rank)
}

// aimGroup takes the priority, then the zone, in which x of 0 to 1 falls.
func (b *Balancer) aimGroup(c *choice, t []tally, x float64) {
	sum, left := 0.0, 1.0
	for i := range b.levels {
		sum += b.bears(&b.levels[i], t)
	}
	if sum == 0 {
		return // the first priority, whole
	}
	left = min(1, sum)
	x *= left
	for i := range b.levels {
		l := &b.levels[i]
		load := min(left, b.bears(l, t))
		if x < load || i == len(b.levels)-1 {
			c.first, c.end = l.first, l.end
			if l.home {
				b.aimZone(c, l, t, x/max(load, 1e-9))
			}
			return
		}
		x -= load
		left -= load
	}
}

// aimZone takes the gateway's own zone as far as its healthy members, working
// above their share as they can, bear what the zone's gateways send; and of
// the others each by what it has to spare beyond its own gateways.
func (b *Balancer) aimZone(c *choice, l *level, t []tally, x float64) {
	healthy := 0.0
	for g := l.first; g < l.end; g++ {
		healthy += float64(t[g].healthy)
	}
	if healthy == 0 || l.end-l.first == 1 {
		return
	}
	home := float64(t[l.first].healthy) / healthy
	stays := 1.0
	if own := b.spread[l.first]; b.over*home < own {
		stays = b.over * home / own
	} else if home == 0 {
		stays = 0
	}
	if x < stays {
		c.end = l.first + 1
		return
	}
	c.first++
	spare := func(g int) float64 { return max(0, float64(t[g].healthy)/healthy-b.spread[g]) }
	sum := 0.0
	for g := c.first; g < l.end; g++ {
		sum += spare(g)
	}
	if sum == 0 {
		return
	}
	x = (x - stays) / (1 - stays) * sum
	for g := c.first; g < l.end; g++ {
		if s := spare(g); x < s {
			c.first, c.end = g, g+1
			return
		} else {
			x -= s
		}
	}
}
