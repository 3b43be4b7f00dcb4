package answer

import (
	"encoding/binary"
	"net/netip"

	"meridian/dns/zone"
	"meridian/steer"
)

// step is where resolution stands: the name sought, and where the message
// holds it.
type step struct {
	name []byte // wire form, lower case
	at   int
	hops int
}

// resolve answers from the zones (RFC 1034 section 4.3.2), following aliases
// as far as zones are served here.
func (p *Plan) resolve(w *Worker, client netip.Addr) uint16 {
	r := &w.req
	s := step{name: r.lower[:len(r.qname)], at: headerLen}
	for {
		z := p.find(s.name, r.qtype)
		if z == nil {
			if s.hops == 0 {
				return w.refuse(edeNotAuth)
			}
			return NoError // the alias leads elsewhere
		}
		if z.Zone == nil {
			w.ede = edeNotReady
			return ServFail
		}
		if s.hops == 0 {
			w.aa, w.zone = true, z
		}
		rcode, more := p.answer(w, z, &s, client)
		if !more || w.msg.tc {
			return rcode
		}
	}
}

// answer deals with one name of a chain; more says that s now holds the next.
func (p *Plan) answer(w *Worker, z *served, s *step, client netip.Addr) (rcode uint16, more bool) {
	r := &w.req
	found := z.Lookup(s.name)
	switch found.Kind {
	case zone.Missing:
		w.negative(z)
		return NXDomain, false
	case zone.Redirect:
		return w.redirect(found.Node, s)
	case zone.Delegation:
		if !found.Exact || r.qtype != zone.TypeDS {
			w.referral(z, found.Node, s)
			return NoError, false
		}
	}
	n := found.Node
	if n.Steer > 0 && (r.qtype == zone.TypeA || r.qtype == zone.TypeAAAA || r.qtype == typeANY) {
		p.tailored(w, z, n, s, client)
		return NoError, false
	}
	if alias := n.Get(zone.TypeCNAME); alias != nil && r.qtype != zone.TypeCNAME {
		target, ok := w.put(inAnswer, ownerAt(s.at), alias)
		if !ok || r.qtype == typeANY {
			return NoError, false
		}
		rdata, _ := zone.Next(alias.Data)
		return NoError, w.follow(s, rdata, target)
	}
	set := n.Get(r.qtype)
	if r.qtype == typeANY && len(n.Sets) > 0 {
		set = &n.Sets[0] // one RRset stands for all (RFC 8482 section 4.1)
	}
	if set == nil {
		w.negative(z)
		return NoError, false
	}
	if _, ok := w.put(inAnswer, ownerAt(s.at), set); ok {
		w.additional(z, n, set, s.at)
	}
	return NoError, false
}

// put writes an RRset that the response may not lack: where it does not fit,
// the response is truncated.
func (w *Worker) put(section int, o owner, set *zone.RRset) (target int, ok bool) {
	if target, ok = w.msg.set(section, o, set, set.TTL); !ok {
		w.msg.tc = true
	}
	return target, ok
}

// tailored answers a steered name for the client.
func (p *Plan) tailored(w *Worker, z *served, n *zone.Node, s *step, client netip.Addr) {
	r := &w.req
	if addr, ok := r.ecs.prefix(); ok {
		client = addr
	}
	f := steer.V4
	if r.qtype == zone.TypeAAAA {
		f = steer.V6
	}
	w.steered = &z.steered[n.Steer-1]
	set, scope := p.pick(w.steered.service, f, client)
	if set.Count == 0 {
		w.negative(z)
		return
	}
	if _, ok := r.ecs.prefix(); ok {
		w.scope = scope
	}
	if _, ok := w.msg.set(inAnswer, ownerAt(s.at), set, w.steered.ttl); !ok {
		w.msg.tc = true
	}
}

// negative adds the SOA that lets resolvers keep the absence (RFC 2308
// sections 2 and 5).
func (w *Worker) negative(z *served) {
	soa := z.Apex().Get(zone.TypeSOA)
	rdata, _ := zone.Next(soa.Data)
	ttl := min(soa.TTL, binary.BigEndian.Uint32(rdata[len(rdata)-4:]))
	if _, ok := w.msg.set(inAuthority, w.nameOf(z.Apex().Name), soa, ttl); !ok {
		w.msg.tc = true
	}
}

// nameOf makes an owner of a node's name; the copy lives in the worker.
func (w *Worker) nameOf(name string) owner {
	n := copy(w.names[1][:], name)
	return owner{name: w.names[1][:n]}
}

