package answer

import (
	"slices"
	"time"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/geo"
	"meridian/steer"
)

// static is a zone as transfers show it, for one content and one Snapshot.
type static struct {
	content *zone.Zone
	of      *fleet.Snapshot
	zone    *zone.Zone
}

// Static gives the zone of that name as transfers show it, or nil: each
// steered name has the records that the Spec exports, or those that a client
// of whom nothing is known gets when all is well. While those are the same, so
// is the Zone that is given.
func (p *Plan) Static(name fleet.Name) *zone.Zone {
	z := p.zones.get(zone.Wire(name))
	if z == nil || z.Zone == nil || len(z.steered) == 0 {
		return p.Zone(name)
	}
	had := z.static.Load()
	if had != nil && had.content == z.Zone && had.of == p.world.Snapshot {
		return had.zone
	}
	made, err := p.freeze(z)
	if err != nil {
		return nil // cannot be: what is added was read from zones and Specs that were checked
	}
	if had != nil && len(zone.Diff(had.zone, made)) == 0 {
		made = had.zone
	}
	z.static.Store(&static{z.Zone, p.world.Snapshot, made})
	return made
}

// freeze puts records in place of what is steered.
func (p *Plan) freeze(z *served) (*zone.Zone, error) {
	calm := *p
	calm.scene = steer.NewScene(p.classes, nil, nil, time.Time{}, nil)
	plain, err := z.Marked(nil)
	if err != nil {
		return nil, err
	}
	var changes []zone.Change
	for i, st := range z.Steered() {
		name, err := fleet.Under(st.Name, z.Name)
		if err != nil {
			return nil, err
		}
		owner := zone.Wire(name)
		var absent []uint16
		for _, t := range steeredTypes {
			set, ok := calm.export(&z.steered[i], &st, t)
			switch {
			case ok && set.Count > 0:
				changes = append(changes, additions(owner, signedVariant(z.Zone, owner, &set))...)
			case ok:
				absent = append(absent, t)
			}
		}
		changes = append(changes, otherDenial(z.Zone, owner, absent)...)
	}
	changes = append(changes, withoutDigest(z.Zone)...)
	return plain.With(changes)
}

// export gives what a steered name shows of a type; false where the type is not
// steered.
func (p *Plan) export(t *target, st *fleet.Steered, qtype uint16) (set zone.RRset, ok bool) {
	if qtype != zone.TypeHTTPS && len(st.Export) > 0 {
		set = exportSet(st, qtype)
		return set, true
	}
	kind := kindA
	switch {
	case t.service < 0 || qtype == zone.TypeHTTPS && t.https == nil:
		return set, false
	case qtype == zone.TypeAAAA:
		kind = kindAAAA
	case qtype == zone.TypeHTTPS:
		kind = httpsKind(t.https)
	}
	o, _ := p.choose(t.service, kind, p.classes.Rank(t.service, geo.Place{}), 0)
	set.Type, set.TTL = qtype, t.ttl
	if qtype == zone.TypeHTTPS {
		set.Data, set.Count = p.appendHTTPS(nil, t.https, &o)
	} else {
		set.Data, set.Count = p.records(nil, kind, &o)
	}
	set.Data = canonical(set.Data)
	return set, true
}

// signedVariant gives the set with the signatures that were made for it.
func signedVariant(z *zone.Zone, owner []byte, set *zone.RRset) *zone.RRset {
	for _, v := range z.Variants(string(owner), set.Type) {
		if string(v.Set.Data) == string(set.Data) {
			return &v.Set
		}
	}
	return set
}

// otherDenial changes a name's NSEC or NSEC3 for the one that lacks types.
func otherDenial(z *zone.Zone, owner []byte, absent []uint16) []zone.Change {
	had := (*zone.RRset)(nil)
	if n := z.Node(owner); n != nil {
		had = n.Get(zone.TypeNSEC)
	}
	if z.Denial == zone.DenyNSEC3 {
		sum := z.Param.Hash(owner)
		rec, match := z.NSEC3(sum[:])
		if !match {
			return nil
		}
		owner, had = []byte(rec.Name), &rec.Set
	}
	if had == nil || len(absent) == 0 {
		return nil
	}
	for _, v := range z.Variants(string(owner), had.Type) {
		if len(v.Lacks) > 0 && subset(v.Lacks, absent) && subset(absent, v.Lacks) {
			return append(removals(owner, had), additions(owner, &v.Set)...)
		}
	}
	return nil
}

// withoutDigest takes ZONEMD away: it is the digest of the zone without what
// its steered names show.
func withoutDigest(z *zone.Zone) []zone.Change {
	set := z.Apex().Get(zone.TypeZONEMD)
	if set == nil {
		return nil
	}
	return removals([]byte(z.Apex().Name), set)
}

func additions(owner []byte, set *zone.RRset) []zone.Change { return changesOf(owner, set, false) }
func removals(owner []byte, set *zone.RRset) []zone.Change  { return changesOf(owner, set, true) }

func changesOf(owner []byte, set *zone.RRset, remove bool) []zone.Change {
	var out []zone.Change
	for _, part := range []struct {
		rtype uint16
		data  []byte
	}{{set.Type, set.Data}, {zone.TypeRRSIG, set.Sigs}} {
		for rest := part.data; len(rest) > 0; {
			var rdata []byte
			rdata, rest = zone.Next(rest)
			out = append(out, zone.Change{Delete: remove, Owner: owner, Type: part.rtype, TTL: set.TTL, Data: slices.Clone(rdata)})
		}
	}
	return out
}
