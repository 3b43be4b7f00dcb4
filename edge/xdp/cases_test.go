package xdp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// testCase is one packet of the golden capture; its name is a path of what it
// combines.
type testCase struct {
	name  string
	frame []byte
}

// caseBook gathers cases. Families combine each of their lists with each.
type caseBook struct{ list []testCase }

func (b *caseBook) add(frame []byte, format string, args ...any) {
	if len(frame) < minOffline {
		frame = append(slices.Clone(frame), make([]byte, minOffline-len(frame))...)
	}
	b.list = append(b.list, testCase{fmt.Sprintf(format, args...), frame})
}

// cases lists all packets of the golden capture, in order: what one leaves
// behind, the next may meet.
func cases() []testCase {
	b := &caseBook{}
	b.fixtures("balancer", balancerFixtures())
	b.fixtures("gateway", gatewayFixtures())
	b.fixtures("reply", replyFixtures())
	b.links()
	b.services()
	b.tcpFlags()
	b.options()
	b.extensions()
	b.fragments()
	b.icmpErrors()
	b.echoes()
	b.lengths()
	b.cuts()
	b.tunnels()
	b.tunnelsOdd()
	b.tooBig()
	b.replies()
	b.addresses()
	b.otherThanIP()
	b.flows()
	return b.list
}

func (b *caseBook) fixtures(of string, list []fixture) {
	for i, f := range list {
		b.add(f.in, "fixture/%s/%d, %s", of, i+1, f.name)
	}
}

// side is one address family in a case.
type side struct {
	name        string
	client, vip string
	v6          bool
}

var sides = []side{{"v4", client4, any4, false}, {"v6", client6, any6, true}}

func (s side) packet(proto byte, payload []byte) []byte {
	return ipHeader{src: s.client, dst: s.vip, proto: proto}.packet(payload)
}

// kind is one transport in a case: what begins or continues a flow.
type kind struct {
	name  string
	proto byte
	make  func(sport, dport int, data ...byte) []byte
}

var kinds = []kind{
	{"syn", protoTCP, func(s, d int, data ...byte) []byte { return segment(s, d, syn, data...) }},
	{"ack", protoTCP, func(s, d int, data ...byte) []byte { return segment(s, d, ack, data...) }},
	{"rst", protoTCP, func(s, d int, data ...byte) []byte { return segment(s, d, rst, data...) }},
	{"udp", protoUDP, func(s, d int, data ...byte) []byte { return datagram(s, d, data...) }},
}

// links: tags before each kind of packet.
func (b *caseBook) links() {
	for _, s := range sides {
		for _, k := range []kind{kinds[0], kinds[3]} {
			port := map[byte]int{protoTCP: 443, protoUDP: 53}[k.proto]
			ip := s.packet(k.proto, k.make(1000, port))
			for n, name := range []string{"untagged", "802.1Q", "two 802.1Q", "three 802.1Q"} {
				b.add(fromRouter(ip, []int{7, 8, 9}[:n]...), "link/%s/%s/%s", s.name, k.name, name)
			}
			outer := fromRouter(ip, 7)
			outer[12], outer[13] = 0x88, 0xa8
			b.add(outer, "link/%s/%s/802.1ad", s.name, k.name)
			outer = fromRouter(ip, 7, 8)
			outer[12], outer[13] = 0x88, 0xa8
			b.add(outer, "link/%s/%s/802.1ad and 802.1Q", s.name, k.name)
			for _, pad := range []int{1, 6, 46} {
				b.add(cat(fromRouter(ip), bytes.Repeat([]byte{0xee}, pad)), "link/%s/%s/%d octets of padding", s.name, k.name, pad)
			}
		}
	}
}

// services: each kind of VIP, at its port, at another's and at none.
func (b *caseBook) services() {
	for _, s := range sides {
		for _, at := range []struct {
			name string
			port int
		}{{"gateways", 443}, {"on the link", 53}, {"on a balancer", 22}, {"behind IPv6", 66}, {"two endpoints", 77}, {"no member", 99}, {"no service", 80}, {"port 0", 0}} {
			for _, k := range kinds {
				b.add(fromRouter(s.packet(k.proto, k.make(1100, at.port))), "vip/%s/%s/%s", s.name, at.name, k.name)
			}
		}
		for _, proto := range []byte{2, 47, 50, 51, 59, 89, 132, 255} {
			b.add(fromRouter(s.packet(proto, make([]byte, 24))), "vip/%s/protocol %d", s.name, proto)
		}
	}
}

