package answer

import (
	"slices"

	"meridian/dns/zone"
	"meridian/fleet"
)

// static is a zone as transfers show it, for one content, one Snapshot and one
// list of keys of Encrypted Client Hello.
type static struct {
	content *zone.Zone
	of      *fleet.Snapshot
	ech     string
	zone    *zone.Zone
}

// Static gives the zone of that name as transfers show it, or nil: each
// steered name has the records that the Spec exports, or those that a client
// of whom nothing is known gets when all is well. A zone that was made for it
// tells itself what those are, so that they and its serial change together;
// for another the present Spec does. While they are the same, so is the Zone
// that is given.
func (p *Plan) Static(name fleet.Name) *zone.Zone {
	z := p.zones.get(zone.Wire(name))
	if z == nil || z.Zone == nil || len(z.steered) == 0 && !z.Exports {
		return p.Zone(name)
	}
	had := z.static.Load()
	if had != nil && had.content == z.Zone && (z.Exports || had.of == p.world.Snapshot && had.ech == p.ech) {
		return had.zone
	}
	made, err := p.freeze(z)
	if err != nil {
		return nil // cannot be: what is added was read from zones and Specs that were checked
	}
	if had != nil && len(zone.Diff(had.zone, made)) == 0 {
		made = had.zone
	}
	z.static.Store(&static{z.Zone, p.world.Snapshot, p.ech, made})
	return made
}

// freeze puts records in place of what is steered.
func (p *Plan) freeze(z *served) (*zone.Zone, error) {
	if z.Exports {
		return z.Exported()
	}
	plain, err := z.Marked(nil)
	if err != nil {
		return nil, err
	}
	exports := p.exports()
	var changes []zone.Change
	for _, st := range z.Steered() {
		name, err := fleet.Under(st.Name, z.Name)
		if err != nil {
			return nil, err
		}
		for _, t := range steeredTypes {
			set := exports.Set(&st, t)
			changes = append(changes, changesOf(zone.Wire(name), &set, false)...)
		}
	}
	if digest := z.Apex().Get(zone.TypeZONEMD); digest != nil { // of the zone without what its steered names show
		changes = append(changes, changesOf([]byte(z.apex), digest, true)...)
	}
	return plain.With(changes)
}

// changesOf gives the changes that bring a set, or take it away.
func changesOf(owner []byte, set *zone.RRset, remove bool) []zone.Change {
	var out []zone.Change
	for rest := set.Data; len(rest) > 0; {
		var rdata []byte
		rdata, rest = zone.Next(rest)
		out = append(out, zone.Change{Delete: remove, Owner: owner, Type: set.Type, TTL: set.TTL, Data: slices.Clone(rdata)})
	}
	return out
}
