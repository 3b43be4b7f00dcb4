package balance

import (
	"encoding/binary"
	"net/netip"

	"meridian/edge/maglev"
)

// newRing maps keys to members. It holds every member, whatever its state, so
// that a change of health moves only the keys of the members concerned and
// builds nothing.
func newRing(members []Member) (maglev.Ring, error) {
	if len(members) == 0 {
		return nil, nil
	}
	list := make([]maglev.Member, len(members))
	for i, m := range members {
		list[i] = maglev.Member{Name: m.Name, Weight: m.Weight}
	}
	return maglev.Build(list, maglev.Slots, 0)
}

// Key gives the key of a client's address: the same on every gateway.
func Key(a netip.Addr) uint64 {
	b := a.As16()
	return mix(mix(binary.BigEndian.Uint64(b[:8])) ^ binary.BigEndian.Uint64(b[8:]))
}

// KeyOf gives the key of a header, cookie or path: the same on every gateway
// (FNV-1a, mixed). Clients can make texts with one key: a bound (HashBound)
// keeps them from loading one endpoint.
func KeyOf[T ~string | ~[]byte](text T) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 0x100000001b3
	}
	return mix(h)
}

// mix is the finaliser of SplitMix64: every bit of x moves half of the result's.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// walks bounds how often a key is hashed again before the members are
// searched in order.
const walks = 16

// hashed finds the key's member on the ring. While that one cannot be taken
// the key is hashed again, so that the keys of a dead or full member spread
// over all others, and come back to it when it is neither.
func (b *Balancer) hashed(c *choice, key uint64) int {
	most := b.bound(c)
	walk := key
	for range walks {
		i := int(b.ring[b.ring.Of(walk)])
		if b.takes(c, i) && b.warm(c, i, key) && b.roomy(c, i, most) {
			return i
		}
		walk = mix(walk)
	}
	n := len(b.members)
	start := int(walk % uint64(n))
	for _, bound := range [2]float64{most, 0} {
		for k := range n {
			if i := (start + k) % n; b.takes(c, i) && b.roomy(c, i, bound) {
				return i
			}
		}
	}
	return b.first(c)
}

// warm says whether a member in its slow start takes the key already: one key
// after the other becomes warm, and stays so.
func (b *Balancer) warm(c *choice, i int, key uint64) bool {
	return !c.ramping || mix(key^0x736c6f77)%full < uint64(b.members[i].Live.ramp(c.now, b.cfg.SlowStart))
}

// bound gives how many requests a member may have under way for each unit of
// weight, this one counted; 0: as many as there are (Mirrokni, Thorup,
// Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2018). The bounds of
// all members together are more than all requests, so one has room.
func (b *Balancer) bound(c *choice) float64 {
	if b.cfg.HashBound == 0 {
		return 0
	}
	requests := int64(1)
	for i := range b.members {
		if b.takes(c, i) {
			requests += b.members[i].Live.Active()
		}
	}
	return float64(b.cfg.HashBound) / 100 * float64(requests) / float64(max(c.total, 1))
}

// rounding is less than any bound can differ from the next whole number.
const rounding = 1e-6

func (b *Balancer) roomy(c *choice, i int, most float64) bool {
	// A load below a bound has room for one more up to the bound rounded up.
	return most == 0 || float64(b.members[i].Live.Active()) < most*float64(b.weight(c, i))-rounding
}
