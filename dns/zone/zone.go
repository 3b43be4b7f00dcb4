// Package zone holds one authoritative DNS zone as an immutable tree, reads it
// from a master file and looks names up in it as RFC 1034 says.
//
// Pure floor: it imports fleet, and miekg/dns as parser of master files. It
// knows nothing of messages, clients or steering; a steered name is a mark on
// a node that dns/answer gives a meaning.
package zone

import (
	"slices"

	"meridian/fleet"
)

// Types of record that lookup or its callers treat apart (RFC 1035 and
// others). All types are served.
const (
	TypeA     = 1
	TypeNS    = 2
	TypeCNAME = 5
	TypeSOA   = 6
	TypePTR   = 12
	TypeMX    = 15
	TypeTXT   = 16
	TypeAAAA  = 28
	TypeSRV   = 33
	TypeDNAME = 39
	TypeDS    = 43
	TypeRRSIG = 46
	TypeNSEC  = 47
	TypeSVCB  = 64
	TypeHTTPS = 65
)

// Zone is one zone. It is immutable and safe for concurrent use.
type Zone struct {
	Name     fleet.Name
	Serial   uint32
	Warnings []string // what is odd and yet served; each with file and line

	apex    *Node
	nodes   map[string]*Node // by owner name: wire form, lower case
	records int
	source  []byte          // the master file
	steered []fleet.Steered // Node.Steer counts into it from 1
}

// Node is one name of a zone and the data there. An empty non-terminal has
// none.
type Node struct {
	Name  string  // wire form, lower case
	Sets  []RRset // in order of type
	Steer int     // 0, or 1 + the index of the zone's steered name that answers A and AAAA here

	cut   *Node // the highest delegation at or above it; nil for what the zone is authoritative for
	dname *Node // the highest DNAME strictly above it
	wild  *Node // the wildcard right below it
}

// RRset is all records of one name and type.
type RRset struct {
	Type  uint16
	TTL   uint32
	Count int
	Data  []byte // for each record two octets of length and the RDATA, names in it uncompressed
}

// Next splits the first record's RDATA off data.
func Next(data []byte) (rdata, rest []byte) {
	n := 2 + (int(data[0])<<8 | int(data[1]))
	return data[2:n], data[n:]
}

// Get gives the node's RRset of a type, or nil.
func (n *Node) Get(t uint16) *RRset {
	for i := range n.Sets {
		if n.Sets[i].Type == t {
			return &n.Sets[i]
		}
	}
	return nil
}

// Kind is what a lookup came to.
type Kind uint8

// The kinds of result.
const (
	Missing    Kind = iota // no such name (Node is the closest encloser)
	Found                  // the name exists (Node)
	Wildcard               // the wildcard at the closest encloser stands for the name (Node)
	Delegation             // the name lies at or below a delegation (Node)
	Redirect               // the name lies below a DNAME (Node)
)

// Result is what a lookup came to.
type Result struct {
	Kind  Kind
	Exact bool // Delegation: the name is the delegation's own
	Node  *Node
}

// Lookup finds a name, which is in wire form and lower case and lies in the
// zone (RFC 1034 section 4.3.2 step 3, RFC 4592, RFC 6672). It allocates
// nothing.
func (z *Zone) Lookup(name []byte) Result {
	if n := z.nodes[string(name)]; n != nil {
		switch {
		case n.cut != nil:
			return Result{Delegation, n.cut == n, n.cut}
		case n.dname != nil:
			return Result{Redirect, false, n.dname}
		}
		return Result{Found, true, n}
	}
	for {
		name = name[1+int(name[0]):]
		n := z.nodes[string(name)]
		switch {
		case n == nil:
			continue
		case n.cut != nil:
			return Result{Delegation, false, n.cut}
		case n.dname != nil:
			return Result{Redirect, false, n.dname}
		case n.Get(TypeDNAME) != nil:
			return Result{Redirect, false, n}
		case n.wild != nil:
			return Result{Wildcard, false, n.wild}
		}
		return Result{Missing, false, n}
	}
}

// Node gives the node of a name in wire form and lower case, occluded or not,
// or nil. It is how glue is found.
func (z *Zone) Node(name []byte) *Node { return z.nodes[string(name)] }

// Holds says whether a name in wire form and lower case is the apex or lies
// below it.
func (z *Zone) Holds(name []byte) bool { return Below(name, z.apex.Name) }

// Apex is the zone's own node.
func (z *Zone) Apex() *Node { return z.apex }

// Records is the number of records in the zone.
func (z *Zone) Records() int { return z.records }

// Steered lists the zone's steered names; Node.Steer counts from 1.
func (z *Zone) Steered() []fleet.Steered { return z.steered }

// link sets what lookup needs to know of a node's ancestors, and adds the
// empty non-terminals.
func (z *Zone) link() {
	apex := string(Wire(z.Name))
	for name := range z.nodes {
		for up := parent(name); len(up) > len(apex) && z.nodes[up] == nil; up = parent(up) {
			z.nodes[up] = &Node{Name: up}
		}
	}
	z.apex = z.nodes[apex]
	for name, n := range z.nodes {
		n.cut, n.dname = nil, nil
		for at := n; at != z.apex; at = z.nodes[parent(at.Name)] {
			if at.Get(TypeNS) != nil {
				n.cut = at
			}
			if up := z.nodes[parent(at.Name)]; up.Get(TypeDNAME) != nil {
				n.dname = up
			}
		}
		if name[0] == 1 && name[1] == '*' && n != z.apex {
			z.nodes[parent(name)].wild = n
		}
	}
}

// parent drops the first label of a name in wire form.
func parent(name string) string { return name[1+int(name[0]):] }

// with gives a zone in which some names are steered: a copy whose nodes carry
// the marks.
func (z *Zone) with(steered []fleet.Steered) *Zone {
	out := *z
	out.steered = slices.Clone(steered)
	out.nodes = make(map[string]*Node, len(z.nodes))
	for name, n := range z.nodes {
		out.nodes[name] = &Node{Name: n.Name, Sets: n.Sets}
	}
	for i, st := range steered {
		n, err := fleet.Under(st.Name, z.Name)
		if err != nil {
			continue // fleet's own rules have refused it
		}
		name := string(Wire(n))
		if out.nodes[name] == nil {
			out.nodes[name] = &Node{Name: name}
		}
		out.nodes[name].Steer = i + 1
	}
	out.link()
	return &out
}
