package answer

import (
	"net/netip"
	"slices"

	"meridian/dns/zone"
)

// steeredTypes are those that a steered name may hold.
var steeredTypes = [...]uint16{zone.TypeA, zone.TypeAAAA, zone.TypeHTTPS}

// tailored answers a steered name for the client; false where the name holds
// nothing of the type for it, or the type is not steered.
func (p *Plan) tailored(w *Worker, z *served, n *zone.Node, qtype uint16, s *step, c *Client) bool {
	client, given := w.client(c)
	set, scope := p.tailor(w, z, n, qtype, client)
	if set == nil {
		return false
	}
	w.steered = &z.steered[n.Steer-1]
	if given {
		// Of several RRsets the longest counts (RFC 7871 section 7.2.1). It is
		// told for absence too, where some clients have a region and others
		// none: a resolver that keeps it for all (section 7.4) does no worse.
		w.scope = max(w.scope, scope)
	}
	if set.Count == 0 {
		w.brief = set.TTL
		return false
	}
	w.end.kind = data
	w.put(inAnswer, ownerAt(s.at), set)
	return true
}

// client gives the address to decide by: the network of Client Subnet where
// the query has one.
func (w *Worker) client(c *Client) (addr netip.Addr, subnet bool) {
	if addr, subnet = w.req.ecs.prefix(); subnet {
		return addr, true
	}
	return c.Addr, false
}

// noteAbsent notes which of a steered name's types it lacks for the client,
// where the one asked for is among them: any other is disproved by the NSEC
// that all clients get, from which nothing false can be concluded for them (RFC
// 8198).
func (p *Plan) noteAbsent(w *Worker, z *served, n *zone.Node, c *Client) {
	client, _ := w.client(c)
	for _, t := range steeredTypes {
		if set, _ := p.tailor(w, z, n, t, client); set != nil && set.Count == 0 {
			w.absent[w.absentN] = t
			w.absentN++
		}
	}
	if !slices.Contains(w.absent[:w.absentN], w.req.qtype) {
		w.absentN = 0
	}
}

// tailor gives what a steered name holds of a type for a client, with its TTL
// and signatures, and the scope for which that holds; nil where the type is
// not steered. The set lives in the worker until the next one does.
func (p *Plan) tailor(w *Worker, z *served, n *zone.Node, qtype uint16, client netip.Addr) (set *zone.RRset, scope int) {
	t := &z.steered[n.Steer-1]
	set, scope, ok := p.pick(&w.scratch, t, qtype, client)
	if !ok {
		return nil, 0
	}
	if w.dnssec && z.Signed && set.Count > 0 {
		set.Sigs = w.variant(z.Variants(n.Name, qtype), set.Data)
	}
	return set, scope
}

// variant gives the signatures of the variant that has those records, in
// whatever order.
func (w *Worker) variant(variants []zone.Variant, data []byte) []byte {
	w.scratch.canon = appendCanonical(w.scratch.canon[:0], data)
	for i := range variants {
		if v := &variants[i].Set; string(v.Data) == string(w.scratch.canon) {
			return v.Sigs
		}
	}
	return nil
}
