package update

import (
	"encoding/binary"

	"github.com/miekg/dns"

	"meridian/dns/zone"
)

// Apply works out what an update (RFC 2136) makes of a zone: the changes, net
// and in order, and NoError; or no changes and the RCODE that refuses it. An
// update is taken as a whole or not at all. Changes are empty where the zone
// already is as asked for; otherwise they hold a SOA with a greater serial
// (section 3.6).
//
// allowed is asked for each name (wire form, lower case) and type that the
// update wants to change; see Rules. Whoever applies the changes must refuse
// the update where zone.With does: what breaks rules of zones beyond those of
// RFC 2136 is found there.
func Apply(z *zone.Zone, msg *dns.Msg, allowed func(owner []byte, rtype uint16) bool) (changes []zone.Change, rcode int) {
	if len(msg.Question) != 1 || msg.Question[0].Qtype != dns.TypeSOA {
		return nil, dns.RcodeFormatError
	}
	if q := msg.Question[0]; q.Qclass != dns.ClassINET || dns.CanonicalName(q.Name) != string(z.Name) {
		return nil, dns.RcodeNotAuth
	}
	pre, ok := entries(msg.Answer)
	if !ok {
		return nil, dns.RcodeFormatError
	}
	if rcode := prerequisites(z, pre); rcode != dns.RcodeSuccess {
		return nil, rcode
	}
	upd, ok := entries(msg.Ns)
	if !ok {
		return nil, dns.RcodeFormatError
	}
	if rcode := prescan(z, upd); rcode != dns.RcodeSuccess {
		return nil, rcode
	}
	for _, e := range upd {
		if !permitted(z, e, allowed) {
			return nil, dns.RcodeRefused
		}
	}
	d := newDraft(z)
	for _, e := range upd {
		d.apply(e)
	}
	return d.changes(), dns.RcodeSuccess
}

// entry is one record of the prerequisite or update section.
type entry struct {
	owner []byte // wire form, lower case
	rtype uint16
	class uint16
	ttl   uint32
	data  []byte
	empty bool // RDLENGTH is 0
}

func entries(rrs []dns.RR) ([]entry, bool) {
	out := make([]entry, 0, len(rrs))
	for _, rr := range rrs {
		h := rr.Header()
		e := entry{rtype: h.Rrtype, class: h.Class, ttl: h.Ttl, empty: h.Rdlength == 0}
		buf := make([]byte, 256)
		n, err := dns.PackDomainName(h.Name, buf, 0, nil, false)
		if err != nil {
			return nil, false
		}
		e.owner = lower(buf[:n:n])
		if !e.empty {
			if e.data, err = rdata(rr, n); err != nil {
				return nil, false
			}
		}
		out = append(out, e)
	}
	return out, true
}

// rdata gives a record's data in wire form, uncompressed; owner is the length
// of its owner name.
func rdata(rr dns.RR, owner int) ([]byte, error) {
	buf := make([]byte, dns.Len(rr)+16)
	n, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		buf = make([]byte, 1<<17)
		if n, err = dns.PackRR(rr, buf, 0, nil, false); err != nil {
			return nil, err
		}
	}
	return buf[owner+10 : n : n], nil
}

func lower(name []byte) []byte {
	for i, c := range name {
		name[i] = zone.Lower(c)
	}
	return name
}

// meta says whether a type stands for others or for none (RFC 2136 section
// 3.4.1.2; RFC 6895 section 3.1 sets 128 to 255 aside for such).
func meta(t uint16) bool { return t == 0 || t == dns.TypeOPT || 128 <= t && t <= 255 }