// follow moves on to the target of an alias, which stands in the message at
// offset at; false where the chain is too long or comes back.
func (w *Worker) follow(s *step, target []byte, at int) bool {
	w.seen[s.hops] = s.at
	s.hops++
	for _, had := range w.seen[:s.hops] {
		if w.msg.equal(had, target) {
			return false
		}
	}
	if s.hops == maxChain {
		return false
	}
	n := copy(w.names[0][:], target)
	for i := range n {
		w.names[0][i] = zone.Lower(w.names[0][i])
	}
	s.name, s.at = w.names[0][:n], at
	return true
}

// redirect answers by a DNAME: the record itself, and a CNAME made from it
// (RFC 6672 section 3.1).
func (w *Worker) redirect(n *zone.Node, s *step) (rcode uint16, more bool) {
	m, set := &w.msg, n.Get(zone.TypeDNAME)
	if _, ok := w.put(inAnswer, w.nameOf(n.Name), set); !ok {
		return NoError, false
	}
	rdata, _ := zone.Next(set.Data)
	kept := len(s.name) - len(n.Name)
	if kept+len(rdata) > 255 {
		return YXDomain, false
	}
	next := w.names[1][:kept+len(rdata)]
	copy(next, s.name[:kept])
	copy(next[kept:], rdata)
	at, ok := m.record(ownerAt(s.at), zone.TypeCNAME, set.TTL, next)
	if !ok {
		m.tc = true
		return NoError, false
	}
	m.counts[inAnswer]++
	if w.req.qtype == zone.TypeCNAME {
		return NoError, false
	}
	return NoError, w.follow(s, next, at)
}

// referral names the servers of a delegated zone, with their addresses as far
// as the zone holds them (RFC 1034 section 4.3.2 step 3b). Glue below the
// delegation is needed to get there: where it does not fit, the response is
// truncated (RFC 9471).
func (w *Worker) referral(z *served, n *zone.Node, s *step) {
	if s.hops == 0 {
		w.aa = false
	}
	ns := n.Get(zone.TypeNS)
	if _, ok := w.put(inAuthority, w.nameOf(n.Name), ns); !ok {
		return
	}
	for _, needed := range []bool{true, false} {
		for rest := ns.Data; len(rest) > 0; {
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
			for _, t := range [...]uint16{zone.TypeA, zone.TypeAAAA} {
				set := glue.Get(t)
				if set == nil {
					continue
				}
				if _, ok := w.msg.set(inAdditional, owner{name: host}, set, set.TTL); !ok && needed {
					w.msg.tc = true
					return
				}
			}
		}
	}
}

// additional adds the addresses of the hosts that an RRset names, where the
// zone holds them and they fit. Steered names are left out: their addresses
// depend on the client, and additional data has no scope of its own.
func (w *Worker) additional(z *served, n *zone.Node, set *zone.RRset, at int) {
	var done [16]*zone.Node
	count := 0
	for rest := set.Data; len(rest) > 0 && count < len(done); {
		var rdata []byte
		rdata, rest = zone.Next(rest)
		host := zone.Target(set.Type, rdata)
		if host == nil || set.Type == zone.TypeCNAME || set.Type == zone.TypeDNAME || set.Type == zone.TypePTR {
			return
		}
		o, node := owner{name: host}, n
		if len(host) == 1 { // RFC 9460 section 2.5.2: the owner itself
			o = ownerAt(at)
			if set.Type != zone.TypeHTTPS && set.Type != zone.TypeSVCB {
				continue
			}
		} else if node = w.host(z, host); node == nil {
			continue
		}
		if contains(done[:count], node) || node.Steer > 0 {
			continue
		}
		done[count] = node
		count++
		for _, t := range [...]uint16{zone.TypeA, zone.TypeAAAA, set.Type} {
			if t == set.Type && (node == n || t != zone.TypeHTTPS && t != zone.TypeSVCB) {
				continue // only services point to services (RFC 9460 section 4.1)
			}
			if a := node.Get(t); a != nil {
				w.msg.set(inAdditional, o, a, a.TTL)
			}
		}
	}
}

// host gives the node that a host name stands at, where the zone is
// authoritative for it.
func (w *Worker) host(z *served, host []byte) *zone.Node {
	low := w.lowered(host)
	if !z.Holds(low) {
		return nil
	}
	if r := z.Lookup(low); r.Kind == zone.Found {
		return r.Node
	}
	return nil
}

// lowered folds a name of the zone's data; the copy lives in the worker.
func (w *Worker) lowered(name []byte) []byte {
	low := w.names[1][:copy(w.names[1][:], name)]
	for i := range low {
		low[i] = zone.Lower(low[i])
	}
	return low
}

func contains(list []*zone.Node, n *zone.Node) bool {
	for _, have := range list {
		if have == n {
			return true
		}
	}
	return false
}
