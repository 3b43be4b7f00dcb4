package xdp

import (
	"encoding/binary"

	"meridian/dns/answer"
	"meridian/dns/zone"
	"meridian/fleet"
)

// face is what one kind of steered answer looks like: a record for each thing
// that it can be made of.
type face struct {
	questions
	base int // in variants
	room int
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
	by.Absent = false
	if d == nil || by.Rotated != "" && by.Rotated != fleet.RotateNone {
		return refPass
	}
	direct := directKey{q.zone, by, q.rtype, q.do, q.labels > 0}
	if r, ok := c.direct[direct]; ok {
		return r
	}
	refs := make([]ref, len(d.made))
	plain := !q.do || !q.zone.Signed
	for i, m := range d.made {
		var t *template
		if refs[i], t = c.supposing(q, m); t == nil || t.alias {
			plain = false
		}
	}
	var text []byte
	for _, r := range refs {
		text = binary.NativeEndian.AppendUint32(text, r)
	}
	key := faceKey{q.zone, by, q.rtype, q.do, string(text)}
	r, ok := c.faces[key]
	if !ok {
		f := &face{*q, len(c.variants), len(refs) + faceRoom}
		d.faces = append(d.faces, f)
		c.variants = append(append(c.variants, refs...), make([]ref, faceRoom)...)
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

// supposing gives the record of an answer that is made of m, and the answer;
// refPass where the sockets are to give it.
func (c *compiler) supposing(q *questions, m answer.Made) (ref, *template) {
	c.w.Suppose(m)
	defer c.w.Decide()
	t := c.ask(q.names[0], q.rtype, q.do)
	if by, _ := c.w.Steered(); t == nil || by.Absent {
		return refPass, t
	}
	return c.constant(q, t), t
}

// record is struct steered of the program.
func (f *face) record(state int) []byte {
	ne := binary.NativeEndian
	out := ne.AppendUint16([]byte{byte(dnsWhatWHAT_STEERED), 0}, uint16(f.room))
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
				c.variants[f.base+id], _ = c.supposing(&f.questions, d.made[id])
			}
		}
		d.known = len(d.made)
	}
	return true
}
