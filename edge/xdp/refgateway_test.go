package xdp

import (
	"net/netip"
	"slices"

	"meridian/edge/defence"
	"meridian/edge/quiclb"
)

// tunnelled gives the packet inside one that came to this node in a tunnel: IP
// in IP (RFC 2003, RFC 2473, RFC 4213) or in UDP (GUE: variant 1 without a
// header, variant 0 data messages with one).
func (r *reference) tunnelled(p *refPacket) (inner *refPacket, ok bool) {
	if !r.own(p.dst) || p.fragment == laterFragment { // what that is of is not to be seen
		return nil, false
	}
	proto, at := p.proto, p.at
	if proto == protoUDP {
		const guePort, udpHeader = 6080, 8
		if !p.holds(at, udpHeader+4) || be(p.ip[at+2:]) != guePort {
			return nil, false
		}
		if at += udpHeader; !p.readable(at) {
			return nil, false
		}
		switch g := p.ip[at]; {
		case g>>4 == 4:
			proto = protoIPIP
		case g>>4 == 6:
			proto = protoIPv6
		case g>>5 != 0: // another variant, or a control message
			return nil, false
		default:
			proto = p.ip[at+1]
			at += 4 + 4*int(g&31)
		}
	}
	if proto != protoIPIP && proto != protoIPv6 {
		return nil, false
	}
	inner = &refPacket{link: p.link, v4: proto == protoIPIP, from: p.from + at}
	if at <= len(p.ip) {
		inner.ip, inner.rest = p.ip[at:], p.rest
	}
	return inner, true
}

// decapsulate takes the outer headers off what a balancer sent for a VIP.
func (r *reference) decapsulate(p, in *refPacket, now uint32, o *outcome) string {
	trusted := r.balancers[p.src]
	if p.fragment == whole && !in.parseIP() || p.fragment == firstFragment && !in.showsDestination() || !r.isVIP(in.dst) {
		return "pass_other" // somebody else's tunnel
	}
	if !trusted {
		return "drop_untrusted"
	}
	if p.fragment == firstFragment {
		return "drop_bad_inner"
	}
	if !in.takeECN(p.tos) {
		return "drop_congested"
	}
	in.hops, in.returned = int(p.id)&7, p.id&8 != 0
	if !p.v4 {
		in.hops, in.returned = int(p.ip[3])&7, p.ip[3]&8 != 0
	}
	if in.parseTransport() {
		in.sender = p.src
		if next, hash := r.nextOwner(in, now, o); next != nil {
			return r.passOn(in, next, hash, now, o)
		}
	}
	o.out = in.frame()
	return "pass_decapsulated"
}

// showsDestination finds where an IP packet of which the end is missing is for.
func (p *refPacket) showsDestination() bool {
	switch {
	case p.v4 && p.holds(0, 20):
		p.dst = netip.AddrFrom4([4]byte(p.ip[16:20]))
	case !p.v4 && p.holds(0, 40):
		p.dst = netip.AddrFrom16([16]byte(p.ip[24:40]))
	}
	return p.dst.IsValid() && !p.dst.Is4In6()
}

// takeECN gives the packet the congestion field that the table in RFC 6040 section
// 4.2 says, by the outer header's; false: drop.
func (p *refPacket) takeECN(outer byte) bool {
	const notECT, ect1, ect0, ce = 0, 1, 2, 3
	table := map[byte][4]int{ // by the inner header's; -1: drop
		notECT: {notECT: notECT, ect1: notECT, ect0: notECT, ce: -1},
		ect0:   {notECT: ect0, ect1: ect1, ect0: ect0, ce: ce},
		ect1:   {notECT: ect1, ect1: ect1, ect0: ect1, ce: ce},
		ce:     {notECT: ce, ect1: ce, ect0: ce, ce: ce},
	}
	to := table[p.tos&3][outer&3]
	if to < 0 {
		return false
	}
	if byte(to) == p.tos&3 {
		return true
	}
	p.tos = p.tos&^3 | byte(to)
	p.ip = slices.Clone(p.ip)
	if p.v4 {
		p.mend(10, 0, p.ip[0], p.tos)
	} else {
		p.ip[1] = p.ip[1]&0x0f | p.tos<<4
	}
	return true
}

// nextOwner gives the gateway that a packet is passed on to, for this one does
// not have its connection; nil: it is this one's, or nobody's.
func (r *reference) nextOwner(p *refPacket, now uint32, o *outcome) (*edgeEndpoint, uint64) {
	v, ok := r.service(p)
	if !ok || v.Flags&uint8(edgeVipFlagVIP_CHAIN) == 0 {
		return nil, 0
	}
	if p.fragment == laterFragment {
		if f, known := r.find(r.datagramHash(p, v), now); known && p.hops < maxHops {
			if e := r.holder(f); e != nil && e.How != uint8(edgeForwardFORWARD_LOCAL) {
				return e, 0
			}
		}
		return nil, 0
	}
	hash := r.flowHash(p, v)
	if e := r.byConnectionID(p, v); e != nil {
		if e.How == uint8(edgeForwardFORWARD_LOCAL) || p.hops >= maxHops {
			return nil, 0
		}
		if p.fragment == firstFragment {
			r.keepDatagram(p, e, now, o)
		}
		return e, hash
	}
	index, unsafe, owners := r.slot(v, hash)
	if owner := r.endpoint(index); !unsafe && owner != nil && owner.How == uint8(edgeForwardFORWARD_LOCAL) {
		return nil, 0
	}
	if begins(p) || r.has(p) {
		o.count("chance_mine")
		return nil, 0
	}
	p.unowned = true
	e := r.nextAfter(p, owners)
	if e == nil || p.hops >= maxHops {
		o.count("chance_none")
		return nil, 0
	}
	if p.fragment == firstFragment {
		r.keepDatagram(p, e, now, o)
	}
	return e, hash
}

