package xdp

import (
	"encoding/binary"
	"math"
	"unsafe"

	"meridian/dns/answer"
	"meridian/geo"
	"meridian/steer"
)

// Limits of the program (bpf/consts.h).
const (
	maxStates    = 4096
	entryPass    = math.MaxUint16
	entrySliced  = 1 << 15
	scopesNone   = math.MaxUint32
	scopesBlocks = math.MaxUint32 - 1
	scopesPass   = math.MaxUint32 - 2
)

// decider numbers what steering decides, for as long as an image lives: what an
// answer is made of keeps its number, whatever health makes of it.
type decider struct {
	by      map[answer.Decision]*decision
	classes int
}

// decision is one service's, for one kind of answer.
type decision struct {
	of    answer.Decision
	index int
	ids   map[answer.Made]uint16
	made  []answer.Made // by id
	known int           // of them, those that the faces have
	faces []*face
}

func newDecider(p *answer.Plan) *decider {
	d := &decider{by: map[answer.Decision]*decision{}}
	for of := range p.Decisions() {
		if len(d.by) == maxStates {
			break // the rest is the sockets'
		}
		d.by[of] = &decision{of: of, index: len(d.by), ids: map[answer.Made]uint16{}}
		d.classes = max(d.classes, p.Decided(of).Classes())
	}
	d.decide(p)
	for _, one := range d.by {
		one.known = len(one.made)
	}
	return d
}

// id numbers what an answer is made of; entryPass where there is too much of it.
func (d *decision) id(m answer.Made) uint16 {
	id, ok := d.ids[m]
	if !ok {
		if len(d.made) == entrySliced {
			return entryPass
		}
		id = uint16(len(d.made))
		d.ids[m], d.made = id, append(d.made, m)
	}
	return id
}

// decided is what a plan decides, as the program has it, before it has its
// places in the maps.
type decided struct {
	list   []decidedOne // by decision.index
	tables []string     // of ids by slot
}

type decidedOne struct {
	entries []uint16 // by class; those with entrySliced set give the number of a table
	scopes  geo.Scopes
	uniform bool
}

// decide numbers what a plan decides.
func (d *decider) decide(p *answer.Plan) *decided {
	out := &decided{list: make([]decidedOne, len(d.by))}
	s := slicer{known: map[string]uint16{}, made: map[sliceKey][]answer.Made{}, out: out}
	for _, one := range d.by {
		of := p.Decided(one.of)
		e := &out.list[one.index]
		e.scopes, e.uniform = of.Scopes()
		e.entries = make([]uint16, d.classes)
		entries := map[uint32]uint16{}
		for class := range e.entries {
			if class >= of.Classes() {
				e.entries[class] = entryPass
				continue
			}
			number := of.Of(class)
			entry, ok := entries[number]
			if !ok {
				if number&answer.Sliced == 0 {
					entry = one.id(of.Made(number, 0))
				} else {
					entry = s.entry(one, of, number)
				}
				entries[number] = entry
			}
			e.entries[class] = entry
		}
	}
	return out
}

// slicer makes the tables of what depends on slots; services that are decided
// alike share the work.
type slicer struct {
	known map[string]uint16
	made  map[sliceKey][]answer.Made
	out   *decided
}

type sliceKey struct {
	decided any
	number  uint32
}

func (s *slicer) entry(one *decision, of answer.Decided, number uint32) uint16 {
	key := sliceKey{of.Key(), number}
	made, ok := s.made[key]
	if !ok {
		made = make([]answer.Made, steer.Slots)
		for slot := range made {
			made[slot] = of.Made(number, steer.Slot(slot))
		}
		s.made[key] = made
	}
	table := make([]byte, 0, 2*steer.Slots)
	for i, m := range made {
		if i > 0 && m == made[i-1] {
			table = append(table, table[len(table)-2:]...)
			continue
		}
		table = binary.NativeEndian.AppendUint16(table, one.id(m))
	}
	n, ok := s.known[string(table)]
	if !ok {
		n = uint16(len(s.out.tables))
		if n == entrySliced-1 {
			return entryPass
		}
		s.known[string(table)] = n
		s.out.tables = append(s.out.tables, string(table))
	}
	return entrySliced | n
}

// scopesKey tells scopes apart: plans that follow from one another share them.
func scopesKey(s geo.Scopes) *uint8 { return unsafe.SliceData(s) }
