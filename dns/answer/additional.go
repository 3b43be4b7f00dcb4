package answer

import "meridian/dns/zone"

// extra writes the section ADDITIONAL: addresses of the hosts that the answer
// or a referral names.
func (w *Worker) extra(s *step) {
	switch e := &w.end; {
	case e.kind == delegated:
		w.glue(e.z, e.node)
	case e.kind == data && e.set != nil && namesHosts(e.set.Type):
		h := hosts{z: e.z}
		h.add(w, e.node, e.set, ownerAt(s.at), 0)
	}
}

// glue gives the addresses of a delegated zone's servers, as far as the zone
// holds them. Those below the delegation are needed to get there: where they
// do not fit, the response is truncated (RFC 9471 section 3.1); those of
// siblings are added if they fit.
func (w *Worker) glue(z *served, n *zone.Node) {
	for _, needed := range []bool{true, false} {
		for rest := n.Get(zone.TypeNS).Data; len(rest) > 0; {
			var host []byte
			host, rest = zone.Next(rest)
			low := w.lowered(host)
			if zone.Below(low, n.Name) != needed {
				continue
			}
			glue := z.Node(low)
			if glue == nil || glue.Steer > 0 {
				continue
			}
			signed := w.dnssec && z.Cut(glue) == nil
			for _, t := range [...]uint16{zone.TypeA, zone.TypeAAAA} {
				set := glue.Get(t)
				if set == nil {
					continue
				}
				if _, ok := w.msg.set(inAdditional, owner{name: host}, set, set.TTL, signed); !ok && needed {
					w.msg.tc = true
					return
				}
			}
		}
	}
}

// namesHosts says whether records of a type name hosts whose addresses may be
// wanted.
func namesHosts(t uint16) bool {
	switch t {
	case zone.TypeNS, zone.TypeMX, zone.TypeSRV, zone.TypeHTTPS, zone.TypeSVCB:
		return true
	}
	return false
}

// hosts are the names whose addresses a response has in ADDITIONAL.
type hosts struct {
	z    *served
	done [16]*zone.Node
	n    int
}

// maxServices bounds how many service records are followed from one to the
// next.
const maxServices = 4

// add adds the addresses of the hosts that an RRset at node n names, where the
// zone holds them and they fit. Steered names are left out: their addresses
// depend on the client, and additional data has no scope of its own (RFC 7871
// section 7.4). Service records lead on to those of their targets (RFC 9460
// section 4.1).
func (h *hosts) add(w *Worker, n *zone.Node, set *zone.RRset, at owner, depth int) {
	service := set.Type == zone.TypeHTTPS || set.Type == zone.TypeSVCB
	for rest := set.Data; len(rest) > 0 && h.n < len(h.done); {
		var rdata []byte
		rdata, rest = zone.Next(rest)
		host := zone.Target(set.Type, rdata)
		if host == nil {
			continue
		}
		o, node := owner{name: host}, n
		switch {
		case len(host) > 1:
			node = h.node(w, host, set.Type == zone.TypeNS)
		case !service || rdata[0]|rdata[1] == 0:
			continue // no host at all (RFC 2782, RFC 7505; RFC 9460 section 2.5.1)
		default:
			o = at // the owner itself (RFC 9460 section 2.5.2)
		}
		if node == nil || node.Steer > 0 || h.has(node) {
			continue
		}
		h.done[h.n] = node
		h.n++
		signed := w.dnssec && h.z.Cut(node) == nil
		for _, t := range [...]uint16{zone.TypeA, zone.TypeAAAA} {
			if a := node.Get(t); a != nil {
				w.msg.set(inAdditional, o, a, a.TTL, signed)
			}
		}
		if next := node.Get(set.Type); service && node != n && node != w.end.node && next != nil && depth < maxServices {
			if _, ok := w.msg.set(inAdditional, o, next, next.TTL, w.dnssec); ok {
				h.add(w, node, next, o, depth+1)
			}
		}
	}
}

// node gives the node that a host name stands at: where the zone is
// authoritative for it, a wildcard's too, or, for name servers, as glue.
func (h *hosts) node(w *Worker, host []byte, glue bool) *zone.Node {
	low := w.lowered(host)
	if !h.z.Holds(low) {
		return nil
	}
	switch r := h.z.Lookup(low); r.Kind {
	case zone.Found, zone.Wildcard:
		return r.Node
	case zone.Delegation:
		if glue {
			return h.z.Node(low)
		}
	}
	return nil
}

func (h *hosts) has(n *zone.Node) bool {
	for _, had := range h.done[:h.n] {
		if had == n {
			return true
		}
	}
	return false
}

// lowered folds a name of the zone's data; the copy lives in the worker.
func (w *Worker) lowered(name []byte) []byte {
	return w.names[1][:zone.CopyLower(w.names[1][:], name)]
}