// prerequisites checks the prerequisite section (RFC 2136 section 3.2).
func prerequisites(z *zone.Zone, list []entry) int {
	sets := map[setKey][][]byte{}
	var order []setKey
	for _, e := range list {
		if !z.Holds(e.owner) {
			return dns.RcodeNotZone
		}
		if e.ttl != 0 {
			return dns.RcodeFormatError
		}
		var rcode int
		switch e.class {
		case dns.ClassANY:
			rcode = exists(z, e, true)
		case dns.ClassNONE:
			rcode = exists(z, e, false)
		case dns.ClassINET:
			if e.empty && e.rtype != dns.TypeAPL || meta(e.rtype) {
				return dns.RcodeFormatError
			}
			k := setKey{string(e.owner), e.rtype}
			if sets[k] == nil {
				order = append(order, k)
			}
			if !contains(e.rtype, sets[k], e.data) {
				sets[k] = append(sets[k], e.data)
			}
		default:
			return dns.RcodeFormatError
		}
		if rcode != dns.RcodeSuccess {
			return rcode
		}
	}
	for _, k := range order {
		have := rdatas(z, k)
		if len(have) != len(sets[k]) {
			return dns.RcodeNXRrset
		}
		for _, d := range sets[k] {
			if !contains(k.rtype, have, d) {
				return dns.RcodeNXRrset
			}
		}
	}
	return dns.RcodeSuccess
}

// exists holds a name or an RRset to be there, or not to be (RFC 2136 sections
// 3.2.1 to 3.2.4). Wildcards stand for themselves alone.
func exists(z *zone.Zone, e entry, want bool) int {
	if !e.empty || e.rtype != dns.TypeANY && meta(e.rtype) {
		return dns.RcodeFormatError
	}
	n := z.Node(e.owner)
	is, yes, no := n != nil && len(n.Sets) > 0, dns.RcodeYXDomain, dns.RcodeNameError
	if e.rtype != dns.TypeANY {
		is, yes, no = n != nil && n.Get(e.rtype) != nil, dns.RcodeYXRrset, dns.RcodeNXRrset
	}
	switch {
	case is == want:
		return dns.RcodeSuccess
	case is:
		return yes
	}
	return no
}

// prescan checks the form of the update section (RFC 2136 section 3.4.1).
func prescan(z *zone.Zone, list []entry) int {
	for _, e := range list {
		if !z.Holds(e.owner) {
			return dns.RcodeNotZone
		}
		bad := false
		switch e.class {
		case dns.ClassINET:
			bad = meta(e.rtype) || e.empty && e.rtype != dns.TypeAPL
		case dns.ClassANY:
			bad = e.ttl != 0 || !e.empty || meta(e.rtype) && e.rtype != dns.TypeANY
		case dns.ClassNONE:
			bad = e.ttl != 0 || meta(e.rtype) || e.empty && e.rtype != dns.TypeAPL
		default:
			bad = true
		}
		if bad {
			return dns.RcodeFormatError
		}
	}
	return dns.RcodeSuccess
}

// permitted asks for each type that a record would change. What the server
// makes itself is nobody's to change.
func permitted(z *zone.Zone, e entry, allowed func([]byte, uint16) bool) bool {
	if made(e.rtype) {
		return false
	}
	if e.rtype != dns.TypeANY {
		return allowed(e.owner, e.rtype)
	}
	n := z.Node(e.owner)
	if n == nil {
		return true
	}
	for _, s := range n.Sets {
		if !kept(z, e.owner, s.Type) && !allowed(e.owner, s.Type) {
			return false
		}
	}
	return true
}

// made says whether records of a type come from signing the zone.
func made(t uint16) bool {
	return t == dns.TypeRRSIG || t == dns.TypeNSEC || t == dns.TypeNSEC3
}

// kept says whether deleting all of a name leaves a type there: the apex keeps
// SOA and NS (RFC 2136 section 3.4.2.3) and what its signatures rest on.
func kept(z *zone.Zone, owner []byte, t uint16) bool {
	if made(t) {
		return true
	}
	apex := string(owner) == z.Apex().Name
	return apex && (t == dns.TypeSOA || t == dns.TypeNS || t == dns.TypeDNSKEY || t == dns.TypeNSEC3PARAM || t == dns.TypeCDS || t == dns.TypeCDNSKEY)
}

// serial gives the serial in a SOA's data.
func serial(soa []byte) uint32 { return binary.BigEndian.Uint32(soa[len(soa)-20:]) }

// Newer says whether serial a is greater than b (RFC 1982 section 3.2).
func Newer(a, b uint32) bool { return a != b && a-b < 1<<31 }
