package xdp

import (
	"encoding/binary"
	"net/netip"
)

// Packets for fixtures, built layer by layer: eth(ipv4(..., segment(...))).

var (
	macRouter = [6]byte{2, 0, 0, 0, 0, 1}
	macNode   = [6]byte{2, 0, 0, 0, 0, 2}
	macNext   = [6]byte{2, 0, 0, 0, 0, 3} // next hop to the endpoints
)

func cat(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func be16(v int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }

// frame puts an IP packet behind a link header; tags are VLANs, outermost
// first.
func frame(dst, src [6]byte, ip []byte, tags ...int) []byte {
	out := cat(dst[:], src[:])
	for _, t := range tags {
		out = cat(out, be16(0x8100), be16(t))
	}
	ethertype := 0x0800
	if ip[0]>>4 == 6 {
		ethertype = 0x86dd
	}
	return cat(out, be16(ethertype), ip)
}

// fromRouter is a frame as it comes to the node.
func fromRouter(ip []byte, tags ...int) []byte { return frame(macNode, macRouter, ip, tags...) }

// toNext is a frame as it leaves for an endpoint.
func toNext(ip []byte, tags ...int) []byte { return frame(macNext, macNode, ip, tags...) }

// ipHeader is what fixtures vary in an IP header.
type ipHeader struct {
	src, dst string
	proto    byte
	tos      byte
	ttl      byte   // 0: 64
	id       int    // IPv4
	frag     int    // IPv4: flags and offset
	options  []byte // IPv4
	label    uint32 // IPv6
}

func (h ipHeader) packet(payload []byte) []byte {
	src, dst := netip.MustParseAddr(h.src), netip.MustParseAddr(h.dst)
	if h.ttl == 0 {
		h.ttl = 64
	}
	if src.Is6() {
		flow := binary.BigEndian.AppendUint32(nil, 6<<28|uint32(h.tos)<<20|h.label)
		return cat(flow, be16(len(payload)), []byte{h.proto, h.ttl}, src.AsSlice(), dst.AsSlice(), payload)
	}
	n := 20 + len(h.options)
	head := cat([]byte{byte(0x40 | n/4), h.tos}, be16(n+len(payload)), be16(h.id), be16(h.frag),
		[]byte{h.ttl, h.proto, 0, 0}, src.AsSlice(), dst.AsSlice(), h.options)
	binary.BigEndian.PutUint16(head[10:], checksum(head))
	return cat(head, payload)
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

const (
	df  = 0x4000
	syn = 0x02
	ack = 0x10
	rst = 0x04
)

func segment(sport, dport int, flags byte, payload ...byte) []byte {
	return cat(be16(sport), be16(dport), []byte{0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0}, payload)
}

func datagram(sport, dport int, payload ...byte) []byte {
	return cat(be16(sport), be16(dport), be16(8+len(payload)), []byte{0, 0}, payload)
}

// icmp4 and icmp6 are an ICMP message with its checksum; rest is the second
// word of its header.
func icmp4(kind, code byte, rest uint32, body []byte) []byte {
	m := cat([]byte{kind, code, 0, 0}, binary.BigEndian.AppendUint32(nil, rest), body)
	binary.BigEndian.PutUint16(m[2:], checksum(m))
	return m
}

func icmp6(src, dst string, kind, code byte, rest uint32, body []byte) []byte {
	m := cat([]byte{kind, code, 0, 0}, binary.BigEndian.AppendUint32(nil, rest), body)
	pseudo := cat(netip.MustParseAddr(src).AsSlice(), netip.MustParseAddr(dst).AsSlice(), be16(0), be16(len(m)), be16(0), be16(58))
	binary.BigEndian.PutUint16(m[2:], checksum(cat(pseudo, m)))
	return m
}

// flowHash is the program's flow_hash: what picks the slot of a client's flow.
func (k Key) flowHash(client netip.AddrPort, salt uint64) uint64 {
	a := client.Addr().As16()
	return k.siphash(binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:]), salt^uint64(client.Port()))
}
