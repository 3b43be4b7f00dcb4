package xdp

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// send gives the packet to an endpoint.
func (r *reference) send(p *refPacket, e *edgeEndpoint, how edgeForward, hash uint64, now uint32, o *outcome) string {
	o.endpoint = e.Index
	overhead := 0
	switch how {
	case edgeForwardFORWARD_TUNNEL4:
		overhead = 20
	case edgeForwardFORWARD_TUNNEL6:
		overhead = 40
	}
	if overhead > 0 && e.Gue != 0 {
		overhead += 8
	}
	if e.Mtu != 0 && len(p.ip)+overhead > int(e.Mtu) {
		return r.tooBig(p, int(e.Mtu)-overhead, now, o)
	}
	if o.device = e.Device; o.device != 0 {
		p = p.untagged()
	}
	switch how {
	case edgeForwardFORWARD_LOCAL:
		return "pass_local"
	case edgeForwardFORWARD_L2:
		if e.NextHop.Set == 0 {
			return "drop_no_neighbour"
		}
		o.out = slices.Concat(e.NextHop.Octet[:], e.Source.Octet[:], p.link[12:], p.ip, p.rest)
		return "tx_l2"
	case edgeForwardFORWARD_TUNNEL4, edgeForwardFORWARD_TUNNEL6:
		o.out = r.tunnel(p, e, how == edgeForwardFORWARD_TUNNEL4, hash).frame()
		return "tx_tunnel"
	}
	return "drop_no_member"
}

// passOn gives the packet to another gateway, always in a tunnel.
func (r *reference) passOn(p *refPacket, e *edgeEndpoint, hash uint64, now uint32, o *outcome) string {
	if p.unowned {
		of := refBudget{now, r.budget(p.src)}
		o.later(func() { r.passes[of]++ })
		if r.passes[of] >= passPerSource {
			return "drop_chance_limit"
		}
		o.later(func() { r.passed[now]++ })
		if r.passed[now] >= passPerSecond {
			return "drop_chance_limit"
		}
	}
	p.hops++
	how := edgeForwardFORWARD_TUNNEL6
	if fromAddress(e.Addr).Is4() {
		how = edgeForwardFORWARD_TUNNEL4
	}
	reason := r.send(p, e, how, hash, now, o)
	if reason == "tx_tunnel" {
		return "tx_passed_on"
	}
	return reason
}

// tunnel puts the outer headers before the packet: the next hop's MAC address,
// or, where that is not known, back to where it came from; IPv4 with DF and TOS
// as inside (RFC 2003 section 3.1), or IPv6 with a flow label by the flow (RFC
// 6438); UDP without a checksum where the endpoint takes GUE (RFC 6935).
func (r *reference) tunnel(p *refPacket, e *edgeEndpoint, outer4 bool, hash uint64) *refPacket {
	proto, inner := byte(protoIPv6), p.ip
	if p.v4 {
		proto = protoIPIP
	}
	if e.Gue != 0 {
		udp := slices.Concat(be16(0xc000|int(hash&0x3fff)), be16(int(swap16(e.Gue))), be16(8+len(inner)), be16(0))
		proto, inner = protoUDP, append(udp, inner...)
	}
	var head []byte
	dst := fromAddress(e.Addr)
	if outer4 {
		frag := 0
		if p.dontFragment {
			frag = df
		}
		head = ipHeader{src: fromAddress(r.node.Own4).String(), dst: dst.String(), proto: proto, tos: p.tos,
			id: int(uint16(p.id)&^15) | p.chain(), frag: frag}.packet(inner)
	} else {
		head = ipHeader{src: fromAddress(r.node.Own6).String(), dst: dst.String(), proto: proto, tos: p.tos,
			label: uint32(hash)&0xfffff&^15 | uint32(p.chain())}.packet(inner)
	}
	out := &refPacket{link: slices.Clone(p.link), ip: head, rest: p.rest, v4: outer4}
	if e.NextHop.Set != 0 {
		copy(out.link, e.NextHop.Octet[:])
		copy(out.link[6:], e.Source.Octet[:])
	} else {
		out.turnLink()
	}
	return out
}

