package xdp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"

	"meridian/edge/quiclb"
	"meridian/fleet"
	"meridian/geo"
)

// kindsAtlas is the geo database of the fleet of kinds.pcap.
var kindsAtlas = atlas{
	{"192.0.2.0/25", geo.Place{Country: "DE", ASN: 64500}},
	{"192.0.2.128/25", geo.Place{Country: "FR", ASN: 64501}},
}

// Its cookies' key, in all epochs, so that a cookie in a capture is good for ever.
var (
	kindsKey  = Key{3, 1, 4, 1, 5}
	kindsKeys = func() (k edgeCookieKeys) {
		for i := range k.Key {
			k.Key[i].Word = kindsKey.words()
		}
		k.Until = math.MaxUint64
		return k
	}()
)

// kindsCases lists the packets of the second golden capture: kinds of services
// and a defence that the first one's fleet has none of.
func kindsCases() []testCase {
	b := &caseBook{}
	b.connectionIDs()
	b.affinities()
	b.networks()
	b.allPorts()
	b.largeRings()
	b.defended()
	b.cookies()
	return b.list
}

// connectionIDs: QUIC to each gateway by id, and what is not to be read as one.
func (b *caseBook) connectionIDs() {
	block, err := quiclb.New(blockIDs)
	if err != nil {
		panic(err)
	}
	id := func(node string, n byte) []byte {
		server := quiclb.ServerID(&fleet.Node{Name: node})
		out, err := block.Encode(server[:], bytes.Repeat([]byte{n}, blockIDs.Nonce))
		if err != nil {
			panic(err)
		}
		return out
	}
	for _, s := range sides {
		for _, port := range []int{443, 9443, 8443} {
			for i, node := range []string{"gw", "gw2", "both", "nobody"} {
				c := id(node, byte(i))
				name := fmt.Sprintf("quic/%s/port %d/of %s", s.name, port, node)
				b.add(fromRouter(s.packet(protoUDP, datagram(3000, port, shortHeader(c)...))), "%s/short header", name)
				b.add(fromRouter(s.packet(protoUDP, datagram(3001, port, longHeader(0xe0, c)...))), "%s/long header", name)
				b.add(fromRouter(s.packet(protoUDP, datagram(3002, port, shortHeader(c)...)), 7), "%s/tagged", name)
			}
		}
		c := id("gw2", 9)
		udp := func(payload []byte) []byte { return s.packet(protoUDP, datagram(3003, 443, payload...)) }
		b.add(fromRouter(udp(nil)), "quic/%s/nothing", s.name)
		b.add(fromRouter(udp([]byte{0x41})), "quic/%s/one octet", s.name)
		b.add(fromRouter(udp(cat([]byte{0x41}, c[:16]))), "quic/%s/an id cut short", s.name)
		b.add(cat(fromRouter(udp(cat([]byte{0x41}, c[:16]))), c[16:], make([]byte, 20)), "quic/%s/an id that ends in the padding", s.name)
		b.add(cat(fromRouter(udp(nil)), []byte{0x41}, c, make([]byte, 20)), "quic/%s/an id in the padding", s.name)
		b.add(fromRouter(udp(cat([]byte{0x41}, c))), "quic/%s/an id and no more", s.name)
		b.add(fromRouter(udp(longHeader(0xe0, c[:8]))), "quic/%s/a client's id", s.name)
		b.add(fromRouter(udp(cat([]byte{0xe0, 0, 0, 0, 1, 16}, c, make([]byte, 30)))), "quic/%s/a length that is not the id's", s.name)
		b.add(fromRouter(udp(cat([]byte{0x41}, []byte{c[0] ^ 0x20}, c[1:], make([]byte, 24)))), "quic/%s/another rotation", s.name)
	}
	first := ipHeader{src: client4, dst: any4, proto: protoUDP, id: 77, frag: 0x2000}
	b.add(fromRouter(first.packet(datagram(3004, 443, shortHeader(id("gw2", 1))...))), "quic/a first fragment")
	first.frag = 7
	b.add(fromRouter(first.packet(make([]byte, 40))), "quic/the fragment after it")
	in := func(ip []byte, hops int) []byte {
		return fromRouter(ipHeader{src: "10.0.0.4", dst: "10.0.0.2", proto: protoIPIP, id: hops}.packet(ip))
	}
	for _, node := range []string{"gw", "gw2"} {
		ip := sides[0].packet(protoUDP, datagram(3005, 443, shortHeader(id(node, 2))...))
		b.add(in(ip, 0), "quic/tunnelled to gw/of %s", node)
		b.add(in(ip, maxHops), "quic/tunnelled to gw/of %s, passed on too often", node)
	}
	first.frag = 0x2000
	b.add(in(first.packet(datagram(3006, 443, shortHeader(id("gw2", 3))...)), 0), "quic/tunnelled to gw/a first fragment of gw2")
	first.frag = 7
	b.add(in(first.packet(make([]byte, 40)), 0), "quic/tunnelled to gw/the fragment after it")
}

