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
// the key is hashed again, so that the keys of a dead member spread over all
// others, and come back to it when it does.
func (b *Balancer) hashed(c *choice, key uint64) int {
	for range walks {
		if i := int(b.ring[b.ring.Of(key)]); b.takes(c, i) {
			return i
		}
		key = mix(key)
	}
	n := len(b.members)
	start := int(key % uint64(n))
	for k := range n {
		if i := (start + k) % n; b.takes(c, i) {
			return i
		}
	}
	return b.first(c)
}
