package steer

import (
	"cmp"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"

	"meridian/fleet"
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

// SlotOf gives the slot of a client, from its /24 or /48 alone.
func SlotOf(a netip.Addr) Slot {
	if a.Is4() {
		b := a.As4()
		return Slot(mix(uint64(binary.BigEndian.Uint32(b[:])>>8)) % Slots)
	}
	b := a.As16()
	return Slot(mix(binary.BigEndian.Uint64(b[:8])>>16|1<<63) % Slots)
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

// weigh ranks the candidates of a weighted service in each slot by weighted
// rendezvous: a region's weight changes only which slots come to or leave that
// region. Regions of weight 0 come last, in the Spec's order: they serve only
// when all others are down.
func (c *Classes) weigh(svc *fleet.Service) *[Slots][]uint8 {
	if svc.Steering.Policy != fleet.Weighted {
		return nil
	}
	list := c.candidates(svc)
	all := make([]uint8, 0, Slots*len(list))
	var seeds [256]uint64
	var score [256]float64
	for _, r := range list {
		seeds[r] = seed("weight", svc.Service, c.regions[r].ID)
	}
	out := new([Slots][]uint8)
	for s := range out {
		for _, r := range list {
			score[r] = math.Inf(-1)
			if w := svc.Steering.Weights[c.regions[r].ID]; w > 0 {
				score[r] = math.Log(draw(seeds[r], Slot(s))) / float64(w)
			}
		}
		all = append(all, list...)
		out[s] = all[len(all)-len(list):]
		slices.SortStableFunc(out[s], func(a, b uint8) int { return cmp.Compare(score[b], score[a]) })
	}
	return out
}

// shifted says whether a slot is among the share of clients that a shift
// moves. A greater share moves the same slots and more.
func shifted(sh *fleet.Shift, slot Slot) bool {
	return sh.Share >= 1 || draw(seed("shift", sh.From), slot) < sh.Share
}
