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
	b.congestion()
	b.pieces()
	b.quotes()
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
