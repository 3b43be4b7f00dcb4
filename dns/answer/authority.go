package answer

import (
	"encoding/binary"
	"slices"

	"meridian/dns/zone"
)

// authority writes the section AUTHORITY: why there is no answer, or who has
// it, and what proves that. s is the last name of the chain.
func (w *Worker) authority(s *step) {
	e := &w.end
	switch e.kind {
	case missing:
		w.negative(e.z)
		w.denyName(e.z, s.name, e.node)
	case noData:
		w.negative(e.z)
		w.denyType(e.z, s.name, e.node, e.wild)
	case delegated:
		w.referral(e.z, e.node)
	}
	for i := range w.wilds[:w.wildN] {
		w.proveWild(&w.wilds[i])
	}
}

// negative adds the SOA that lets resolvers keep the absence (RFC 2308
// sections 2 and 5): where a steered name has no region just now, no longer
// than they would have kept its addresses.
func (w *Worker) negative(z *served) {
	soa := z.Apex().Get(zone.TypeSOA)
	rdata, _ := zone.Next(soa.Data)
	ttl := min(soa.TTL, binary.BigEndian.Uint32(rdata[len(rdata)-4:]), w.brief)
	w.putTTL(inAuthority, w.nameOf(z.apex), soa, ttl)
}

// referral names the servers of a delegated zone (RFC 1034 section 4.3.2 step
// 3b), and gives its DS set or the proof that it has none (RFC 4035 section
// 3.1.4).
func (w *Worker) referral(z *served, n *zone.Node) {
	w.end.set = n.Get(zone.TypeNS)
	if _, ok := w.put(inAuthority, w.nameOf(n.Name), w.end.set); !ok || !w.proving(z) {
		return
	}
	if ds := n.Get(zone.TypeDS); ds != nil {
		w.put(inAuthority, w.nameOf(n.Name), ds)
		return
	}
	copy(w.names[0][:], n.Name)
	w.denyType(z, w.names[0][:len(n.Name)], n, false)
}

// proving says whether answers from a zone carry proofs.
func (w *Worker) proving(z *served) bool { return w.dnssec && z.Signed }

// once holds the RRsets that a message has already and that it could come to
// twice: NSEC, NSEC3 and DNAME.
type once struct {
	sets [4 + 4*maxChain]*zone.RRset
	n    int
}

// add notes a set; false where the message has it.
func (o *once) add(set *zone.RRset) bool {
	for _, had := range o.sets[:o.n] {
		if had == set {
			return false
		}
	}
	if o.n < len(o.sets) {
		o.sets[o.n] = set
		o.n++
	}
	return true
}

// prove adds an NSEC or NSEC3 set.
func (w *Worker) prove(owner string, set *zone.RRset) {
	if set != nil && !w.msg.tc && w.once.add(set) {
		w.put(inAuthority, w.nameOf(owner), set)
	}
}

// denyName proves that a name does not exist, nor a wildcard that would stand
// for it (RFC 4035 section 3.1.3.2, RFC 5155 section 7.2.2).
func (w *Worker) denyName(z *served, name []byte, encloser *zone.Node) {
	if !w.proving(z) {
		return
	}
	if z.online != nil {
		w.put(inAuthority, owner{name: name}, w.compactMissing(z, name))
		return
	}
	if z.Denial == zone.DenyNSEC3 {
		encloser := w.proveEncloser(z, name, len(encloser.Name))
		w.proveHash(z, w.wildcardAt(name[len(name)-encloser:]))
		return
	}
	w.proveCovering(z, name)
	w.proveCovering(z, w.wildcardAt(name[len(name)-len(encloser.Name):]))
}

