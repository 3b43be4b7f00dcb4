package answer

import (
	"encoding/binary"

	"meridian/dns/zone"
)

// PayloadUDP is the largest UDP response, in octets, and the size that the
// server says it takes (DNS flag day 2020, RFC 9715): no fragments.
const PayloadUDP = 1232

// MaxStream is the largest response over a stream.
const MaxStream = 65535

// Query types that ask for no plain data.
const (
	typeNXNAME = 128 // RFC 9824 section 3.3
	typeIXFR   = 251
	typeAXFR   = 252
	typeANY    = 255
)

// Classes (RFC 1035 section 3.2.4).
const (
	classIN  = 1
	classCH  = 3
	classANY = 255
)

// Extended errors (RFC 8914).
const (
	edeNone       = -1
	edeNotReady   = 14
	edeProhibited = 18
	edeNotAuth    = 20
	edeQueryType  = 30
)

// Drop is why a message gets no answer.
type Drop uint8

// The reasons: what is too short to be a message, and what is a response
// itself.
const (
	Answered Drop = iota
	DropShort
	DropResponse
)

// String names the reason.
func (d Drop) String() string { return [...]string{"answered", "short", "response"}[d] }

// Outcome is what became of a message, for counters and for what the server
// decides by it.
type Outcome struct {
	Drop  Drop
	Rcode uint16
	Type  uint16     // the query's type; 0 where it has none
	Class uint16     // the query's class; 0 where it has none
	Zone  *zone.Zone // that answered the name asked for; nil where none did

	// Special: the message is not for the plan, but NOTIFY, UPDATE, AXFR, IXFR,
	// or signed by TSIG (its last record). The response that was written is the
	// one to give where nobody takes such messages.
	Special bool

	// Cookie says that the client has shown a valid server cookie, so that its
	// address is not forged (RFC 7873 section 5.2.4).
	Cookie bool
}

// Worker is the scratch space of one goroutine that answers queries. The zero
// value is ready; it is not safe for concurrent use.
type Worker struct {
	req   request
	msg   message
	names [2][256]byte // the name looked up, and the next one
	seen  [maxChain]int
	aa    bool
	ede   int
	scope int
	tail  int // octets kept for the OPT

	zone    *served // that answered the name asked for
	steered *target // the steered name that answered, for Explain
}

// maxChain bounds how many aliases are followed.
const maxChain = 16

// Answer writes the response to query into out, which holds at least
// PayloadUDP octets, or MaxStream for a stream, and gives its length; 0 where
// the message gets none.
func (p *Plan) Answer(w *Worker, query []byte, c Client, out []byte) (int, Outcome) {
	if len(query) < headerLen {
		return 0, Outcome{Drop: DropShort}
	}
	if query[2]&0x80 != 0 {
		return 0, Outcome{Drop: DropResponse}
	}
	r := &w.req
	rcode := r.parse(query, p.settings.ecs)
	limit := 512
	switch {
	case c.Stream:
		limit = MaxStream
	case r.edns:
		limit = min(r.size, PayloadUDP)
	}
	w.aa, w.ede, w.scope, w.zone, w.steered = false, edeNone, 0, nil, nil
	w.tail = p.optLen(r)
	w.msg.begin(out, limit-w.tail, r)
	if rcode == NoError {
		rcode = p.respond(w, c)
	}
	n := p.finish(w, rcode)
	o := Outcome{Rcode: rcode, Type: r.qtype, Class: r.qclass, Special: r.special()}
	if w.zone != nil {
		o.Zone = w.zone.Zone
	}
	return n, o
}

// respond answers a query that is well formed.
func (p *Plan) respond(w *Worker, c Client) uint16 {
	r := &w.req
	switch {
	case r.qclass == classCH:
		return p.chaos(w)
	case r.qclass != classIN && r.qclass != classANY:
		return w.refuse(edeNotAuth)
	case r.qtype == typeNXNAME:
		w.ede = edeQueryType
		return FormErr
	case !p.ready:
		w.ede = edeNotReady
		return ServFail
	case r.qtype == typeAXFR || r.qtype == typeIXFR:
		return w.refuse(edeProhibited)
	}
	rcode := p.resolve(w, c.Addr)
	if r.qclass == classANY {
		w.aa = false // RFC 1034 section 4.3.1: QCLASS * is never authoritative
	}
	return rcode
}

