package h3

import (
	"bytes"
	"slices"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// priority is what a client wants sent first (RFC 9218 section 4).
type priority struct {
	urgency     int8
	incremental bool
}

// priorityOf reads the value of a Priority field, and what is none for the
// default.
func priorityOf(value []byte) priority {
	p := priority{urgency: 3}
	for len(value) > 0 {
		var item []byte
		item, value, _ = bytes.Cut(value, []byte(","))
		item, _, _ = bytes.Cut(item, []byte(";"))
		switch item = bytes.Trim(item, " \t"); string(item) {
		case "i", "i=?1":
			p.incremental = true
		case "i=?0":
			p.incremental = false
		default:
			if len(item) == 3 && item[0] == 'u' && item[1] == '=' && '0' <= item[2] && item[2] <= '7' {
				p.urgency = int8(item[2] - '0')
			}
		}
	}
	return p
}

// prioritise heeds the request's Priority field, unless an update came before.
func (x *exchange) prioritise() {
	i := x.head.Find("priority", 0)
	if i < 0 {
		return
	}
	p := priorityOf(x.head.Fields[i].Value)
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	if !x.updated {
		x.s.SetPriority(p.urgency, p.incremental)
	}
}

// maxEarly is of how many requests the updates are kept that come before them.
const maxEarly = usualStreams

// update takes a PRIORITY_UPDATE (RFC 9218 section 7.2). One of a request that has
// ended means nothing any more.
func (c *conn) update(payload []byte) error {
	v, n, err := quicvarint.Parse(payload)
	if err != nil {
		return errFrame
	}
	id, p := quic.StreamID(v), priorityOf(payload[n:])
	if id%4 != 0 { // not of a request
		return errPriority
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if id < c.next {
		if i := slices.IndexFunc(c.active, func(x *exchange) bool { return x.s.StreamID() == id }); i >= 0 {
			c.active[i].updated = true
			c.active[i].s.SetPriority(p.urgency, p.incremental)
		}
		return nil
	}
	if _, known := c.early[id]; known || len(c.early) < maxEarly {
		if c.early == nil {
			c.early = map[quic.StreamID]priority{}
		}
		c.early[id] = p
	}
	return nil
}

// applyEarly heeds an update that came before its request; mu is held.
func (c *conn) applyEarly(x *exchange) {
	id := x.s.StreamID()
	if p, ok := c.early[id]; ok {
		delete(c.early, id)
		x.updated = true
		x.s.SetPriority(p.urgency, p.incremental)
	}
}
