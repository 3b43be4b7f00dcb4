package controlplane

import (
	"meridian/fleet"
)

// served gives the zones with versions of their own that nodes get: what was
// derived, and else the content of zones that have no other writer.
func served(s *fleet.Snapshot, contents, derived *fleet.Zones) *fleet.Zones {
	specs := map[fleet.Name]*fleet.Zone{}
	for i := range s.Spec.Zones {
		specs[s.Spec.Zones[i].Zone] = &s.Spec.Zones[i]
	}
	var put []fleet.Object
	for o := range contents.All() {
		if written(specs[fleet.Name(o.Key.ID)]) {
			put = append(put, o)
		}
	}
	for o := range derived.All() { // goes before the content
		put = append(put, o)
	}
	var none *fleet.Zones
	return none.With(put, nil)
}

// written says whether a zone is written by the admin API and updates: spec is
// its entry in the Spec, nil where it has none.
func written(spec *fleet.Zone) bool { return spec == nil || spec.Dynamic }

// nextServed is served for a World whose revision stays: where the state
// before is of that revision too, at the cost of what has changed since.
func nextServed(old *fleet.World, before, st Stored) *fleet.Zones {
	if before.Revision != st.Revision {
		return unchanged(old.Zones, served(old.Snapshot, st.Zones, st.Derived))
	}
	names := map[fleet.Name]bool{}
	for _, pair := range [...][2]*fleet.Zones{{before.Zones, st.Zones}, {before.Derived, st.Derived}} {
		put, gone := pair[1].Since(pair[0])
		for _, o := range put {
			names[fleet.Name(o.Key.ID)] = true
		}
		for _, n := range gone {
			names[n] = true
		}
	}
	var put []fleet.Object
	var gone []fleet.Name
	for n := range names {
		o, ok := st.Derived.Get(n)
		if !ok {
			if o, ok = st.Zones.Get(n); ok {
				ok = written(old.Snapshot.Spec.Zone(n))
			}
		}
		have, had := old.Zones.Get(n)
		switch {
		case ok && (!had || !have.Same(o)):
			put = append(put, o)
		case !ok && had:
			gone = append(gone, n)
		}
	}
	if len(put)+len(gone) == 0 {
		return old.Zones
	}
	return old.Zones.With(put, gone)
}

// unchanged gives the old set in place of an equal one, so that equal Worlds are
// told by identity.
func unchanged(old, z *fleet.Zones) *fleet.Zones {
	put, gone := z.Since(old)
	if len(put)+len(gone) == 0 {
		return old
	}
	return old.With(put, gone)
}