func (w *Worker) refuse(ede int) uint16 {
	w.ede = ede
	return Refused
}

// optLen is the space that the OPT of the response takes at most.
func (p *Plan) optLen(r *request) int {
	if !r.edns {
		return 0
	}
	n := 11 + 6 // with an extended error
	if r.nsid {
		n += 4 + len(p.settings.nsid)
	}
	if r.ecs.given {
		n += 8 + r.ecs.octets
	}
	return n
}

// finish writes header and OPT.
func (p *Plan) finish(w *Worker, rcode uint16) int {
	m, r := &w.msg, &w.req
	flags := 0x8000 | r.flags&0x7910 | rcode&15 // opcode, RD and CD are copied (RFC 1035, 4035)
	if w.aa {
		flags |= 0x0400
	}
	if m.tc {
		flags |= 0x0200
	}
	binary.BigEndian.PutUint16(m.buf, r.id)
	binary.BigEndian.PutUint16(m.buf[2:], flags)
	if r.edns {
		p.opt(w, rcode)
		m.counts[inAdditional]++
	}
	for i, n := range m.counts {
		binary.BigEndian.PutUint16(m.buf[4+2*i:], n)
	}
	return m.n
}

// opt writes the OPT record (RFC 6891 section 6.1) into the space kept for it.
func (p *Plan) opt(w *Worker, rcode uint16) {
	m, r := &w.msg, &w.req
	m.limit += w.tail
	b := m.buf[m.n:]
	b[0] = 0
	binary.BigEndian.PutUint16(b[1:], typeOPT)
	binary.BigEndian.PutUint16(b[3:], PayloadUDP)
	b[5], b[6], b[7], b[8] = byte(rcode>>4), 0, 0, 0
	if r.do {
		b[7] = 0x80
	}
	n := 11
	if r.ecs.given && rcode != FormErr {
		binary.BigEndian.PutUint16(b[n:], optionECS)
		binary.BigEndian.PutUint16(b[n+2:], uint16(4+r.ecs.octets))
		binary.BigEndian.PutUint16(b[n+4:], r.ecs.family)
		b[n+6], b[n+7] = r.ecs.source, byte(w.scope)
		n += 8 + copy(b[n+8:], r.ecs.addr[:r.ecs.octets])
	}
	if r.nsid {
		binary.BigEndian.PutUint16(b[n:], optionNSID)
		binary.BigEndian.PutUint16(b[n+2:], uint16(len(p.settings.nsid)))
		n += 4 + copy(b[n+4:], p.settings.nsid)
	}
	if w.ede != edeNone {
		binary.BigEndian.PutUint16(b[n:], optionEDE)
		binary.BigEndian.PutUint16(b[n+2:], 2)
		binary.BigEndian.PutUint16(b[n+4:], uint16(w.ede))
		n += 6
	}
	binary.BigEndian.PutUint16(b[9:], uint16(n-11))
	m.n += n
}

// chaos answers the names that tell about the server itself (RFC 4892).
func (p *Plan) chaos(w *Worker) uint16 {
	r := &w.req
	var text string
	switch string(r.lower[:len(r.qname)]) {
	case "\x02id\x06server\x00", "\x08hostname\x04bind\x00":
		text = p.settings.nsid
	case "\x07version\x04bind\x00", "\x07version\x06server\x00":
		text = p.settings.version
	}
	if text == "" || len(text) > 255 {
		return w.refuse(edeNotAuth)
	}
	w.aa = true
	if r.qtype != zone.TypeTXT && r.qtype != typeANY {
		return NoError
	}
	m := &w.msg
	b := m.buf[m.n:]
	if m.n+13+len(text) > m.limit {
		m.tc = true
		return NoError
	}
	binary.BigEndian.PutUint16(b, 0xc000|headerLen)
	binary.BigEndian.PutUint16(b[2:], zone.TypeTXT)
	binary.BigEndian.PutUint16(b[4:], classCH)
	binary.BigEndian.PutUint32(b[6:], 0)
	binary.BigEndian.PutUint16(b[10:], uint16(1+len(text)))
	b[12] = byte(len(text))
	m.n += 13 + copy(b[13:], text)
	m.counts[inAnswer]++
	return NoError
}
