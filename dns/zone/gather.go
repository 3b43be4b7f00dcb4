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
func (g *gathered) sortRecords(names []uint32) (sets int) {
	for _, id := range names {
		recs := g.order.of(int(id))
		if len(recs) > 1 {
			slices.SortStableFunc(recs, g.compare)
		}
		for i := range recs {
			if i == 0 || g.rec(recs[i]).rtype != g.rec(recs[i-1]).rtype {
				sets++
			}
		}
	}
	return sets
}

func (g *gathered) rec(i uint32) *record { return &g.b.recs[i] }

// compare orders two records of one owner.
func (g *gathered) compare(i, k uint32) int {
	a, b := g.rec(i), g.rec(k)
	if a.rtype != b.rtype {
		return cmp.Compare(a.rtype, b.rtype)
	}
	return compareRDATA(a.rtype, g.b.rdata(a), g.b.rdata(b))
}

// equal says whether two records of one owner and type are the same.
func (g *gathered) equal(i, k uint32) bool {
	a, b := g.rec(i), g.rec(k)
	return equalRDATA(a.rtype, g.b.rdata(a), g.b.rdata(b))
}

// owner makes the node of one owner, or its NSEC3, or both.
func (g *gathered) owner(id uint32) {
	ref := g.b.owners[id]
	name := g.text[ref.at : ref.at+uint32(ref.len)]
	from := len(g.sets)
	recs := g.order.of(int(id))
	var sigs []uint32
	for i := 0; i < len(recs); {
		t := g.rec(recs[i]).rtype
		end := i + 1
		for end < len(recs) && g.rec(recs[end]).rtype == t {
			end++
		}
		if t == TypeRRSIG {
			sigs = recs[i:end]
		} else if set, ok := g.set(recs[i:end]); ok {
			g.sets = append(g.sets, set)
		}
		i = end
	}
	g.sign(g.sets[from:], sigs)
	if i := slices.IndexFunc(g.sets[from:], func(s RRset) bool { return s.Type == TypeNSEC3 }); i >= 0 {
		if hash, ok := nsec3Hash(name, len(g.b.apex)); ok {
			g.nsec3 = append(g.nsec3, NSEC3{Hash: hash, Name: name, Set: g.sets[from+i]})
		} else {
			g.b.warn(g.rec(recs[0]), "%s: NSEC3 at a name that is no hash right below the apex (RFC 5155 section 3); it is left out", Text([]byte(name)))
		}
		g.sets = slices.Delete(g.sets, from+i, from+i+1)
	}
	if len(g.sets) > from {
		g.nodes = append(g.nodes, Node{Name: name, Sets: g.sets[from:len(g.sets):len(g.sets)]})
	}
}

// set makes the RRset of records of one owner and type, sorted.
func (g *gathered) set(recs []uint32) (RRset, bool) {
	first := g.rec(recs[0])
	set := RRset{Type: first.rtype, TTL: first.ttl}
	from := len(g.data)
	differ := false
	for i := range recs {
		r := g.rec(recs[i])
		if i > 0 && g.equal(recs[i], recs[i-1]) {
			continue
		}
		if set.Count > 0 && len(g.data)-from+2+int(r.len) > maxSet {
			g.b.fail(r, "%s: more records than fit into a message", g.b.textOf(r))
			return set, false
		}
		differ = differ || r.ttl != set.TTL
		set.TTL = min(set.TTL, r.ttl)
		set.Count++
		g.put(r)
	}
	if differ {
		r := g.otherTTL(recs)
		g.b.warn(r, "%s: TTLs differ; the least is served", g.b.textOf(r))
	}
	if set.Count > 1 && (set.Type == TypeCNAME || set.Type == TypeDNAME || set.Type == TypeSOA) {
		last := slices.MaxFunc(recs, func(i, k uint32) int { return cmp.Compare(i, k) })
		g.b.fail(g.rec(last), "%s: more than one %s", Text(g.b.ownerName(int(first.owner))), TypeName(set.Type))
	}
	set.Data = g.data[from:len(g.data):len(g.data)]
	if len(set.Data) > maxSet {
		g.b.warn(first, "%s: the data fits into no message", g.b.textOf(first))
	}
	return set, true
}

// otherTTL is the first record given whose TTL is not that of the very first.
func (g *gathered) otherTTL(recs []uint32) *record {
	given := slices.Sorted(slices.Values(recs))
	for _, i := range given {
		if g.rec(i).ttl != g.rec(given[0]).ttl {
			return g.rec(i)
		}
	}
	return g.rec(given[0])
}

func (g *gathered) put(r *record) {
	g.data = append(append(g.data, byte(r.len>>8), byte(r.len)), g.b.rdata(r)...)
}

// sign gives each set the signatures that cover it. Both are in order of the
// type.
func (g *gathered) sign(sets []RRset, sigs []uint32) {
	covered := func(i uint32) uint16 { return Covered(g.b.rdata(g.rec(i))) }
	for i := 0; i < len(sigs); {
		t := covered(sigs[i])
		end := i + 1
		for end < len(sigs) && covered(sigs[end]) == t {
			end++
		}
		for len(sets) > 0 && sets[0].Type < t {
			sets = sets[1:]
		}
		if len(sets) == 0 || sets[0].Type != t {
			r := g.rec(sigs[i])
			g.b.warn(r, "%s covers %s, which is not there; it is left out", g.b.textOf(r), TypeName(t))
			i = end
			continue
		}
		from := len(g.data)
		for k := i; k < end; k++ {
			if k == i || !g.equal(sigs[k], sigs[k-1]) {
				g.put(g.rec(sigs[k]))
			}
		}
		sets[0].Sigs = g.data[from:len(g.data):len(g.data)]
		i = end
	}
}

// line finds where the records of a name and type begin; for a report.
func (g *gathered) line(owner string, t uint16) (file uint16, line uint32) {
	id := *g.b.slot([]byte(owner))
	if id == 0 {
		return 0, 0
	}
	first := -1 // records are numbered as they were given
	for _, i := range g.order.of(int(id - 1)) {
		if g.rec(i).rtype == t && (first < 0 || int(i) < first) {
			first = int(i)
		}
	}
	if first < 0 {
		return 0, 0
	}
	return g.b.recs[first].file, g.b.recs[first].line
}
