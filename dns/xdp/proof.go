package xdp

import (
	"encoding/binary"
	"slices"

	"meridian/dns/zone"
)

// Limits of answers with NSEC3 (bpf/consts.h).
const (
	hashLabel = 32      // octets of an NSEC3's first label
	later     = 1 << 15 // of a relocation: the pointer goes to a place in its piece
)

const typeNSEC3 = 50

// hashed is the NSEC3s of a zone as pieces of answers.
type hashed struct {
	of     *zone.Zone
	tree   ref // refPass: the program does without
	pieces map[*zone.NSEC3]*piece
}

// piece is an NSEC3 with its signatures, as it stands in an answer.
type piece struct {
	template
	inside int // of relocs, those from here on are places in the piece
	at     ref
}

// hashes places a zone's NSEC3s, and gives them; nil where the program cannot
// find them: it knows hashes of one iteration and without salt (RFC 9276
// section 3.1 wants no other).
func (c *compiler) hashes(z *zone.Zone) *hashed {
	if c.hashed == nil {
		c.hashed = &hashed{of: z, pieces: map[*zone.NSEC3]*piece{}}
		if z.Param.Iterations == 0 && len(z.Param.Salt) == 0 && len(z.Apex().Name) > 1 {
			c.hashed.tree = c.placeHashes(c.hashed)
		}
	}
	if c.hashed.tree == refPass {
		return nil
	}
	return c.hashed
}

func (c *compiler) placeHashes(h *hashed) (tree ref) {
	var list []gap
	for n := range h.of.NSEC3s() {
		if rec, match := h.of.NSEC3([]byte(n.Hash)); !match || rec != n {
			continue // of a chain that is not in use
		}
		p := newPiece(n)
		if p == nil || h.of.Node([]byte(n.Name)) != nil {
			return refPass
		}
		p.at = c.put(p.record())
		h.pieces[n] = p
		list = append(list, gap{n.Hash[:16], p.at})
	}
	if len(list) == 0 {
		return refPass
	}
	// what is before the first is covered by the last
	return c.gapTree(append([]gap{{"", list[len(list)-1].to}}, list...))
}

// newPiece writes an NSEC3 as message.set of dns/answer does behind a question
// whose name ends like the NSEC3's and holds nothing else of it.
func newPiece(n *zone.NSEC3) *piece {
	be := binary.BigEndian
	p := &piece{template: template{counts: [3]uint16{1: uint16(n.Set.Count)}}}
	owner := be.AppendUint16([]byte(n.Name[:1+hashLabel]), uint16(0xc000+headerLen-(len(n.Name)-1-hashLabel)))
	p.relocs, p.inside = []uint16{1 + hashLabel}, 1
	for _, part := range []struct {
		rtype uint16
		data  []byte
	}{{typeNSEC3, n.Set.Data}, {zone.TypeRRSIG, n.Set.Sigs}} {
		for data := part.data; len(data) > 0; {
			var rdata []byte
			rdata, data = zone.Next(data)
			if len(p.body) > 0 {
				p.relocs = append(p.relocs, uint16(len(p.body)))
				owner = be.AppendUint16(nil, 0xc000+headerLen+4) // where the piece begins
			}
			p.body = append(p.body, owner...)
			p.body = be.AppendUint32(be.AppendUint16(be.AppendUint16(p.body, part.rtype), 1), n.Set.TTL)
			p.body = append(be.AppendUint16(p.body, uint16(len(rdata))), rdata...)
			if part.rtype == zone.TypeRRSIG {
				p.counts[1]++
			}
		}
	}
	if !p.fits() {
		return nil
	}
	return p
}

// record is that of the piece, in which places in the piece are marked.
func (p *piece) record() []byte {
	rec := p.template.record()
	for i := p.inside; i < len(p.relocs); i++ {
		at := 16 + (len(p.body)+7)/8*8 + 2*i
		binary.NativeEndian.PutUint16(rec[at:], p.relocs[i]|later)
	}
	return rec
}

// behind adds the piece to an answer.
func (p *piece) behind(t *template) {
	at := len(t.body)
	t.body = append(t.body, p.body...)
	for i, r := range p.relocs {
		if i >= p.inside {
			b := t.body[at+int(r):]
			binary.BigEndian.PutUint16(b, binary.BigEndian.Uint16(b)+uint16(at))
		}
		t.relocs = append(t.relocs, r+uint16(at))
	}
	t.counts[1] += p.counts[1]
}

