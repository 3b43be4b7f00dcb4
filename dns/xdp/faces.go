package xdp

import (
	"cmp"
	"encoding/binary"

	"meridian/dns/answer"
	"meridian/dns/zone"
	"meridian/fleet"
)

// face is what one kind of steered answer looks like: a record for each thing
// that it can be made of.
type face struct {
	questions
	base   int // in variants
	room   int // answers
	rotate fleet.Rotate
}

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

// faceKey is what faces have in common that answer alike.
type faceKey struct {
	zone  *zone.Zone
	by    answer.Steered
	rtype uint16
	do    bool
	refs  string
}

// directKey is the same of names that hold what is steered themselves, in zones
// where no signature tells them apart.
type directKey struct {
	zone  *zone.Zone
	by    answer.Steered
	rtype uint16
	do    bool
	below bool
}

// steered places answers that depend on the client.
func (c *compiler) steered(q *questions, by answer.Steered) ref {
	d := c.deciding.by[by.Decision]
	by.Absent, by.Records = false, 0
	if d == nil {
		return refPass
	}
	direct := directKey{q.zone, by, q.rtype, q.do, q.labels > 0}
	if r, ok := c.direct[direct]; ok {
		return r
	}
	f := &face{*q, len(c.variants), len(d.made) + faceRoom, cmp.Or(by.Rotate, fleet.RotateNone)}
	refs := make([]ref, f.room*f.stride())
	plain := !q.do || !q.zone.Signed
	for i, m := range d.made {
		t := c.look(f, m, refs[i*f.stride():][:f.stride()])
		plain = plain && t != nil && !t.alias
	}
	var text []byte
	for _, r := range refs {
		text = binary.NativeEndian.AppendUint32(text, r)
	}
	key := faceKey{q.zone, by, q.rtype, q.do, string(text)}
	r, ok := c.faces[key]
	if !ok {
		d.faces = append(d.faces, f)
		c.variants = append(c.variants, refs...)
		r = c.arena.put(f.record(d.index))
		c.faces[key] = r
		if len(refs) > 0 && c.arena.alias(refs[0]) {
			c.arena.noteAlias(r)
		}
	}
	if plain {
		c.direct[direct] = r
	}
	return r
}

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
// there before. It is false where a face has no room for them.
func (c *compiler) grow() bool {
	for _, d := range c.deciding.by {
		for id := d.known; id < len(d.made); id++ {
			for _, f := range d.faces {
				if id >= f.room {
					return false
				}
				c.look(f, d.made[id], c.variants[f.base+id*f.stride():][:f.stride()])
			}
		}
		d.known = len(d.made)
	}
	return true
}
