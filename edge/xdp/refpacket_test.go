package xdp

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// What the reference takes for a packet: the frame in its pieces, link header,
// IP packet, and what is left behind that, and what parsing finds in them.
type refPacket struct {
	link []byte // Ethernet and VLAN tags
	ip   []byte // the IP packet, as long as its header says
	rest []byte // behind it: padding
	from int    // where ip begins in the frame
	v4   bool

	// The flow: client and VIP. Of an ICMP error, that of the packet it is about.
	src, dst     netip.Addr
	sport, dport uint16
	proto        uint8
	tcpFlags     uint8
	icmpError    bool

	fragment     fragment
	id           uint32 // of the datagram; IPv4: of any, IPv6: of one in fragments
	dontFragment bool
	tos          uint8
	at           int        // of the transport header in ip
	hops         int        // gateways that have passed it on
	sender       netip.Addr // the last of these; without any, of an ICMP error, who sent it
	returned     bool       // by one of them
	unowned      bool       // of no connection of this gateway
}

// chain is what the outer header says of the gateways that have passed it on.
func (p *refPacket) chain() int {
	if p.returned {
		return 8 | p.hops
	}
	return p.hops
}

type fragment int

const (
	whole fragment = iota
	firstFragment
	laterFragment
)

const (
	protoICMP   = 1
	protoIPIP   = 4
	protoIPv6   = 41
	protoICMPv6 = 58
)

func be(b []byte) uint16 { return binary.BigEndian.Uint16(b) }

// holds says whether the IP packet has so many octets at an offset, and whether
// a header there is read at all.
func (p *refPacket) holds(at, size int) bool { return p.readable(at) && at+size <= len(p.ip) }

func (p *refPacket) readable(at int) bool { return p.from+at <= maxOffset }

// refLink takes the frame apart at the IP header: IEEE 802.3 with up to two
// tags of IEEE 802.1Q or 802.1ad.
func refLink(frame []byte) (*refPacket, bool) {
	at := 12
	for tags := 0; ; tags++ {
		if len(frame) < at+2 {
			return nil, false
		}
		kind := be(frame[at:])
		if kind == 0x8100 || kind == 0x88a8 {
			if tags == 2 {
				return nil, false
			}
			at += 4
			continue
		}
		p := &refPacket{link: frame[:at+2], ip: frame[at+2:], from: at + 2, v4: kind == 0x0800}
		return p, kind == 0x0800 || kind == 0x86dd
	}
}

// frame puts the pieces together, the link header's type by the packet's
// version.
func (p *refPacket) frame() []byte {
	out := slices.Concat(p.link, p.ip, p.rest)
	binary.BigEndian.PutUint16(out[len(p.link)-2:], map[bool]uint16{true: 0x0800, false: 0x86dd}[p.v4])
	return out
}

// cut ends the IP packet where its header says; what follows is padding.
func (p *refPacket) cut(size int) bool {
	if size > len(p.ip) {
		return false
	}
	p.rest = slices.Concat(p.ip[size:], p.rest)
	p.ip = p.ip[:size]
	return true
}

func (p *refPacket) parseIP() bool {
	if p.v4 {
		return p.parseIPv4()
	}
	return p.parseIPv6()
}

// parseIPv4 reads the header of RFC 791 section 3.1.
func (p *refPacket) parseIPv4() bool {
	if !p.holds(0, 20) || p.ip[0]>>4 != 4 {
		return false
	}
	size := int(p.ip[0]&15) * 4
	total := int(be(p.ip[2:]))
	if size < 20 || total < size || !p.cut(total) {
		return false
	}
	p.src, p.dst = netip.AddrFrom4([4]byte(p.ip[12:16])), netip.AddrFrom4([4]byte(p.ip[16:20]))
	p.tos, p.proto, p.at = p.ip[1], p.ip[9], size
	p.id = uint32(be(p.ip[4:]))
	flags := be(p.ip[6:])
	p.dontFragment = flags&0x4000 != 0
	if offset := flags & 0x1fff; offset != 0 {
		p.fragment = laterFragment
	} else if flags&0x2000 != 0 {
		p.fragment = firstFragment
	}
	return true
}

// parseIPv6 reads the header of RFC 8200 section 3 and the extension headers
// behind it, six at most. An IPv4 address in IPv6's form (RFC 4291 section
// 2.5.5.2) is no address of a packet.
func (p *refPacket) parseIPv6() bool {
	if !p.holds(0, 40) || p.ip[0]>>4 != 6 || !p.cut(40+int(be(p.ip[4:]))) || len(p.ip) > 0xffff {
		return false
	}
	p.src, p.dst = netip.AddrFrom16([16]byte(p.ip[8:24])), netip.AddrFrom16([16]byte(p.ip[24:40]))
	if p.src.Is4In6() || p.dst.Is4In6() {
		return false
	}
	p.tos = p.ip[0]<<4 | p.ip[1]>>4
	p.proto, p.at, p.dontFragment = p.ip[6], 40, true
	return p.skipExtensions()
}