// untagged is the packet without VLAN tags, which are of the link that it came by.
func (p *refPacket) untagged() *refPacket {
	out := *p
	out.link = slices.Concat(p.link[:12], p.link[len(p.link)-2:])
	return &out
}

// turnLink sends the frame back to where it came from.
func (p *refPacket) turnLink() {
	link := slices.Concat(p.link[6:12], p.link[:6], p.link[12:])
	p.link = link
}

// tooBig tells a packet's sender how much fits (RFC 1191, RFC 4443 section
// 3.2), in the VIP's name: not of fragments that may be cut, not of ICMP errors
// (RFC 1122 section 3.2.2), and so often a second at most.
func (r *reference) tooBig(p *refPacket, mtu int, now uint32, o *outcome) string {
	quote := quote6
	if p.v4 {
		quote = quote4
	}
	if p.fragment == laterFragment && p.v4 || p.icmpError || len(p.ip) < quote {
		return "drop_too_big"
	}
	budget := refBudget{now, r.budget(p.src)}
	o.later(func() { r.errors[budget]++ })
	if r.errors[budget] >= tellPerSecond {
		return "drop_too_big"
	}
	h := ipHeader{src: p.dst.String(), dst: p.src.String(), proto: protoICMP}
	message := icmp4(3, 4, uint32(mtu), p.ip[:quote])
	if !p.v4 {
		h.proto, message = protoICMPv6, icmp6(h.src, h.dst, 2, 0, uint32(mtu), p.ip[:quote])
	}
	ip := h.packet(message)
	out := &refPacket{link: p.link, ip: ip, v4: p.v4}
	out.turnLink()
	o.out = out.frame()
	return "tx_too_big"
}

// refBudget is what of one second sources share that fall on a number.
type refBudget struct {
	second uint32
	number byte
}

// budget gives the number of a source: of an IPv4 address, or an IPv6 /64.
func (r *reference) budget(src netip.Addr) byte {
	a := src.As16()
	net, host := binary.LittleEndian.Uint64(a[:8]), binary.LittleEndian.Uint64(a[8:])
	if !src.Is4() {
		host = 0
	}
	return byte(r.key.siphash(net, host, 0x425544474554))
}

// How much of a packet an error quotes: the header with all options and 8
// octets (RFC 792); for IPv6 as much as fits into 1,280 octets (RFC 4443 section
// 2.4).
const (
	quote4 = 60 + 8
	quote6 = 1280 - 40 - 8
)

// echoReply is the request with the addresses the other way round, another
// type, and the lifetime of a packet that begins here.
func (p *refPacket) echoReply() []byte {
	out := &refPacket{link: p.link, ip: slices.Clone(p.ip), rest: p.rest, v4: p.v4}
	out.turnLink()
	kind := byte(129)
	if p.v4 {
		kind = 0
		out.mend(10, 8, 64, p.ip[9])
		copy(out.ip[12:], p.ip[16:20])
		copy(out.ip[16:], p.ip[12:16])
	} else {
		out.ip[7] = 64
		copy(out.ip[8:], p.ip[24:40])
		copy(out.ip[24:], p.ip[8:24])
	}
	out.mend(p.at+2, p.at, kind, 0)
	return out.frame()
}

// mend writes two octets and brings a checksum in line (RFC 1624 equation 3), so
// that a wrong one stays wrong.
func (p *refPacket) mend(sum, at int, hi, lo byte) {
	old := be(p.ip[at:])
	p.ip[at], p.ip[at+1] = hi, lo
	n := uint32(^be(p.ip[sum:])) + uint32(^old) + uint32(be(p.ip[at:]))
	n = n&0xffff + n>>16
	n = n&0xffff + n>>16
	binary.BigEndian.PutUint16(p.ip[sum:], ^uint16(n))
}
