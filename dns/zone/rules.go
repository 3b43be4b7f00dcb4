package zone

import (
	"fmt"
	"strings"

	"meridian/fleet"
)

// checkApex asks for what must stand at the apex.
func (z *Zone) checkApex(rep *report) {
	if len(rep.errs.list) > 0 {
		return // it may be among the records that were not understood
	}
	if z.Apex().Get(TypeSOA) == nil {
		rep.failAt(0, 1, "zone %s has no SOA at its apex", z.Name)
	}
	if z.Apex().Get(TypeNS) == nil { // refused by BIND, taken by NSD and Knot
		rep.warnAt(0, 1, "zone %s has no NS at its apex", z.Name)
	}
}

// checkNode holds the i-th name to the rules that need its surroundings.
func (z *Zone) checkNode(rep *report, i int) {
	n := &z.nodes[i]
	if len(n.Sets) == 0 {
		return
	}
	z.checkAlone(rep, n)
	z.checkOccluded(rep, n)
	if n.cut == 0 || n.cut == uint32(i+1) {
		z.checkTargets(rep, n)
	}
}

// checkAlone: a CNAME stands alone (RFC 1034 section 3.6.2; RFC 4034 lets its
// signature and denial stand beside it), and SOA stands at the apex.
func (z *Zone) checkAlone(rep *report, n *Node) {
	if n.Get(TypeCNAME) != nil {
		for _, s := range n.Sets {
			if s.Type != TypeCNAME && s.Type != TypeNSEC {
				rep.fail(n, TypeCNAME, "%s: CNAME and other data (%s)", nodeText(n), TypeName(s.Type))
			}
		}
	}
	if n == z.Apex() {
		return
	}
	if n.Get(TypeSOA) != nil {
		rep.fail(n, TypeSOA, "%s: SOA below the apex", nodeText(n))
	}
	if strings.HasPrefix(n.Name, "\x01*") {
		for _, t := range []uint16{TypeNS, TypeDNAME} {
			if n.Get(t) != nil {
				rep.warn(n, t, "%s: %s at a wildcard has no defined meaning (RFC 4592 section 4)", nodeText(n), TypeName(t))
			}
		}
	}
	if n.Get(TypeDNAME) != nil && n.Get(TypeNS) != nil {
		rep.warn(n, TypeDNAME, "%s: DNAME and NS below the apex (RFC 6672 section 2.3); the DNAME is not served", nodeText(n))
	}
}

// checkOccluded: nothing may stand below a DNAME (RFC 6672 section 2.4); what
// stands below a delegation and is no glue is never served.
func (z *Zone) checkOccluded(rep *report, n *Node) {
	if n.dname != 0 {
		rep.fail(n, n.Sets[0].Type, "%s: data below the DNAME at %s", nodeText(n), nodeText(&z.nodes[n.dname-1]))
		return
	}
	if n.cut == 0 || &z.nodes[n.cut-1] == n {
		return
	}
	for _, s := range n.Sets {
		if s.Type != TypeA && s.Type != TypeAAAA {
			rep.warn(n, s.Type, "%s %s is below the delegation at %s and not served", nodeText(n), TypeName(s.Type), nodeText(&z.nodes[n.cut-1]))
		}
	}
}

// checkTargets warns of hosts that NS, MX and SRV name and that cannot be
// reached: they are aliases (RFC 2181 section 10.3), or the zone is to hold
// their addresses and has none.
func (z *Zone) checkTargets(rep *report, n *Node) {
	for i := range n.Sets {
		t := n.Sets[i].Type
		if t != TypeNS && t != TypeMX && t != TypeSRV {
			continue
		}
		for rest := n.Sets[i].Data; len(rest) > 0; {
			var rdata []byte
			rdata, rest = Next(rest)
			var buf [255]byte
			host := lowerWire(buf[:copy(buf[:], Target(t, rdata))])
			if len(host) > 1 && z.Holds(host) {
				z.checkHost(rep, n, t, host)
			}
		}
	}
}

func (z *Zone) checkHost(rep *report, n *Node, t uint16, host []byte) {
	r := z.Lookup(host)
	switch {
	case r.Kind == Redirect:
	case r.Kind == Delegation && t != TypeNS:
	case r.Kind == Delegation:
		g := z.Node(host)
		needed := n.cut != 0 && Below(host, n.Name) || n == z.Apex()
		if needed && (g == nil || g.Get(TypeA) == nil && g.Get(TypeAAAA) == nil) {
			rep.warn(n, t, "%s: name server %s has no glue", nodeText(n), Text(host))
		}
	case r.Kind != Missing && r.Node.Get(TypeCNAME) != nil:
		rep.warn(n, t, "%s: %s names %s, which is an alias (RFC 2181 section 10.3)", nodeText(n), TypeName(t), Text(host))
	case t == TypeNS && (r.Kind == Missing || r.Node.Get(TypeA) == nil && r.Node.Get(TypeAAAA) == nil && r.Node.Steer == 0):
		rep.warn(n, t, "%s: name server %s has no address", nodeText(n), Text(host))
	}
}

// madeBeside gives the types that are made for a steered name besides
// addresses.
func madeBeside(st *fleet.Steered) []uint16 {
	if st.HTTPS != nil {
		return []uint16{TypeHTTPS}
	}
	return nil
}

func nodeText(n *Node) fleet.Name { return Text([]byte(n.Name)) }

// checkSteered notes what hinders a name from being steered, or from being an
// alias that the fleet follows: other addresses, a CNAME or other types there
// that are made for it, or that the zone gives the name away.
func (z *Zone) checkSteered(name, what string, note func(text string), also ...uint16) {
	full, err := fleet.Under(name, z.Name)
	if err != nil {
		return // fleet's own rules say so
	}
	because := func(format string, args ...any) {
		note(fmt.Sprintf("%s cannot be %s: ", full, what) + fmt.Sprintf(format, args...))
	}
	wire := Wire(full)
	switch r := z.Lookup(wire); r.Kind {
	case Delegation:
		because("the zone delegates %s", nodeText(r.Node))
		return
	case Redirect:
		because("it is below the DNAME at %s", nodeText(r.Node))
		return
	}
	n := z.Node(wire)
	if n == nil {
		return
	}
	for _, t := range append([]uint16{TypeA, TypeAAAA, TypeCNAME}, also...) {
		if n.Get(t) != nil {
			because("the zone holds %s there", TypeName(t))
		}
	}
}
