package xdp

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"meridian/edge/maglev"
)

// writeRings swaps in, all at once, the rings whose slots or former owners are
// others than before.
func (r *reconciler) writeRings(in inputs, choices []choice) error {
	fresh := map[string]ringEntry{}
	tables := map[uint32]ringTable{}
	for i := range in.want.groups {
		g := &in.want.groups[i]
		e, table, err := r.ring(in, g, choices[i], fresh)
		if err != nil {
			return fmt.Errorf("group %s: %w", g.id, err)
		}
		fresh[g.id] = e
		if table != nil {
			tables[e.index] = *table
		}
	}
	if len(tables) > 0 {
		if err := r.tables.setRings(tables); err != nil {
			return err
		}
	}
	maps.Copy(r.rings, fresh)
	r.swaps += uint64(len(tables))
	return nil
}

// ring gives a group's ring as it should be, and what is to be written of it;
// nil: it stands already.
func (r *reconciler) ring(in inputs, g *group, c choice, fresh map[string]ringEntry) (ringEntry, *ringTable, error) {
	e, had := r.rings[g.id]
	if !had {
		index, err := r.freeRing(fresh)
		if err != nil {
			return e, nil, err
		}
		e = ringEntry{index: index, history: maglev.NewHistory(g.slots(), r.key.ringSeed())}
	}
	changed, ended, err := g.learn(&e, in)
	if err != nil {
		return e, nil, err
	}
	members, owners := make([]maglev.Member, 0, len(c.ring)), map[string]uint16{}
	for _, i := range c.ring {
		members = append(members, c.member(g, i))
	}
	for i, m := range g.members {
		if c.keep[i] {
			owners[m.name] = r.endpoints[m.key]
		}
	}
	history := e.history.Clone()
	rings := [][]maglev.Member{stayed(members, history.Members()), members}
	if !had {
		rings = slices.Insert(rings, 0, g.others(members)) // in force while this node was away
	}
	for _, next := range rings {
		if len(next) == 0 && len(members) > 0 {
			continue
		}
		if err := history.Next(next, ended); err != nil {
			return e, nil, err
		}
		ended = in.now
	}
	changed = history.Retire(in.now.Add(-in.want.keep.retire)) || changed
	if !g.gateways {
		history.Retire(in.now.Add(time.Nanosecond)) // nobody there passes on: former owners do not count
		changed = false
	}
	if assumed := g.presumed(); !slices.EqualFunc(assumed, e.assumed, slices.Equal) {
		if err := history.Presume(assumed...); err != nil {
			return e, nil, err
		}
		e.assumed, changed = assumed, true
	}
	if had && !changed && slices.Equal(history.Members(), e.history.Members()) && maps.Equal(owners, e.owners) {
		return e, nil, nil
	}
	e.history, e.owners = history, owners
	return e, g.table(history, owners), nil
}

// stayed gives those of the members that were in the ring before. Theirs is the
// balancers' ring until they have found the new ones up, and a gateway, which
// checks nobody, has to know it too.
func stayed(members, before []maglev.Member) []maglev.Member {
	var out []maglev.Member
	for _, m := range members {
		if slices.ContainsFunc(before, func(b maglev.Member) bool { return b.Name == m.Name }) {
			out = append(out, m)
		}
	}
	return out
}

// presumed gives rings that may be in force at a balancer, or have been, without
// this node seeing it: with all members, whatever their health; and on a gateway
// the one without itself, while it was away, or one balancer took it for dead.
func (g *group) presumed() [][]maglev.Member {
	if !g.gateways {
		return nil
	}
	var all, others []maglev.Member
	for _, m := range g.members {
		member := maglev.Member{Name: m.name, Weight: m.weight}
		all = append(all, member)
		if m.key.how != edgeForwardFORWARD_LOCAL {
			others = append(others, member)
		}
	}
	return [][]maglev.Member{all, others}
}

// table gives the ring's slots: unsafe are those that others than gateways own,
// since nobody there passes on what is not theirs, and those that have former
// owners.
func (g *group) table(h *maglev.History, owners map[string]uint16) *ringTable {
	index := func(name string) uint16 { return owners[name] }
	t := &ringTable{slots: h.Slots(index)}
	if g.gateways {
		t.owners = ownersOf(t.slots, h.Former(index))
	}
	for i := range t.slots {
		if !g.gateways || t.owners != nil && t.owners[i][1] != 0 {
			t.slots[i] |= slotUnsafe
		}
	}
	return t
}

// ownersOf puts the owners that slots have now before their former ones; nil: no
// slot has any.
func ownersOf(slots []uint16, former [][maglev.Formers]uint16) []slotOwners {
	if former == nil {
		return nil
	}
	out := make([]slotOwners, len(slots))
	for i, f := range former {
		out[i][0] = slots[i]
		copy(out[i][1:], f[:])
	}
	return out
}

