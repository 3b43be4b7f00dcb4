package answer

import (
	"meridian/dns/zone"
)

// step is where resolution stands: the name sought, and where the message
// holds it.
type step struct {
	name []byte // wire form, lower case
	at   int
	hops int
}

// end is what a chain of aliases came to, for the sections after ANSWER.
type end struct {
	kind endKind
	z    *served
	node *zone.Node  // noData, delegated: the name's; missing: its closest encloser; data: the set's
	wild bool        // noData: node is a wildcard that stands for the name
	set  *zone.RRset // data: the answer, where it is one RRset of the zone
	next int         // data: where an alias's target stands in the message
}

type endKind uint8

const (
	nothing   endKind = iota // the chain leads elsewhere, loops or is too long
	data                     // the type asked for
	noData                   // the name exists, and the type does not
	missing                  // the name does not exist
	delegated                // the name is in a zone that is served elsewhere
)

// wild is an alias or an answer made from a wildcard, which is to be proven.
type wild struct {
	z    *served
	at   int // offset of the name that it stood for
	node *zone.Node
}

// resolve answers from the zones (RFC 1034 section 4.3.2), following aliases
// as far as zones are served here.
func (p *Plan) resolve(w *Worker, c *Client) uint16 {
	r := &w.req
	s := step{name: r.lower, at: headerLen}
	w.end, w.wildN, w.once.n, w.absentN = end{}, 0, 0, 0
	rcode, more := p.first(w, &s, c)
	for more && !w.msg.tc {
		z := w.find(p, s.name, r.qtype)
		if z == nil || z.Zone == nil {
			break // the alias leads elsewhere
		}
		rcode, more = p.answer(w, z, &s, c)
	}
	if !w.msg.tc {
		w.authority(&s)
	}
	if !w.msg.tc {
		w.extra(&s)
	}
	return rcode
}

// first deals with the name asked for.
func (p *Plan) first(w *Worker, s *step, c *Client) (rcode uint16, more bool) {
	z := w.find(p, s.name, w.req.qtype)
	if z == nil {
		return w.refuse(edeNotAuth), false
	}
	w.zone = z
	if z.Zone == nil {
		w.ede = edeInvalid
		return ServFail, false
	}
	w.aa = true
	return p.answer(w, z, s, c)
}

// answer deals with one name of a chain; more says that s now holds the next.
func (p *Plan) answer(w *Worker, z *served, s *step, c *Client) (rcode uint16, more bool) {
	found := z.Lookup(s.name)
	if z.online != nil {
		w.compact = w.dnssec
		if w.compactAsked(z, s, found) {
			return NoError, false
		}
	}
	switch found.Kind {
	case zone.Missing:
		w.end = end{kind: missing, z: z, node: found.Node}
		if z.online != nil && w.dnssec && !w.req.co {
			return NoError, false // RFC 9824 section 3.1: the name is said to exist and to have nothing
		}
		return NXDomain, false
	case zone.Redirect:
		return w.redirect(found.Node, s)
	case zone.Delegation:
		if !found.Exact || w.req.qtype != zone.TypeDS {
			w.end = end{kind: delegated, z: z, node: found.Node}
			if s.hops == 0 {
				w.aa = false
			}
			return NoError, false
		}
	}
	n := found.Node
	w.end = end{kind: noData, z: z, node: n, wild: found.Kind == zone.Wildcard}
	w.online.expand(w, z, s)
	ok, expanded := p.data(w, z, n, s, c), w.online.expanded()
	if ok {
		if w.end.wild && !expanded {
			w.wilds[w.wildN] = wild{z, s.at, n}
			w.wildN++
		}
		return NoError, w.alias(s)
	}
	if n.Steer > 0 && w.proving(z) {
		p.noteAbsent(w, z, n, c)
	}
	return NoError, false
}

// data answers with what a name holds; false where it holds nothing of the
// type.
func (p *Plan) data(w *Worker, z *served, n *zone.Node, s *step, c *Client) bool {
	r := &w.req
	switch {
	case r.qtype == typeANY:
		return p.any(w, z, n, s, c)
	case n.Steer > 0 && p.tailored(w, z, n, r.qtype, s, c):
		return true
	case r.qtype == zone.TypeRRSIG:
		return w.allSignatures(z, n, s)
	}
	set := n.Get(r.qtype)
	if set == nil && !besideAlias(r.qtype) {
		set = n.Get(zone.TypeCNAME)
	}
	if set == nil {
		return false
	}
	w.end.kind, w.end.set = data, set
	w.end.next, _ = w.put(inAnswer, ownerAt(s.at), set)
	return true
}

