package answer

import (
	"encoding/binary"

	"meridian/dns/zone"
)

// message writes one response. Names are compressed against those written
// before (RFC 1035 section 4.1.4), but not in the data of types that RFC 3597
// section 4 forbids it for.
type message struct {
	buf    []byte // grows by index up to limit
	n      int
	limit  int // octets, without those kept for the OPT
	counts [4]uint16
	names  [64]entry
	named  int
	tc     bool
}

// entry is a name written: where, and how long it is uncompressed.
type entry struct {
	at     uint16
	length uint8
}

// The sections, as indexes of counts.
const (
	inAnswer     = 1
	inAuthority  = 2
	inAdditional = 3
)

// mark is a state of the message to come back to.
type mark struct{ n, named int }

func (m *message) mark() mark     { return mark{m.n, m.named} }
func (m *message) rewind(to mark) { m.n, m.named = to.n, to.named }

// begin writes the question, or a bare header where there is none.
func (m *message) begin(out []byte, limit int, r *request) {
	m.buf, m.limit, m.n = out, limit, headerLen
	m.counts, m.named, m.tc = [4]uint16{}, 0, false
	if r.qname == nil {
		return
	}
	m.remember(m.n, r.qname)
	m.n += copy(out[m.n:], r.qname)
	binary.BigEndian.PutUint16(out[m.n:], r.qtype)
	binary.BigEndian.PutUint16(out[m.n+2:], r.qclass)
	m.n += 4
	m.counts[0] = 1
}

// remember notes each suffix of a name written uncompressed at offset at.
func (m *message) remember(at int, name []byte) {
	for i := 0; name[i] != 0 && m.named < len(m.names) && at+i < 0x4000; i += 1 + int(name[i]) {
		m.names[m.named] = entry{uint16(at + i), uint8(len(name) - i)}
		m.named++
	}
}

// name writes a name, compressed, and gives an offset that a pointer to it may
// name; false where it does not fit.
func (m *message) name(name []byte) (at int, ok bool) {
	for i := 0; name[i] != 0; i += 1 + int(name[i]) {
		to, found := m.find(name[i:])
		if !found {
			continue
		}
		if m.n+i+2 > m.limit {
			return 0, false
		}
		start := m.n
		copy(m.buf[m.n:], name[:i])
		for j := 0; j < i && m.named < len(m.names) && start+j < 0x4000; j += 1 + int(name[j]) {
			m.names[m.named] = entry{uint16(start + j), uint8(len(name) - j)}
			m.named++
		}
		binary.BigEndian.PutUint16(m.buf[m.n+i:], 0xc000|uint16(to))
		m.n += i + 2
		if i == 0 {
			return to, true
		}
		return start, true
	}
	if m.n+len(name) > m.limit {
		return 0, false
	}
	start := m.n
	m.remember(start, name)
	m.n += copy(m.buf[m.n:], name)
	return start, true
}

// find looks for a name that was written before.
func (m *message) find(name []byte) (int, bool) {
	for i := range m.named {
		if e := m.names[i]; int(e.length) == len(name) && m.equal(int(e.at), name) {
			return int(e.at), true
		}
	}
	return 0, false
}

// equal compares the name written at offset at with one in wire form.
func (m *message) equal(at int, name []byte) bool {
	for {
		for m.buf[at]&0xc0 == 0xc0 {
			at = int(binary.BigEndian.Uint16(m.buf[at:]) & 0x3fff)
		}
		n := int(m.buf[at])
		if n != int(name[0]) {
			return false
		}
		if n == 0 {
			return true
		}
		for i := 1; i <= n; i++ {
			if a, b := m.buf[at+i], name[i]; a != b && zone.Lower(a) != zone.Lower(b) {
				return false
			}
		}
		at, name = at+1+n, name[1+n:]
	}
}

// expand appends the name written at offset at, in lower case.
func (m *message) expand(to []byte, at int) []byte {
	for {
		for m.buf[at]&0xc0 == 0xc0 {
			at = int(binary.BigEndian.Uint16(m.buf[at:]) & 0x3fff)
		}
		n := int(m.buf[at])
		for _, c := range m.buf[at : at+1+n] {
			to = append(to, zone.Lower(c))
		}
		if n == 0 {
			return to
		}
		at += 1 + n
	}
}

// owner is a record's name: at a known offset of the message, or in wire form.
type owner struct {
	at   int // 0: see name
	name []byte
}

func ownerAt(at int) owner { return owner{at: at} }

// set writes a whole RRset, with its signatures where they are wanted, or
// nothing of it. For an alias (CNAME) it gives the offset of the target.
func (m *message) set(section int, o owner, s *zone.RRset, ttl uint32, signed bool) (target int, ok bool) {
	start := m.mark()
	if opaque(s.Type) {
		_, ok = m.records(&o, s.Type, ttl, s.Data)
	} else {
		target, ok = m.each(o, s, ttl)
	}
	sigs := 0
	if ok && signed {
		sigs, ok = m.signatures(&o, s, ttl)
	}
	if !ok {
		m.rewind(start)
		return 0, false
	}
	m.counts[section] += uint16(s.Count + sigs)
	return target, true
}