// proofs gives what names right below one, and deeper, get with DO that have no
// node, whose proof depends on their hash: nothing, or what a wildcard has. It
// is false where no proof does.
func (c *compiler) proofs(z *zone.Zone, name []byte, found zone.Result) (refs ref, ok bool) {
	h := c.hashes(z)
	if h == nil || z.Node(name) == nil {
		return refPass, z.Node(name) != nil
	}
	sum := z.Param.Hash(name)
	if _, match := z.NSEC3(sum[:]); !match {
		return refPass, false // opt-out: what is above is proven, the same for all
	}
	p := &prover{compiler: c, all: h, name: name, probes: c.probes(z, name)}
	switch {
	case found.Kind == zone.Missing:
		return p.answer(zone.TypeA), true
	case !c.straight(z, found.Node):
		return refPass, true
	}
	return c.share(c.kinds(found.Node, func(rtype uint16) [2]ref {
		r := p.answer(rtype)
		return [2]ref{r, r}
	})), true
}

// straight says whether no other wildcard, which would be proven too, is among
// the names that a wildcard leads to.
func (c *compiler) straight(z *zone.Zone, n *zone.Node) bool {
	for range maxCompressed {
		alias := n.Get(zone.TypeCNAME)
		if alias == nil {
			return true
		}
		target, _ := zone.Next(alias.Data)
		if target = lower(target); c.plan.Deepest(target) != z {
			return true
		}
		found := z.Lookup(target)
		if found.Kind == zone.Wildcard || found.Kind == zone.Redirect {
			return false
		}
		if n = found.Node; found.Kind != zone.Found {
			return true
		}
	}
	return false
}

// prover puts answers together for names below one.
type prover struct {
	*compiler
	all    *hashed
	name   []byte // the closest encloser
	probes [][]byte
}

// answer gives the record of what is answered to a type, or refPass.
func (p *prover) answer(rtype uint16) ref {
	var head *template
	var first, last *piece
	for i, probe := range p.probes {
		t := p.ask(probe, rtype, true)
		if _, steered := p.w.Steered(); t == nil || steered || !p.w.Constant() || !t.fits() ||
			t.labels+labels(p.name)+maxCuts > maxCompressed || i == 0 && !p.whole(probe, rtype, true, t) {
			return refPass
		}
		h := t.head(p.out[:], len(probe))
		if i == 0 {
			head = h
			if t.counts[0] == 0 {
				first, last = p.of(p.name), p.of(append([]byte("\x01*"), p.name...))
				if last == first {
					last = nil
				}
			}
			p.mentioned(p.all.of, &template{names: slices.DeleteFunc(slices.Clone(t.names), p.owns)})
		}
		if !h.same(head) || t.counts[0] > 0 && h.counts[1] > 0 {
			return refPass // there are more proofs where an alias leads to nothing
		}
		next := probe
		for len(next)-1-int(next[0]) > len(p.name) {
			next = next[1+int(next[0]):]
		}
		var had []*piece
		for _, one := range []*piece{first, p.of(next), last} {
			if one != nil && !slices.Contains(had, one) {
				one.behind(h)
				had = append(had, one)
			}
		}
		if !h.same(t) {
			return refPass
		}
		if i == 0 {
			head = t.head(p.out[:], len(probe))
		}
	}
	if head == nil || !head.fits() {
		return refPass
	}
	rec := []byte{byte(dnsWhatWHAT_PROOF), 0, 0, 0}
	for _, r := range []ref{p.share(head.record()), p.all.tree, first.ref(), last.ref()} {
		rec = binary.NativeEndian.AppendUint32(rec, r)
	}
	r := p.share(pad(rec))
	if head.alias {
		p.arena.noteAlias(r)
	}
	return r
}

func (p *piece) ref() ref {
	if p == nil {
		return refPass
	}
	return p.at
}

// of gives the NSEC3 that matches or covers a name.
func (p *prover) of(name []byte) *piece {
	sum := p.all.of.Param.Hash(name)
	rec, _ := p.all.of.NSEC3(sum[:])
	return p.all.pieces[rec]
}

// owns says whether a name is an NSEC3's.
func (p *prover) owns(name []byte) bool {
	return name[0] == hashLabel && len(name) == 1+hashLabel+len(p.all.of.Apex().Name)
}

// head gives what stands in an answer before its first NSEC3; msg is the answer
// itself, whose question has a name of that length.
func (t *template) head(msg []byte, nameLen int) *template {
	h := *t
	from := headerLen + nameLen + 4
	at := from
	for i := range int(t.counts[0] + t.counts[1]) {
		start := at
		for msg[at] != 0 && msg[at]&0xc0 == 0 {
			at += 1 + int(msg[at])
		}
		if at++; msg[at-1] != 0 {
			at++
		}
		if binary.BigEndian.Uint16(msg[at:]) == typeNSEC3 {
			h.body, h.counts[1], h.counts[2] = t.body[:start-from], uint16(i)-t.counts[0], 0
			break
		}
		at += 10 + int(binary.BigEndian.Uint16(msg[at+8:]))
	}
	h.body, h.relocs = slices.Clone(h.body), slices.DeleteFunc(slices.Clone(t.relocs), func(r uint16) bool { return int(r) >= len(h.body) })
	return &h
}