func (r *reconciler) freeRing(fresh map[string]ringEntry) (uint32, error) {
	used := map[uint32]bool{}
	for _, m := range []map[string]ringEntry{r.rings, fresh} {
		for _, e := range m {
			used[e.index] = true
		}
	}
	for i := range uint32(r.room.rings) {
		if !used[i] {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no room for more than %d rings", r.room.rings)
}

func (r *reconciler) dropRings(d *desired) error {
	keep := map[string]bool{}
	for _, g := range d.groups {
		keep[g.id] = true
	}
	for id, e := range maps.Clone(r.rings) {
		if keep[id] {
			continue
		}
		if err := r.tables.dropRing(e.index); err != nil {
			return err
		}
		delete(r.rings, id)
	}
	return nil
}

// writeVIPs adds and moves VIPs, addresses after their ports: by its address a
// gateway knows what a tunnel brings for it, and at a port that it does not know
// it would leave the packet to its kernel, which resets connections that are
// another gateway's.
func (r *reconciler) writeVIPs(d *desired) error {
	for _, f := range d.frontends {
		v := r.vip(f, &d.groups[f.group])
		v.Gate = r.gateAt(d, f)
		if old, ok := r.vips[f.key()]; ok && old.service() {
			v.Stats = old.Stats
		} else {
			v.Stats = r.freeStats()
			if err := r.tables.clearTraffic(v.Stats); err != nil {
				return err
			}
		}
		if err := r.setVIP(f.key(), v); err != nil {
			return err
		}
	}
	for _, row := range d.fragmentRows() {
		v := r.vip(row.frontend, &d.groups[row.group])
		v.Flags |= uint8(edgeVipFlagVIP_FRAGMENTS)
		v.Gate = r.gateAt(d, row.frontend)
		v.Flags &^= uint8(edgeVipFlagVIP_QUIC) // they have no header
		v.Mask, v.PortMask, v.Stats = wholeFlow.address, 0, r.vips[row.of].Stats
		if err := r.setVIP(row.key(), v); err != nil {
			return err
		}
	}
	for _, k := range d.addressKeys() {
		if err := r.setVIP(k, edgeVip{Flags: uint8(edgeVipFlagVIP_ADDRESS)}); err != nil {
			return err
		}
	}
	return nil
}

// addressKeys gives the keys of the VIPs' addresses and networks as a whole.
func (d *desired) addressKeys() []edgeVipKey {
	var out []edgeVipKey
	for _, a := range d.addresses {
		out = append(out, vipKey(a))
	}
	for _, n := range d.networks {
		out = append(out, frontend{addr: n.Addr(), bits: n.Bits()}.key())
	}
	return out
}

// vip gives a frontend's record, but for the place of its traffic.
func (r *reconciler) vip(f frontend, g *group) edgeVip {
	v := edgeVip{Salt: r.key.salt(f), Mask: f.by.address, PortMask: f.by.port, Ring: r.rings[g.id].index}
	if g.large {
		v.Flags |= uint8(edgeVipFlagVIP_BIG)
	}
	if f.by != wholeFlow {
		v.Flags |= uint8(edgeVipFlagVIP_AFFINITY)
	}
	if f.quic {
		v.Flags |= uint8(edgeVipFlagVIP_QUIC)
	}
	if g.gateways && !r.alone {
		v.Flags |= uint8(edgeVipFlagVIP_CHAIN)
	}
	return v
}

func (r *reconciler) setVIP(k edgeVipKey, v edgeVip) error {
	if old, ok := r.vips[k]; ok && old == v {
		return nil
	}
	if err := r.tables.setVIP(k, v); err != nil {
		return err
	}
	r.vips[k] = v
	return nil
}

// freeStats gives a place for a VIP's traffic. There are as many as VIPs.
func (r *reconciler) freeStats() uint32 {
	used := map[uint32]bool{}
	for _, v := range r.vips {
		if v.service() {
			used[v.Stats] = true
		}
	}
	i := uint32(0)
	for used[i] {
		i++
	}
	return i
}

// dropVIPs takes old VIPs away, ports before addresses: a packet for a port that
// is gone meets its address.
func (r *reconciler) dropVIPs(d *desired) error {
	keep := map[edgeVipKey]bool{}
	for _, k := range d.addressKeys() {
		keep[k] = true
	}
	for _, f := range d.frontends {
		keep[f.key()] = true
	}
	for _, row := range d.fragmentRows() {
		keep[row.key()] = true
	}
	for _, addresses := range []bool{false, true} {
		for k, v := range maps.Clone(r.vips) {
			if keep[k] || v.address() != addresses {
				continue
			}
			if err := r.tables.dropVIP(k); err != nil {
				return err
			}
			delete(r.vips, k)
		}
	}
	return nil
}

// gateAt gives what meets SYNs for a VIP: nothing, as long as a gateway that is
// live takes no cookies.
func (r *reconciler) gateAt(d *desired, f frontend) uint8 {
	if len(r.untaken) > 0 {
		return uint8(edgeGateModeGATE_NONE)
	}
	return d.gateAt(f)
}

// address says whether the record is of an address as a whole.
func (v edgeVip) address() bool { return v.Flags&uint8(edgeVipFlagVIP_ADDRESS) != 0 }

// service says whether the record is a service's, with traffic of its own.
func (v edgeVip) service() bool {
	return v.Flags&uint8(edgeVipFlagVIP_ADDRESS|edgeVipFlagVIP_FRAGMENTS) == 0
}