// affinities: flows of a client, and of its network.
func (b *caseBook) affinities() {
	for _, s := range sides {
		clients := map[bool][]string{false: {client4, "203.0.113.6", "203.0.112.5"}, true: {client6, "2001:db8:c:1::5", "2001:db8:c:100::5"}}[s.v6]
		for _, client := range clients {
			for port := range 3 {
				ip := ipHeader{src: client, dst: s.vip, proto: protoTCP}.packet(segment(3100+port, 8443, ack))
				b.add(fromRouter(ip), "affinity/%s/gateways/%s/flow %d", s.name, client, port)
				ip = ipHeader{src: client, dst: s.vip, proto: protoUDP}.packet(datagram(3100+port, 77))
				b.add(fromRouter(ip), "affinity/%s/endpoints/%s/flow %d", s.name, client, port)
				b.add(fromRouter(ip), "affinity/%s/endpoints/%s/flow %d again", s.name, client, port)
			}
		}
	}
}

// networks: addresses of a network of VIPs, and those beside it.
func (b *caseBook) networks() {
	for _, s := range sides {
		list := map[bool][]string{false: {"198.51.100.15", "198.51.100.16", "198.51.100.17", "198.51.100.31", "198.51.100.32"},
			true: {"2001:db8:a:ffff::1", "2001:db8:b::", "2001:db8:b::7", "2001:db8:b:0:ffff:ffff:ffff:ffff", "2001:db8:b:1::"}}[s.v6]
		for _, vip := range list {
			h := ipHeader{src: s.client, dst: vip}
			add := func(proto byte, payload []byte, what string) {
				h.proto = proto
				b.add(fromRouter(h.packet(payload)), "network/%s/%s", vip, what)
			}
			add(protoTCP, segment(3200, 25, syn), "tcp")
			add(protoTCP, segment(3200, 443, syn), "tcp at a port of gateways")
			add(protoUDP, datagram(3200, 77), "udp")
			add(protoUDP, datagram(3200, 53), "udp on the link")
			add(protoUDP, datagram(3200, 78), "no service")
			if s.v6 {
				add(protoICMPv6, icmp6(s.client, vip, 128, 0, 1, nil), "echo")
			} else {
				add(protoICMP, icmp4(8, 0, 1, nil), "echo")
			}
		}
	}
}

// allPorts: a service that has all that no other has.
func (b *caseBook) allPorts() {
	for _, s := range sides {
		for _, port := range []int{0, 1, 25, 442, 443, 444, 65535} {
			b.add(fromRouter(s.packet(protoTCP, segment(3300, port, ack))), "all ports/%s/tcp %d", s.name, port)
		}
		b.add(fromRouter(s.packet(protoUDP, datagram(3300, 25))), "all ports/%s/udp", s.name)
	}
	b.add(fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP, frag: 100, id: 4}.packet(make([]byte, 40))), "all ports/v4/a later fragment")
}

// largeRings: flows over a ring of many slots, to gateways and endpoints.
func (b *caseBook) largeRings() {
	for i := range 24 {
		s := sides[i%2]
		b.add(fromRouter(s.packet(protoTCP, segment(3400+i, 9443, ack))), "large ring/%s/gateways/%d", s.name, i)
		b.add(fromRouter(s.packet(protoUDP, datagram(3400+i, 77))), "large ring/%s/endpoints/%d", s.name, i)
		b.add(fromRouter(s.packet(protoUDP, datagram(3400+i, 88, make([]byte, 20)...))), "large ring/%s/beside it, by GUE/%d", s.name, i)
	}
}

