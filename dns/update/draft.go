package update

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"meridian/dns/zone"
)

type setKey struct {
	owner string // wire form, lower case
	rtype uint16
}

// set is an RRset as the update leaves it so far.
type set struct {
	ttl  uint32
	data [][]byte
}

// draft is a zone with the RRsets that an update touches laid over it.
type draft struct {
	zone  *zone.Zone
	sets  map[setKey]*set
	order []setKey // as they were touched
}

func newDraft(z *zone.Zone) *draft { return &draft{zone: z, sets: map[setKey]*set{}} }

// at gives an RRset to be changed.
func (d *draft) at(k setKey) *set {
	s := d.sets[k]
	if s == nil {
		s = &set{data: rdatas(d.zone, k)}
		if n := d.zone.Node([]byte(k.owner)); n != nil {
			if have := n.Get(k.rtype); have != nil {
				s.ttl = have.TTL
			}
		}
		d.sets[k] = s
		d.order = append(d.order, k)
	}
	return s
}

// types lists the types that a name has so far, in order.
func (d *draft) types(owner string) []uint16 {
	var out []uint16
	if n := d.zone.Node([]byte(owner)); n != nil {
		for _, s := range n.Sets {
			if d.sets[setKey{owner, s.Type}] == nil {
				out = append(out, s.Type)
			}
		}
	}
	for _, k := range d.order {
		if k.owner == owner && len(d.sets[k].data) > 0 {
			out = append(out, k.rtype)
		}
	}
	slices.Sort(out)
	return out
}

// apply does one record of the update section (RFC 2136 section 3.4.2).
func (d *draft) apply(e entry) {
	k := setKey{string(e.owner), e.rtype}
	apex := k.owner == d.zone.Apex().Name
	switch {
	case e.class == dns.ClassINET:
		d.add(k, e)
	case e.class == dns.ClassANY && e.rtype == dns.TypeANY:
		for _, t := range d.types(k.owner) {
			if !kept(d.zone, e.owner, t) {
				d.at(setKey{k.owner, t}).data = nil
			}
		}
	case e.class == dns.ClassANY:
		if !apex || e.rtype != dns.TypeSOA && e.rtype != dns.TypeNS {
			d.at(k).data = nil
		}
	default:
		d.remove(k, e, apex)
	}
}

// add adds or replaces a record (RFC 2136 section 3.4.2.2). The whole RRset
// takes the new record's TTL (RFC 2181 section 5.2).
func (d *draft) add(k setKey, e entry) {
	if e.rtype == dns.TypeNS && strings.HasPrefix(k.owner, "\x01*") {
		return // it has no defined meaning (RFC 4592 section 4.2); passed over, as BIND does
	}
	for _, t := range d.types(k.owner) {
		beside := t == dns.TypeRRSIG || t == dns.TypeNSEC || t == dns.TypeKEY
		if !beside && (t == dns.TypeCNAME) != (e.rtype == dns.TypeCNAME) && !besideCNAME(e.rtype) {
			return
		}
	}
	s := d.at(k)
	if e.rtype == dns.TypeSOA {
		if len(s.data) == 0 || len(e.data) < 22 || !Newer(serial(e.data), serial(s.data[0])) {
			return
		}
	}
	ttl := e.ttl
	if ttl > 1<<31-1 {
		ttl = 0 // RFC 2181 section 8
	}
	one := e.rtype == dns.TypeCNAME || e.rtype == dns.TypeSOA || e.rtype == dns.TypeDNAME
	for i, have := range s.data {
		switch {
		case same(e.rtype, have, e.data) && s.ttl == ttl:
			return // but for the case of names it is there
		case one || same(e.rtype, have, e.data):
			s.ttl, s.data[i] = ttl, e.data
			return
		}
	}
	s.ttl = ttl
	s.data = append(s.data, e.data)
}

// besideCNAME says whether a type may stand beside a CNAME (RFC 4034 section
// 3, RFC 3007 section 3.1).
func besideCNAME(t uint16) bool { return made(t) || t == dns.TypeKEY }

