package server

import "encoding/binary"

const (
	headerLen = 12
	typeSOA   = 6
	typeOPT   = 41
	typeIXFR  = 251
	typeAXFR  = 252
)

// skipName passes over the name at msg[at], 0 where it does not end.
func skipName(msg []byte, at int) int {
	for at < len(msg) {
		switch c := msg[at]; {
		case c == 0:
			return at + 1
		case c&0xc0 == 0xc0:
			return at + 2
		default:
			at += 1 + int(c)
		}
	}
	return 0
}

// record is where one record of a message is.
type record struct {
	start, fixed, end int // its name, its type, and what follows it
	section           int // 1 answer, 2 authority, 3 additional
}

func (r *record) rtype(msg []byte) uint16 { return binary.BigEndian.Uint16(msg[r.fixed:]) }
func (r *record) ttl(msg []byte) uint32   { return binary.BigEndian.Uint32(msg[r.fixed+4:]) }

// records calls f for each record of a response until it says false; it stops
// where the message is malformed, as none of ours is.
func records(msg []byte, f func(r *record) bool) {
	at := endOfQuestion(msg)
	if at == 0 {
		return
	}
	r := record{section: 1}
	for ; r.section <= 3; r.section++ {
		for range binary.BigEndian.Uint16(msg[4+2*r.section:]) {
			r.start = at
			if r.fixed = skipName(msg, at); r.fixed == 0 || r.fixed+10 > len(msg) {
				return
			}
			r.end = r.fixed + 10 + int(binary.BigEndian.Uint16(msg[r.fixed+8:]))
			if r.end > len(msg) || !f(&r) {
				return
			}
			at = r.end
		}
	}
}

// endOfQuestion is where the records begin, 0 where the message is malformed.
func endOfQuestion(msg []byte) int {
	if len(msg) < headerLen {
		return 0
	}
	at := headerLen
	for range binary.BigEndian.Uint16(msg[4:]) {
		if at = skipName(msg, at); at == 0 || at+4 > len(msg) {
			return 0
		}
		at += 4
	}
	return at
}

// freshness is how long a response holds, in seconds: the least TTL of its
// answer section, or for a negative one that of the SOA (RFC 2308 section 5);
// ok is false for one that does not hold at all.
func freshness(msg []byte) (ttl uint32, ok bool) {
	if len(msg) < headerLen || msg[3]&15 != 0 && msg[3]&15 != 3 {
		return 0, false
	}
	records(msg, func(r *record) bool {
		t := r.ttl(msg)
		switch {
		case r.section == 1:
			if !ok || t < ttl {
				ttl, ok = t, true
			}
			return true
		case ok || r.section == 3:
			return false
		case r.rtype(msg) == typeSOA && r.end-r.fixed >= 14:
			ttl, ok = min(t, binary.BigEndian.Uint32(msg[r.end-4:])), true
		}
		return !ok
	})
	return ttl, ok
}

// truncate leaves of a response its header, question and OPT, with the TC bit
// set, and gives its length.
func truncate(msg []byte) int {
	end := endOfQuestion(msg)
	if end == 0 {
		return 0
	}
	n, opt := end, uint16(0)
	records(msg, func(r *record) bool {
		if r.section == 3 && r.rtype(msg) == typeOPT && msg[r.start] == 0 {
			n, opt = end+copy(msg[end:], msg[r.start:r.end]), 1
			return false
		}
		return true
	})
	msg[2] |= 0x02
	clear(msg[6:10])
	binary.BigEndian.PutUint16(msg[10:], opt)
	return n
}

// formErr turns a message into the shortest response that calls it malformed,
// and gives its length; 0 where it is no query.
func formErr(msg, out []byte) int {
	if len(msg) < headerLen || msg[2]&0x80 != 0 {
		return 0
	}
	clear(out[:headerLen])
	copy(out, msg[:2])
	out[2], out[3] = 0x80|msg[2]&0x79, 1
	return headerLen
}
