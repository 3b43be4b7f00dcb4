package balance

import (
	"time"

	"meridian/fleet"
)

// next is weighted round robin. The turn walks the sum of weights in steps
// that are coprime to it, near the golden section: over one period each member
// has exactly its share, and in between its turns lie far apart. Where weights
// are equal the step is 1, the plain order.
func (b *Balancer) next(c *choice, turn uint64) int {
	unit := uint32(full)
	if c.ramping {
		unit = 1
	}
	total, step := max(c.total/unit, 1), uint64(1)
	if !b.equal || c.ramping {
		step = stride(total)
	}
	return b.at(c, uint32(turn%uint64(total)*step%uint64(total))*unit, -1)
}

// at gives the member in whose part of the sum of weights the offset falls,
// where the member but has none.
func (b *Balancer) at(c *choice, offset uint32, but int) int {
	for i := range b.members {
		if i == but || !b.takes(c, i) {
			continue
		}
		w := b.weight(c, i)
		if offset < w {
			return i
		}
		offset -= w
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

// fewest is weighted least connections: the fewest requests under way for each
// unit of weight, this one counted; of equals the one that is drawn by weight.
func (b *Balancer) fewest(c *choice, draw uint64) int {
	n := len(b.members)
	start := b.at(c, uint32((draw>>32)*uint64(c.total)>>32), -1)
	best, load, weight := -1, int64(0), int64(0)
	for k := range n {
		i := start + k
		if i >= n {
			i -= n
		}
		if !b.takes(c, i) {
			continue
		}
		// load/weight of i < of best, by cross multiplication.
		l, w := b.members[i].Live.active.Load()+1, int64(b.weight(c, i))
		if best < 0 || l*weight < load*w {
			best, load, weight = i, l, w
		}
	}
	if best < 0 {
		return b.first(c)
	}
	return best
}

// two draws two members by weight and gives the one of less cost, the first
// where they are equal (Mitzenmacher, "The Power of Two Choices in Randomized
// Load Balancing", 2001).
func (b *Balancer) two(c *choice, draw uint64) int {
	one, other := b.drawn(c, draw)
	if other != one && b.cost(c, other) < b.cost(c, one) {
		return other
	}
	return one
}

// drawn gives two members, the same one twice where there is no other.
func (b *Balancer) drawn(c *choice, draw uint64) (one, other int) {
	one = b.at(c, uint32((draw>>32)*uint64(c.total)>>32), -1)
	rest := c.total - min(b.weight(c, one), c.total)
	if rest == 0 {
		return one, one
	}
	return one, b.at(c, uint32(draw&(1<<32-1)*uint64(rest)>>32), one)
}

// unmeasured is the latency that is assumed of a member with requests under way
// that has answered none yet, so that it gets no more of them at first.
const unmeasured = float64(time.Second)

// cost is what a further request at the member costs: itself and those under
// way, which weigh more where the member's weight is below the mean; with peak
// EWMA times the latency. The request itself weighs the same at all members,
// since they are drawn by weight: so shares keep to weights under any load.
func (b *Balancer) cost(c *choice, i int) float64 {
	l := b.members[i].Live
	active := l.Active()
	load := 1 + float64(active)*b.mean/float64(b.weight(c, i))
	if b.cfg.Policy != fleet.PeakEWMA {
		return load
	}
	latency := float64(l.Latency(c.now))
	if latency == 0 && active > 0 {
		latency = unmeasured
	}
	return latency * load
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
