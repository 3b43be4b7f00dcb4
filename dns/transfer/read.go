package transfer

import (
	"encoding/binary"
	"errors"
	"fmt"

	"meridian/dns/zone"
)

var errMessage = errors.New("a message is not well formed")

// message is a parsed header with the place of the records.
type message struct {
	wire   []byte
	id     uint16
	flags  uint16
	counts [4]int
	at     int // where the answer section begins
}

func (m *message) opcode() int     { return int(m.flags>>11) & 15 }
func (m *message) rcode() int      { return int(m.flags & 15) }
func (m *message) answer() bool    { return m.flags&0x8000 != 0 }
func (m *message) truncated() bool { return m.flags&0x0200 != 0 }

// question is the name (wire form, lower case), type and class asked for.
type question struct {
	name         []byte
	qtype, class uint16
}

// parse reads the header and skips the question section, in which there is one
// question at most.
func parse(wire []byte) (message, []question, error) {
	if len(wire) < headerLen {
		return message{}, nil, errMessage
	}
	m := message{wire: wire, id: binary.BigEndian.Uint16(wire), flags: binary.BigEndian.Uint16(wire[2:]), at: headerLen}
	for i := range m.counts {
		m.counts[i] = int(binary.BigEndian.Uint16(wire[4+2*i:]))
	}
	if m.counts[0] > 1 {
		return message{}, nil, errMessage
	}
	var questions []question
	for range m.counts[0] {
		name, end := unpackName(nil, wire, m.at)
		if end < 0 || end+4 > len(wire) {
			return message{}, nil, errMessage
		}
		questions = append(questions, question{lower(name), binary.BigEndian.Uint16(wire[end:]), binary.BigEndian.Uint16(wire[end+2:])})
		m.at = end + 4
	}
	return m, questions, nil
}

func lower(name []byte) []byte {
	for i, c := range name {
		name[i] = zone.Lower(c)
	}
	return name
}

// mostPointers is how many compression pointers a name may have: one for each
// of its labels. More would only cost us time.
const mostPointers = 127

// unpackName appends a name without compression to buf and tells where it
// ends in the message; -1 where it is none.
func unpackName(buf, wire []byte, at int) (name []byte, end int) {
	end, from := -1, len(buf)
	for pointers := 0; at < len(wire); {
		switch n := int(wire[at]); {
		case n >= 0xc0:
			if at+2 > len(wire) {
				return nil, -1
			}
			to := n&0x3f<<8 | int(wire[at+1])
			if end < 0 {
				end = at + 2
			}
			if pointers++; to >= at || pointers > mostPointers { // they lead back (RFC 1035 section 4.1.4), so that there is no loop
				return nil, -1
			}
			at = to
		case n > 63 || at+1+n > len(wire) || len(buf)-from+1+n > 255:
			return nil, -1
		default:
			buf = append(buf, wire[at:at+1+n]...)
			at += 1 + n
			if n == 0 {
				if end < 0 {
					end = at
				}
				return buf, end
			}
		}
	}
	return nil, -1
}

// reader reads records one after the other into buffers of its own.
type reader struct {
	msg   *message
	at    int
	owner []byte // wire form, lower case; valid until the next record
	rtype uint16
	class uint16
	ttl   uint32
	data  []byte // without compression; valid until the next record
	raw   []byte // as on the wire
}

// next reads a record.
func (r *reader) next() error {
	wire := r.msg.wire
	owner, at := unpackName(r.owner[:0], wire, r.at)
	if at < 0 || at+10 > len(wire) {
		return errMessage
	}
	r.owner = lower(owner)
	r.rtype, r.class = binary.BigEndian.Uint16(wire[at:]), binary.BigEndian.Uint16(wire[at+2:])
	r.ttl = binary.BigEndian.Uint32(wire[at+4:])
	n := int(binary.BigEndian.Uint16(wire[at+8:]))
	at += 10
	if at+n > len(wire) {
		return errMessage
	}
	r.raw = wire[at : at+n]
	r.at = at + n
	return r.unpackData(at, at+n)
}

// unpackData expands compressed names in the data of the types in which they
// may be met (RFC 3597 section 4).
func (r *reader) unpackData(at, end int) error {
	wire := r.msg.wire[:end]
	buf := r.data[:0]
	for _, field := range compressed(r.rtype) {
		n := 0
		switch field {
		case 'n':
			var to int
			if buf, to = unpackName(buf, wire, at); to < 0 {
				return fmt.Errorf("type %d: %w", r.rtype, errMessage)
			}
			at = to
			continue
		case '2':
			n = 2
		case 'S':
			if at < end {
				n = 1 + int(wire[at])
			}
		case 'R': // what stands before the name in SIG
			n = 18
		}
		if n == 0 || at+n > end {
			return fmt.Errorf("type %d: %w", r.rtype, errMessage)
		}
		buf = append(buf, wire[at:at+n]...)
		at += n
	}
	r.data = append(buf, wire[at:end]...)
	return nil
}

// compressed tells the fields before the last name in a type's data.
func compressed(t uint16) string {
	switch t {
	case zone.TypeNS, 3, 4, zone.TypeCNAME, 7, 8, 9, zone.TypePTR, zone.TypeDNAME, 30:
		return "n"
	case zone.TypeSOA, 14, 17: // MINFO, RP
		return "nn"
	case zone.TypeMX, 18, 21, 36: // AFSDB, RT, KX
		return "2n"
	case 26: // PX
		return "2nn"
	case zone.TypeSRV:
		return "222n"
	case 35: // NAPTR
		return "22SSSn"
	case 24: // SIG
		return "Rn"
	}
	return ""
}

// newer says whether serial a is greater than b (RFC 1982 section 3.2). It is
// false both ways where the two are 2^31 apart, which the RFC leaves open.
func newer(a, b uint32) bool { return a != b && a-b < 1<<31 }
