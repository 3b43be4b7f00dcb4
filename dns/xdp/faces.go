package xdp

import (
	"cmp"
	"encoding/binary"
	"slices"

	"meridian/dns/answer"
	"meridian/dns/zone"
	"meridian/fleet"
)

// face is what one kind of steered answer looks like: a record for each thing
// that it can be made of.
type face struct {
	questions
	decision *decision
	part     *part
	at       ref // its record
	base     int // in variants
	room     int // answers
	rotate   fleet.Rotate
}

// places is how many of variants it has.
func (f *face) places() int { return f.room * f.stride() }

// turns is TURNS of the program: places of an answer whose records rotate.
const turns = 8

// stride is how many places each answer has.
func (f *face) stride() int {
	if f.rotate == fleet.RotateNone {
		return 1
	}
	return turns
}

// faceRoom is how many more answers a face has room for than what is decided
// now comes to: what health makes of it later.
const faceRoom = 8

// faceKey is what faces of a zone have in common that answer alike.
type faceKey struct {
	by    answer.Steered
	rtype uint16
	do    bool
	refs  string
}

// directKey is the same of names that hold what is steered themselves, and are
// alike.
type directKey struct {
	by    answer.Steered
	rtype uint16
	do    bool
	below bool
}

// steered places answers that depend on the client; t is one of them, or nil.
func (c *compiler) steered(q *questions, by answer.Steered, t *template) ref {
	d := c.deciding.by[by.Decision]
	by.Absent, by.Records = false, 0
	if d == nil {
		return refPass
	}
	alike := c.alike(q, t)
	plain := alike && !t.alias
	direct := directKey{by, q.rtype, q.do, q.labels > 0}
	if r, ok := c.direct[direct]; ok && plain {
		return r
	}
	f := &face{questions: *q, decision: d, part: c.part, room: len(d.made) + faceRoom, rotate: cmp.Or(by.Rotate, fleet.RotateNone)}
	if q.rtype == zone.TypeHTTPS { // an order of their own
		f.rotate = fleet.RotateNone
	}
	refs := make([]ref, f.places())
	for i, m := range d.made {
		c.look(f, m, refs[i*f.stride():][:f.stride()])
	}
	var text []byte
	for _, r := range refs {
		text = binary.NativeEndian.AppendUint32(text, r)
	}
	alike = alike && (plain || slices.Max(refs) != refPass) // by which aliases are told apart
	key := faceKey{by, q.rtype, q.do, string(text)}
	r, ok := c.same[key]
	if !ok || !alike {
		f.base = c.vary(refs)
		r = c.put(f.record(d.index))
		f.at = r
		d.faces, c.part.faces = append(d.faces, f), append(c.part.faces, f)
		if alike {
			c.same[key] = r
		}
		if t == nil || t.alias {
			c.arena.noteAlias(r)
		}
	}
	if plain {
		c.direct[direct] = r
	}
	return r
}

// alike says whether all that names get which a steered name leads to is the
// same, now and later, as what other such names of the zone get: they are not
// what the answers mention that say that there is nothing, nor near to it, and
// no signature tells them apart.
func (c *compiler) alike(q *questions, t *template) bool {
	name, apex := q.names[0], len(q.zone.Apex().Name)
	if t == nil || q.do && q.zone.Signed || len(name) <= apex {
		return false
	}
	target := name
	if last := len(t.targets) - 1; last >= 0 {
		target = t.targets[last]
	}
	z := c.plan.Deepest(target)
	if z == nil {
		return false
	}
	top := name // what stands right below the apex
	for at := name; len(at) > apex; at = at[1+int(at[0]):] {
		top = at
	}
	soa, _ := zone.Next(z.Apex().Get(zone.TypeSOA).Data)
	mname := zone.WireLen(soa)
	n := labels(name) + maxCuts + t.labels
	for _, host := range [][]byte{[]byte(z.Apex().Name), soa[:mname], soa[mname : len(soa)-20]} {
		if n += labels(host); zone.Below(lower(host), string(top)) {
			return false
		}
	}
	return n <= maxCompressed
}

// vary places what a face can answer, and gives where.
func (c *compiler) vary(refs []ref) (base int) {
	if list := c.freed[len(refs)]; len(list) > 0 {
		base, c.freed[len(refs)] = list[len(list)-1], list[:len(list)-1]
		copy(c.variants[base:], refs)
	} else {
		base = len(c.variants)
		c.variants = append(c.variants, refs...)
	}
	c.altered(base, base+len(refs))
	return base
}

// altered notes what has changed in variants.
func (c *compiler) altered(from, to int) {
	if c.changed.to == 0 {
		c.changed.from = from
	}
	c.changed = extent{min(c.changed.from, from), max(c.changed.to, to)}
}

// extent is from a first place to one behind the last.
type extent struct{ from, to int }

// look fills in the places of an answer that is made of m, and gives the first
// of them; the sockets give it where they stay refPass.
func (c *compiler) look(f *face, m answer.Made, places []ref) *template {
	first, r := c.supposing(f, m, 0)
	places[0] = r
	if first == nil || first.turns < 2 {
		return first
	}
	for turn := 1; turn < first.turns; turn++ {
		if _, places[turn] = c.supposing(f, m, turn); places[turn] == refPass {
			places[0] = refPass
		}
	}
	return first
}

// supposing gives an answer that is made of m, and its place.
func (c *compiler) supposing(f *face, m answer.Made, turn int) (*template, ref) {
	c.w.Suppose(m, turn)
	defer c.w.Decide()
	t := c.ask(f.names[0], f.rtype, f.do)
	by, _ := c.w.Steered()
	if t == nil || by.Absent {
		return t, refPass
	}
	if f.rotate != fleet.RotateNone {
		if t.turns = by.Records; t.turns > turns {
			return t, refPass
		}
	}
	return t, c.constant(&f.questions, t)
}

// How records rotate (bpf/consts.h).
const (
	rotateClient = 1
	rotateQuery  = 2
)

// record is struct steered of the program.
func (f *face) record(state int) []byte {
	ne := binary.NativeEndian
	rotate := map[fleet.Rotate]byte{fleet.RotateClient: rotateClient, fleet.RotateQuery: rotateQuery}[f.rotate]
	out := ne.AppendUint16([]byte{byte(dnsWhatWHAT_STEERED), rotate}, uint16(f.room))
	return pad(ne.AppendUint32(ne.AppendUint32(out, uint32(state)), uint32(f.base)))
}

// grow makes the answers that decisions have come to since, of what was not
// there before. It is false where a face has no room for them, or they mention
// names that have no node.
func (c *compiler) grow() bool {
	for _, d := range c.deciding.by {
		for id := d.known; id < len(d.made); id++ {
			for _, f := range d.faces {
				if f.part.stale { // it will be placed anew
					continue
				}
				if id >= f.room {
					return false
				}
				c.placing = newPlacing(f.part)
				at := f.base + id*f.stride()
				c.look(f, d.made[id], c.variants[at:][:f.stride()])
				c.altered(at, at+f.stride())
				if len(c.queue) > 0 {
					return false
				}
			}
		}
		d.known = len(d.made)
	}
	return true
}
