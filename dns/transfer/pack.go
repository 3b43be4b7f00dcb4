package transfer

import (
	"encoding/binary"
	"iter"

	"meridian/dns/zone"
)

// Types and classes that transfers know besides those of zones.
const (
	typeOPT  = 41
	typeIXFR = 251
	typeAXFR = 252
	typeANY  = 255
	classIN  = 1
)

// Header bits and codes (RFC 1035 section 4.1.1, RFC 2136 section 2.2).
const (
	headerLen = 12

	opQuery  = 0
	opNotify = 4
	opUpdate = 5

	rcodeOK       = 0
	rcodeFormErr  = 1
	rcodeServFail = 2
	rcodeNotImp   = 4
	rcodeRefused  = 5
	rcodeNotAuth  = 9
)

// A message of a transfer is as long as compression pointers reach; one record
// that is longer has a message of its own.
const (
	softLimit = 16 << 10
	hardLimit = 1<<16 - 1
)

// record is one record on its way: the owner in wire form.
type record struct {
	owner string
	rtype uint16
	ttl   uint32
	data  []byte
}

// records gives every record of a zone but the SOA itself, in canonical order,
// RRSIGs after what they cover, and NSEC3s last.
func records(z *zone.Zone) iter.Seq[record] {
	return func(yield func(record) bool) {
		set := func(owner string, s *zone.RRset, soa bool) bool {
			for rest := s.Data; !soa && len(rest) > 0; {
				var data []byte
				data, rest = zone.Next(rest)
				if !yield(record{owner, s.Type, s.TTL, data}) {
					return false
				}
			}
			for rest := s.Sigs; len(rest) > 0; {
				var data []byte
				data, rest = zone.Next(rest)
				if !yield(record{owner, zone.TypeRRSIG, s.TTL, data}) {
					return false
				}
			}
			return true
		}
		for n := range z.Nodes() {
			for i := range n.Sets {
				if !set(n.Name, &n.Sets[i], n == z.Apex() && n.Sets[i].Type == zone.TypeSOA) {
					return
				}
			}
		}
		for n := range z.NSEC3s() {
			if !set(n.Name, &n.Set, false) {
				return
			}
		}
	}
}

// soaOf gives a zone's SOA.
func soaOf(z *zone.Zone) record {
	s := z.Apex().Get(zone.TypeSOA)
	data, _ := zone.Next(s.Data)
	return record{z.Apex().Name, zone.TypeSOA, s.TTL, data}
}

// packer makes one message after the other, with names compressed. Names in
// the data of other types than those of RFC 1035 are left whole (RFC 3597
// section 4).
type packer struct {
	buf   []byte
	names map[string]uint16 // wire form to offset
	count int
	limit int // of one message with what is to follow it, in octets
	after int // octets to be left for TSIG
}

func newPacker(limit, after int) *packer {
	return &packer{buf: make([]byte, 0, softLimit+512), names: map[string]uint16{}, limit: limit, after: after}
}

// begin starts a message: the header of the answer to query and, where wanted,
// its question (RFC 5936 section 2.2.1).
func (p *packer) begin(query []byte, question bool) {
	clear(p.names)
	p.count = 0
	p.buf = append(p.buf[:0], answerTo(query, rcodeOK, question)...)
	p.buf[2] |= 4 // AA
}

// put appends a record, or says that it does not fit.
func (p *packer) put(r record) bool {
	from := len(p.buf)
	p.name(r.owner)
	p.buf = binary.BigEndian.AppendUint16(p.buf, r.rtype)
	p.buf = binary.BigEndian.AppendUint16(p.buf, classIN)
	p.buf = binary.BigEndian.AppendUint32(p.buf, r.ttl)
	at := len(p.buf)
	p.buf = append(p.buf, 0, 0)
	p.data(r.rtype, r.data)
	limit := p.limit
	if p.count == 0 && limit == softLimit {
		limit = hardLimit
	}
	if len(p.buf)+p.after > limit {
		p.buf = p.buf[:from]
		for name, at := range p.names {
			if int(at) >= from {
				delete(p.names, name)
			}
		}
		return false
	}
	binary.BigEndian.PutUint16(p.buf[at:], uint16(len(p.buf)-at-2))
	p.count++
	return true
}

// message gives what has been put.
func (p *packer) message() []byte {
	binary.BigEndian.PutUint16(p.buf[6:], uint16(p.count))
	return p.buf
}

// name appends a name, compressed; its case is kept.
func (p *packer) name(name string) {
	for len(name) > 1 {
		if at, ok := p.names[name]; ok {
			p.buf = append(p.buf, 0xc0|byte(at>>8), byte(at))
			return
		}
		if len(p.buf) < 1<<14 {
			p.names[name] = uint16(len(p.buf))
		}
		n := 1 + int(name[0])
		p.buf = append(p.buf, name[:n]...)
		name = name[n:]
	}
	p.buf = append(p.buf, 0)
}

func (p *packer) data(t uint16, data []byte) {
	switch t {
	case zone.TypeNS, zone.TypeCNAME, zone.TypePTR:
		p.name(string(data))
	case zone.TypeMX:
		p.buf = append(p.buf, data[:2]...)
		p.name(string(data[2:]))
	case zone.TypeSOA:
		n := zone.WireLen(data)
		p.name(string(data[:n]))
		p.name(string(data[n : len(data)-20]))
		p.buf = append(p.buf, data[len(data)-20:]...)
	default:
		p.buf = append(p.buf, data...)
	}
}

// answerTo gives an answer without records: the query's ID, opcode and RD, and
// where wanted and possible its question.
func answerTo(query []byte, rcode int, question bool) []byte {
	out := make([]byte, headerLen, 512)
	copy(out, query[:2])
	out[2] = 0x80 | query[2]&0x79
	out[3] = byte(rcode)
	if end := questionEnd(query); question && end > 0 {
		out = append(out, query[headerLen:end]...)
		out[5] = 1
	}
	return out
}

// questionEnd is where the question of a message with exactly one ends, or 0.
func questionEnd(msg []byte) int {
	if len(msg) < headerLen || binary.BigEndian.Uint16(msg[4:]) != 1 {
		return 0
	}
	n := zone.WireLen(msg[headerLen:])
	if n == 0 || headerLen+n+4 > len(msg) {
		return 0
	}
	return headerLen + n + 4
}

// withEDE appends an OPT record with an extended error (RFC 8914).
func withEDE(msg []byte, code uint16) []byte {
	out := append(msg, 0, 0, typeOPT, 1232>>8, 1232&0xff, 0, 0, 0, 0, 0, 6, 0, 15, 0, 2, byte(code>>8), byte(code))
	binary.BigEndian.PutUint16(out[10:], binary.BigEndian.Uint16(out[10:])+1)
	return out
}