// denyType proves that a name, or the wildcard that stands for it, has no data
// of the type (RFC 4035 sections 3.1.3.1 and 3.1.3.4, RFC 5155 sections 7.2.3
// to 7.2.5).
func (w *Worker) denyType(z *served, name []byte, n *zone.Node, wild bool) {
	if !w.proving(z) {
		return
	}
	if z.online != nil {
		w.put(inAuthority, owner{name: name}, w.compactAt(z, name, n, wild))
		return
	}
	if z.Denial != zone.DenyNSEC3 {
		if wild {
			w.proveCovering(z, name)
		}
		w.proveNode(z, n)
		return
	}
	if wild {
		w.proveEncloser(z, name, len(n.Name)-2)
		w.proveHash(z, w.nameOf(n.Name).name)
		return
	}
	sum := z.Param.Hash(name)
	if rec, match := z.NSEC3(sum[:]); match {
		w.prove(rec.Name, w.fitting(z, rec.Name, &rec.Set))
		return
	}
	w.proveEncloser(z, name, len(name)) // a delegation, or what leads to one, that opt-out leaves out
}

// proveWild proves that a name which a wildcard stood for does not exist itself
// (RFC 4035 section 3.1.3.3, RFC 5155 section 7.2.6).
func (w *Worker) proveWild(d *wild) {
	if !w.proving(d.z) {
		return
	}
	name := w.msg.expand(w.names[0][:0], d.at)
	if d.z.Denial != zone.DenyNSEC3 {
		w.proveCovering(d.z, name)
		return
	}
	w.proveHash(d.z, nextCloser(name, len(d.node.Name)-2))
}

// proveCovering adds the NSEC that matches or covers a name.
func (w *Worker) proveCovering(z *served, name []byte) {
	if n := z.Covering(name); n != nil {
		w.prove(n.Name, n.Get(zone.TypeNSEC))
	}
}

// proveNode adds the NSEC that says what types a name has, or that it is an
// empty non-terminal.
func (w *Worker) proveNode(z *served, n *zone.Node) {
	if set := n.Get(zone.TypeNSEC); set != nil {
		w.prove(n.Name, w.fitting(z, n.Name, set))
		return
	}
	w.proveCovering(z, w.nameOf(n.Name).name)
}

// proveHash adds the NSEC3 that matches or covers a name.
func (w *Worker) proveHash(z *served, name []byte) (match bool) {
	if z.Param == nil {
		return false
	}
	sum := z.Param.Hash(name)
	rec, match := z.NSEC3(sum[:])
	if rec != nil {
		w.prove(rec.Name, &rec.Set)
	}
	return match
}

// proveEncloser proves the closest encloser of a name, which has at most
// length octets, and that the name right below it does not exist (RFC 5155
// section 7.2.1). It gives the length of the encloser that can be proven:
// opt-out leaves some names without an NSEC3.
func (w *Worker) proveEncloser(z *served, name []byte, length int) int {
	at := name[len(name)-length:]
	for {
		sum := z.Param.Hash(at)
		if rec, match := z.NSEC3(sum[:]); match {
			w.prove(rec.Name, &rec.Set)
			break
		}
		if len(at) <= len(z.apex) {
			break
		}
		at = at[1+int(at[0]):]
	}
	if len(at) < len(name) {
		w.proveHash(z, nextCloser(name, len(at)))
	}
	return len(at)
}

// nextCloser cuts a name down to one label more than an ancestor of the given
// length has.
func nextCloser(name []byte, length int) []byte {
	for len(name)-1-int(name[0]) > length {
		name = name[1+int(name[0]):]
	}
	return name
}

// wildcardAt gives the wildcard below a name; it lives in the worker until the
// next name does.
func (w *Worker) wildcardAt(encloser []byte) []byte {
	b := w.wildcard[:2+len(encloser)]
	b[0], b[1] = 1, '*'
	copy(b[2:], encloser)
	return b
}

// fitting gives the NSEC or NSEC3 of a name whose types are those that the
// client gets: a steered name without a region to send the client to lacks
// types that it has for others.
func (w *Worker) fitting(z *served, owner string, set *zone.RRset) *zone.RRset {
	if w.absentN == 0 {
		return set
	}
	variants := z.Variants(owner, set.Type)
	most := 0
	for i := range variants {
		if lacks := variants[i].Lacks; len(lacks) > most && subset(lacks, w.absent[:w.absentN]) {
			set, most = &variants[i].Set, len(lacks)
		}
	}
	return set
}

func subset(list, of []uint16) bool {
	for _, t := range list {
		if !slices.Contains(of, t) {
			return false
		}
	}
	return true
}
