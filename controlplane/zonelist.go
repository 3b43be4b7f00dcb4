package controlplane

import (
	"fmt"
	"slices"
	"sync"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/rules"
)

// sourceOf says who writes a zone of the Spec; spec is nil for one that the
// Spec does not name.
func sourceOf(s *fleet.Spec, spec *fleet.Zone) string {
	switch {
	case spec == nil:
		return "api"
	case spec.Dynamic:
		return "dynamic"
	case spec.File != "":
		return "file"
	case spec.Records != "":
		return "records"
	case len(s.Settings(spec).Primaries) > 0:
		return "primaries"
	}
	return "members" // a catalog that the fleet makes
}

// SourceOf says who writes a zone of a World, as ZoneInfo has it; catalog for
// one that it does not name.
func SourceOf(w *fleet.World, name fleet.Name) string {
	spec := w.Snapshot.Spec.Zone(name)
	if _, own := w.Zones.Get(name); spec == nil && !own {
		return "catalog"
	}
	return sourceOf(w.Snapshot.Spec, spec)
}

// ZoneNames lists every zone that the Spec names or the API has made, in order.
func (c *ControlPlane) ZoneNames() []fleet.Name {
	c.mu.Lock()
	w, st := c.world, c.shown
	c.mu.Unlock()
	if w == nil {
		return nil
	}
	names := make([]fleet.Name, 0, len(w.Snapshot.Spec.Zones)+st.Zones.Len())
	for i := range w.Snapshot.Spec.Zones {
		names = append(names, w.Snapshot.Spec.Zones[i].Zone)
	}
	for o := range w.Zones.All() {
		names = append(names, fleet.Name(o.Key.ID))
	}
	for o := range st.Zones.All() {
		names = append(names, fleet.Name(o.Key.ID))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// ZoneInfo describes one zone; ErrNoZone where there is none of that name.
func (c *ControlPlane) ZoneInfo(name fleet.Name) (ZoneInfo, error) {
	c.mu.Lock()
	w, st, problems := c.world, c.shown, c.stored.Problems
	c.mu.Unlock()
	if w == nil {
		return ZoneInfo{}, fmt.Errorf("%w: %s", ErrNoZone, name)
	}
	spec := w.Snapshot.Spec.Zone(name)
	content, stored := st.Zones.Get(name)
	o, ok := contentOf(w, name)
	if spec == nil && !stored && !ok {
		return ZoneInfo{}, fmt.Errorf("%w: %s", ErrNoZone, name)
	}
	info := ZoneInfo{Zone: name, Source: sourceOf(w.Snapshot.Spec, spec), State: "ok", ETag: content.Version}
	if first, ok := w.Objects[zoneKey(name)]; ok && !stored && written(spec) {
		info.ETag = rules.ContentVersion(first.Data)
	}
	if !ok {
		info.State = "empty"
		if info.Source == "primaries" { // nameservers have it, not the control plane
			info.State = "transferred by the nameservers"
		}
		return info, nil
	}
	told := c.told.of(name, o)
	info.Serial, info.Records, info.Signed, info.Warnings = told.Serial, told.Records, told.Signed, told.Warnings
	if told.State != "" {
		info.State = told.State
	}
	if problem, ok := problems.Get(name); ok {
		info.State = string(problem.Data)
	}
	if spec != nil {
		info.Warnings = slices.Concat(info.Warnings, w.Snapshot.Spec.Advice(spec))
	}
	return info, nil
}

// toldZones keeps what objects tell of their zones, so that a list does not
// read large zones again and again.
type toldZones struct {
	mu    sync.Mutex
	zones map[fleet.Name]toldZone
}

type toldZone struct {
	object fleet.Object
	info   ZoneInfo
}

const maxTold = 10_000

// of gives serial, records, signed and warnings of an object, and in State
// what is wrong with it.
func (t *toldZones) of(name fleet.Name, o fleet.Object) ZoneInfo {
	t.mu.Lock()
	have, ok := t.zones[name]
	t.mu.Unlock()
	if ok && have.object.Same(o) {
		return have.info
	}
	var info ZoneInfo
	if z, err := zone.Load(name, o.Data, o.File); err != nil {
		info.State = err.Error()
	} else {
		info.Serial, info.Records, info.Signed, info.Warnings = z.Serial, z.Records(), z.Signed, z.Warnings
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.zones == nil || len(t.zones) >= maxTold {
		t.zones = map[fleet.Name]toldZone{}
	}
	t.zones[name] = toldZone{o, info}
	return info
}

func zoneKey(name fleet.Name) fleet.ObjectKey {
	return fleet.ObjectKey{Kind: fleet.ObjectZone, ID: string(name)}
}

// contentOf gives the object that nameservers serve a zone from.
func contentOf(w *fleet.World, name fleet.Name) (fleet.Object, bool) {
	if o, ok := w.Zones.Get(name); ok {
		return o, true
	}
	o, ok := w.Objects[zoneKey(name)]
	return o, ok
}

// Zone gives a zone's content as its writer wrote it, and its ETag ("" for one
// that the API does not write); ErrNoZone where there is none.
func (c *ControlPlane) Zone(name fleet.Name) (*zone.Zone, string, error) {
	c.mu.Lock()
	w, st := c.world, c.shown
	c.mu.Unlock()
	if w == nil {
		return nil, "", fmt.Errorf("%w: %s", ErrNoZone, name)
	}
	if o, ok := st.Zones.Get(name); ok && written(w.Snapshot.Spec.Zone(name)) {
		z, err := c.parsed.zone(name, o)
		return z, o.Version, err
	}
	o, ok := w.Objects[zoneKey(name)]
	if !ok {
		return nil, "", fmt.Errorf("%w: %s", ErrNoZone, name)
	}
	z, err := zone.Load(name, o.Data, o.File)
	if err != nil {
		return nil, "", fmt.Errorf("zone %s: %w", name, err)
	}
	if !written(w.Snapshot.Spec.Zone(name)) {
		return z, "", nil
	}
	return z, rules.ContentVersion(o.Data), nil
}
