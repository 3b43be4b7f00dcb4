package answer

import (
	"encoding/binary"
	"math"

	"meridian/dns/zone"
)

// PayloadUDP is the largest UDP response, in octets, and the size that the
// server says it takes (DNS flag day 2020, RFC 9715): no fragments.
const PayloadUDP = 1232

// MaxStream is the largest response over a stream.
const MaxStream = 65535

// Query types that ask for no plain data.
const (
	typeNXNAME = 128 // RFC 9824 section 3.5
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
	edeInvalid    = 24 // Invalid Data: a zone that has expired or not come yet
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
	Outcome Outcome // of the last message

	req      request
	msg      message
	lower    [256]byte    // the name asked for
	names    [2][256]byte // the name looked up, and another one
	wildcard [258]byte
	seen     [maxChain]int
	aa       bool
	dnssec   bool // signatures and proofs are wanted (RFC 4035 section 3.1)
	ede      int
	brief    uint32 // the longest TTL that absence may have
	scope    int
	tail     int // octets kept for the OPT
	opt      optWriter
	end      end
	wilds    [maxChain]wild
	wildN    int
	once     once
	absent   [len(steeredTypes)]uint16 // steered types that the name lacks for this client
	absentN  int
	scratch  scratch
	cookie   [cookieLen]byte
	daily    daily
	online   online
	compact  bool // a zone with compact denial had a part in the answer, and DNSSEC is wanted

	last    *served // zone found last
	lastIn  *zoneMap
	zone    *served // that answered the name asked for
	steered *target // the steered name that answered, for Explain
}

// Rest lets go of what the last answer was made from: a worker that is not
// asked for long would else keep zones in memory that nobody serves any more.
func (w *Worker) Rest() {
	w.Outcome.Zone, w.last, w.lastIn, w.zone, w.steered = nil, nil, nil, nil, nil
	w.end, w.scratch.set, w.online.made, w.online.set = end{}, zone.RRset{}, nil, zone.RRset{}
	clear(w.wilds[:])
	clear(w.once.sets[:])
}

// maxChain bounds how many aliases are followed.
const maxChain = 16

// Answer writes the response to query into out, which holds at least
// PayloadUDP octets, or MaxStream for a stream, and gives its length; 0 where
// the message gets none.
func (p *Plan) Answer(w *Worker, query []byte, c Client, out []byte) (int, Outcome) {
	n := p.Reply(w, query, &c, out)
	return n, w.Outcome
}

// Reply is Answer without copies: what became of the message stands in
// w.Outcome.
func (p *Plan) Reply(w *Worker, query []byte, c *Client, out []byte) int {
	w.Outcome = Outcome{}
	if len(query) < headerLen {
		w.Outcome.Drop = DropShort
		return 0
	}
	if query[2]&0x80 != 0 {
		w.Outcome.Drop = DropResponse
		return 0
	}
	r := &w.req
	rcode := r.parse(query, &p.settings)
	r.lower = w.lower[:zone.CopyLower(w.lower[:], r.qname)]
	limit := 512
	switch {
	case c.Stream:
		limit = MaxStream
	case r.edns:
		limit = min(r.size, PayloadUDP)
	}
	w.aa, w.ede, w.scope, w.zone, w.steered = false, edeNone, 0, nil, nil
	w.online.made, w.online.now, w.online.used, w.compact = p.made, c.Now, false, false
	w.scratch.turn++
	w.dnssec, w.brief = r.do, math.MaxUint32
	w.tail = p.optLen(r)
	w.msg.begin(out, limit-w.tail, r)
	o := &w.Outcome
	o.Cookie = p.checkCookie(w, c)
	if rcode == NoError {
		rcode = p.respond(w, c, o.Cookie)
	}
	o.Rcode, o.Type, o.Class, o.Zone, o.Special = rcode, r.qtype, r.qclass, w.zone.content(), r.special()
	return p.finish(w, c, rcode)
}

// respond answers a query that is well formed.
func (p *Plan) respond(w *Worker, c *Client, cookie bool) uint16 {
	r := &w.req
	switch {
	case r.cookie.given && !cookie && p.settings.cookies.require && !c.Stream:
		return BadCookie
	case r.qname == nil:
		return NoError // asks for a cookie alone
	case r.tsig:
		return NotAuth // nobody here knows the key (RFC 8945 section 5.2.1)
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
	case p.settings.whoami != nil && string(r.lower) == string(p.settings.whoami):
		return p.whoami(w, c)
	}
	rcode := p.resolve(w, c)
	if r.qclass == classANY {
		w.aa = false // RFC 1035 section 6.2: QCLASS * is never authoritative
	}
	return rcode
}

func (w *Worker) refuse(ede int) uint16 {
	w.ede = ede
	return Refused
}

// finish writes header and OPT.
func (p *Plan) finish(w *Worker, c *Client, rcode uint16) int {
	m, r := &w.msg, &w.req
	flags := 0x8000 | r.flags&0x7900 | rcode&15 // opcode and RD are copied (RFC 1035 section 4.1.1), CD is not (RFC 4035 section 3.1.6)
	if w.aa {
		flags |= 0x0400
	}
	if m.tc {
		flags |= 0x0200
	}
	if r.edns {
		p.opt(w, c, rcode)
		m.counts[inAdditional]++
	}
	head := m.buf[:headerLen]
	binary.BigEndian.PutUint16(head, r.id)
	binary.BigEndian.PutUint16(head[2:], flags)
	binary.BigEndian.PutUint16(head[4:], m.counts[0])
	binary.BigEndian.PutUint16(head[6:], m.counts[inAnswer])
	binary.BigEndian.PutUint16(head[8:], m.counts[inAuthority])
	binary.BigEndian.PutUint16(head[10:], m.counts[inAdditional])
	return m.n
}
