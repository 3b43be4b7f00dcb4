package zone

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Change is one record that is added or, with Delete, taken away. Owner and
// Data are in wire form without compression. RRSIG and NSEC3 are records as
// any other.
type Change struct {
	Delete bool
	Owner  []byte
	Type   uint16
	TTL    uint32
	Data   []byte
}

// ErrNotThere says that a Change deletes a record that the zone has not.
var ErrNotThere = errors.New("is not there")

// Diff gives the changes that make new of old: deletions, then additions,
// each in canonical order of owner and by type, NSEC3 last. An RRset whose
// TTL differs is deleted and added whole. Variants and marks are left aside.
func Diff(old, new *Zone) []Change {
	var d differ
	a, b := old.nodes, new.nodes
	for len(a) > 0 || len(b) > 0 {
		order := 0
		switch {
		case len(a) == 0:
			order = 1
		case len(b) == 0:
			order = -1
		default:
			order = Compare(a[0].Name, b[0].Name)
		}
		var from, to []RRset
		var name string
		if order <= 0 {
			name, from, a = a[0].Name, a[0].Sets, a[1:]
		}
		if order >= 0 {
			name, to, b = b[0].Name, b[0].Sets, b[1:]
		}
		d.sets(name, from, to)
	}
	d.hashes(old.nsec3, new.nsec3)
	return append(d.gone, d.come...)
}

type differ struct{ gone, come []Change }

func (d *differ) hashes(a, b []NSEC3) {
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Hash < b[0].Hash:
			d.set(a[0].Name, &a[0].Set, nil)
			a = a[1:]
		case len(a) == 0 || b[0].Hash < a[0].Hash:
			d.set(b[0].Name, nil, &b[0].Set)
			b = b[1:]
		default:
			d.set(a[0].Name, &a[0].Set, &b[0].Set)
			a, b = a[1:], b[1:]
		}
	}
}

func (d *differ) sets(name string, a, b []RRset) {
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Type < b[0].Type:
			d.set(name, &a[0], nil)
			a = a[1:]
		case len(a) == 0 || b[0].Type < a[0].Type:
			d.set(name, nil, &b[0])
			b = b[1:]
		default:
			d.set(name, &a[0], &b[0])
			a, b = a[1:], b[1:]
		}
	}
}

func (d *differ) set(name string, a, b *RRset) {
	var none RRset
	a, b = cmp.Or(a, &none), cmp.Or(b, &none)
	same := a.TTL == b.TTL
	if same && bytes.Equal(a.Data, b.Data) && bytes.Equal(a.Sigs, b.Sigs) {
		return
	}
	owner := []byte(name)
	t := max(a.Type, b.Type)
	d.gone = appendChanges(d.gone, Change{true, owner, t, a.TTL, nil}, a.Data, b.Data, same)
	d.gone = appendChanges(d.gone, Change{true, owner, TypeRRSIG, a.TTL, nil}, a.Sigs, b.Sigs, same)
	d.come = appendChanges(d.come, Change{false, owner, t, b.TTL, nil}, b.Data, a.Data, same)
	d.come = appendChanges(d.come, Change{false, owner, TypeRRSIG, b.TTL, nil}, b.Sigs, a.Sigs, same)
}

// appendChanges adds a change for each RDATA of data that other lacks, or for
// each where they do not compare. Both are in canonical order.
func appendChanges(list []Change, c Change, data, other []byte, compare bool) []Change {
	var have []byte
	for rdata := range each(data) {
		for compare && len(other) > 0 && (have == nil || compareRDATA(c.Type, have, rdata) < 0) {
			have, other = Next(other)
		}
		if compare && have != nil && bytes.Equal(have, rdata) {
			continue
		}
		c.Data = rdata
		list = append(list, c)
	}
	return list
}

// With gives a copy of the zone with the changes made, in their order; what
// did not change is shared with z. Deleting a record that is not there is
// ErrNotThere; adding one that is there changes nothing but the TTL. A record
// added gives its TTL to the whole RRset (RFC 2181 section 5.2). The changed
// zone must keep the rules of zones; its Warnings are those of this change,
// or of the whole zone where delegations or names come or go.
func (z *Zone) With(changes []Change) (*Zone, error) {
	e := edit{z: z, owners: map[string][]entry{}}
	for i := range changes {
		if err := e.apply(&changes[i]); err != nil {
			c := &changes[i]
			return nil, fmt.Errorf("zone %s: %s %s: %w", z.Name, Text(c.Owner), TypeName(c.Type), err)
		}
	}
	out, err := e.build()
	if err != nil {
		return nil, fmt.Errorf("zone %s: %w", z.Name, err)
	}
	return out, nil
}

// edit is a set of owners whose records are being changed.
type edit struct {
	z      *Zone
	owners map[string][]entry
}

// entry is one record of an owner.
type entry struct {
	rtype uint16
	ttl   uint32
	data  []byte
}

// like says whether c's record is this one.
func (r *entry) like(c *Change) bool {
	return r.rtype == c.Type && equalRDATA(c.Type, r.data, c.Data)
}

func (e *edit) apply(c *Change) error {
	if n := WireLen(c.Owner); n == 0 || n != len(c.Owner) {
		return errors.New("the owner is not a domain name")
	}
	if err := CheckRDATA(c.Type, c.Data); err != nil {
		return err
	}
	name := string(lowerWire(slices.Clone(c.Owner)))
	if !Below([]byte(name), e.z.Apex().Name) {
		return ErrOutOfZone
	}
	recs, ok := e.owners[name]
	if !ok {
		recs = e.z.entries(name)
	}
	at := slices.IndexFunc(recs, func(r entry) bool { return r.like(c) })
	switch {
	case c.Delete && at >= 0:
		recs = slices.Delete(recs, at, at+1)
	case c.Delete && c.Type != TypeRRSIG: // one that covered nothing was left out
		return ErrNotThere
	case !c.Delete && at < 0:
		recs = append(recs, entry{c.Type, c.TTL, c.Data})
	}
	if !c.Delete {
		for i := range recs {
			if recs[i].rtype == c.Type {
				recs[i].ttl = c.TTL
			}
		}
	}
	e.owners[name] = recs
	return nil
}

// entries gives the records of one owner.
func (z *Zone) entries(name string) []entry {
	var out []entry
	add := func(s *RRset) {
		for rdata := range each(s.Data) {
			out = append(out, entry{s.Type, s.TTL, rdata})
		}
		for rdata := range each(s.Sigs) {
			out = append(out, entry{TypeRRSIG, s.TTL, rdata})
		}
	}
	if n := z.Node([]byte(name)); n != nil {
		for i := range n.Sets {
			add(&n.Sets[i])
		}
	}
	if n := z.hashed(name); n != nil {
		add(&n.Set)
	}
	return out
}

// hashed gives the NSEC3 of an owner, or nil.
func (z *Zone) hashed(name string) *NSEC3 {
	if len(z.nsec3) == 0 {
		return nil
	}
	hash, ok := nsec3Hash(name, len(z.Apex().Name))
	if !ok {
		return nil
	}
	at, ok := slices.BinarySearchFunc(z.nsec3, hash, func(n NSEC3, h string) int { return cmp.Compare(n.Hash, h) })
	if !ok {
		return nil
	}
	return &z.nsec3[at]
}
