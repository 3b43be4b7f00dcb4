package xdp

import (
	"encoding/binary"
	"net/netip"

	"meridian/dns/answer"
	"meridian/dns/zone"
)

// asking gives the places of the answers to a type.
type asking func(rtype uint16) [2]ref

// exact asks for a name itself.
func (c *compiler) exact(z *zone.Zone, name []byte) asking {
	return c.asking(questions{zone: z, names: [][]byte{name}}, false)
}

// varied asks for names below one that differ in length: only what is the same
// for all, but for places, is answered by the program. proven says that a
// signed zone's answer holds proofs about the name itself.
func (c *compiler) varied(z *zone.Zone, encloser []byte, probe [][]byte, proven bool) asking {
	return c.asking(questions{zone: z, names: probe, labels: labels(encloser) + maxCuts}, proven && z.Signed)
}

func (c *compiler) asking(q questions, proven bool) asking {
	return func(rtype uint16) (refs [2]ref) {
		q.rtype, q.do = rtype, false
		refs[0] = c.answer(&q)
		switch {
		case proven:
		case !q.zone.Signed && rtype != zone.TypeDS && refs[0] != refPass && !c.arena.alias(refs[0]):
			refs[1] = refs[0] // DO asks for what the zone has not; an alias may lead to one that has, and DS is the parent's
		default:
			q.do = true
			refs[1] = c.answer(&q)
		}
		return refs
	}
}

// questions are those whose answers are one record: for a name, or for several
// that stand for all below another.
type questions struct {
	zone   *zone.Zone
	names  [][]byte
	labels int // that the names may have; 0 for one name
	rtype  uint16
	do     bool
}

// answer gives the record of what is answered, or refPass.
func (c *compiler) answer(q *questions) ref {
	t := c.ask(q.names[0], q.rtype, q.do)
	if by, ok := c.w.Steered(); ok {
		return c.steered(q, by, t)
	}
	if t == nil || !c.w.Constant() {
		return refPass
	}
	return c.constant(q, t)
}

// constant places an answer that is the same for all clients.
func (c *compiler) constant(q *questions, t *template) ref {
	if !t.fits() || q.labels > 0 && t.labels+q.labels > maxCompressed {
		return refPass
	}
	if q.labels > 0 && !c.whole(q.names[0], q.rtype, q.do, t) {
		return refPass
	}
	r := c.share(t.record())
	if t.alias {
		c.arena.noteAlias(r)
	}
	if _, had := c.seen[r]; had || q.labels == 0 {
		return r
	}
	for _, name := range q.names[1:] {
		if o := c.ask(name, q.rtype, q.do); o == nil || !o.same(t) {
			return refPass
		}
	}
	c.seen[r] = struct{}{}
	c.mentioned(q.zone, t)
	return r
}

// whole says whether an answer has all the additional data that it may have: what
// is left out for want of room might be there behind a shorter name.
func (c *compiler) whole(name []byte, rtype uint16, do bool, t *template) bool {
	const authoritative = 0x0400
	switch rtype {
	case zone.TypeNS, zone.TypeMX, zone.TypeSRV, zone.TypeHTTPS, zone.TypeSVCB:
	default:
		if t.flags&authoritative != 0 && !t.alias {
			return true
		}
	}
	if c.wide == nil {
		c.wide = make([]byte, answer.MaxStream)
	}
	client := nobody
	client.Stream = true
	n, _ := c.plan.Answer(&c.w, question(name, rtype, do), client, c.wide)
	return n <= answer.PayloadUDP
}

// maxCompressed is how many names dns/answer remembers to compress against.
const maxCompressed = 64

// nobody is who asks while the image is made: the answers do not depend on it.
var nobody = answer.Client{Addr: netip.AddrFrom4([4]byte{192, 0, 2, 0})}

// ask gives the answer to a question as a template; nil where the sockets are
// to give it.
func (c *compiler) ask(name []byte, rtype uint16, do bool) *template {
	if rtype == zone.TypeDS {
		c.leadAbove(name)
	}
	q := question(name, rtype, do)
	n, o := c.plan.Answer(&c.w, q, nobody, c.out[:])
	if n == 0 || o.Zone == nil || c.out[2]&0x02 != 0 {
		return nil
	}
	t, err := readTemplate(c.out[:n], len(name))
	if err != nil {
		return nil
	}
	c.leading(rtype, t)
	return t
}

// leading notes on which names an answer depends that are not the part's:
// those that aliases lead to.
func (c *compiler) leading(rtype uint16, t *template) {
	if rtype == zone.TypeCNAME {
		return
	}
	for _, target := range t.targets {
		c.lead(target)
		if rtype == zone.TypeDS {
			c.leadAbove(target)
		}
	}
}

// leadAbove notes what is above a name, where its DS set is.
func (c *compiler) leadAbove(name []byte) {
	if len(name) > 1 {
		c.lead(name[1+int(name[0]):])
	}
}

// question makes a query with EDNS.
func question(name []byte, rtype uint16, do bool) []byte {
	q := make([]byte, headerLen, headerLen+len(name)+15)
	q[5], q[11] = 1, 1
	q = append(q, name...)
	q = binary.BigEndian.AppendUint16(q, rtype)
	q = append(q, 0, 1, 0, 0, typeOPT, 0xff, 0xff, 0, 0, 0, 0, 0, 0)
	if do {
		q[len(q)-4] = 0x80
	}
	return q
}
