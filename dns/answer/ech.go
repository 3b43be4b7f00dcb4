package answer

import (
	"encoding/json"
	"slices"

	"meridian/dns/zone"
	"meridian/fleet"
)

// echLists gives what the HTTPS records of a World's names say of the gateways'
// keys of Encrypted Client Hello, and what they will say next: ECHConfigLists
// (RFC 9848), empty for none.
func echLists(w *fleet.World) (now, next string) {
	o, ok := w.Live.Get(fleet.LiveID(fleet.LiveECHList, "fleet"))
	if !ok || w.Snapshot.Spec.ECH == nil {
		return "", ""
	}
	var lists fleet.ECHLists
	if json.Unmarshal(o.Data, &lists) != nil { // its writer has marshalled it
		return "", ""
	}
	return string(lists.Now), string(lists.Next)
}

// echFor is what HTTPS records of a service say of list: those of gateways that
// end TLS alone.
func echFor(spec *fleet.Spec, service int, list string) string {
	if service < 0 || spec.Services[service].Protocol != fleet.HTTPS {
		return ""
	}
	return list
}

// reech makes the zones anew that have HTTPS records whose keys have changed,
// and whose content has not.
func (p *Plan) reech(e *zoneEdit) {
	spec := p.world.Snapshot.Spec
	for i := range spec.Zones {
		z := &spec.Zones[i]
		if !slices.ContainsFunc(z.Steered, func(st fleet.Steered) bool { return st.HTTPS != nil }) {
			continue
		}
		had := e.m.get(zone.Wire(z.Zone))
		if had == nil || had.Zone == nil {
			continue
		}
		s := p.serve(had.Zone, had.from)
		s.object, s.online = had.object, had.online
		if !had.same(s) {
			e.set(s)
			s.static.Store(had.static.Load())
		}
	}
}
