package answer

import (
	"encoding/binary"
	"net/netip"

	"meridian/dns/zone"
)

// EDNS options.
const (
	optionNSID      = 3  // RFC 5001
	optionECS       = 8  // RFC 7871
	optionCookie    = 10 // RFC 7873
	optionKeepalive = 11 // RFC 7828
	optionPadding   = 12 // RFC 7830
	optionEDE       = 15 // RFC 8914
	optionReport    = 18 // RFC 9567
	optionVersion   = 19 // RFC 9660
)

// Response codes (RFC 1035, 2136, 6891, 7873).
const (
	NoError  = 0
	FormErr  = 1
	ServFail = 2
	NXDomain = 3
	NotImp   = 4
	Refused  = 5
	YXDomain = 6
	NotAuth  = 9
	BadVers  = 16

	BadCookie = 23
)

const (
	headerLen = 12
	typeOPT   = 41
	typeTSIG  = 250
)

// Opcodes (RFC 1035, 1996, 2136).
const (
	opQuery  = 0
	opNotify = 4
	opUpdate = 5
)

// request is one parsed query.
type request struct {
	id      uint16
	flags   uint16 // as they came
	qname   []byte // as it came, in wire form; nil where there is no whole question
	qtype   uint16
	qclass  uint16
	lower   []byte // qname in lower case
	tsig    bool   // the last record is a TSIG (RFC 8945 section 5.2)
	edns    bool
	version uint8
	do      bool
	co      bool // NXDOMAIN may come with compact denial (RFC 9824 section 5.1)
	size    int  // the client's UDP payload size

	// What options ask for.
	nsid        bool
	keepalive   bool
	padded      bool
	zoneVersion bool
	ecs         subnet
	cookie      cookie
}

// special says whether the message is not for the plan.
func (r *request) special() bool {
	switch r.flags >> 11 & 15 {
	case opNotify, opUpdate:
		return true
	case opQuery:
		return r.tsig || r.qtype == typeAXFR || r.qtype == typeIXFR
	}
	return false
}

// subnet is a Client Subnet option (RFC 7871 section 6).
type subnet struct {
	given  bool
	family uint16
	source uint8
	addr   [16]byte
	octets int // of the address, as many as source needs
}

// prefix gives the network of the client, where the option names one.
func (s *subnet) prefix() (netip.Addr, bool) {
	if !s.given || s.source == 0 {
		return netip.Addr{}, false
	}
	if s.family == 1 {
		return netip.AddrFrom4([4]byte(s.addr[:4])), true
	}
	return netip.AddrFrom16(s.addr), true
}

// parse reads a query of at least a header's length. It gives the response
// code that a fault in it calls for. What was understood before the fault
// stays in r. Of other operations than QUERY nothing is known, so that nothing
// in them is a fault.
func (r *request) parse(q []byte, set *settings) uint16 {
	rcode := r.read(q, set)
	if r.flags>>11&15 != 0 {
		return NotImp
	}
	return rcode
}

func (r *request) read(q []byte, set *settings) uint16 {
	*r = request{id: binary.BigEndian.Uint16(q), flags: binary.BigEndian.Uint16(q[2:]), size: 512}
	questions := binary.BigEndian.Uint16(q[4:])
	at := headerLen
	if questions == 1 { // RFC 9619: any other number is a fault
		n := zone.WireLen(q[at:])
		if n == 0 || at+n+4 > len(q) {
			return FormErr
		}
		r.qname = q[at : at+n]
		r.qtype = binary.BigEndian.Uint16(q[at+n:])
		r.qclass = binary.BigEndian.Uint16(q[at+n+2:])
		at += n + 4
	}
	before := int(binary.BigEndian.Uint16(q[6:])) + int(binary.BigEndian.Uint16(q[8:]))
	total := before + int(binary.BigEndian.Uint16(q[10:]))
	var options []byte
	if questions <= 1 {
		for i := range total {
			var ok bool
			if at, ok = r.record(q, at, i >= before, &options); !ok {
				return FormErr
			}
		}
	}
	switch {
	case questions > 1: // octets behind the last record are passed over, as most servers do
		return FormErr
	case r.edns && r.version > 0:
		return BadVers
	case !r.readOptions(options, set):
		return FormErr
	case questions == 0 && (!r.cookie.given || total > 1):
		return FormErr // but for one that asks for a cookie alone (RFC 7873 section 5.4)
	}
	return NoError
}