// skipExtensions steps over the extension headers from p.at on, of the kind
// p.proto.
func (p *refPacket) skipExtensions() bool {
	for headers := 0; p.extension(); headers++ {
		if headers == maxExtensions || !p.holds(p.at, 8) {
			return false
		}
		next := p.ip[p.at]
		if p.proto != 44 { // hop-by-hop options, routing, destination options: length in 8 octets, less one
			p.proto, p.at = next, p.at+8+8*int(p.ip[p.at+1])
			continue
		}
		offset := be(p.ip[p.at+2:])
		p.id = binary.BigEndian.Uint32(p.ip[p.at+4:])
		p.proto, p.at = next, p.at+8
		if offset>>3 != 0 {
			p.fragment = laterFragment
			return true // data follows
		}
		if offset&1 != 0 {
			p.fragment = firstFragment
		}
	}
	return true
}

// extension says whether p.proto is that of an extension header that is
// stepped over.
func (p *refPacket) extension() bool {
	return p.proto == 0 || p.proto == 43 || p.proto == 44 || p.proto == 60
}

// parseTransport finds the ports: of TCP (RFC 9293), of UDP (RFC 768), or of
// the packet that an ICMP error quotes. A fragment without them counts for a
// later one, and so does a first one that is too short for its header.
func (p *refPacket) parseTransport() bool {
	if p.fragment == laterFragment {
		return true
	}
	switch {
	case p.proto == protoTCP || p.proto == protoUDP:
		size := 20
		if p.proto == protoUDP {
			size = 8
		}
		if !p.holds(p.at, size) {
			if p.fragment == firstFragment {
				p.fragment = laterFragment
				return true
			}
			return false
		}
		if p.proto == protoTCP {
			p.tcpFlags = p.ip[p.at+13]
		}
		p.sport, p.dport = be(p.ip[p.at:]), be(p.ip[p.at+2:])
		return true
	case p.fragment != whole:
		return true
	case p.v4 && p.proto == protoICMP:
		return p.parseICMP(func(kind byte) bool { return kind == 3 || kind == 11 || kind == 12 }) // RFC 792
	case !p.v4 && p.proto == protoICMPv6:
		return p.parseICMP(func(kind byte) bool { return kind >= 1 && kind <= 4 }) // RFC 4443
	}
	return true
}

// parseICMP looks into an error. It is about the flow of the packet that it
// quotes, turned round, if the VIP sent that.
func (p *refPacket) parseICMP(isError func(byte) bool) bool {
	if !p.holds(p.at, 8) {
		return false
	}
	if !isError(p.ip[p.at]) {
		return true
	}
	at := p.at + 8
	var from, to netip.Addr
	var proto byte
	if p.v4 {
		if !p.holds(at, 20) || p.ip[at]>>4 != 4 || p.ip[at]&15 < 5 {
			return false
		}
		q := p.ip[at:]
		if be(q[6:])&0x1fff != 0 {
			return true // a later fragment has no ports
		}
		from, to, proto = netip.AddrFrom4([4]byte(q[12:16])), netip.AddrFrom4([4]byte(q[16:20])), q[9]
		at += int(q[0]&15) * 4
	} else {
		if !p.holds(at, 40) || p.ip[at]>>4 != 6 {
			return false
		}
		q := p.ip[at:]
		from, to = netip.AddrFrom16([16]byte(q[8:24])), netip.AddrFrom16([16]byte(q[24:40]))
		quoted := &refPacket{ip: p.ip, from: p.from, proto: q[6], at: at + 40}
		if !quoted.skipExtensions() {
			return false
		}
		if quoted.fragment == laterFragment {
			return true
		}
		proto, at = quoted.proto, quoted.at
	}
	if from != p.dst || proto != protoTCP && proto != protoUDP {
		return true // not about what is forwarded here
	}
	if !p.holds(at, 4) {
		return false
	}
	p.sender = p.src
	p.src, p.sport, p.dport = to, be(p.ip[at+2:]), be(p.ip[at:])
	p.proto, p.icmpError = proto, true
	return true
}

// isEcho says whether it is an echo request (RFC 792, RFC 4443 section 4.1).
func (p *refPacket) isEcho() bool {
	if p.fragment != whole || p.icmpError || !p.holds(p.at, 8) || p.ip[p.at+1] != 0 {
		return false
	}
	if p.v4 {
		return p.proto == protoICMP && p.ip[p.at] == 8
	}
	return p.proto == protoICMPv6 && p.ip[p.at] == 128
}
