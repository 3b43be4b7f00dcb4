package maglev

import (
	"cmp"
	"slices"
	"time"
)

const (
	// Formers is how many former owners a slot has at most.
	Formers = 4

	// keptRings bounds a history: so many rings beside the one in force, of which
	// the last foldedRings may stand for any number of older ones. That is one more
	// than a slot has former owners, since one of them may be its owner now.
	keptRings   = 16
	foldedRings = Formers + 1
)

// History is a ring and the rings before it: which members a slot had earlier,
// where flows that began then may still be. A flow can be with no other member
// than one of them, however many members changed at once or since.
//
// It is not safe for concurrent use.
type History struct {
	slots   int
	seed    uint64
	current generation
	past    []generation // newest first
	assumed []generation // behind all of these
}

// generation is one ring; without members it is empty.
type generation struct {
	Members []Member  // in order of name
	Ended   time.Time // when another ring took its place; of a folded one, the first of those times
	ring    Ring
	ended   []uint32 // of a folded one: the same by slot, in seconds since 1970, rounded up; nil: Ended, all
}

// endedAt gives when the ring's owner of a slot ceased to be that, likewise.
func (g *generation) endedAt(slot int) uint32 {
	if g.ended != nil {
		return g.ended[slot]
	}
	return uint32(g.Ended.Add(time.Second - 1).Unix())
}

// NewHistory begins one whose rings have so many slots, a prime number, by this
// seed. Its first ring has no members.
func NewHistory(slots int, seed uint64) *History {
	return &History{slots: slots, seed: seed}
}

// Next puts a ring of these members in force. The same members as before change
// nothing; those of an earlier ring bring that back. Errors are Build's, and then
// the ring stays; but no members at all are none.
func (h *History) Next(members []Member, now time.Time) error {
	members = sorted(members)
	if slices.Equal(members, h.current.Members) {
		return nil
	}
	next, err := h.make(members)
	if err != nil {
		return err
	}
	h.current.Ended = now
	past := slices.DeleteFunc(slices.Clone(h.past), func(g generation) bool { return slices.Equal(g.Members, members) })
	if len(h.current.Members) > 0 {
		past = slices.Insert(past, 0, h.current)
	}
	if apart := keptRings - foldedRings; len(past) > keptRings {
		past = append(past[:apart:apart], h.fold(past[apart:])...)
	}
	h.current, h.past = next, past
	return nil
}

// fold makes few rings of many, the newest first, that say the same of former
// owners: the first has each slot's newest owner in any of them, the second the
// one before, and so on, each with the time when it had the slot last.
func (h *History) fold(rings []generation) []generation {
	members, numbers := []Member{{}}, map[string]uint16{"": 0}
	number := func(name string) uint16 {
		n, ok := numbers[name]
		if !ok {
			n = uint16(len(members))
			members, numbers[name] = append(members, Member{Name: name}), n
		}
		return n
	}
	newest := make([][foldedRings]uint16, h.slots)
	out := make([]generation, foldedRings)
	for k := range out {
		out[k] = generation{ring: make(Ring, h.slots), ended: make([]uint32, h.slots)}
	}
	for _, g := range rings {
		of := g.indexes(number)
		for slot, m := range g.ring {
			n := of[m]
			if n == 0 {
				continue
			}
			if k := add(newest[slot][:], n); k >= 0 {
				out[k].ring[slot], out[k].ended[slot] = n, g.endedAt(slot)
			}
		}
	}
	for k := range out {
		out[k].Members = members
		out[k].first()
	}
	return out
}

// first notes when the first of a folded ring's owners ended, and says whether there
// is one.
func (g *generation) first() bool {
	var first uint32
	for slot, m := range g.ring {
		if m != 0 && (first == 0 || g.ended[slot] < first) {
			first = g.ended[slot]
		}
	}
	g.Ended = time.Unix(int64(first), 0)
	return first != 0
}

