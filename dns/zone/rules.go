package zone

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"meridian/fleet"
)

// checkApex asks for one SOA and for name servers (RFC 1035 section 5.2).
func (b *builder) checkApex() {
	apex := b.zone.nodes[string(b.apex)]
	if apex == nil {
		apex = &Node{Name: string(b.apex)}
		b.zone.nodes[apex.Name] = apex
	}
	soa := apex.Get(TypeSOA)
	if soa == nil {
		b.failf(1, "zone %s has no SOA at its apex", b.zone.Name)
	} else {
		rdata, _ := Next(soa.Data)
		b.zone.Serial = binary.BigEndian.Uint32(rdata[len(rdata)-20:])
	}
	if apex.Get(TypeNS) == nil {
		b.failf(1, "zone %s has no NS at its apex", b.zone.Name)
	}
}

// checkNodes holds every name to the rules that need the whole zone.
func (b *builder) checkNodes() {
	names := make([]string, 0, len(b.zone.nodes))
	for name := range b.zone.nodes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		n := b.zone.nodes[name]
		b.checkAlone(n)
		b.checkOccluded(n)
		if n != b.zone.apex && n.cut == n {
			b.checkGlue(n)
		}
	}
}

func (b *builder) at(n *Node, t uint16) int { return b.line[setKey{n.Name, t}] }

// checkAlone: a CNAME stands alone (RFC 1034 section 3.6.2; RFC 4034 lets its
// signature and denial stand beside it), and SOA stands at the apex.
func (b *builder) checkAlone(n *Node) {
	owner := Text([]byte(n.Name))
	if n.Get(TypeCNAME) != nil {
		for _, s := range n.Sets {
			if s.Type != TypeCNAME && s.Type != TypeRRSIG && s.Type != TypeNSEC && s.Type != dns.TypeKEY {
				b.failf(b.at(n, TypeCNAME), "%s: CNAME and other data (%s)", owner, dns.Type(s.Type))
			}
		}
	}
	if n != b.zone.apex && n.Get(TypeSOA) != nil {
		b.failf(b.at(n, TypeSOA), "%s: SOA below the apex", owner)
	}
	if strings.HasPrefix(n.Name, "\x01*") {
		for _, t := range []uint16{TypeNS, TypeDNAME} {
			if n.Get(t) != nil {
				b.failf(b.at(n, t), "%s: %s at a wildcard has no defined meaning (RFC 4592 section 4)", owner, dns.Type(t))
			}
		}
	}
	if n != b.zone.apex && n.Get(TypeDNAME) != nil && n.Get(TypeNS) != nil {
		b.failf(b.at(n, TypeDNAME), "%s: DNAME and NS below the apex (RFC 6672 section 2.3)", owner)
	}
}

// checkOccluded: nothing may stand below a DNAME (RFC 6672 section 2.4); what
// stands below a delegation and is no glue is never served.
func (b *builder) checkOccluded(n *Node) {
	if len(n.Sets) == 0 {
		return
	}
	owner, line := Text([]byte(n.Name)), b.at(n, n.Sets[0].Type)
	if n.dname != nil {
		b.failf(line, "%s: data below the DNAME at %s", owner, Text([]byte(n.dname.Name)))
		return
	}
	if n.cut != nil && n.cut != n {
		for _, s := range n.Sets {
			if s.Type != TypeA && s.Type != TypeAAAA {
				b.warnf(b.at(n, s.Type), "%s %s is below the delegation at %s and not served", owner, dns.Type(s.Type), Text([]byte(n.cut.Name)))
			}
		}
	}
}

// checkGlue warns of a delegation to a name server below itself without an
// address: it cannot be reached.
func (b *builder) checkGlue(n *Node) {
	ns := n.Get(TypeNS)
	for rest := ns.Data; len(rest) > 0; {
		var rdata []byte
		rdata, rest = Next(rest)
		host := lowerWire(slices.Clone(rdata))
		if !Below(host, n.Name) {
			continue
		}
		if g := b.zone.nodes[string(host)]; g == nil || g.Get(TypeA) == nil && g.Get(TypeAAAA) == nil {
			b.warnf(b.at(n, TypeNS), "%s: name server %s has no glue", Text([]byte(n.Name)), Text(host))
		}
	}
}

// checkSteered notes what hinders the steering of a name: other addresses or
// an alias there, or that the zone gives the name away.
func (z *Zone) checkSteered(steered []fleet.Steered, note func(i int, format string, args ...any)) {
	for i, st := range steered {
		name, err := fleet.Under(st.Name, z.Name)
		if err != nil {
			continue // fleet's own rules say so
		}
		wire := Wire(name)
		r := z.Lookup(wire)
		switch {
		case r.Kind == Delegation:
			note(i, "%s cannot be steered: the zone delegates %s", name, Text([]byte(r.Node.Name)))
			continue
		case r.Kind == Redirect:
			note(i, "%s cannot be steered: it is below the DNAME at %s", name, Text([]byte(r.Node.Name)))
			continue
		}
		n := z.Node(wire)
		if n == nil {
			continue
		}
		for _, t := range []uint16{TypeA, TypeAAAA, TypeCNAME} {
			if n.Get(t) != nil {
				note(i, "%s cannot be steered: the zone holds %s there", name, dns.Type(t))
			}
		}
	}
}
