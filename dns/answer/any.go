package answer

import (
	"slices"

	"meridian/dns/zone"
	"meridian/fleet"
)

// typeHINFO and its data say that type ANY gets no full answer here (RFC 8482
// section 4.2).
const typeHINFO = 13

var hinfo = zone.RRset{Type: typeHINFO, TTL: 3600, Count: 1, Data: []byte("\x00\x09\x07RFC8482\x00")}

// any answers type ANY: over streams with all that the name holds, over UDP as
// dns.any says (RFC 8482 section 4); false where the name holds nothing.
func (p *Plan) any(w *Worker, z *served, n *zone.Node, s *step, c *Client) bool {
	if len(n.Sets) == 0 && n.Steer == 0 {
		return false
	}
	switch {
	case c.Stream:
		return p.all(w, z, n, s, c)
	case p.settings.any == fleet.AnyTruncated:
		w.msg.tc, w.end.kind = true, data
		return true
	case p.settings.any == fleet.AnyHINFO && !(w.dnssec && z.Signed): // there is no signature over it
		w.end.kind = data
		w.put(inAnswer, ownerAt(s.at), &hinfo)
		return true
	}
	if n.Steer > 0 && (p.tailored(w, z, n, zone.TypeA, s, c) || p.tailored(w, z, n, zone.TypeAAAA, s, c)) {
		return true
	}
	i := slices.IndexFunc(n.Sets, z.tells)
	if i < 0 {
		return false
	}
	w.end.kind = data
	w.put(inAnswer, ownerAt(s.at), &n.Sets[i])
	return true
}

// all answers with every RRset of a name.
func (p *Plan) all(w *Worker, z *served, n *zone.Node, s *step, c *Client) bool {
	for i := 0; i < len(n.Sets) && !w.msg.tc; i++ {
		if !z.tells(n.Sets[i]) {
			continue
		}
		w.end.kind = data
		w.put(inAnswer, ownerAt(s.at), &n.Sets[i])
	}
	for _, t := range [...]uint16{zone.TypeA, zone.TypeAAAA, zone.TypeHTTPS} {
		if n.Steer > 0 && !w.msg.tc {
			p.tailored(w, z, n, t, s, c)
		}
	}
	return w.end.kind == data
}
