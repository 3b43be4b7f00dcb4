package answer

import (
	"meridian/dns/sign"
	"meridian/dns/zone"
)

// online is what a worker has for zones with compact denial (RFC 9824), the
// only ones for which anything is signed when it is asked for.
type online struct {
	made *sign.Signatures
	now  uint32

	by     *sign.Online // while what a wildcard stands for is written; else nil
	name   []byte       // that the wildcard stands for
	failed bool
	used   bool // something of the answer was signed, or not, because it was asked for

	set  zone.RRset
	data []byte
	sigs []byte
}

// Type bitmaps (RFC 4034 section 4.1.2) of names that are not in a zone, and
// of those that are there for what is below them only: RRSIG and NSEC, and
// NXNAME for the former (RFC 9824 section 3.1).
var (
	bitsMissing = []byte{0, 17, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80}
	bitsEmpty   = []byte{0, 6, 0, 0, 0, 0, 0, 3}
)

// expand begins an answer from a wildcard: it is signed as though the name
// itself had the records, which needs no proof (RFC 9824 section 3.3).
func (o *online) expand(w *Worker, z *served, s *step) {
	if z.online != nil && w.end.wild && w.dnssec {
		o.by, o.name, o.failed = z.online, s.name, false
	}
}

// expanded ends it, and says whether all was signed so.
func (o *online) expanded() bool {
	ok := o.by != nil && !o.failed
	o.by = nil
	return ok
}

// signed gives a set of the wildcard with the signatures of the name.
func (w *Worker) signed(set *zone.RRset) *zone.RRset {
	o := &w.online
	o.used = true
	o.set = *set
	if set == &w.scratch.set { // in the order of the answer
		o.data = appendCanonical(o.data[:0], set.Data)
		o.set.Data = o.data
	}
	var err error
	if o.sigs, err = o.by.Sign(o.made, o.sigs[:0], o.name, false, &o.set, o.now); err != nil {
		o.failed = true
		return set
	}
	o.set.Data, o.set.Sigs = set.Data, o.sigs
	return &o.set
}

// compactNSEC makes the NSEC of a name as compact denial has it: next comes the
// name right behind it, so that no other name is told of. bits is the type
// bitmap. exists says that the name is one of the zone's. Where it cannot be
// signed it has no signature, and validators ask elsewhere.
func (w *Worker) compactNSEC(z *served, name []byte, exists bool, bits []byte, ttl uint32) *zone.RRset {
	o := &w.online
	o.used = true
	o.data = z.online.AppendDenial(o.data[:0], name, bits)
	o.set = zone.RRset{Type: zone.TypeNSEC, TTL: ttl, Count: 1, Data: o.data}
	if w.dnssec {
		o.sigs, _ = z.online.Sign(o.made, o.sigs[:0], name, exists, &o.set, o.now)
		o.set.Sigs = o.sigs
	}
	return &o.set
}

// compactAt gives the NSEC of a name that is at a node of the zone, or that a
// wildcard there stands for.
func (w *Worker) compactAt(z *served, name []byte, n *zone.Node, wild bool) *zone.RRset {
	set := n.Get(zone.TypeNSEC)
	if set == nil {
		return w.compactNSEC(z, name, !wild, bitsEmpty, z.negTTL())
	}
	set = w.fitting(z, n.Name, set)
	rdata, _ := zone.Next(set.Data)
	return w.compactNSEC(z, name, !wild, rdata[zone.WireLen(rdata):], set.TTL)
}

// compactMissing gives the NSEC of a name that is not in the zone.
func (w *Worker) compactMissing(z *served, name []byte) *zone.RRset {
	return w.compactNSEC(z, name, false, bitsMissing, z.negTTL())
}

// negTTL is the TTL of absence (RFC 9077): that of the apex's NSEC.
func (z *served) negTTL() uint32 { return z.Apex().Get(zone.TypeNSEC).TTL }

// compactAsked answers type NSEC: every name of a zone with compact denial has
// one, since the bitmaps say so; and type RRSIG, of a name that is not in the
// zone, by that of its NSEC, which a NODATA would deny. It says whether that is
// what was asked for.
func (w *Worker) compactAsked(z *served, s *step, found zone.Result) bool {
	qtype, there := w.req.qtype, found.Kind == zone.Found || found.Kind == zone.Wildcard
	var set *zone.RRset
	switch {
	case found.Kind == zone.Missing && (qtype == zone.TypeNSEC || qtype == zone.TypeRRSIG && w.dnssec):
		set = w.compactMissing(z, s.name)
	case there && qtype == zone.TypeNSEC:
		set = w.compactAt(z, s.name, found.Node, found.Kind == zone.Wildcard)
	default:
		return false
	}
	w.end = end{kind: data, z: z, node: found.Node}
	if qtype == zone.TypeNSEC {
		w.put(inAnswer, ownerAt(s.at), set)
		return true
	}
	start, o := w.msg.mark(), ownerAt(s.at)
	count, ok := w.msg.signatures(&o, set, set.TTL)
	if w.msg.counts[inAnswer] += uint16(count); !ok {
		w.msg.rewind(start)
		w.msg.tc = true
	}
	return true
}

// tells says whether a set of the zone may be shown: the NSECs that link its
// names are for those who transfer it.
func (z *served) tells(set zone.RRset) bool { return z.online == nil || set.Type != zone.TypeNSEC }
