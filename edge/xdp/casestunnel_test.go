package xdp

import (
	"bytes"
	"encoding/binary"
	"slices"
)

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

// congestion: every ECN field inside by every one outside (RFC 6040 section 4.2).
func (b *caseBook) congestion() {
	names := []string{"not-ECT", "ECT(1)", "ECT(0)", "CE"}
	for _, s := range sides {
		for _, outer := range sides {
			for in, inside := range names {
				for out, outside := range names {
					proto, h := byte(protoIPIP), ipHeader{src: "10.0.0.4", dst: "10.0.0.2", tos: byte(out)}
					if s.v6 {
						proto = protoIPv6
					}
					if outer.v6 {
						h.src, h.dst = "fd00::4", "fd00::2"
					}
					h.proto = proto
					ip := ipHeader{src: s.client, dst: s.vip, proto: protoTCP, tos: 0xb8 | byte(in)}.packet(segment(2400, 443, syn))
					b.add(fromRouter(h.packet(ip)), "congestion/%s in %s/%s in %s", s.name, outer.name, inside, outside)
				}
			}
		}
	}
}

// pieces: what a way that is narrower than known makes of a tunnel's packet.
func (b *caseBook) pieces() {
	whole := sides[0].packet(protoTCP, segment(2500, 443, ack, make([]byte, 1000)...))
	for _, from := range []struct{ name, addr string }{{"a balancer", "10.0.0.4"}, {"a stranger", "10.0.0.77"}} {
		h := ipHeader{src: from.addr, dst: "10.0.0.2", proto: protoIPIP, id: 9, frag: 0x2000}
		b.add(fromRouter(h.packet(whole[:504])), "pieces/from %s/first", from.name)
		h.frag = 504 / 8
		b.add(fromRouter(h.packet(whole[504:])), "pieces/from %s/last", from.name)
		gue := datagram(0xc000, 6080, whole...)
		h.proto, h.frag = protoUDP, 0x2000
		b.add(fromRouter(h.packet(gue[:504])), "pieces/from %s/first of GUE", from.name)
		h.frag = 504 / 8
		b.add(fromRouter(h.packet(gue[504:])), "pieces/from %s/last of GUE", from.name)
		h.proto, h.frag = protoIPIP, 0x2000
		overlay := ipHeader{src: "10.99.0.1", dst: "10.99.0.2", proto: protoTCP}.packet(segment(2500, 443, ack, make([]byte, 1000)...))
		b.add(fromRouter(h.packet(overlay[:504])), "pieces/from %s/first of another tunnel", from.name)
		h.proto = protoIPv6
		overlay = ipHeader{src: "fd99::1", dst: "fd99::2", proto: protoTCP}.packet(segment(2500, 443, ack, make([]byte, 1000)...))
		b.add(fromRouter(h.packet(overlay[:504])), "pieces/from %s/first of another tunnel, IPv6 in IPv4", from.name)
		b.add(fromRouter(h.packet(sides[1].packet(protoTCP, segment(2500, 443, ack, make([]byte, 1000)...))[:504])), "pieces/from %s/first, IPv6 in IPv4", from.name)
		b.add(fromRouter(h.packet(overlay[:16])), "pieces/from %s/first, too short to tell", from.name)
	}
}

// quotes: ICMPv6 errors about packets with extension headers.
func (b *caseBook) quotes() {
	options := func(next byte, n int) []byte {
		var out []byte
		for range n - 1 {
			out = append(out, 60, 0, 1, 4, 0, 0, 0, 0)
		}
		return append(out, next, 0, 1, 4, 0, 0, 0, 0)
	}
	data := segment(443, 2600, ack, make([]byte, 40)...)
	piece := func(offset int) []byte { return cat([]byte{protoTCP, 0}, be16(offset), []byte{0, 0, 0, 7}) }
	for _, c := range []struct {
		name string
		next byte
		body []byte
	}{
		{"none", protoTCP, data},
		{"destination options", 60, cat(options(protoTCP, 1), data)},
		{"six headers", 60, cat(options(protoTCP, 6), data)},
		{"seven headers", 60, cat(options(protoTCP, 7), data)},
		{"a first fragment", 44, cat(piece(1), data)},
		{"a later fragment", 44, cat(piece(80), data)},
		{"destination options, then a first fragment", 60, cat(options(44, 1), piece(1), data)},
		{"half a header", 60, options(protoTCP, 1)[:4]},
		{"no ports behind it", 60, options(protoTCP, 1)},
		{"another protocol behind it", 60, cat(options(50, 1), data)},
	} {
		quoted := ipHeader{src: any6, dst: client6, proto: c.next}.packet(c.body)
		for _, kind := range []byte{1, 2, 3} {
			b.add(fromRouter(ipHeader{src: "2001:db8:f::1", dst: any6, proto: protoICMPv6}.packet(icmp6("2001:db8:f::1", any6, kind, 0, 1400, quoted))),
				"quotes/%s/type %d", c.name, kind)
		}
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
