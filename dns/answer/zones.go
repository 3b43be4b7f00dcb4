package answer

import (
	"hash/maphash"
	"iter"
	"maps"
	"sync/atomic"

	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
)

// served is one zone as a plan has it. It is immutable.
type served struct {
	*zone.Zone // nil: the zone is the fleet's, and its content is not here (yet, or any more)

	apex    string // wire form, lower case
	from    origin
	object  fleet.Object // fromWorld: what it was read from
	steered []target     // by zone.Node.Steer - 1
	online  *sign.Online // compact denial; nil for zones whose absence was signed ahead
	static  atomic.Pointer[static]
}

// origin is where a zone's content came from.
type origin uint8

const (
	fromWorld   origin = iota // the World: its Spec, Objects or Zones
	fromOutside               // WithZone
)

// target is what a steered name answers with.
type target struct {
	service int // index in the Spec; -1 for none
	ttl     uint32
	rotate  fleet.Rotate
	ech     string              // ECHConfigList of its HTTPS record; empty for none
	https   *fleet.SteeredHTTPS // nil: the name has no steered HTTPS record
}

// zoneMap holds zones by apex. It is immutable; a changed one shares all but
// the shards that differ, so that the cost of a change does not depend on the
// number of zones.
type zoneMap struct {
	shards  [zoneShards]map[string]*served
	lengths [4]uint64 // those that apexes have, a bit for each; one whose last zone has gone may stay
	len     int
}

const zoneShards = 4096

// zoneSeed only spreads names over the shards of this process.
var zoneSeed = maphash.MakeSeed()

func shardOf(apex []byte) int { return int(maphash.Bytes(zoneSeed, apex) % zoneShards) }

// get gives the zone of an apex, or nil. It allocates nothing.
func (m *zoneMap) get(apex []byte) *served {
	return m.shards[shardOf(apex)][string(apex)]
}

// at is get, faster where no zone's name is as long as that, or it is the
// likely one.
func (m *zoneMap) at(name []byte, likely *served) *served {
	switch {
	case m.lengths[len(name)/64%4]>>(len(name)%64)&1 == 0:
		return nil
	case likely != nil && likely.apex == string(name):
		return likely
	}
	return m.get(name)
}

func (m *zoneMap) all() iter.Seq[*served] {
	return func(yield func(*served) bool) {
		for _, shard := range m.shards {
			for _, z := range shard {
				if !yield(z) {
					return
				}
			}
		}
	}
}

// zoneEdit is a zoneMap in the making.
type zoneEdit struct {
	m     *zoneMap
	fresh [zoneShards / 64]uint64 // shards that are the edit's own
}

func (m *zoneMap) edit() *zoneEdit {
	next := *m
	return &zoneEdit{m: &next}
}

func (e *zoneEdit) own(apex string) map[string]*served {
	i := shardOf([]byte(apex))
	if bit := uint64(1) << (i % 64); e.fresh[i/64]&bit == 0 {
		e.fresh[i/64] |= bit
		if e.m.shards[i] = maps.Clone(e.m.shards[i]); e.m.shards[i] == nil {
			e.m.shards[i] = map[string]*served{}
		}
	}
	return e.m.shards[i]
}

func (e *zoneEdit) set(z *served) {
	shard := e.own(z.apex)
	if shard[z.apex] == nil {
		e.m.len++
	}
	shard[z.apex] = z
	e.m.lengths[len(z.apex)/64] |= 1 << (len(z.apex) % 64)
}

func (e *zoneEdit) remove(apex string) {
	if e.m.get([]byte(apex)) == nil {
		return
	}
	delete(e.own(apex), apex)
	e.m.len--
}

// Zone gives the zone of that name as it is served, or nil.
func (p *Plan) Zone(name fleet.Name) *zone.Zone {
	if z := p.zones.get(zone.Wire(name)); z != nil {
		return z.Zone
	}
	return nil
}

// Zones gives every zone that has content, in no order.
func (p *Plan) Zones() iter.Seq[*zone.Zone] {
	return func(yield func(*zone.Zone) bool) {
		for z := range p.zones.all() {
			if z.Zone != nil && !yield(z.Zone) {
				return
			}
		}
	}
}

// Changed gives what differs between the zones of a plan and of an older one:
// the zone that was, nil for one that is new, and the zone that is, nil for one
// that is gone. The cost is that of the parts that differ.
func (p *Plan) Changed(old *Plan) iter.Seq2[*zone.Zone, *zone.Zone] {
	return func(yield func(was, is *zone.Zone) bool) {
		for i := range p.zones.shards {
			a, b := old.zones.shards[i], p.zones.shards[i]
			if sameMap(a, b) {
				continue
			}
			for apex, z := range b {
				if was := a[apex].content(); was != z.content() && !yield(was, z.content()) {
					return
				}
			}
			for apex, z := range a {
				if b[apex] == nil && z.content() != nil && !yield(z.content(), nil) {
					return
				}
			}
		}
	}
}

// content gives the zone where there is one to answer from.
func (z *served) content() *zone.Zone {
	if z == nil {
		return nil
	}
	return z.Zone
}

// Len is the number of zones, those without content among them.
func (p *Plan) Len() int { return p.zones.len }

// WithZone gives the plan with a zone added, or put in place of the one of its
// name. The cost does not depend on the number of zones. A name that the Spec
// steers and that the zone has addresses for, or gives away, is left as it is
// in the zone: what a primary sends must not take the rest out of service.
func (p *Plan) WithZone(z *zone.Zone) *Plan {
	s := p.accept(z)
	return p.with(func(e *zoneEdit) { e.set(s) })
}

// WithoutZone gives the plan without a zone: its names are no longer the
// fleet's.
func (p *Plan) WithoutZone(name fleet.Name) *Plan {
	return p.with(func(e *zoneEdit) { e.remove(string(zone.Wire(name))) })
}

// WithUnavailable gives the plan with a zone that is the fleet's and has no
// content that may be served: a secondary that has expired (RFC 1034 section
// 4.3.5), or not been transferred yet. It is answered SERVFAIL.
func (p *Plan) WithUnavailable(name fleet.Name) *Plan {
	return p.with(func(e *zoneEdit) { e.set(unavailable(name)) })
}

func unavailable(name fleet.Name) *served {
	return &served{apex: string(zone.Wire(name)), from: fromOutside}
}

func (p *Plan) with(change func(*zoneEdit)) *Plan {
	out := *p
	e := p.zones.edit()
	change(e)
	out.zones, out.ready = e.m, true
	return &out
}

// find gives the zone that a name belongs to, the deepest one; a DS set
// belongs to the parent zone (RFC 4035 section 3.1.4.1).
func (p *Plan) find(name []byte, qtype uint16) *served { return p.zones.find(name, qtype, nil) }

// find is Plan.find for a worker, which is mostly asked for the zone that it
// was asked for last.
func (w *Worker) find(p *Plan, name []byte, qtype uint16) *served {
	if w.lastIn != p.zones {
		w.last, w.lastIn = nil, p.zones
	}
	z := p.zones.find(name, qtype, w.last)
	if z != nil {
		w.last = z
	}
	return z
}

// find does so; likely may be any of the zones, or nil.
func (m *zoneMap) find(name []byte, qtype uint16, likely *served) *served {
	var child *served
	for at := name; ; at = at[1+int(at[0]):] {
		if z := m.at(at, likely); z != nil {
			if qtype != zone.TypeDS || len(at) != len(name) {
				return z
			}
			child = z
		}
		if at[0] == 0 {
			return child
		}
	}
}