// each writes the records of an RRset one by one. For an alias it gives the
// offset of the target.
func (m *message) each(o owner, s *zone.RRset, ttl uint32) (target int, ok bool) {
	for rest := s.Data; len(rest) > 0; {
		var rdata []byte
		rdata, rest = zone.Next(rest)
		if target, ok = m.record(o, s.Type, ttl, rdata); !ok {
			return 0, false
		}
	}
	return target, true
}

// signatures writes the RRSIGs of an RRset, whose TTL is the set's (RFC 4034
// section 3), and counts them. Where they do not fit, some may stand there.
func (m *message) signatures(o *owner, s *zone.RRset, ttl uint32) (n int, ok bool) {
	return m.records(o, zone.TypeRRSIG, ttl, s.Sigs)
}

// opaque says whether data of a type is written as it is.
func opaque(t uint16) bool {
	switch t {
	case zone.TypeNS, zone.TypeCNAME, zone.TypePTR, zone.TypeMX, zone.TypeSOA, zone.TypeDNAME:
		return false
	}
	return true
}

// records writes records of an opaque type, as RRsets hold them, and counts
// them. Where they do not fit, some may stand there. An owner by name is then
// known by its place.
func (m *message) records(o *owner, t uint16, ttl uint32, data []byte) (n int, ok bool) {
	for ; len(data) > 0; n++ {
		size := 2 + (int(data[0])<<8 | int(data[1])) // RDLENGTH and RDATA
		switch {
		case o.at == 0:
			at, ok := m.name(o.name)
			if !ok {
				return n, false
			}
			if at < 0x4000 {
				o.at = at
			}
		case m.n+2 > m.limit:
			return n, false
		default:
			binary.BigEndian.PutUint16(m.buf[m.n:], 0xc000|uint16(o.at))
			m.n += 2
		}
		end := m.n + 8 + size
		if end > m.limit {
			return n, false
		}
		b := m.buf[m.n:end]
		binary.BigEndian.PutUint64(b, uint64(t)<<48|1<<32|uint64(ttl)) // class IN
		copy(b[8:], data[:size])
		m.n, data = end, data[size:]
	}
	return n, true
}

// record writes one record, or nothing of it. For an alias it gives the offset
// of the target.
func (m *message) record(o owner, t uint16, ttl uint32, rdata []byte) (target int, ok bool) {
	start := m.mark()
	if target, ok = m.tryRecord(o, t, ttl, rdata); !ok {
		m.rewind(start)
	}
	return target, ok
}

func (m *message) tryRecord(o owner, t uint16, ttl uint32, rdata []byte) (target int, ok bool) {
	if o.at != 0 {
		if m.n+2 > m.limit {
			return 0, false
		}
		binary.BigEndian.PutUint16(m.buf[m.n:], 0xc000|uint16(o.at))
		m.n += 2
	} else if _, ok := m.name(o.name); !ok {
		return 0, false
	}
	if m.n+10 > m.limit {
		return 0, false
	}
	fixed := m.buf[m.n : m.n+10]
	binary.BigEndian.PutUint16(fixed, t)
	binary.BigEndian.PutUint16(fixed[2:], 1)
	binary.BigEndian.PutUint32(fixed[4:], ttl)
	m.n += 10
	begin := m.n
	if target, ok = m.rdata(t, rdata); !ok {
		return 0, false
	}
	binary.BigEndian.PutUint16(fixed[8:], uint16(m.n-begin))
	return target, true
}

// rdata writes a record's data. Names in it are compressed for the types of
// RFC 1035 alone (RFC 3597 section 4).
func (m *message) rdata(t uint16, rdata []byte) (target int, ok bool) {
	switch t {
	case zone.TypeNS, zone.TypeCNAME, zone.TypePTR:
		return m.name(rdata)
	case zone.TypeMX:
		if !m.raw(rdata[:2]) {
			return 0, false
		}
		return m.name(rdata[2:])
	case zone.TypeSOA:
		mname := zone.WireLen(rdata)
		if _, ok := m.name(rdata[:mname]); !ok {
			return 0, false
		}
		if _, ok := m.name(rdata[mname : len(rdata)-20]); !ok {
			return 0, false
		}
		return 0, m.raw(rdata[len(rdata)-20:])
	case zone.TypeDNAME: // not compressed itself, but what the CNAME made from it is compressed against
		if m.n+len(rdata) <= m.limit {
			m.remember(m.n, rdata)
		}
	}
	return 0, m.raw(rdata)
}

func (m *message) raw(b []byte) bool {
	if m.n+len(b) > m.limit {
		return false
	}
	m.n += copy(m.buf[m.n:], b)
	return true
}
