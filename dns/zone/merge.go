package zone

import (
	"maps"
	"slices"
	"sort"
)

// build makes the changed zone of what was touched and what was not.
func (e *edit) build() (*Zone, error) {
	b := NewBuilder(e.z.Name)
	names := slices.SortedFunc(maps.Keys(e.owners), Compare[string, string])
	for _, name := range names {
		for _, r := range e.owners[name] {
			if err := b.add([]byte(name), r.rtype, r.ttl, r.data, 0, 0); err != nil {
				return nil, err
			}
		}
	}
	fresh, hashes := b.gather()
	b.report.lookup = nil
	out := &Zone{Name: e.z.Name, variants: e.z.variants, steered: e.z.steered, nsec3: e.z.nsec3, Exports: e.z.Exports}
	touched := func(n NSEC3) bool { _, ok := e.owners[n.Name]; return ok }
	if len(hashes) > 0 || slices.ContainsFunc(e.z.nsec3, touched) {
		out.nsec3 = append(slices.DeleteFunc(slices.Clone(e.z.nsec3), touched), hashes...)
		sortNSEC3(out.nsec3)
	}
	changed := out.replace(e.z, names, fresh)
	if changed == nil {
		out.merge(e.z, names, fresh)
		return out, out.finish(&b.report)
	}
	out.count()
	out.facts()
	for _, i := range changed {
		out.checkNode(&b.report, i)
	}
	out.checkApex(&b.report)
	out.Warnings = b.report.warnings()
	return out, b.report.err()
}

// replace makes the nodes of z where the same names hold something as in old,
// and the same ones delegations, DNAMEs and NSECs: then the index and all that
// nodes know of each other stays. It gives the indexes of the names touched;
// nil where things are not so.
func (z *Zone) replace(old *Zone, names []string, fresh []Node) []int {
	changed := []int{}
	for _, name := range names {
		at := old.index.at(old.nodes, []byte(name))
		is := len(fresh) > len(changed) && fresh[len(changed)].Name == name
		if at < 0 && !is && old.hashedAway(name) {
			continue // an NSEC3 and no name
		}
		if at < 0 || !is {
			return nil
		}
		a, b := &old.nodes[at], &fresh[len(changed)]
		for _, t := range []uint16{TypeNS, TypeDNAME, TypeNSEC} {
			if (a.Get(t) == nil) != (b.Get(t) == nil) {
				return nil
			}
		}
		changed = append(changed, at)
	}
	z.nodes = slices.Clone(old.nodes)
	for i, at := range changed {
		z.nodes[at].Sets = fresh[i].Sets
	}
	z.index, z.nsec, z.depth = old.index, old.nsec, old.depth
	return changed
}

// hashedAway says whether a name is where an NSEC3 may stand and nothing else.
func (z *Zone) hashedAway(name string) bool {
	_, ok := nsec3Hash(name, len(z.Apex().Name))
	return ok
}

// merge makes the nodes of z: those of old, with fresh ones in place of the
// names touched. Both are in canonical order.
func (z *Zone) merge(old *Zone, names []string, fresh []Node) {
	nodes := make([]Node, 0, len(old.nodes)+len(fresh))
	from := 0
	keep := func(to int) { // old nodes up to there, without those that hold nothing
		for ; from < to; from++ {
			if n := &old.nodes[from]; from == 0 || len(n.Sets) > 0 || n.Steer > 0 {
				nodes = append(nodes, *n)
			}
		}
	}
	for _, name := range names {
		n := Node{Name: name}
		if len(fresh) > 0 && fresh[0].Name == name {
			n, fresh = fresh[0], fresh[1:]
		}
		at := old.index.at(old.nodes, []byte(name))
		if at < 0 {
			at = sort.Search(len(old.nodes), func(i int) bool { return Compare(old.nodes[i].Name, name) > 0 })
			keep(at)
		} else {
			keep(at)
			n.Steer = old.nodes[at].Steer
			from = at + 1
		}
		if at == 0 || len(n.Sets) > 0 || n.Steer > 0 {
			nodes = append(nodes, n)
		}
	}
	keep(len(old.nodes))
	z.assemble(nodes)
}