func (b *caseBook) tcpFlags() {
	names := []string{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"}
	for _, s := range sides {
		for i, name := range names {
			b.add(fromRouter(s.packet(protoTCP, segment(1200+i, 443, 1<<i))), "tcp flags/%s/%s", s.name, name)
		}
		for _, f := range []byte{0, syn | ack, syn | rst, syn | 1, rst | ack, 0x29, 0xff} {
			b.add(fromRouter(s.packet(protoTCP, segment(1220, 443, f))), "tcp flags/%s/%#02x", s.name, f)
		}
	}
}

// options: IPv4 headers of every length, and of lengths that cannot be.
func (b *caseBook) options() {
	for words := 1; words <= 10; words++ {
		for _, k := range []kind{kinds[0], kinds[3]} {
			port := map[byte]int{protoTCP: 443, protoUDP: 53}[k.proto]
			ip := ipHeader{src: client4, dst: any4, proto: k.proto, options: bytes.Repeat([]byte{1}, 4*words)}.packet(k.make(1300, port))
			b.add(fromRouter(ip), "options/%d words/%s", words, k.name)
		}
	}
	whole := sides[0].packet(protoTCP, segment(1301, 443, syn, make([]byte, 60)...))
	for words := range 16 {
		ip := slices.Clone(whole)
		ip[0] = byte(0x40 | words)
		b.add(fromRouter(ip), "options/a header that says %d words", words)
	}
}

// extensions: IPv6 extension headers, by kind, number and length.
func (b *caseBook) extensions() {
	header := func(next byte, size int) []byte { return cat([]byte{next, byte(size)}, make([]byte, 6+8*size)) }
	chain := func(kinds ...byte) []byte {
		out := segment(1400, 443, syn)
		next := byte(protoTCP)
		for _, k := range slices.Backward(kinds) {
			out, next = cat(header(next, 0), out), k
		}
		return ipHeader{src: client6, dst: any6, proto: next}.packet(out)
	}
	for n := 0; n <= 9; n++ {
		b.add(fromRouter(chain(bytes.Repeat([]byte{60}, n)...)), "extensions/%d", n)
	}
	for _, c := range []struct {
		name string
		list []byte
	}{{"hop-by-hop", []byte{0}}, {"routing", []byte{43}}, {"fragment that is whole", []byte{44}}, {"in the order of RFC 8200", []byte{0, 60, 43, 44, 60}},
		{"authentication", []byte{51}}, {"mobility", []byte{135}}, {"none follows", []byte{59}}, {"hop-by-hop twice", []byte{0, 0}}} {
		b.add(fromRouter(chain(c.list...)), "extensions/%s", c.name)
	}
	for _, size := range []int{1, 16, 120, 121, 122, 123, 124, 255} {
		ip := ipHeader{src: client6, dst: any6, proto: 60}.packet(cat(header(protoTCP, size), segment(1401, 443, syn)))
		b.add(fromRouter(ip), "extensions/one of %d octets", 8+8*size)
	}
	for _, left := range []int{0, 1, 7} {
		ip := ipHeader{src: client6, dst: any6, proto: 60}.packet(header(protoTCP, 0)[:left])
		b.add(fromRouter(ip), "extensions/cut after %d octets", left)
	}
	ip := ipHeader{src: client6, dst: any6, proto: 60}.packet(cat(header(protoTCP, 9), segment(1402, 443, syn)))
	b.add(fromRouter(ip), "extensions/one that says more than there is")
}

// fragments: first, middle and last, in order and not, too short, of both kinds
// of transport; with what a fragment may not have.
func (b *caseBook) fragments() {
	for _, s := range sides {
		for _, k := range []kind{kinds[1], kinds[3]} {
			port := map[byte]int{protoTCP: 443, protoUDP: 77}[k.proto]
			data := k.make(1500, port, make([]byte, 28)...)
			piece := func(id, offset int, more bool, part []byte, flags int) []byte {
				if s.v6 {
					m := 0
					if more {
						m = 1
					}
					return fromRouter(s.packet(44, cat([]byte{k.proto, 0}, be16(offset|m), binary.BigEndian.AppendUint32(nil, uint32(id)), part)))
				}
				frag := offset/8 | flags
				if more {
					frag |= 0x2000
				}
				return fromRouter(ipHeader{src: s.client, dst: s.vip, proto: k.proto, id: id, frag: frag}.packet(part))
			}
			name := "fragments/" + s.name + "/" + k.name
			b.add(piece(1, 16, true, data[16:24], 0), "%s/middle before the first", name)
			b.add(piece(1, 0, true, data[:24], 0), "%s/first", name)
			b.add(piece(1, 16, true, data[16:24], 0), "%s/middle", name)
			b.add(piece(1, 24, false, data[24:], 0), "%s/last", name)
			b.add(piece(2, 24, false, data[24:], 0), "%s/last of another datagram", name)
			b.add(piece(3, 0, true, data[:8], 0), "%s/first of 8 octets", name)
			b.add(piece(3, 8, false, data[8:], 0), "%s/last after a first of 8 octets", name)
			b.add(piece(4, 0, true, data[:4], 0), "%s/first of 4 octets", name)
			b.add(piece(5, 0, true, nil, 0), "%s/first of nothing", name)
			b.add(piece(6, 0, false, data, 0), "%s/whole", name)
			b.add(piece(7, 65528, false, data[:7], 0), "%s/beyond 65,535 octets", name)
			if !s.v6 {
				b.add(piece(8, 0, true, data[:24], df), "%s/first with DF", name)
				b.add(piece(8, 24, false, data[24:], df), "%s/last with DF", name)
				b.add(piece(9, 0, false, data, 0x8000), "%s/the reserved flag", name)
			}
		}
		elsewhere := ipHeader{src: s.client, dst: "198.51.100.9", proto: protoUDP, frag: 0x2000}
		if s.v6 {
			elsewhere.dst, elsewhere.proto = "2001:db8:a::9", 44
		}
		b.add(fromRouter(elsewhere.packet(cat([]byte{protoUDP, 0, 0, 1, 0, 0, 0, 1}, datagram(1, 77)))), "fragments/%s/not for a VIP", s.name)
		for _, proto := range []byte{protoICMP, protoICMPv6, 50} {
			ip := ipHeader{src: s.client, dst: s.vip, proto: proto, frag: 0x2000}.packet(cat([]byte{8, 0, 0, 0}, make([]byte, 12)))
			if s.v6 {
				ip = s.packet(44, cat([]byte{proto, 0, 0, 1, 0, 0, 0, 1}, []byte{128, 0, 0, 0}, make([]byte, 12)))
			}
			b.add(fromRouter(ip), "fragments/%s/protocol %d", s.name, proto)
		}
	}
}

// icmpErrors: each type, about each kind of packet, quoted at every length that
// makes a difference.
func (b *caseBook) icmpErrors() {
	for _, s := range sides {
		router := map[bool]string{false: "192.0.2.254", true: "2001:db8:f::1"}[s.v6]
		proto := map[bool]byte{false: protoICMP, true: protoICMPv6}[s.v6]
		message := func(kind, code byte, quoted []byte) []byte {
			if s.v6 {
				return fromRouter(ipHeader{src: router, dst: s.vip, proto: proto}.packet(icmp6(router, s.vip, kind, code, 1400, quoted)))
			}
			return fromRouter(ipHeader{src: router, dst: s.vip, proto: proto}.packet(icmp4(kind, code, 1400, quoted)))
		}
		sent := func(proto byte, payload []byte) []byte {
			return ipHeader{src: s.vip, dst: s.client, proto: proto}.packet(payload)
		}
		tcp := sent(protoTCP, segment(443, 1100, ack))
		header := len(tcp) - 20
		types := map[bool][][2]byte{
			false: {{0, 0}, {3, 0}, {3, 1}, {3, 3}, {3, 4}, {4, 0}, {5, 1}, {11, 0}, {11, 1}, {12, 0}, {13, 0}, {30, 0}},
			true:  {{0, 0}, {1, 0}, {1, 4}, {2, 0}, {3, 0}, {3, 1}, {4, 0}, {4, 1}, {5, 0}, {100, 0}, {129, 0}, {133, 0}, {135, 0}, {137, 0}},
		}[s.v6]
		for _, t := range types {
			b.add(message(t[0], t[1], tcp), "icmp/%s/type %d code %d", s.name, t[0], t[1])
		}
		kind, code := byte(3), byte(4)
		if s.v6 {
			kind, code = 2, 0
		}
		for _, n := range []int{0, 1, header - 1, header, header + 1, header + 3, header + 4, header + 8, header + 20} {
			b.add(message(kind, code, tcp[:n]), "icmp/%s/quoted %d octets", s.name, n)
		}
		b.add(message(kind, code, sent(protoUDP, datagram(77, 1100))), "icmp/%s/about udp", s.name)
		b.add(message(kind, code, sent(protoUDP, datagram(53, 1100))), "icmp/%s/about udp on the link", s.name)
		b.add(message(kind, code, sent(protoTCP, segment(80, 1100, ack))), "icmp/%s/about a port without service", s.name)
		b.add(message(kind, code, sent(50, make([]byte, 20))), "icmp/%s/about another protocol", s.name)
		b.add(message(kind, code, ipHeader{src: router, dst: s.client, proto: protoTCP}.packet(segment(443, 1100, ack))), "icmp/%s/about somebody else's packet", s.name)
		other := sides[0]
		if !s.v6 {
			other = sides[1]
		}
		b.add(message(kind, code, ipHeader{src: other.vip, dst: other.client, proto: protoTCP}.packet(segment(443, 1100, ack))), "icmp/%s/about a packet of the other family", s.name)
		if !s.v6 {
			b.add(message(kind, code, ipHeader{src: s.vip, dst: s.client, proto: protoTCP, options: []byte{1, 1, 1, 0}}.packet(segment(443, 1100, ack))), "icmp/v4/about a packet with options")
			b.add(message(kind, code, ipHeader{src: s.vip, dst: s.client, proto: protoUDP, frag: 0x2000}.packet(datagram(77, 1100))), "icmp/v4/about a first fragment")
			b.add(message(kind, code, ipHeader{src: s.vip, dst: s.client, proto: protoUDP, frag: 9}.packet(datagram(77, 1100))), "icmp/v4/about a later fragment")
			bad := slices.Clone(tcp)
			bad[0] = 0x44
			b.add(message(kind, code, bad), "icmp/v4/about a packet with a header of 16 octets")
		} else {
			b.add(message(kind, code, sent(44, cat([]byte{protoUDP, 0, 0, 1, 0, 0, 0, 1}, datagram(77, 1100)))), "icmp/v6/about a first fragment")
		}
	}
}

func (b *caseBook) echoes() {
	for _, s := range sides {
		ask, answer := byte(8), byte(0)
		proto := byte(protoICMP)
		if s.v6 {
			ask, answer, proto = 128, 129, protoICMPv6
		}
		message := func(dst string, kind, code byte, size int) []byte {
			if s.v6 {
				return icmp6(s.client, dst, kind, code, 0x00070001, bytes.Repeat([]byte{0x5a}, size))
			}
			return icmp4(kind, code, 0x00070001, bytes.Repeat([]byte{0x5a}, size))
		}
		for _, size := range []int{0, 1, 56, 1400} {
			b.add(fromRouter(s.packet(proto, message(s.vip, ask, 0, size))), "echo/%s/%d octets", s.name, size)
		}
		b.add(fromRouter(s.packet(proto, message(s.vip, ask, 1, 8))), "echo/%s/code 1", s.name)
		b.add(fromRouter(s.packet(proto, message(s.vip, answer, 0, 8))), "echo/%s/a reply", s.name)
		b.add(fromRouter(s.packet(proto, message(s.vip, ask, 0, 8)), 7), "echo/%s/tagged", s.name)
		for _, ttl := range []byte{1, 2, 255} {
			b.add(fromRouter(ipHeader{src: s.client, dst: s.vip, proto: proto, ttl: ttl, tos: 0xb8}.packet(message(s.vip, ask, 0, 8))), "echo/%s/TTL %d", s.name, ttl)
		}
		wrong := message(s.vip, ask, 0, 8)
		wrong[3] ^= 1
		b.add(fromRouter(s.packet(proto, wrong)), "echo/%s/wrong checksum", s.name)
		for _, n := range []int{1, 4, 7} {
			b.add(fromRouter(s.packet(proto, message(s.vip, ask, 0, 8)[:n])), "echo/%s/cut after %d octets", s.name, n)
		}
		own := map[bool]string{false: "10.0.0.1", true: "fd00::1"}[s.v6]
		b.add(fromRouter(ipHeader{src: s.client, dst: own, proto: proto}.packet(message(own, ask, 0, 8))), "echo/%s/to a node's own address", s.name)
	}
	b.add(fromRouter(ipHeader{src: client4, dst: any4, proto: protoICMP, options: []byte{1, 1, 1, 0}}.packet(icmp4(8, 0, 1, nil))), "echo/v4/with options")
	b.add(fromRouter(sides[1].packet(60, cat([]byte{protoICMPv6, 0, 1, 4, 0, 0, 0, 0}, icmp6(client6, any6, 128, 0, 1, nil)))), "echo/v6/with destination options")
	b.add(fromRouter(ipHeader{src: client4, dst: any4, proto: protoICMPv6}.packet(icmp4(128, 0, 1, nil))), "echo/v4/of ICMPv6")
	b.add(fromRouter(sides[1].packet(protoICMP, icmp4(8, 0, 1, nil))), "echo/v6/of ICMP for IPv4")
}

// lengths: what the IP header says of its length, against what there is.
func (b *caseBook) lengths() {
	for _, s := range sides {
		for _, k := range []kind{kinds[0], kinds[3]} {
			port := map[byte]int{protoTCP: 443, protoUDP: 53}[k.proto]
			ip := s.packet(k.proto, k.make(1600, port, 1, 2, 3, 4))
			at, header := 2, 20
			if s.v6 {
				at, header = 4, 40
			}
			total := len(ip)
			for _, says := range []int{0, 1, header - 1, header, header + 3, header + 4, header + 7, header + 8, header + 19, header + 20, total - 1, total, total + 1, 1500, 65535} {
				wrong := slices.Clone(ip)
				value := says
				if s.v6 {
					value = max(0, says-40)
				}
				binary.BigEndian.PutUint16(wrong[at:], uint16(value))
				b.add(fromRouter(wrong), "length/%s/%s/says %d of %d octets", s.name, k.name, says, total)
			}
		}
	}
	for _, version := range []int{0, 5, 6, 15} {
		ip := sides[0].packet(protoTCP, segment(1601, 443, syn))
		f := fromRouter(ip)
		f[14] = byte(version<<4 | 5)
		b.add(f, "length/v4/version %d", version)
	}
	for _, version := range []int{0, 4, 5, 7} {
		f := fromRouter(sides[1].packet(protoTCP, segment(1601, 443, syn)))
		f[14] = byte(version << 4)
		b.add(f, "length/v6/version %d", version)
	}
}

// cuts: frames that end at, before and behind every header's boundary.
func (b *caseBook) cuts() {
	inside4 := sides[0].packet(protoTCP, segment(1700, 443, syn))
	inside6 := sides[1].packet(protoUDP, datagram(1700, 77))
	for _, c := range []struct {
		name       string
		frame      []byte
		boundaries []int
	}{
		{"tcp in IPv4", fromRouter(inside4), []int{14, 34, 38, 54}},
		{"udp in IPv6", fromRouter(inside6), []int{14, 54, 58, 62}},
		{"tcp in IPv4, tagged twice", fromRouter(inside4, 7, 8), []int{14, 18, 22, 42, 62}},
		{"IPv4 in IPv4", fromRouter(ipHeader{src: "10.0.0.4", dst: "10.0.0.2", proto: protoIPIP}.packet(inside4)), []int{34, 54, 74}},
		{"IPv6 in IPv6", fromRouter(ipHeader{src: "fd00::4", dst: "fd00::2", proto: protoIPv6}.packet(inside6)), []int{54, 94, 102}},
		{"IPv4 in GUE", fromRouter(ipHeader{src: "10.0.0.4", dst: "10.0.0.2", proto: protoUDP}.packet(datagram(0xc000, 6080, inside4...))), []int{34, 42, 46, 62}},
	} {
		for _, at := range c.boundaries {
			for _, n := range []int{at - 1, at, at + 1} {
				if n >= minOffline && n < len(c.frame) {
					b.add(c.frame[:n], "cut/%s/after %d octets", c.name, n)
				}
			}
		}
	}
}

// tunnels: every pair of families by every encapsulation, from a balancer and
// from a stranger, to each gateway.
func (b *caseBook) tunnels() {
	to := []struct{ name, v4, v6 string }{{"gw", "10.0.0.2", "fd00::2"}, {"both", "10.0.0.6", "fd00::6"}}
	from := []struct{ name, v4, v6 string }{{"a balancer", "10.0.0.4", "fd00::4"}, {"a stranger", "10.0.0.77", "fd00::77"}}
	for _, dst := range to {
		for _, src := range from {
			for _, outer := range sides {
				for _, in := range sides {
					h := ipHeader{src: src.v4, dst: dst.v4}
					if outer.v6 {
						h = ipHeader{src: src.v6, dst: dst.v6}
					}
					inner := in.packet(protoTCP, segment(1800, 443, syn, 1, 2, 3))
					proto := byte(protoIPIP)
					if in.v6 {
						proto = protoIPv6
					}
					for _, way := range []struct {
						name    string
						proto   byte
						payload []byte
					}{
						{"IP in IP", proto, inner},
						{"GUE variant 1", protoUDP, datagram(0xc000, 6080, inner...)},
						{"GUE variant 0", protoUDP, datagram(0xc000, 6080, cat([]byte{0, proto, 0, 0}, inner)...)},
					} {
						h.proto = way.proto
						b.add(fromRouter(h.packet(way.payload)), "tunnel/to %s/from %s/%s in %s/%s", dst.name, src.name, in.name, outer.name, way.name)
					}
				}
			}
		}
	}
}

// tunnelsOdd: what else may be in a tunnel, or look like one.
func (b *caseBook) tunnelsOdd() {
	tcp4, tcp6 := sides[0].packet(protoTCP, segment(1900, 443, ack)), sides[1].packet(protoTCP, segment(1900, 443, ack))
	for _, dst := range []struct{ name, v4, v6 string }{{"gw", "10.0.0.2", "fd00::2"}, {"both", "10.0.0.6", "fd00::6"}} {
		in4 := func(h ipHeader, payload []byte) []byte {
			if h.src == "" {
				h.src = "10.0.0.4"
			}
			h.dst = dst.v4
			return fromRouter(h.packet(payload))
		}
		name := "tunnel/to " + dst.name
		for hops := range 8 {
			b.add(in4(ipHeader{proto: protoIPIP, id: 0x1230 | hops}, tcp4), "%s/passed on %d times", name, hops)
			b.add(fromRouter(ipHeader{src: "fd00::4", dst: dst.v6, proto: protoIPv6, label: uint32(0x12340 | hops)}.packet(tcp6)), "%s/passed on %d times in IPv6", name, hops)
		}
		gue := func(head []byte, inner []byte) []byte {
			return in4(ipHeader{proto: protoUDP}, datagram(0xc000, 6080, cat(head, inner)...))
		}
		b.add(gue(cat([]byte{2, protoIPIP, 0, 0}, make([]byte, 8)), tcp4), "%s/GUE with 2 words", name)
		b.add(gue(cat([]byte{31, protoIPIP, 0, 0}, make([]byte, 124)), tcp4), "%s/GUE with 31 words", name)
		b.add(gue([]byte{0x20, protoIPIP, 0, 0}, tcp4), "%s/GUE control message", name)
		b.add(gue([]byte{0x80, protoIPIP, 0, 0}, tcp4), "%s/GUE variant 2", name)
		b.add(gue([]byte{0, protoTCP, 0, 0}, tcp4), "%s/GUE of TCP", name)
		b.add(gue(nil, nil), "%s/GUE of nothing", name)
		b.add(in4(ipHeader{proto: protoUDP}, datagram(0xc000, 6081, tcp4...)), "%s/another UDP port", name)
		b.add(in4(ipHeader{proto: protoIPIP, frag: 0x2000}, tcp4), "%s/first fragment of a tunnel", name)
		b.add(in4(ipHeader{proto: protoIPIP, frag: 5}, tcp4), "%s/later fragment of a tunnel", name)
		b.add(in4(ipHeader{proto: protoUDP, frag: 5}, datagram(0xc000, 6080, tcp4...)), "%s/later fragment of GUE", name)
		b.add(in4(ipHeader{proto: protoIPIP, src: "10.0.0.77", frag: 0x2000}, tcp4), "%s/first fragment of a stranger's tunnel", name)
		b.add(in4(ipHeader{proto: protoIPIP, options: []byte{1, 1, 1, 0}}, tcp4), "%s/outer options", name)
		b.add(in4(ipHeader{proto: protoIPIP}, tcp6), "%s/another version inside than said", name)
		b.add(in4(ipHeader{proto: protoIPIP}, nil), "%s/nothing inside", name)
		b.add(in4(ipHeader{proto: protoIPIP}, ipHeader{src: client4, dst: dst.v4, proto: protoTCP}.packet(segment(1, 22, syn))), "%s/inside is for the node", name)
		b.add(in4(ipHeader{proto: protoIPIP}, ipHeader{src: client4, dst: "198.51.100.9", proto: protoTCP}.packet(segment(1, 22, syn))), "%s/inside is for somebody else", name)
		b.add(in4(ipHeader{proto: protoIPIP}, ipHeader{src: "10.0.0.4", dst: dst.v4, proto: protoIPIP}.packet(tcp4)), "%s/a tunnel in a tunnel", name)
		b.add(in4(ipHeader{proto: protoIPIP}, sides[0].packet(protoTCP, segment(1900, 80, syn))), "%s/inside is a port without service", name)
		b.add(in4(ipHeader{proto: protoIPIP}, sides[0].packet(protoTCP, segment(1900, 443, syn)[:10])), "%s/inside is half a header", name)
		b.add(in4(ipHeader{proto: protoIPIP}, sides[0].packet(protoICMP, icmp4(8, 0, 1, nil))), "%s/inside is an echo request", name)
		b.add(in4(ipHeader{proto: protoIPIP}, sides[0].packet(protoICMP, icmp4(3, 4, 1400, ipHeader{src: any4, dst: client4, proto: protoTCP}.packet(segment(443, 1900, ack))))), "%s/inside is an ICMP error", name)
		b.add(in4(ipHeader{proto: protoIPIP}, ipHeader{src: client4, dst: any4, proto: protoTCP, frag: 0x2000, id: 5}.packet(segment(1900, 443, ack))), "%s/inside is a first fragment", name)
		b.add(in4(ipHeader{proto: protoIPIP}, ipHeader{src: client4, dst: any4, proto: protoTCP, frag: 3, id: 5}.packet(make([]byte, 24))), "%s/inside is a later fragment", name)
		short := slices.Clone(tcp4)
		binary.BigEndian.PutUint16(short[2:], uint16(len(short)+8))
		b.add(cat(in4(ipHeader{proto: protoIPIP}, short), make([]byte, 8)), "%s/inside is longer than outside", name)
		b.add(cat(in4(ipHeader{proto: protoIPIP}, tcp4), make([]byte, 6)), "%s/padded", name)
	}
}

// tooBig: packets that just fit the way of 1,500 octets with a tunnel's header,
// and those that just do not.
func (b *caseBook) tooBig() {
	for _, s := range sides {
		outer, header := 20, 20
		if s.v6 {
			outer, header = 40, 40
		}
		for _, total := range []int{1500 - outer - 1, 1500 - outer, 1500 - outer + 1, 1500} {
			tcp := make([]byte, total-header-20)
			h := ipHeader{src: s.client, dst: s.vip, proto: protoTCP, frag: df}
			b.add(fromRouter(h.packet(segment(2000, 443, ack, tcp...))), "size/%s/%d octets", s.name, total)
			b.add(fromRouter(h.packet(segment(2000, 443, ack, tcp...)), 7), "size/%s/%d octets, tagged", s.name, total)
		}
		if !s.v6 {
			data := make([]byte, 1460)
			b.add(fromRouter(ipHeader{src: s.client, dst: s.vip, proto: protoTCP}.packet(segment(2000, 443, ack, data...))), "size/v4/without DF")
			b.add(fromRouter(ipHeader{src: s.client, dst: s.vip, proto: protoTCP, frag: df, options: bytes.Repeat([]byte{1}, 40)}.packet(segment(2000, 443, ack, data[:1420]...))), "size/v4/with options")
			b.add(fromRouter(ipHeader{src: s.client, dst: s.vip, proto: protoUDP, frag: df}.packet(datagram(2000, 53, data...))), "size/v4/on the link")
			b.add(fromRouter(ipHeader{src: s.client, dst: s.vip, proto: protoTCP, frag: df}.packet(segment(2000, 66, ack, data[:1430]...))), "size/v4/into IPv6")
			b.add(fromRouter(ipHeader{src: "192.0.2.254", dst: s.vip, proto: protoICMP, frag: df}.packet(
				icmp4(3, 4, 1400, ipHeader{src: s.vip, dst: s.client, proto: protoTCP}.packet(segment(443, 2000, ack, data[:1420]...))))), "size/v4/an ICMP error")
		} else {
			data := make([]byte, 1400)
			b.add(fromRouter(s.packet(60, cat([]byte{protoTCP, 0, 1, 4, 0, 0, 0, 0}, segment(2000, 443, ack, data...)))), "size/v6/with destination options")
			b.add(fromRouter(s.packet(44, cat([]byte{protoTCP, 0, 0, 1, 0, 0, 0, 9}, segment(2000, 443, ack, data...)))), "size/v6/a first fragment")
			b.add(fromRouter(s.packet(44, cat([]byte{protoTCP, 0, 5, 0, 0, 0, 0, 9}, make([]byte, 1440)))), "size/v6/a later fragment")
		}
	}
	for _, s := range sides {
		in := s.packet(protoTCP, segment(2001, 443, ack, make([]byte, 1400)...))
		proto := map[bool]byte{false: protoIPIP, true: protoIPv6}[s.v6]
		b.add(fromRouter(ipHeader{src: "fd00::4", dst: "fd00::2", proto: proto}.packet(in)), "size/%s/in a tunnel to gw", s.name)
	}
}

// replies: to checks, and what looks like one.
func (b *caseBook) replies() {
	for _, s := range sides {
		own := map[bool]string{false: "10.0.0.1", true: "fd00::1"}[s.v6]
		reply := func(src, dst string, sport, dport int) []byte {
			return fromRouter(ipHeader{src: src, dst: dst, proto: protoTCP}.packet(segment(sport, dport, syn|ack)))
		}
		b.add(reply(s.vip, own, 443, firstCheckPort), "reply/%s/first port", s.name)
		b.add(reply(s.vip, own, 443, lastCheckPort), "reply/%s/last port", s.name)
		b.add(reply(s.vip, own, 443, firstCheckPort-1), "reply/%s/below", s.name)
		b.add(reply(s.vip, own, 443, lastCheckPort+1), "reply/%s/above", s.name)
		b.add(reply(s.vip, own, 444, firstCheckPort), "reply/%s/of no service", s.name)
		b.add(reply(s.vip, own, 0, firstCheckPort), "reply/%s/of port 0", s.name)
		b.add(reply(s.client, own, 443, firstCheckPort), "reply/%s/of no VIP", s.name)
		b.add(fromRouter(ipHeader{src: s.vip, dst: own, proto: protoUDP}.packet(datagram(53, firstCheckPort))), "reply/%s/of UDP", s.name)
		b.add(fromRouter(ipHeader{src: s.vip, dst: own, proto: protoTCP}.packet(segment(443, firstCheckPort, ack, make([]byte, 2200)...))), "reply/%s/too large", s.name)
		b.add(fromRouter(reply(s.vip, own, 443, firstCheckPort)[14:], 7), "reply/%s/tagged", s.name)
	}
}

// addresses: sources and destinations that no client or VIP has.
func (b *caseBook) addresses() {
	for _, s := range sides {
		list := map[bool][]string{
			false: {"0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", any4, "10.0.0.1", "10.0.0.4", "169.254.1.1"},
			true:  {"::", "::1", "ff02::1", "fe80::1", any6, "fd00::1", "fd00::4", "::ffff:203.0.113.5", "2002:cb00:7105::1"},
		}[s.v6]
		for _, a := range list {
			b.add(fromRouter(ipHeader{src: a, dst: s.vip, proto: protoTCP}.packet(segment(2100, 443, syn))), "address/%s/from %s", s.name, a)
			b.add(fromRouter(ipHeader{src: s.client, dst: a, proto: protoTCP}.packet(segment(2100, 443, syn))), "address/%s/to %s", s.name, a)
		}
	}
	b.add(fromRouter(ipHeader{src: "::ffff:203.0.113.5", dst: "::ffff:198.51.100.1", proto: protoTCP}.packet(segment(2101, 443, syn))), "address/v6/a VIP of IPv4 in IPv6's form")
}

func (b *caseBook) otherThanIP() {
	for _, c := range []struct {
		name string
		kind int
	}{{"ARP", 0x0806}, {"LLDP", 0x88cc}, {"MPLS", 0x8847}, {"PPPoE", 0x8864}, {"an 802.3 length", 46}, {"EAPOL", 0x888e}, {"nothing", 0}} {
		b.add(cat(macNode[:], macRouter[:], be16(c.kind), make([]byte, 46)), "link/%s", c.name)
	}
	b.add(cat(macNode[:], macRouter[:], be16(0x86dd), sides[0].packet(protoTCP, segment(1, 443, syn))), "link/IPv4 said to be IPv6")
	b.add(cat(macNode[:], macRouter[:], be16(0x0800), sides[1].packet(protoTCP, segment(1, 443, syn))), "link/IPv6 said to be IPv4")
}

// flows: what the same flow meets again.
func (b *caseBook) flows() {
	for _, s := range sides {
		for _, step := range []struct {
			name string
			kind kind
			port int
		}{
			{"a datagram", kinds[3], 77}, {"a datagram again", kinds[3], 77}, {"SYN", kinds[0], 66}, {"SYN again", kinds[0], 66}, {"ACK", kinds[1], 66},
			{"RST", kinds[2], 66}, {"ACK after RST", kinds[1], 66}, {"SYN of another connection", kinds[0], 66}, {"ACK of an unknown flow", kinds[1], 443},
		} {
			b.add(fromRouter(s.packet(step.kind.proto, step.kind.make(2200, step.port))), "flow/%s/%s", s.name, step.name)
		}
	}
	for port := range 40 {
		b.add(fromRouter(sides[port%2].packet(protoTCP, segment(2300+port, 443, syn))), "flow/spread/%d", port)
	}
}
