package steer

import (
	"cmp"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"

	"meridian/geo"
)

// Slots is into how many equal parts clients fall where a policy or a shift
// splits them; a share is exact to about one part in a thousand.
const Slots = 1 << 14

// A client is told from another by its /24 or /48, so that an answer holds for
// all of it.
const (
	SliceV4 = 24
	SliceV6 = 48
)

// Slot is the part into which a client falls, 0 to Slots-1.
type Slot uint16

// SlotOf gives the slot of a client, from its /24 or /48 alone, and how many
// leading bits of the address that is. An IPv6 address that carries an IPv4
// one falls into the slot of that.
func SlotOf(a netip.Addr) (slot Slot, bits int) {
	carried := geo.Carried(a)
	if carried.Is4() {
		bits = SliceV4
		if a.Is6() {
			bits += 96
			if b := a.As16(); b[0] == 0x20 && b[1] == 0x02 { // 6to4 carries it behind 16 bits
				bits -= 80
			}
		}
		b := carried.As4()
		return Slot(mix(uint64(binary.BigEndian.Uint32(b[:])>>8)) % Slots), bits
	}
	b := a.As16()
	upper := binary.BigEndian.Uint64(b[:8]) >> 16
	if bits = SliceV6; upper == 0 || upper == 0x0064_ff9b_0000 {
		bits = 96 // beside addresses that carry IPv4 ones in their last 32 bits, which have slots of their own
	}
	return Slot(mix(upper|1<<63) % Slots), bits
}

// mix spreads a number evenly over 64 bits (the finaliser of SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// seed turns words into a number (FNV-1a).
func seed(words ...string) uint64 {
	h := uint64(14695981039346656037)
	for _, w := range words {
		for i := range len(w) {
			h = (h ^ uint64(w[i])) * 1099511628211
		}
		h = (h ^ 0xff) * 1099511628211
	}
	return h
}

// draw gives a slot's number for one purpose: above 0, below 1, always the
// same.
func draw(seed uint64, slot Slot) float64 {
	return (float64(mix(seed^mix(uint64(slot)))>>11) + 0.5) / (1 << 53)
}

// slotOrders is the order of a weighted node's members in each slot.
type slotOrders struct {
	positive int // members of a weight above 0; they come first
	of       [Slots]uint16
	list     [][]uint8
}

func (o *slotOrders) at(s Slot) []uint8 { return o.list[o.of[s]] }

// weigh ranks the members of a weighted node in each slot by weighted
// rendezvous: a member's weight changes only which slots come to or leave that
// member. Members of weight 0 come last, in the Spec's order: they serve only
// when all others are down. The draw depends on the ids of group and member
// alone, so that services of equal weights send a client to one region.
func weigh(n *node) *slotOrders {
	out := &slotOrders{}
	seeds, score := make([]uint64, len(n.members)), make([]float64, len(n.members))
	for i, m := range n.members {
		seeds[i] = seed("weight", n.name, m.id)
		if m.weight > 0 {
			out.positive++
		}
	}
	order := make([]uint8, len(n.members))
	known := map[string]uint16{}
	for s := range out.of {
		for i, m := range n.members {
			order[i], score[i] = uint8(i), math.Inf(-1)
			if w := m.weight; w > 0 {
				score[i] = math.Log(draw(seeds[i], Slot(s))) / float64(w)
			}
		}
		slices.SortStableFunc(order, func(a, b uint8) int { return cmp.Compare(score[b], score[a]) })
		at, ok := known[string(order)]
		if !ok {
			at = uint16(len(out.list))
			known[string(order)] = at
			out.list = append(out.list, slices.Clone(order))
		}
		out.of[s] = at
	}
	return out
}