// record passes over one record and notes an OPT (RFC 6891 section 6.1.1: one
// at most, at the root, in the additional section).
func (r *request) record(q []byte, at int, additional bool, options *[]byte) (int, bool) {
	start := at
	for at < len(q) && q[at] != 0 && q[at]&0xc0 == 0 {
		at += 1 + int(q[at])
	}
	switch {
	case at < len(q) && q[at]&0xc0 == 0xc0:
		at += 2
	case at < len(q) && q[at] == 0:
		at++
	default:
		return 0, false
	}
	if at+10 > len(q) {
		return 0, false
	}
	fixed := q[at : at+10]
	end := at + 10 + int(binary.BigEndian.Uint16(fixed[8:]))
	if end > len(q) {
		return 0, false
	}
	r.tsig = additional && binary.BigEndian.Uint16(fixed) == typeTSIG
	if binary.BigEndian.Uint16(fixed) == typeOPT {
		if r.edns || !additional || q[start] != 0 {
			return 0, false
		}
		r.edns = true
		r.size = max(512, int(binary.BigEndian.Uint16(fixed[2:])))
		r.version = fixed[5]
		r.do, r.co = fixed[6]&0x80 != 0, fixed[6]&0x40 != 0
		*options = q[at+10 : end]
	}
	return end, true
}

// readOptions reads the options that we know and passes over the rest (RFC
// 6891 section 6.1.2).
func (r *request) readOptions(b []byte, set *settings) bool {
	for len(b) > 0 {
		if len(b) < 4 {
			return false
		}
		n := int(binary.BigEndian.Uint16(b[2:]))
		if len(b) < 4+n {
			return false
		}
		data := b[4 : 4+n]
		switch binary.BigEndian.Uint16(b) {
		case optionNSID:
			r.nsid = true
		case optionKeepalive:
			r.keepalive = true
		case optionPadding:
			r.padded = true
		case optionVersion:
			if n > 0 {
				return false // RFC 9660 section 3.2: it is empty in a query
			}
			r.zoneVersion = true
		case optionECS:
			if set.ecs && (r.ecs.given || !r.ecs.read(data)) {
				return false
			}
		case optionCookie:
			if set.cookies.on() && !r.cookie.given && !r.cookie.read(data) { // the first one counts (RFC 7873 section 5.2)
				return false
			}
		}
		b = b[4+n:]
	}
	return true
}

// read takes the option's data. Wrong are an unknown family, a length that
// does not fit SOURCE PREFIX-LENGTH, bits set beyond it, and a SCOPE in a query
// (RFC 7871 sections 6, 7.1.2 and 7.2.1). Family 0 is let pass where it names no
// network at all, as dig +subnet=0 sends it.
func (s *subnet) read(data []byte) bool {
	if len(data) < 4 {
		return false
	}
	s.family, s.source = binary.BigEndian.Uint16(data), data[2]
	limit := 0
	switch s.family {
	case 1:
		limit = 32
	case 2:
		limit = 128
	case 0:
	default:
		return false
	}
	addr := data[4:]
	if int(s.source) > limit || data[3] != 0 || len(addr) != (int(s.source)+7)/8 {
		return false
	}
	if rest := s.source % 8; rest != 0 && addr[len(addr)-1]<<rest != 0 {
		return false
	}
	s.octets = copy(s.addr[:], addr)
	s.given = true
	return true
}