// defended: what the defence drops and what it lets through, in its order.
func (b *caseBook) defended() {
	tcp := func(src string, flags byte) []byte {
		vip := any4
		if netip.MustParseAddr(src).Is6() {
			vip = any6
		}
		return ipHeader{src: src, dst: vip, proto: protoTCP}.packet(segment(3500, 25, flags))
	}
	for _, flags := range []byte{0, syn | 1, syn | rst, 1, 0xff, 0x29} {
		b.add(fromRouter(tcp(client4, flags)), "defence/flags %#02x", flags)
	}
	for _, src := range []string{"127.0.0.1", "0.1.2.3", any4, "10.0.0.1", "224.0.0.1", "::1", "ff02::1", any6, "fd00::1",
		"203.0.113.70", "203.0.113.200", "2001:db8:bad::7", "192.0.2.7", "192.0.2.200", "2002:cb00:7146::1", client4, client6} {
		b.add(fromRouter(tcp(src, ack)), "defence/from %s", src)
	}
	for _, src := range []string{client4, "203.0.113.200", "203.0.113.70"} {
		b.add(fromRouter(ipHeader{src: src, dst: any4, proto: protoUDP}.packet(datagram(123, 77))), "defence/reflected from %s", src)
		quoted := ipHeader{src: any4, dst: src, proto: protoTCP}.packet(segment(25, 3500, ack))
		b.add(fromRouter(ipHeader{src: client4, dst: any4, proto: protoICMP}.packet(icmp4(3, 4, 1400, quoted))), "defence/an ICMP error of a client's about %s", src)
		b.add(fromRouter(ipHeader{src: src, dst: any4, proto: protoICMP}.packet(icmp4(3, 4, 1400,
			ipHeader{src: any4, dst: client4, proto: protoTCP}.packet(segment(25, 3500, ack))))), "defence/an ICMP error from %s", src)
		b.add(fromRouter(ipHeader{src: src, dst: any4, proto: protoICMP}.packet(icmp4(8, 0, 1, nil))), "defence/echo from %s", src)
		b.add(fromRouter(ipHeader{src: src, dst: "10.0.0.1", proto: protoTCP}.packet(segment(1, 22, 0))), "defence/%s to a node", src)
	}
	for _, ttl := range []byte{1, 10, 11} {
		b.add(fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP, ttl: ttl}.packet(segment(3501, 8443, ack))), "defence/TTL %d", ttl)
	}
}

// cookies: SYNs of every kind, and what comes back.
func (b *caseBook) cookies() {
	for _, s := range sides {
		flow := sealed{ipHeader: ipHeader{src: s.client, dst: s.vip}, sport: 3600, dport: 443, seq: 1000, flags: syn, options: synOptions}
		add := func(what string, change func(*sealed)) {
			p := flow
			change(&p)
			b.add(fromRouter(p.bytes()), "cookie/%s/%s", s.name, what)
		}
		add("SYN", func(*sealed) {})
		add("SYN without options", func(p *sealed) { p.options = nil })
		add("SYN with options in another order", func(p *sealed) { p.options = otherOptions })
		add("SYN with ECN", func(p *sealed) { p.flags |= 0xc0 })
		add("SYN with data", func(p *sealed) { p.data = []byte("hello") })
		add("SYN with too much data", func(p *sealed) { p.data = make([]byte, 1600) })
		add("SYN to a client's gateway by its network", func(p *sealed) { p.dport = 8443 })
		add("SYN at a large ring", func(p *sealed) { p.dport = 9443 })
		add("SYN to an endpoint", func(p *sealed) { p.dport = 25 })
		wrong := flow.bytes()
		wrong[len(wrong)-1] ^= 1
		b.add(fromRouter(wrong), "cookie/%s/SYN with a wrong checksum", s.name)
		b.add(fromRouter(flow.bytes(), 7, 8), "cookie/%s/SYN tagged twice", s.name)
		for _, port := range []int{443, 8443, 9443} {
			client := netip.AddrPortFrom(netip.MustParseAddr(s.client), 3600)
			cookie, stamp := bake(kindsKeys, client, netip.AddrPortFrom(netip.MustParseAddr(s.vip), uint16(port)), 1000, 3<<6|1<<4|9)
			third := flow
			third.flags, third.dport, third.seq, third.ack = ack, port, 1001, cookie+1
			third.options = binary.BigEndian.AppendUint32([]byte{1, 1, 8, 10, 0, 0, 0, 9}, stamp)
			name := fmt.Sprintf("cookie/%s/port %d", s.name, port)
			other := third
			other.ack++
			b.add(fromRouter(other.bytes()), "%s/another acknowledgement", name)
			other = third
			other.sport++
			b.add(fromRouter(other.bytes()), "%s/another client", name)
			b.add(fromRouter(third.bytes()), "%s/the cookie", name)
			third.seq, third.ack, third.options = 5000, 6000, nil
			b.add(fromRouter(third.bytes()), "%s/what follows", name)
			third.flags = rst
			b.add(fromRouter(third.bytes()), "%s/its reset", name)
		}
	}
	b.add(fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP, frag: 0x2000}.packet(segment(3601, 443, syn))), "cookie/v4/a SYN in fragments")
}