// besideAlias says whether a type may stand beside a CNAME, so that asking for
// it does not follow the alias (RFC 4034 sections 3 and 4, RFC 2535).
func besideAlias(qtype uint16) bool {
	return qtype == zone.TypeRRSIG || qtype == zone.TypeNSEC || qtype == zone.TypeKEY
}

// put writes an RRset that the response may not lack: where it does not fit,
// the response is truncated.
func (w *Worker) put(section int, o owner, set *zone.RRset) (target int, ok bool) {
	return w.putTTL(section, o, set, set.TTL)
}

func (w *Worker) putTTL(section int, o owner, set *zone.RRset, ttl uint32) (target int, ok bool) {
	if w.online.by != nil {
		set = w.signed(set)
	}
	if target, ok = w.msg.set(section, o, set, ttl, w.dnssec); !ok {
		w.msg.tc = true
	}
	return target, ok
}

// allSignatures answers type RRSIG with every signature at a name, or with
// none where they do not all fit.
func (w *Worker) allSignatures(z *served, n *zone.Node, s *step) bool {
	total, start, fits, o := 0, w.msg.mark(), true, ownerAt(s.at)
	add := func(set *zone.RRset) {
		if fits {
			var count int
			count, fits = w.msg.signatures(&o, set, set.TTL)
			total += count
		}
	}
	for i := range n.Sets {
		if z.tells(n.Sets[i]) {
			add(&n.Sets[i])
		}
	}
	if z.online != nil && w.dnssec {
		add(w.compactAt(z, s.name, n, w.end.wild))
	}
	if !fits {
		w.msg.rewind(start)
		w.msg.tc, w.end.kind = true, data
		return true
	}
	if total > 0 {
		w.end.kind = data
		w.msg.counts[inAnswer] += uint16(total)
	}
	return total > 0
}

// nameOf makes an owner of a node's name; the copy lives in the worker.
func (w *Worker) nameOf(name string) owner {
	n := copy(w.names[1][:], name)
	return owner{name: w.names[1][:n]}
}

// alias moves on to the target of the CNAME that the name was answered with,
// if it was.
func (w *Worker) alias(s *step) bool {
	set := w.end.set
	if set == nil || set.Type != zone.TypeCNAME || w.req.qtype == zone.TypeCNAME || w.req.qtype == typeANY || w.msg.tc {
		return false
	}
	next := w.end.next
	w.end = end{}
	rdata, _ := zone.Next(set.Data)
	return w.follow(s, rdata, next)
}

// follow moves on to the target of an alias, which stands in the message at
// offset at; false where the chain is too long or comes back.
func (w *Worker) follow(s *step, target []byte, at int) bool {
	w.seen[s.hops] = s.at
	s.hops++
	for _, had := range w.seen[:s.hops] {
		if w.msg.equal(had, target) {
			return false
		}
	}
	if s.hops == maxChain {
		return false
	}
	n := zone.CopyLower(w.names[0][:], target)
	s.name, s.at = w.names[0][:n], at
	return true
}

// redirect answers by a DNAME: the record itself, and a CNAME made from it
// that nothing signs (RFC 6672 sections 3.1 and 5.3.1).
func (w *Worker) redirect(n *zone.Node, s *step) (rcode uint16, more bool) {
	m, set := &w.msg, n.Get(zone.TypeDNAME)
	w.end = end{}
	if w.once.add(set) {
		if _, ok := w.put(inAnswer, w.nameOf(n.Name), set); !ok {
			return NoError, false
		}
	}
	rdata, _ := zone.Next(set.Data)
	kept := len(s.name) - len(n.Name)
	if kept+len(rdata) > 255 {
		return YXDomain, false
	}
	next := w.names[1][:kept+len(rdata)]
	copy(next, s.name[:kept])
	copy(next[kept:], rdata)
	at, ok := m.record(ownerAt(s.at), zone.TypeCNAME, set.TTL, next)
	if !ok {
		m.tc = true
		return NoError, false
	}
	m.counts[inAnswer]++
	if w.req.qtype == zone.TypeCNAME {
		return NoError, false
	}
	return NoError, w.follow(s, next, at)
}
