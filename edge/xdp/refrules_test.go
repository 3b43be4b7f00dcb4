package xdp

import (
	"encoding/binary"
	"net/netip"

	"meridian/edge/defence"
	"meridian/geo"
)

// ruled says whether a rule drops a packet from a source of that class: the first
// that matches and does more than count. Rates are not known here.
func (r *reference) ruled(p *refPacket, class geo.Class, now uint32) bool {
	for i := range r.rules.Count {
		rule := &r.rules.Rule[i]
		over := rule.Until != 0 && rule.Until <= now
		if !over && rule.Mode != uint8(edgeModeMODE_COUNT) && p.fits(rule) && r.fitsDetail(p, &r.rules.Detail[i], class) {
			return true
		}
	}
	return false
}

// shows says whether the packet shows ports of its own.
func (p *refPacket) shows() bool {
	return (p.proto == protoTCP || p.proto == protoUDP) && !p.icmpError && p.fragment != laterFragment
}

func (p *refPacket) fits(r *edgeRule) bool {
	proto, family, ttl := p.proto, uint8(onlyIPv6), p.ip[7]
	if p.v4 {
		family, ttl = onlyIPv4, p.ip[8]
	}
	if p.icmpError {
		proto = protoICMPv6
		if p.v4 {
			proto = protoICMP
		}
	}
	var sport, dport uint16
	var flags uint8
	if p.shows() {
		sport, dport, flags = p.sport, p.dport, p.tcpFlags
	}
	within := func(v, first, last uint16) bool { return first <= v && v <= last }
	return within(sport, r.SportFirst, r.SportLast) && within(dport, r.DportFirst, r.DportLast) &&
		within(uint16(len(p.ip)), r.LenFirst, r.LenLast) && within(uint16(ttl), uint16(r.TtlFirst), uint16(r.TtlLast)) &&
		proto&r.ProtoMask == r.Proto && flags&r.FlagsMask == r.Flags && (r.Ports == 0 || p.shows()) &&
		r.Families&family != 0 && r.Fragments>>p.fragment&1 == 1 &&
		masks(p.src, r.Source, r.SourceMask) && masks(p.dst, r.Vip, r.VipMask)
}

// masks says whether an address is in a network, both of them in the form of IPv6.
func masks(a netip.Addr, network, mask edgeAddress) bool {
	b := a.As16()
	for i := range b {
		if b[i]&mask.Octet[i] != network.Octet[i] {
			return false
		}
	}
	return true
}

func (r *reference) fitsDetail(p *refPacket, d *edgeDetail, class geo.Class) bool {
	if d.Places != 0 && (class < defence.Named || d.Places&r.lists.Places[class-defence.Named] == 0) {
		return false
	}
	if p.v4 && (be(p.ip[4:]) < d.IdFirst || be(p.ip[4:]) > d.IdLast) {
		return false
	}
	if d.WindowFirst > 0 || d.WindowLast < 65535 {
		if w := be(p.ip[p.at+14:]); w < d.WindowFirst || w > d.WindowLast {
			return false
		}
	}
	if d.Options != 0 && p.options() != d.Options {
		return false
	}
	at := p.at + 8 + int(d.Offset)
	if p.proto == protoTCP {
		at += 4*int(p.ip[p.at+12]>>4) - 8
	}
	if d.Octets > 0 && at+int(d.Octets) > len(p.ip) {
		return false
	}
	var value, mask [8]byte
	binary.NativeEndian.PutUint64(value[:], d.Value)
	binary.NativeEndian.PutUint64(mask[:], d.Mask)
	for i := range int(d.Octets) {
		if p.ip[at+i]&mask[i] != value[i] {
			return false
		}
	}
	return true
}

// options are the kinds of a TCP header's options (RFC 9293 section 3.1): behind a
// 1 four bits each. 0: the header is not whole, an option is not, or there are more
// than 15.
func (p *refPacket) options() uint64 {
	size := 4 * int(p.ip[p.at+12]>>4)
	if size < 20 || p.at+size > len(p.ip) {
		return 0
	}
	list, kinds := p.ip[p.at+20:p.at+size], uint64(1)
	for n := 0; len(list) > 0; n++ {
		if n == 15 {
			return 0
		}
		kinds = kinds<<4 | uint64(min(list[0], 15))
		switch {
		case list[0] == 0:
			return kinds
		case list[0] == 1:
			list = list[1:]
		case len(list) < 2 || list[1] < 2 || int(list[1]) > len(list):
			return 0
		default:
			list = list[list[1]:]
		}
	}
	return kinds
}
