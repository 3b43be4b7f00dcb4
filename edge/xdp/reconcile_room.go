package xdp

import "maps"

// makeRoom takes first away what is not wanted any more, where the tables cannot
// hold it beside what is new. VIPs that depend on it have no service for the moment
// that the rest takes; elsewhere new things stand before old ones go.
func (r *reconciler) makeRoom(d *desired, records map[memberKey]edgeEndpoint) error {
	wanted := map[string]bool{}
	rings, endpoints := len(r.rings), len(r.endpoints)
	for _, g := range d.groups {
		wanted[g.id] = true
		if _, had := r.rings[g.id]; !had {
			rings++
		}
	}
	leaving := map[uint16]bool{}
	for key, index := range r.endpoints {
		if _, stays := records[key]; !stays {
			leaving[index] = true
		}
	}
	endpoints += len(records) - (len(r.endpoints) - len(leaving))
	if rings <= r.room.rings && endpoints <= r.room.endpoints {
		return nil
	}
	for id, e := range r.rings {
		if wanted[id] && !(endpoints > r.room.endpoints && e.holds(leaving)) {
			continue
		}
		if err := r.dropVIPsOf(e.index); err != nil {
			return err
		}
	}
	if err := r.dropServers(d); err != nil {
		return err
	}
	if err := r.dropRings(d); err != nil {
		return err
	}
	if endpoints <= r.room.endpoints {
		return nil
	}
	return r.lower(records)
}

// holds says whether one of these endpoints is, or was, a member of the ring.
func (e ringEntry) holds(endpoints map[uint16]bool) bool {
	for _, index := range e.owners {
		if endpoints[index] {
			return true
		}
	}
	return e.owners == nil // restored: not known
}

// dropVIPsOf takes away the VIPs that go by a ring.
func (r *reconciler) dropVIPsOf(ring uint32) error {
	for k, v := range maps.Clone(r.vips) {
		if v.address() || v.Ring != ring {
			continue
		}
		if err := r.tables.dropVIP(k); err != nil {
			return err
		}
		delete(r.vips, k)
	}
	return nil
}
