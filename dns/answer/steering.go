package answer

import (
	"net/netip"
	"time"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/geo"
	"meridian/steer"
)

// state is every decision on one service and family in the present scene,
// made before the query.
type state struct {
	byClass  []uint32      // variant of each class; with inTable set, a table of slots
	tables   [][]uint32    // variant of each slot
	variants []*zone.RRset // the RRsets that occur; an empty one is no address
	tailored bool          // clients get different answers
}

// inTable marks an entry of byClass that depends on the slot.
const inTable = 1 << 31

// steer makes all decisions.
func (p *Plan) steer(v *fleet.View, now time.Time) {
	before := p.scene
	p.scene = steer.NewScene(p.classes, v, p.world.Shifts, now)
	if before != nil && p.scene.Same(before) {
		return // latencies and the like have changed, and no decision
	}
	p.states = make([][2]*state, len(p.world.Snapshot.Spec.Services))
	for i := range p.states {
		p.states[i] = [2]*state{p.decide(i, steer.V4), p.decide(i, steer.V6)}
	}
}

// decide makes the decisions on one service; classes that are decided alike
// share the work.
func (p *Plan) decide(service int, f steer.Family) *state {
	st := &state{byClass: make([]uint32, p.classes.Len())}
	byKey := map[uint64]uint32{}
	byChoice := map[steer.Choice]uint32{}
	byData := map[string]uint32{} // choices may come to the same addresses
	variant := func(class *steer.Class, slot steer.Slot) (uint32, bool) {
		choice := p.scene.Choose(service, f, class, slot)
		id, ok := byChoice[choice]
		if !ok {
			set := p.addresses(&choice, f)
			if id, ok = byData[string(set.Data)]; !ok {
				id = uint32(len(st.variants))
				byData[string(set.Data)] = id
				st.variants = append(st.variants, set)
			}
			byChoice[choice] = id
		}
		return id, choice.Sliced
	}
	for k := range st.byClass {
		class := p.classes.Get(geo.Class(k))
		key := p.scene.Key(service, class)
		id, ok := byKey[key]
		if !ok {
			var sliced bool
			if id, sliced = variant(class, 0); sliced {
				table := make([]uint32, steer.Slots)
				for slot := range table {
					table[slot], _ = variant(class, steer.Slot(slot))
				}
				id = inTable | uint32(len(st.tables))
				st.tables = append(st.tables, table)
			}
			byKey[key] = id
		}
		st.byClass[k] = id
	}
	for _, id := range st.byClass {
		st.tailored = st.tailored || id&inTable != 0 || id != st.byClass[0]
	}
	return st
}

// addresses gives the RRset of a choice.
func (p *Plan) addresses(c *steer.Choice, f steer.Family) *zone.RRset {
	spec := p.world.Snapshot.Spec
	set := &zone.RRset{Type: zone.TypeA}
	if f == steer.V6 {
		set.Type = zone.TypeAAAA
	}
	add := func(v fleet.VIPs) {
		list := v.V4
		if f == steer.V6 {
			list = v.V6
		}
		for _, a := range list {
			b := a.AsSlice()
			set.Data = append(append(set.Data, 0, byte(len(b))), b...)
			set.Count++
		}
	}
	if c.Anycast {
		add(spec.Anycast)
		return set
	}
	for _, r := range c.Regions() {
		add(spec.Regions[r].VIPs)
	}
	return set
}

// pick gives the addresses for a client and the scope for which they hold.
func (p *Plan) pick(service int, f steer.Family, client netip.Addr) (set *zone.RRset, scope int) {
	st := p.states[service][0]
	if f == steer.V6 {
		st = p.states[service][1]
	}
	class, scope := p.table.Lookup(client)
	id := st.byClass[class]
	if id&inTable != 0 {
		id = st.tables[id&^inTable][steer.SlotOf(client)]
		if client.Is4() {
			scope = max(scope, steer.SliceV4)
		} else {
			scope = max(scope, steer.SliceV6)
		}
	}
	if !st.tailored {
		scope = 0
	}
	return st.variants[id], scope
}
