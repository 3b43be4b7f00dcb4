// Package zone holds one authoritative DNS zone as an immutable, compact tree:
// it reads it from a master file, from records or from its own binary form,
// looks names up in it as RFC 1034 says, and tells and makes changes.
//
// Pure floor: it imports fleet, and miekg/dns as parser of rare types. It
// knows nothing of messages, clients, keys or steering; a steered name is a
// mark on a node that dns/answer gives a meaning.
package zone

import (
	"iter"

	"meridian/fleet"
)

// Types of record that lookup or its callers treat apart (RFC 1035 and
// others). All types are served.
const (
	TypeA          = 1
	TypeNS         = 2
	TypeCNAME      = 5
	TypeSOA        = 6
	TypePTR        = 12
	TypeMX         = 15
	TypeTXT        = 16
	TypeKEY        = 25
	TypeAAAA       = 28
	TypeSRV        = 33
	TypeDNAME      = 39
	TypeDS         = 43
	TypeRRSIG      = 46
	TypeNSEC       = 47
	TypeDNSKEY     = 48
	TypeNSEC3      = 50
	TypeNSEC3PARAM = 51
	TypeCDS        = 59
	TypeCDNSKEY    = 60
	TypeZONEMD     = 63
	TypeSVCB       = 64
	TypeHTTPS      = 65
)

// Zone is one zone. It is immutable and safe for concurrent use.
type Zone struct {
	Name     fleet.Name
	Serial   uint32
	Warnings []string    // what is odd and yet served, at most maxWarnings; each with file and line where known
	Signed   bool        // the apex has signatures: answers to DO queries carry DNSSEC
	Denial   Denial      // how a signed zone proves what does not exist
	Param    *NSEC3Param // DenyNSEC3: parameters of the chain in use
	Exports  bool        // the variants tell what transfers show of steered names; see Exported

	// Online is what the fleet's nameservers sign with when they are asked:
	// dns/sign writes and reads it. It is secret: it is in the form of Encode
	// alone, and in no text, transfer or change. Most zones have none.
	Online []byte

	nodes    []Node // canonical order; the apex is the first
	index    index  // nodes by name
	nsec     []uint32
	nsec3    []NSEC3 // all, in order of hash
	chain    []NSEC3 // those of Param
	variants map[variantKey][]Variant
	records  int
	depth    int             // labels of the longest name
	steered  []fleet.Steered // Node.Steer counts into it from 1
	source   source          // what it was made from
}

// Node is one name of a zone and the data there. An empty non-terminal has
// none.
type Node struct {
	Name  string  // wire form, lower case
	Sets  []RRset // in order of type, without RRSIG and NSEC3
	Steer int32   // 0, or 1 + the index of the zone's steered name that answers A and AAAA here

	cut   uint32 // 1 + index of the highest delegation at or above it; 0 for what the zone is authoritative for
	dname uint32 // 1 + index of the highest DNAME strictly above it
	wild  uint32 // 1 + index of the wildcard right below it
}

// RRset is all records of one name and type, in canonical order (RFC 4034
// section 6.3).
type RRset struct {
	Type  uint16
	TTL   uint32
	Count int
	Data  []byte // for each record two octets of length and the RDATA, names in it uncompressed
	Sigs  []byte // RDATA of the RRSIGs that cover the set, in the form of Data
}

// Next splits the first record's RDATA off data.
func Next(data []byte) (rdata, rest []byte) {
	n := 2 + (int(data[0])<<8 | int(data[1]))
	return data[2:n], data[n:]
}

// each gives every RDATA of a set's Data or Sigs.
func each(data []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(data) > 0 {
			var rdata []byte
			if rdata, data = Next(data); !yield(rdata) {
				return
			}
		}
	}
}

