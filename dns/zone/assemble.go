package zone

import (
	"encoding/binary"
	"errors"
	"slices"

	"meridian/fleet"
)

// assemble takes the nodes that hold something, in canonical order and the
// apex first, adds the empty non-terminals, and sets what lookup needs to
// know of each.
func (z *Zone) assemble(nodes []Node) {
	z.nodes = withEmpty(nodes)
	z.link()
	z.index = newIndex(z.nodes)
}

// withEmpty adds the empty non-terminals (RFC 4592 section 2.2.2).
func withEmpty(nodes []Node) []Node {
	missing := 0
	eachMissing(nodes, func(int, string) { missing++ })
	if missing == 0 {
		return nodes
	}
	out := make([]Node, 0, len(nodes)+missing)
	next := 0
	eachMissing(nodes, func(i int, name string) {
		out = append(out, nodes[next:i]...)
		next = i
		out = append(out, Node{Name: name})
	})
	return append(out, nodes[next:]...)
}

// eachMissing tells each name that lies between the apex and a node and is
// none itself, with the index of the node that it belongs before.
func eachMissing(nodes []Node, tell func(i int, name string)) {
	var stack [128]string // ancestors of the last node, the apex first
	stack[0] = nodes[0].Name
	depth := 1
	var missing [128]string
	for i := 1; i < len(nodes); i++ {
		name := nodes[i].Name
		n := 0
		for up := parent(name); ; up = parent(up) {
			for depth > 1 && len(stack[depth-1]) > len(up) {
				depth--
			}
			if stack[depth-1] == up {
				break
			}
			missing[n] = up
			n++
		}
		for n--; n >= 0; n-- {
			tell(i, missing[n])
			stack[depth] = missing[n]
			depth++
		}
		stack[depth] = name
		depth++
	}
}

// parent drops the first label of a name in wire form.
func parent(name string) string { return name[1+int(name[0]):] }

// link sets what each node knows of those above and right below it, and what
// the zone knows of all.
func (z *Zone) link() {
	var stack [128]int // indexes of the ancestors
	depth := 0
	z.depth, z.nsec = 0, nil
	nsecs := 0
	for i := range z.nodes {
		n := &z.nodes[i]
		n.cut, n.dname, n.wild = 0, 0, 0
		if n.Get(TypeNSEC) != nil {
			nsecs++
		}
		if i == 0 {
			stack[0], depth = 0, 1
			continue
		}
		for above := parent(n.Name); z.nodes[stack[depth-1]].Name != above; {
			depth--
		}
		at := stack[depth-1]
		up := &z.nodes[at]
		n.cut, n.dname = up.cut, up.dname
		if n.dname == 0 && up.Get(TypeDNAME) != nil {
			n.dname = uint32(at + 1)
		}
		if n.cut == 0 && n.Get(TypeNS) != nil {
			n.cut = uint32(i + 1)
		}
		if n.Name[0] == 1 && n.Name[1] == '*' {
			up.wild = uint32(i + 1)
		}
		stack[depth] = i
		depth++
		z.depth = max(z.depth, depth-1)
	}
	z.depth += labels([]byte(z.nodes[0].Name))
	if nsecs > 0 {
		z.nsec = make([]uint32, 0, nsecs)
		for i := range z.nodes {
			if z.nodes[i].Get(TypeNSEC) != nil {
				z.nsec = append(z.nsec, uint32(i))
			}
		}
	}
}

// finish finds the zone's facts and holds it to the rules.
func (z *Zone) finish(rep *report) error {
	z.count()
	z.facts()
	z.checkApex(rep)
	for i := range z.nodes {
		z.checkNode(rep, i)
	}
	z.Warnings = rep.warnings()
	return rep.err()
}

// count counts the records.
func (z *Zone) count() {
	z.records = 0
	for i := range z.nodes {
		for k := range z.nodes[i].Sets {
			z.records += z.nodes[i].Sets[k].records()
		}
	}
	for i := range z.nsec3 {
		z.records += z.nsec3[i].Set.records()
	}
}

// records counts the set's records and signatures.
func (s *RRset) records() int {
	n := s.Count
	for rest := s.Sigs; len(rest) > 0; n++ {
		_, rest = Next(rest)
	}
	return n
}

// facts finds what the zone tells of itself.
func (z *Zone) facts() {
	if soa := z.Apex().Get(TypeSOA); soa != nil {
		rdata, _ := Next(soa.Data)
		z.Serial = binary.BigEndian.Uint32(rdata[len(rdata)-20:])
		z.Signed = len(soa.Sigs) > 0
	}
	z.findDenial()
}

// checkSet says whether a set has the form of an RRset.
func checkSet(s *RRset) error {
	n, err := checkData(s.Type, s.Data)
	if err != nil {
		return err
	}
	if n != s.Count || n == 0 {
		return errors.New("the set's count is not that of its data")
	}
	_, err = checkData(TypeRRSIG, s.Sigs)
	return err
}

// checkData counts the records of a set's data.
func checkData(t uint16, data []byte) (n int, err error) {
	var last []byte
	for len(data) > 0 {
		if len(data) < 2 || 2+int(binary.BigEndian.Uint16(data)) > len(data) {
			return 0, errRDATA
		}
		var rdata []byte
		rdata, data = Next(data)
		if err := CheckRDATA(t, rdata); err != nil {
			return 0, err
		}
		if last != nil && compareRDATA(t, last, rdata) >= 0 {
			return 0, errors.New("the records of a set are not in canonical order")
		}
		last = rdata
		n++
	}
	return n, nil
}

// with gives the zone with these names steered and no others: a copy whose
// nodes carry the marks.
func (z *Zone) with(steered []fleet.Steered) *Zone {
	out := *z
	out.steered = slices.Clone(steered)
	marks := make(map[string]int32, len(steered))
	for i, st := range steered {
		n, err := fleet.Under(st.Name, z.Name)
		if err != nil {
			continue // fleet's own rules have refused it
		}
		marks[string(Wire(n))] = int32(i + 1)
	}
	nodes := make([]Node, 0, len(z.nodes)+len(marks))
	for i := range z.nodes {
		n := z.nodes[i]
		n.Steer = marks[n.Name]
		delete(marks, n.Name)
		if i == 0 || len(n.Sets) > 0 || n.Steer > 0 {
			nodes = append(nodes, n)
		}
	}
	if len(marks) > 0 {
		for name, i := range marks {
			nodes = append(nodes, Node{Name: name, Steer: i})
		}
		slices.SortFunc(nodes, func(a, b Node) int { return Compare(a.Name, b.Name) })
	}
	out.assemble(nodes)
	return &out
}
