package testkit

import (
	"iter"
	"math/rand/v2"
	"net/netip"
)

// Cities draws the networks of a geo database like the largest city databases:
// about three million of IPv4, more than a third of them longer than /24, and
// a million of IPv6, mostly /32 to /64; and for each the number, below places,
// of where it is. Neighbours are often at the same place, or at one whose
// number is near. They come in ascending order within each family, without
// overlaps, and are the same each time.
func Cities(places int) iter.Seq2[netip.Prefix, int] {
	return func(yield func(netip.Prefix, int) bool) {
		c := &cities{r: rand.New(rand.NewPCG(7, 7)), places: places, yield: yield}
		for top := uint64(1); top < 224 && !c.done; top++ {
			c.split4(top<<24, 8)
		}
		for _, top := range []uint64{0x2001, 0x2003, 0x2400, 0x2401, 0x2402, 0x2403, 0x2404, 0x2405, 0x2406, 0x2407, 0x2408, 0x2409,
			0x240a, 0x240b, 0x240d, 0x240e, 0x2600, 0x2601, 0x2602, 0x2603, 0x2604, 0x2605, 0x2606, 0x2607, 0x2620, 0x2800, 0x2801, 0x2803, 0x2804,
			0x2806, 0x2a00, 0x2a01, 0x2a02, 0x2a03, 0x2a04, 0x2a05, 0x2a06, 0x2a09, 0x2a0a, 0x2a0b, 0x2a0c, 0x2a0d, 0x2a0e, 0x2a10, 0x2c0f} {
			for half := range uint64(256) {
				if !c.done && c.r.IntN(3) > 0 {
					c.split6(top<<48|half<<40, 24)
				}
			}
		}
	}
}

type cities struct {
	r      *rand.Rand
	places int
	near   int // where the neighbourhood is
	yield  func(netip.Prefix, int) bool
	done   bool
}

func (c *cities) put(p netip.Prefix) {
	if c.done || c.r.IntN(12) == 0 { // of some nothing is known
		return
	}
	c.done = !c.yield(p, (c.near+c.r.IntN(1+c.r.IntN(24)))%c.places)
}

// split4 halves a network with odds in hundred that depend on its length.
func (c *cities) split4(a uint64, length int) {
	odds := 100
	switch {
	case length == 32:
		odds = 0
	case length >= 25:
		odds = 40
	case length == 24:
		odds = 17
	case length >= 16:
		odds = 79
	}
	if length == 18 {
		c.near = c.r.IntN(c.places)
	}
	if c.r.IntN(100) < odds {
		c.split4(a, length+1)
		c.split4(a|1<<(31-length), length+1)
		return
	}
	c.put(netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)}), length))
}

func (c *cities) split6(a uint64, length int) {
	odds := 78
	switch {
	case length == 64:
		odds = 0
	case length >= 48:
		odds = 30
	case length >= 32:
		odds = 47
	}
	if length == 26 {
		c.near = c.r.IntN(c.places)
	}
	if c.r.IntN(100) < odds {
		c.split6(a, length+1)
		c.split6(a|1<<(63-length), length+1)
		return
	}
	var b [16]byte
	for i := range 8 {
		b[i] = byte(a >> (56 - 8*i))
	}
	c.put(netip.PrefixFrom(netip.AddrFrom16(b), length))
}