// Get gives the node's RRset of a type, or nil. RRSIG and NSEC3 are never
// there.
func (n *Node) Get(t uint16) *RRset {
	sets := n.Sets
	for len(sets) > 8 {
		if half := len(sets) / 2; sets[half].Type <= t {
			sets = sets[half:]
		} else {
			sets = sets[:half]
		}
	}
	for i := range sets {
		if sets[i].Type == t {
			return &sets[i]
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
	Exact bool // Delegation: the name is the delegation's own; else: the name itself exists
	Node  *Node
}

// Lookup finds a name, which is in wire form and lower case and lies in the
// zone (RFC 1034 section 4.3.2 step 3, RFC 4592, RFC 6672). It allocates
// nothing.
func (z *Zone) Lookup(name []byte) Result {
	if n := z.index.find(z.nodes, name); n != nil {
		switch {
		case n.cut != 0:
			cut := &z.nodes[n.cut-1]
			return Result{Delegation, cut == n, cut}
		case n.dname != 0:
			return Result{Redirect, true, &z.nodes[n.dname-1]}
		}
		return Result{Found, true, n}
	}
	for over := labels(name) - z.depth - 1; over > 0; over-- {
		name = name[1+int(name[0]):] // no name of the zone has so many labels
	}
	for {
		name = name[1+int(name[0]):]
		n := z.index.find(z.nodes, name)
		switch {
		case n == nil:
			continue
		case n.cut != 0:
			return Result{Delegation, false, &z.nodes[n.cut-1]}
		case n.dname != 0:
			return Result{Redirect, false, &z.nodes[n.dname-1]}
		case n.Get(TypeDNAME) != nil:
			return Result{Redirect, false, n}
		case n.wild != 0:
			return Result{Wildcard, false, &z.nodes[n.wild-1]}
		}
		return Result{Missing, false, n}
	}
}

// Node gives the node of a name in wire form and lower case, occluded or not,
// or nil. It is how glue is found.
func (z *Zone) Node(name []byte) *Node { return z.index.find(z.nodes, name) }

// Holds says whether a name in wire form and lower case is the apex or lies
// below it.
func (z *Zone) Holds(name []byte) bool { return Below(name, z.nodes[0].Name) }

// Apex is the zone's own node.
func (z *Zone) Apex() *Node { return &z.nodes[0] }

// Nodes gives every name in canonical order (RFC 4034 section 6.1), occluded
// names and empty non-terminals among them. Owners of NSEC3 are apart.
func (z *Zone) Nodes() iter.Seq[*Node] {
	return func(yield func(*Node) bool) {
		for i := range z.nodes {
			if !yield(&z.nodes[i]) {
				return
			}
		}
	}
}

// At gives the name that stands behind so many others in Nodes; nil where there
// are no more.
func (z *Zone) At(i int) *Node {
	if i >= len(z.nodes) {
		return nil
	}
	return &z.nodes[i]
}

// Cut gives the delegation that n is or lies below, or nil where the zone is
// authoritative for n.
func (z *Zone) Cut(n *Node) *Node {
	if n.cut == 0 {
		return nil
	}
	return &z.nodes[n.cut-1]
}

// Occluded says whether data at n is never served as the zone's own: it is
// below a delegation or below a DNAME.
func (z *Zone) Occluded(n *Node) bool {
	return n.dname != 0 || n.cut != 0 && &z.nodes[n.cut-1] != n
}

// Records is the number of records in the zone, signatures and denial among
// them and variants not.
func (z *Zone) Records() int { return z.records }

// Steered lists the zone's steered names; Node.Steer counts from 1.
func (z *Zone) Steered() []fleet.Steered { return z.steered }

// Variant is what a steered name may answer with, in place of the zone's own
// data, or an NSEC or NSEC3 that lacks types which not every answer has.
type Variant struct {
	Set    RRset
	Lacks  []uint16 // NSEC, NSEC3: types that the record's bitmap lacks
	Export bool     // transfers show it; for a name and type at most one
}

type variantKey struct {
	owner string
	rtype uint16
}

// Variants gives the variants of a name (wire form, lower case) and type, or
// nil.
func (z *Zone) Variants(owner string, rtype uint16) []Variant {
	return z.variants[variantKey{owner, rtype}]
}