// remove takes one record away (RFC 2136 section 3.4.2.4).
func (d *draft) remove(k setKey, e entry, apex bool) {
	s := d.at(k)
	if e.rtype == dns.TypeSOA || apex && e.rtype == dns.TypeNS && len(s.data) == 1 {
		return
	}
	s.data = slices.DeleteFunc(s.data, func(have []byte) bool { return same(e.rtype, have, e.data) })
}

// changes gives what differs from the zone, and with it a SOA whose serial is
// greater (RFC 2136 section 3.6) where the update has not set one.
func (d *draft) changes() []zone.Change {
	soa := setKey{d.zone.Apex().Name, dns.TypeSOA}
	out := d.diff(soa)
	if len(d.changed(soa)) == 0 {
		if len(out) == 0 {
			return nil
		}
		s := d.at(soa)
		next := bytes.Clone(s.data[0])
		n := serial(next) + 1
		if n == 0 {
			n = 1 // some take serial 0 to be none
		}
		binary.BigEndian.PutUint32(next[len(next)-20:], n)
		s.data[0] = next
	}
	return append(out, d.changed(soa)...)
}

// diff gives all changes but those of one RRset: deletions first.
func (d *draft) diff(but setKey) []zone.Change {
	var del, add []zone.Change
	for _, k := range d.order {
		if k == but {
			continue
		}
		for _, c := range d.changed(k) {
			if c.Delete {
				del = append(del, c)
			} else {
				add = append(add, c)
			}
		}
	}
	return append(del, add...)
}

// changed gives one RRset's changes. A new TTL changes every record.
func (d *draft) changed(k setKey) []zone.Change {
	s := d.sets[k]
	if s == nil {
		return nil
	}
	old, ttl := rdatas(d.zone, k), uint32(0)
	if len(old) > 0 {
		ttl = d.zone.Node([]byte(k.owner)).Get(k.rtype).TTL
	}
	has := func(list [][]byte, data []byte) bool {
		return s.ttl == ttl && contains(k.rtype, list, data)
	}
	var out []zone.Change
	for _, data := range old {
		if !has(s.data, data) {
			out = append(out, zone.Change{Delete: true, Owner: []byte(k.owner), Type: k.rtype, TTL: ttl, Data: data})
		}
	}
	for _, data := range s.data {
		if !has(old, data) {
			out = append(out, zone.Change{Owner: []byte(k.owner), Type: k.rtype, TTL: s.ttl, Data: data})
		}
	}
	return out
}

// rdatas lists the data of an RRset of the zone.
func rdatas(z *zone.Zone, k setKey) [][]byte {
	n := z.Node([]byte(k.owner))
	if n == nil {
		return nil
	}
	s := n.Get(k.rtype)
	if s == nil {
		return nil
	}
	out := make([][]byte, 0, s.Count)
	for rest := s.Data; len(rest) > 0; {
		var data []byte
		data, rest = zone.Next(rest)
		out = append(out, data)
	}
	return out
}

func contains(t uint16, list [][]byte, data []byte) bool {
	return slices.ContainsFunc(list, func(x []byte) bool { return same(t, x, data) })
}

// same compares two records' data as RFC 2136 section 1.1.1 asks: octets,
// names in them without regard to case.
func same(t uint16, a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	names := 0 // where names begin that reach to the end
	switch t {
	case dns.TypeNS, dns.TypeCNAME, dns.TypePTR, dns.TypeDNAME, dns.TypeMB, dns.TypeMG, dns.TypeMR, dns.TypeMD, dns.TypeMF, dns.TypeMINFO, dns.TypeRP:
	case dns.TypeMX, dns.TypeAFSDB, dns.TypeRT, dns.TypeKX, dns.TypePX:
		names = 2
	case dns.TypeSRV:
		names = 6
	default:
		return false
	}
	if len(a) != len(b) || len(a) < names || !bytes.Equal(a[:names], b[:names]) {
		return false
	}
	for i := names; i < len(a); i++ {
		if zone.Lower(a[i]) != zone.Lower(b[i]) {
			return false
		}
	}
	return true
}
