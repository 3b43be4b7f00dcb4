package zone

import (
	"cmp"
	"slices"
)

// maxSet bounds the data of one RRset, in octets: more fits into no message.
const maxSet = 65000

// gathered is the result of sorting a Builder's records, as it grows. All
// names, data and sets lie in one piece of memory each.
type gathered struct {
	b     *Builder
	order ordered
	text  string // names of the owners
	data  []byte
	sets  []RRset
	nodes []Node
	nsec3 []NSEC3
}

// sortRecords orders each owner's records by type and canonically, and gives
// how many RRsets there are at most.
func (g *gathered) sortRecords(names []int) (sets int) {
	for _, id := range names {
		recs := g.order.of(id)
		if len(recs) > 1 {
			slices.SortStableFunc(recs, g.compare)
		}
		for i := range recs {
			if i == 0 || recs[i].rtype != recs[i-1].rtype {
				sets++
			}
		}
	}
	return sets
}

// compare orders two records of one owner.
func (g *gathered) compare(a, b record) int {
	if a.rtype != b.rtype {
		return cmp.Compare(a.rtype, b.rtype)
	}
	return compareRDATA(a.rtype, g.b.rdata(&a), g.b.rdata(&b))
}

// owner makes the node of one owner, or its NSEC3, or both.
func (g *gathered) owner(id int) {
	ref := g.b.owners[id]
	name := g.text[ref.at : ref.at+uint32(ref.len)]
	from := len(g.sets)
	recs := g.order.of(id)
	var sigs []record
	for i := 0; i < len(recs); {
		end := i + 1
		for end < len(recs) && recs[end].rtype == recs[i].rtype {
			end++
		}
		if recs[i].rtype == TypeRRSIG {
			sigs = recs[i:end]
		} else if set, ok := g.set(recs[i:end]); ok {
			g.sets = append(g.sets, set)
		}
		i = end
	}
	g.sign(g.sets[from:], sigs)
	for i := from; i < len(g.sets); i++ {
		if g.sets[i].Type != TypeNSEC3 {
			continue
		}
		if hash, ok := nsec3Hash(name, len(g.b.apex)); ok {
			g.nsec3 = append(g.nsec3, NSEC3{Hash: hash, Name: name, Set: g.sets[i]})
		} else {
			g.b.warn(&recs[0], "%s: NSEC3 at a name that is no hash right below the apex (RFC 5155 section 3); it is left out", Text([]byte(name)))
		}
		g.sets = slices.Delete(g.sets, i, i+1)
		break
	}
	if len(g.sets) > from {
		g.nodes = append(g.nodes, Node{Name: name, Sets: g.sets[from:len(g.sets):len(g.sets)]})
	}
}

// set makes the RRset of records of one owner and type, sorted.
func (g *gathered) set(recs []record) (RRset, bool) {
	first := &recs[0]
	set := RRset{Type: first.rtype, TTL: first.ttl}
	from := len(g.data)
	differ := false
	for i := range recs {
		r := &recs[i]
		if i > 0 && equalRDATA(r.rtype, g.b.rdata(r), g.b.rdata(&recs[i-1])) {
			continue
		}
		if len(g.data)-from+int(r.len) > maxSet && set.Count > 0 {
			g.b.fail(r, "%s: more records than fit into a message", g.b.textOf(r))
			return set, false
		}
		differ = differ || r.ttl != set.TTL
		set.TTL = min(set.TTL, r.ttl)
		set.Count++
		g.put(r)
	}
	if differ {
		r := otherTTL(recs)
		g.b.warn(r, "%s: TTLs differ; the least is served", g.b.textOf(r))
	}
	if set.Count > 1 && (set.Type == TypeCNAME || set.Type == TypeDNAME || set.Type == TypeSOA) {
		g.b.fail(lastOf(recs), "%s: more than one %s", Text(g.b.ownerName(int(first.owner))), TypeName(set.Type))
	}
	set.Data = g.data[from:len(g.data):len(g.data)]
	return set, true
}

// lastOf is the record that was given last.
func lastOf(recs []record) *record {
	last := &recs[0]
	for i := range recs {
		if recs[i].line > last.line {
			last = &recs[i]
		}
	}
	return last
}

// otherTTL is the first record given whose TTL is not that of the very first.
func otherTTL(recs []record) *record {
	byLine := slices.SortedStableFunc(slices.Values(recs), func(a, b record) int { return cmp.Compare(a.line, b.line) })
	for i := range byLine {
		if byLine[i].ttl != byLine[0].ttl {
			return &byLine[i]
		}
	}
	return &byLine[0]
}

func (g *gathered) put(r *record) {
	g.data = append(append(g.data, byte(r.len>>8), byte(r.len)), g.b.rdata(r)...)
}

// sign gives each set the signatures that cover it; they are in order of the
// type covered.
func (g *gathered) sign(sets []RRset, sigs []record) {
	for i := 0; i < len(sigs); {
		covered := Covered(g.b.rdata(&sigs[i]))
		end := i + 1
		for end < len(sigs) && Covered(g.b.rdata(&sigs[end])) == covered {
			end++
		}
		at := slices.IndexFunc(sets, func(s RRset) bool { return s.Type == covered })
		if at < 0 {
			g.b.warn(&sigs[i], "%s covers %s, which is not there; it is left out", g.b.textOf(&sigs[i]), TypeName(covered))
			i = end
			continue
		}
		from := len(g.data)
		for k := i; k < end; k++ {
			if k > i && equalRDATA(TypeRRSIG, g.b.rdata(&sigs[k]), g.b.rdata(&sigs[k-1])) {
				continue
			}
			g.put(&sigs[k])
		}
		sets[at].Sigs = g.data[from:len(g.data):len(g.data)]
		i = end
	}
}
