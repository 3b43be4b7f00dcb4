package answer

import (
	"encoding/binary"
	"time"

	"meridian/dns/zone"
)

// paddingBlock is the size, in octets, whose multiples padded responses have
// (RFC 8467 section 4.1).
const paddingBlock = 468

// optLen is the space that the OPT of the response takes at most, without
// padding and extended error, which come where there is room left.
func (p *Plan) optLen(r *request) int {
	if !r.edns {
		return 0
	}
	n := 11
	if r.nsid && p.settings.nsid != "" {
		n += 4 + len(p.settings.nsid)
	}
	if r.ecs.given {
		n += 8 + r.ecs.octets
	}
	if r.cookie.given {
		n += 4 + cookieLen
	}
	if r.keepalive {
		n += 6
	}
	if r.zoneVersion {
		n += 10
	}
	if p.settings.errorsTo != "" {
		n += 4 + len(p.settings.errorsTo)
	}
	return n
}

// optWriter writes options one after another.
type optWriter struct {
	b   []byte
	n   int
	max int // octets that fit
}

// option begins an option of n octets and gives the place of its data; false
// where it does not fit, as beside a question of 255 octets in a response of
// 512.
func (o *optWriter) option(code uint16, n int) (data []byte, ok bool) {
	if o.n+4+n > o.max {
		return nil, false
	}
	binary.BigEndian.PutUint16(o.b[o.n:], code)
	binary.BigEndian.PutUint16(o.b[o.n+2:], uint16(n))
	o.n += 4 + n
	return o.b[o.n-n : o.n], true
}

// opt writes the OPT record (RFC 6891 section 6.1) into the space kept for it.
func (p *Plan) opt(w *Worker, c *Client, rcode uint16) {
	m, r := &w.msg, &w.req
	m.limit += w.tail
	o := &w.opt
	o.b, o.n, o.max = m.buf[m.n:], 11, m.limit-m.n
	o.b[0] = 0
	binary.BigEndian.PutUint16(o.b[1:], typeOPT)
	binary.BigEndian.PutUint16(o.b[3:], PayloadUDP)
	o.b[5], o.b[6], o.b[7], o.b[8] = byte(rcode>>4), 0, 0, 0
	if r.do {
		o.b[7] = 0x80
	}
	if w.compact && r.co {
		o.b[7] |= 0x40
	}
	p.clientOptions(o, w, c, rcode)
	if w.ede != edeNone {
		if b, ok := o.option(optionEDE, 2); ok {
			binary.BigEndian.PutUint16(b, uint16(w.ede))
		}
	}
	if r.nsid && p.settings.nsid != "" {
		if b, ok := o.option(optionNSID, len(p.settings.nsid)); ok {
			copy(b, p.settings.nsid)
		}
	}
	if z := w.zone; z != nil && z.Zone != nil {
		p.zoneOptions(o, w)
	}
	if r.padded && c.Encrypted {
		size := m.n + o.n + 4
		padded := min((size+paddingBlock-1)/paddingBlock*paddingBlock, m.limit)
		if b, ok := o.option(optionPadding, max(padded-size, 0)); ok {
			clear(b)
		}
	}
	binary.BigEndian.PutUint16(o.b[9:], uint16(o.n-11))
	m.n += o.n
}

// clientOptions writes what answers the client's own options.
func (p *Plan) clientOptions(o *optWriter, w *Worker, c *Client, rcode uint16) {
	r := &w.req
	if r.ecs.given && rcode != FormErr {
		if b, ok := o.option(optionECS, 4+r.ecs.octets); ok {
			binary.BigEndian.PutUint16(b, r.ecs.family)
			b[2], b[3] = r.ecs.source, byte(w.scope)
			copy(b[4:], r.ecs.addr[:r.ecs.octets])
		}
	}
	if r.cookie.given {
		if b, ok := o.option(optionCookie, cookieLen); ok {
			copy(b, w.cookie[:])
		}
	}
	if r.keepalive && c.Idle > 0 { // over UDP it is passed over (RFC 7828 section 3.3.1)
		if b, ok := o.option(optionKeepalive, 2); ok {
			binary.BigEndian.PutUint16(b, uint16(min(c.Idle/(100*time.Millisecond), 0xffff)))
		}
	}
}

// zoneOptions writes what is said of the zone that the name asked for belongs
// to: its version, where that is asked for (RFC 9660), and where validators may
// report errors of it. A zone that the reports go through names no agent (RFC
// 9567 section 8.1): nothing could be reported while it fails.
func (p *Plan) zoneOptions(o *optWriter, w *Worker) {
	if w.req.zoneVersion {
		if b, ok := o.option(optionVersion, 6); ok {
			b[0], b[1] = labels(w.zone.apex), 0 // SOA-SERIAL
			binary.BigEndian.PutUint32(b[2:], w.zone.Serial)
		}
	}
	agent := p.settings.errorsTo
	if agent != "" && !zone.Below(agent, w.zone.apex) && !zone.Below(w.zone.apex, agent) {
		if b, ok := o.option(optionReport, len(agent)); ok {
			copy(b, agent)
		}
	}
}

// labels counts those of a name in wire form, without the root.
func labels(name string) byte {
	n := byte(0)
	for ; name[0] != 0; name = name[1+int(name[0]):] {
		n++
	}
	return n
}
