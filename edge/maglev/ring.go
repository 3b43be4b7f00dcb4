package maglev

import (
	"fmt"
	"slices"
	"strings"
)

const (
	// Slots is the size of layer 4's rings: a prime, and more than a hundred
	// times as many as a region has gateways, so that shares are even to about
	// 1 %.
	Slots = 65537

	// LargeSlots is that of large ones, for ten times as many members.
	LargeSlots = 655373
)

// Member is one that a ring chooses among.
type Member struct {
	Name   string // unique; it alone, with the seed, says which slots the member prefers
	Weight int    // 1 or more; members share the slots in proportion to it
}

// Ring holds for each slot the index of its member in the list that the ring
// was built of.
type Ring []uint16

// Of gives the slot of a hash: the hash's upper 32 bits, spread evenly.
func (r Ring) Of(hash uint64) int { return int((hash >> 32) * uint64(len(r)) >> 32) }

// Build makes a ring of so many slots, a prime number. The result depends on
// the set of members and the seed, not on the members' order. Errors: no
// members, more members than slots or than 65,536, a weight below 1, a name
// used twice, a number of slots that is not prime.
func Build(members []Member, slots int, seed uint64) (Ring, error) {
	order, err := check(members, slots)
	if err != nil {
		return nil, fmt.Errorf("maglev ring: %w", err)
	}
	b := builder{slots: uint64(slots), ring: make(Ring, slots), taken: make([]bool, slots)}
	heaviest := 0
	for _, i := range order {
		b.add(members[i], uint16(i), seed)
		heaviest = max(heaviest, members[i].Weight)
	}
	b.fill(heaviest)
	return b.ring, nil
}

// check gives the members' indexes in order of name.
func check(members []Member, slots int) ([]int, error) {
	if !prime(slots) {
		return nil, fmt.Errorf("%d slots: expected a prime number", slots)
	}
	if n := len(members); n == 0 || n > slots || n > 1<<16 {
		return nil, fmt.Errorf("%d members: expected 1 to %d", n, min(slots, 1<<16))
	}
	order := make([]int, len(members))
	for i, m := range members {
		order[i] = i
		if m.Weight < 1 {
			return nil, fmt.Errorf("member %q: weight %d is below 1", m.Name, m.Weight)
		}
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(members[a].Name, members[b].Name) })
	for i := 1; i < len(order); i++ {
		if name := members[order[i]].Name; name == members[order[i-1]].Name {
			return nil, fmt.Errorf("member %q: is there twice", name)
		}
	}
	return order, nil
}

func prime(n int) bool {
	if n < 2 {
		return false
	}
	for d := 2; d*d <= n; d++ {
		if n%d == 0 {
			return false
		}
	}
	return true
}

// builder fills a ring. Each member has its own order of the slots, begun at a
// start and stepped by a skip, and takes in its turns the first slot of it
// that is still free.
type builder struct {
	slots uint64
	ring  Ring
	taken []bool
	turns []turn
}

type turn struct {
	index  uint16
	next   uint64 // slot to try next
	skip   uint64
	weight int
	credit int // weight gathered since the last turn
}

func (b *builder) add(m Member, index uint16, seed uint64) {
	h := hash(m.Name, seed)
	b.turns = append(b.turns, turn{
		index: index, weight: m.Weight,
		next: h % b.slots,
		skip: mix(h)%(b.slots-1) + 1,
	})
}

// fill goes round the members until no slot is free. A member has a turn in a
// round as often as its weight relative to the heaviest one's says, so the
// rounds, not the order in them, carry the weights.
func (b *builder) fill(heaviest int) {
	for left := b.slots; ; {
		for i := range b.turns {
			t := &b.turns[i]
			if t.credit += t.weight; t.credit < heaviest {
				continue
			}
			t.credit -= heaviest
			b.take(t)
			if left--; left == 0 {
				return
			}
		}
	}
}

func (b *builder) take(t *turn) {
	for b.taken[t.next] {
		t.step(b.slots)
	}
	b.taken[t.next] = true
	b.ring[t.next] = t.index
	t.step(b.slots)
}

func (t *turn) step(slots uint64) {
	if t.next += t.skip; t.next >= slots {
		t.next -= slots
	}
}

// hash is 64-bit FNV-1a of the name, mixed with the seed.
func hash(name string, seed uint64) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 0x100000001b3
	}
	return mix(h ^ mix(seed))
}

// mix is the finisher of SplitMix64: every bit of x reaches every bit of the
// result (Steele, Lea and Flood, 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