// retire takes those owners from a folded ring that ended before a time, and says
// whether some are left. Other histories may have the ring as it was.
func (g *generation) retire(before time.Time) bool {
	g.ring = slices.Clone(g.ring)
	for slot := range g.ring {
		if time.Unix(int64(g.ended[slot]), 0).Before(before) {
			g.ring[slot] = 0
		}
	}
	return g.first()
}

// Clone gives a history that goes on by itself.
func (h *History) Clone() *History {
	c := *h
	return &c
}

// Presume has rings of these members looked at behind all that the history knows,
// for as long as nothing else is presumed: rings that may be in force elsewhere or
// have been, without this history seeing it. Errors are Build's, and then what was
// presumed stays.
func (h *History) Presume(rings ...[]Member) error {
	var all []generation
	for _, members := range rings {
		g, err := h.make(sorted(members))
		if err != nil {
			return err
		}
		all = append(all, g)
	}
	h.assumed = all
	return nil
}

// Recall adds a ring of which no more is known than the member at each slot, ""
// for none: so many slots as the history's rings have.
func (h *History) Recall(owners []string, ended time.Time) {
	g := generation{Ended: ended, ring: make(Ring, h.slots)}
	index := map[string]uint16{}
	for slot, name := range owners {
		i, ok := index[name]
		if !ok {
			i = uint16(len(index))
			index[name] = i
			g.Members = append(g.Members, Member{Name: name})
		}
		g.ring[slot] = i
	}
	h.past = append(slices.Clone(h.past), g)
}

// Retire forgets the rings, and owners of slots, that ended before a time, and says
// whether there were any.
func (h *History) Retire(before time.Time) (any bool) {
	var left []generation
	for _, g := range h.past {
		old := g.Ended.Before(before)
		if !old || g.ended != nil && g.retire(before) {
			left = append(left, g)
		}
		any = any || old
	}
	h.past = left
	return any
}

// Members gives the members of the ring in force, in order of name.
func (h *History) Members() []Member { return h.current.Members }

// Slots gives for each slot what index says of its member; 0 where the ring has
// none.
func (h *History) Slots(index func(name string) uint16) []uint16 {
	out := make([]uint16, h.slots)
	of := h.current.indexes(index)
	for slot, m := range h.current.ring {
		out[slot] = of[m]
	}
	return out
}

// Former gives for each slot what index says of the members that had it before
// the one that has it now, the newest first, each once. Where index says 0 the
// member is left out, as one that lives no more. The result is nil where no slot
// has any.
func (h *History) Former(index func(name string) uint16) [][Formers]uint16 {
	var out [][Formers]uint16
	now := h.Slots(index)
	for _, g := range slices.Concat(h.past, h.assumed) {
		of := g.indexes(index)
		for slot, m := range g.ring {
			id := of[m]
			if id == 0 || id == now[slot] {
				continue
			}
			if out == nil {
				out = make([][Formers]uint16, h.slots)
			}
			add(out[slot][:], id)
		}
	}
	return out
}

// add puts an index behind those that are there, and gives its place; -1: it is one
// of them, or there is no room.
func add(to []uint16, id uint16) int {
	for i, have := range to {
		if have == id {
			return -1
		}
		if have == 0 {
			to[i] = id
			return i
		}
	}
	return -1
}

func sorted(members []Member) []Member {
	return slices.SortedFunc(slices.Values(members), func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
}

// make builds the ring of members in order of name.
func (h *History) make(members []Member) (generation, error) {
	g := generation{Members: members}
	if len(members) == 0 {
		return g, nil
	}
	var err error
	g.ring, err = Build(members, h.slots, h.seed)
	return g, err
}

func (g *generation) indexes(index func(name string) uint16) []uint16 {
	out := make([]uint16, len(g.Members))
	for i, m := range g.Members {
		out[i] = index(m.Name)
	}
	return out
}
