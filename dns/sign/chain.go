package sign

import (
	"bytes"
	"slices"

	"meridian/dns/zone"
	"meridian/fleet"
)

// chain adds the records that deny what is not there.
func (m *maker) chain() {
	if m.Policy.Denial == fleet.DenialNSEC3 || m.Policy.Denial == fleet.DenialCompact && !m.compact() {
		m.chainNSEC3()
	} else {
		m.chainNSEC()
	}
}

// types gives the types at a name that denial tells of: what the zone is
// authoritative for there, and a delegation's NS (RFC 4035 section 2.3).
func (m *maker) types(o *owner, more ...uint16) []uint16 {
	out := slices.Clone(more)
	for _, it := range o.sets {
		if t := it.set.Type; !o.cut || t == zone.TypeNS || t == zone.TypeDS {
			out = append(out, t)
		}
	}
	if m.ZONEMD && o.name == m.apex {
		out = append(out, zone.TypeZONEMD)
	}
	for _, st := range o.steered {
		if len(st.Sets) > 0 {
			out = append(out, st.Type)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// absence is one set of types that a steered name may lack at one time though
// denial tells of them.
type absence struct {
	lacks  []uint16
	export bool // transfers show the name without just these
}

// absent gives every absence of a name.
func (o *owner) absent() []absence {
	var may, hidden []uint16
	for _, st := range o.steered {
		if st.Empty && len(st.Sets) > 0 {
			may = append(may, st.Type)
			if len(st.Export) == 0 {
				hidden = append(hidden, st.Type)
			}
		}
	}
	slices.Sort(may)
	slices.Sort(hidden)
	var out []absence
	for mask := 1; mask < 1<<len(may); mask++ {
		var lacks []uint16
		for i, t := range may {
			if mask&(1<<i) != 0 {
				lacks = append(lacks, t)
			}
		}
		out = append(out, absence{lacks, slices.Equal(lacks, hidden)})
	}
	return out
}

func without(types, lacks []uint16) []uint16 {
	return slices.DeleteFunc(slices.Clone(types), func(t uint16) bool { return slices.Contains(lacks, t) })
}

// absentTTL is the TTL of an alternative NSEC or NSEC3: a resolver may deny by
// it for as long (RFC 8198), and the addresses may be back after the steered
// TTL.
func (m *maker) absentTTL(o *owner) uint32 {
	ttl := m.negTTL
	for _, st := range o.steered {
		for i := range st.Sets {
			ttl = min(ttl, st.Sets[i].TTL)
		}
	}
	return ttl
}

// chainNSEC links the names in canonical order (RFC 4034 section 4, RFC 4035
// section 2.3). A steered name's record tells of all types that it can answer;
// alternatives of the same owner and next name stand beside it for answers
// that lack some.
func (m *maker) chainNSEC() {
	var list []*owner
	for _, o := range m.owners {
		if !o.hidden && (len(o.sets) > 0 || len(o.steered) > 0) {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b *owner) int { return zone.Compare(a.name, b.name) })
	for i, o := range list {
		next := list[(i+1)%len(list)].name
		types := m.types(o, zone.TypeRRSIG, zone.TypeNSEC)
		data := append([]byte(next), bitmap(types)...)
		m.add(o, newSet(zone.TypeNSEC, m.negTTL, data), byZone)
		for _, a := range o.absent() {
			data := append([]byte(next), bitmap(without(types, a.lacks))...)
			m.items = append(m.items, &item{owner: o.name, set: newSet(zone.TypeNSEC, m.absentTTL(o), data), by: byZone, lacks: a.lacks, export: a.export})
		}
	}
}

// hashed is a name of the zone in the order of hashes.
type hashed struct {
	hash  string
	owner *owner
	types []uint16
}

// chainNSEC3 links the hashes of the names (RFC 5155 section 7.1), empty
// non-terminals among them, with SHA-1, no salt and no further iterations (RFC
// 9276 section 3.1). With opt-out, insecure delegations and what leads to
// nothing else are left out.
func (m *maker) chainNSEC3() {
	m.add(m.own(m.apex), newSet(zone.TypeNSEC3PARAM, 0, []byte{1, 0, 0, 0, 0}), byZone)
	flags := byte(0)
	if m.Policy.OptOut {
		flags = 1
	}
	list := m.hashes()
	for i := range list {
		h := &list[i]
		next := list[(i+1)%len(list)].hash
		name := zone.NSEC3Owner([]byte(h.hash), []byte(m.apex))
		rdata := func(types []uint16) []byte {
			out := append([]byte{1, flags, 0, 0, 0, 20}, next...)
			return append(out, bitmap(types)...)
		}
		m.items = append(m.items, &item{owner: string(name), set: newSet(zone.TypeNSEC3, m.negTTL, rdata(h.types)), by: byZone, hash: h.hash})
		for _, a := range h.owner.absent() {
			set := newSet(zone.TypeNSEC3, m.absentTTL(h.owner), rdata(without(h.types, a.lacks)))
			m.items = append(m.items, &item{owner: string(name), set: set, by: byZone, lacks: a.lacks, export: a.export})
		}
	}
}

// hashes gives the names that have an NSEC3, in order of hash.
func (m *maker) hashes() []hashed {
	var param zone.NSEC3Param
	var list []hashed
	seen := map[string]bool{}
	add := func(o *owner, types []uint16) {
		if !seen[o.name] {
			seen[o.name] = true
			sum := param.Hash([]byte(o.name))
			list = append(list, hashed{string(sum[:]), o, types})
		}
	}
	for _, o := range slices.Clone(m.owners) {
		if o.hidden || len(o.sets) == 0 && len(o.steered) == 0 {
			continue
		}
		types := m.types(o)
		insecure := o.cut && !slices.Contains(types, zone.TypeDS)
		if insecure && m.Policy.OptOut {
			continue
		}
		if !insecure {
			types = m.types(o, zone.TypeRRSIG)
		}
		add(o, types)
	}
	for i := range len(list) { // what lies between them and the apex
		for at := list[i].owner.name; len(at) > len(m.apex); {
			at = parent(at)
			if seen[at] {
				break
			}
			add(&owner{name: at}, nil)
		}
	}
	slices.SortFunc(list, func(a, b hashed) int { return bytes.Compare([]byte(a.hash), []byte(b.hash)) })
	return list
}
