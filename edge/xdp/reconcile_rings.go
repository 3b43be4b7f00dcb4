package xdp

import (
	"fmt"
	"maps"
	"slices"

	"meridian/edge/maglev"
)

// writeRings swaps in, all at once, the rings whose members changed.
func (r *reconciler) writeRings(d *desired, choices []choice) error {
	fresh := map[string]ringEntry{}
	slots := map[uint32][]uint16{}
	for i := range d.groups {
		g := &d.groups[i]
		e := r.entry(g, choices[i])
		old, had := r.rings[g.id]
		if had && slices.Equal(old.members, e.members) && slices.Equal(old.targets, e.targets) {
			continue
		}
		if had {
			e.index = old.index
		} else {
			var err error
			if e.index, err = r.freeRing(fresh); err != nil {
				return err
			}
		}
		ring, err := e.build(r.key.ringSeed())
		if err != nil {
			return fmt.Errorf("group %s: %w", g.id, err)
		}
		fresh[g.id], slots[e.index] = e, ring
	}
	if len(slots) == 0 {
		return nil
	}
	if err := r.tables.setRings(slots); err != nil {
		return err
	}
	maps.Copy(r.rings, fresh)
	r.swaps += uint64(len(slots))
	return nil
}

func (r *reconciler) entry(g *group, c choice) ringEntry {
	var e ringEntry
	for _, i := range c.ring {
		m := g.members[i]
		e.members = append(e.members, maglev.Member{Name: m.name, Weight: m.weight})
		e.targets = append(e.targets, r.endpoints[m.key])
	}
	return e
}

// build gives the slots' endpoints; without members all are 0, none.
func (e *ringEntry) build(seed uint64) ([]uint16, error) {
	out := make([]uint16, maglev.Slots)
	if len(e.members) == 0 {
		return out, nil
	}
	ring, err := maglev.Build(e.members, maglev.Slots, seed)
	if err != nil {
		return nil, err
	}
	for slot, m := range ring {
		out[slot] = e.targets[m]
	}
	return out, nil
}

func (r *reconciler) freeRing(fresh map[string]ringEntry) (uint32, error) {
	used := map[uint32]bool{}
	for _, m := range []map[string]ringEntry{r.rings, fresh} {
		for _, e := range m {
			used[e.index] = true
		}
	}
	for i := range uint32(maxRings) {
		if !used[i] {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no room for more than %d rings", maxRings)
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

// writeVIPs adds and moves VIPs; addresses first, so that a packet for a port
// that is gone meets its address.
func (r *reconciler) writeVIPs(d *desired) error {
	for _, a := range d.addresses {
		if err := r.setVIP(vipKey(a), edgeVip{}); err != nil {
			return err
		}
	}
	for _, f := range d.frontends {
		v := edgeVip{Salt: r.key.salt(f), Ring: r.rings[d.groups[f.group].id].index}
		if old, ok := r.vips[f.key()]; ok {
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
	return nil
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
	for k, v := range r.vips {
		if k.Port != 0 {
			used[v.Stats] = true
		}
	}
	i := uint32(0)
	for used[i] {
		i++
	}
	return i
}

// dropVIPs takes old VIPs away, ports before addresses.
func (r *reconciler) dropVIPs(d *desired) error {
	keep := map[edgeVipKey]bool{}
	for _, a := range d.addresses {
		keep[vipKey(a)] = true
	}
	for _, f := range d.frontends {
		keep[f.key()] = true
	}
	for _, ports := range []bool{true, false} {
		for k := range maps.Clone(r.vips) {
			if keep[k] || (k.Port != 0) != ports {
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