// nextAfter gives whom of the owners a packet is passed on to: who follows this
// node or the sender, whichever stands first; if neither does, the first. The
// sender where there is nobody else, but only once.
func (r *reference) nextAfter(p *refPacket, owners []uint16) *edgeEndpoint {
	begin := 0
	had := func(i uint16) bool {
		e := r.endpoint(i)
		return e != nil && (e.How == uint8(edgeForwardFORWARD_LOCAL) || p.hops > 0 && fromAddress(e.Addr) == p.sender)
	}
	if first := slices.IndexFunc(owners, had); p.hops > 0 && first >= 0 {
		begin = first + 1
	}
	for _, i := range owners[min(begin, len(owners)):] {
		if e := r.endpoint(i); e != nil && !had(i) && e.Keeps == 1 {
			return e
		}
	}
	for _, i := range owners {
		if e := r.endpoint(i); p.hops > 0 && !p.returned && e != nil && fromAddress(e.Addr) == p.sender && e.Keeps == 1 {
			p.returned = true
			return e
		}
	}
	return nil
}

// byConnectionID gives the endpoint that a QUIC packet's destination connection
// id says (draft-ietf-quic-load-balancers; where the id stands, RFC 8999), while
// it may have flows; nil: the ring tells.
func (r *reference) byConnectionID(p *refPacket, v edgeVip) *edgeEndpoint {
	at, stated := p.at+8, 0
	if v.Flags&uint8(edgeVipFlagVIP_QUIC) == 0 || p.proto != protoUDP || p.icmpError || p.fragment == laterFragment || !p.holds(at, 1) {
		return nil
	}
	if p.ip[at]&0x80 == 0 {
		at++
	} else if !p.holds(at, 6) || p.ip[at+5] == 0 {
		return nil
	} else {
		stated, at = int(p.ip[at+5]), at+6
	}
	for _, c := range r.quic {
		codec, err := quiclb.New(c)
		if err != nil || !p.holds(at, codec.Len()) || p.ip[at]>>5 != c.Rotation || int(p.ip[at]&31) != codec.Len()-1 ||
			stated != 0 && stated != codec.Len() {
			continue
		}
		if id, ok := codec.Decode(p.ip[at : at+codec.Len()]); ok {
			e := r.endpoint(r.servers[edgeServerKey{Ring: v.Ring, Server: [4]uint8(id)}])
			if e != nil && e.Keeps == 1 {
				return e
			}
		}
	}
	return nil
}

// defend gives the reason to drop a packet for a VIP, "": none. Rates and limits
// go by nanoseconds, which this knows nothing of.
func (r *reference) defend(p *refPacket, now uint32) string {
	on := func(d edgeDefendFlag) bool { return r.node.Defends&uint32(d) != 0 }
	if on(edgeDefendFlagDEFEND_STATIC) && p.proto == protoTCP && !p.icmpError && p.fragment != laterFragment && bogusFlags(p.tcpFlags) {
		return "drop_bogus_flags"
	}
	class, from := defence.None, p.src
	if p.icmpError {
		from = p.sender // who sent the error, not whom it names
	}
	if on(edgeDefendFlagDEFEND_LISTS) {
		class, _ = r.lists.Lookup(from)
	}
	if class == defence.Martian {
		return "drop_martian"
	}
	if on(edgeDefendFlagDEFEND_REFLECTED) && p.proto == protoUDP && !p.icmpError && p.fragment != laterFragment && slices.Contains(r.reflectors, p.sport) {
		return "drop_reflected"
	}
	switch class {
	case defence.Allowed:
		return ""
	case defence.Blocked:
		return "drop_blocked"
	case defence.BlockedCountry:
		return "drop_blocked_country"
	case defence.BlockedASN:
		return "drop_blocked_asn"
	}
	if on(edgeDefendFlagDEFEND_RULES) && r.ruled(p, class, now) {
		return "drop_rule"
	}
	return ""
}

// bogusFlags says whether a segment cannot have these flags: PSH, ECE and CWR
// aside it has SYN, with URG or ACK; RST, with ACK; or ACK, with FIN and URG (RFC
// 9293 section 3.10.7).
func bogusFlags(flags byte) bool {
	const fin, urg = 1, 0x20
	switch flags & (fin | syn | rst | ack | urg) {
	case syn, syn | urg, syn | ack, rst, rst | ack, ack, ack | urg, fin | ack, fin | ack | urg:
		return false
	}
	return true
}
