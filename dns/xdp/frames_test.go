package xdp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"
)

// packet is a frame in parts, so that a recipe can spoil one of them and leave
// the rest, lengths and checksums among it, as it ought to be.
type packet struct {
	to, from []byte // MACs
	tags     []byte // VLAN tags, with their types
	kind     int    // EtherType
	v6       bool
	version  byte
	extra    []byte // options of IPv4, or extension headers of IPv6, the first of kind next
	next     byte
	ttl, tos byte
	frag     uint16
	src, dst netip.Addr
	sport    uint16
	dport    uint16
	msg      []byte
	behind   []byte // padding behind the packet
	ipLen    int    // what is added to the lengths that are right
	udpLen   int
	noSum    bool // UDP without checksum
	cut      int  // octets that the frame's end lacks
}

func newPacket(from, to netip.AddrPort, msg []byte) *packet {
	p := &packet{to: macServer, from: macClient, kind: 0x0800, version: 4, next: 17, ttl: 61, tos: 0x10, src: from.Addr(), dst: to.Addr(), sport: from.Port(), dport: to.Port(), msg: msg}
	if from.Addr().Is6() {
		p.v6, p.kind, p.version = true, 0x86dd, 6
	}
	return p
}

// frame puts it together.
func (p *packet) frame() []byte {
	src, dst := p.src.AsSlice(), p.dst.AsSlice()
	udp := cat(be16(int(p.sport)), be16(int(p.dport)), be16(8+len(p.msg)+p.udpLen), be16(0), p.msg)
	if !p.noSum {
		sum := checksum(src, dst, be16(17), be16(8+len(p.msg)+p.udpLen), udp)
		if sum == 0 {
			sum = 0xffff
		}
		binary.BigEndian.PutUint16(udp[6:], sum)
	}
	out := cat(p.to, p.from, p.tags, be16(p.kind))
	if p.v6 {
		out = cat(out, []byte{p.version<<4 | p.tos>>4, p.tos << 4, 2, 3}, be16(len(p.extra)+len(udp)+p.ipLen), []byte{p.next, p.ttl}, src, dst, p.extra, udp)
	} else {
		ip := cat([]byte{p.version<<4 | byte(5+len(p.extra)/4), p.tos}, be16(20+len(p.extra)+len(udp)+p.ipLen), be16(77), be16(int(p.frag)), []byte{p.ttl, p.next, 0, 0}, src, dst, p.extra)
		binary.BigEndian.PutUint16(ip[10:], checksum(ip))
		out = cat(out, ip, udp)
	}
	out = append(out, p.behind...)
	return out[:len(out)-min(p.cut, len(out))]
}

// pickFrom chooses by an octet.
func pickFrom[T any](b byte, list ...T) T { return list[int(b)%len(list)] }

// spoil follows a recipe: each two octets are one thing that is done to the
// packet, and how.
func (p *packet) spoil(recipe []byte) {
	for ; len(recipe) >= 2; recipe = recipe[2:] {
		how := recipe[1]
		switch recipe[0] % 23 {
		case 0:
			p.tags = cat(p.tags, be16(pickFrom(how>>4, 0x8100, 0x8100, 0x88a8, 0x9100)), be16(int(how)))
		case 1:
			p.extend(how)
		case 2:
			p.ipLen += int(int8(how))
		case 3:
			p.udpLen += int(int8(how))
		case 4:
			p.noSum = true
		case 5:
			p.to = pickFrom(how, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, []byte{1, 0, 0x5e, 0, 0, 1}, []byte{0x33, 0x33, 0, 0, 0, 1})
		case 6:
			p.dst = p.one(how, "224.0.0.1", "255.255.255.255", "198.51.100.255", "198.51.100.54", "127.0.0.1", "ff02::1", "::1", "2001:db8:53::54", "fe80::1", "::ffff:198.51.100.53")
		case 7:
			p.src = p.one(how, "127.0.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "240.0.0.1", "198.51.100.53",
				"::", "::1", "ff02::1", "2001:db8:53::53", "fe80::1", "::ffff:10.1.2.3", "64:ff9b::a01:203", "2002:a01:203::1")
		case 8:
			p.sport = pickFrom(how, 0, 53, 1, 65535, uint16(how))
		case 9:
			p.dport = pickFrom[uint16](how, 0, 53, 54, 5353, 0x3500)
		case 10:
			p.frag = pickFrom[uint16](how, 0x4000, 0x2000, 0x8000, 1, 0x1fff, 0x2001, 0x6000)
		case 11:
			p.behind = append(p.behind, make([]byte, how%64)...)
		case 12:
			p.cut += int(how) % 80
		case 13:
			p.ttl, p.tos = how, how
		case 14:
			p.next = pickFrom(how, 6, 1, 58, 0, 59, how)
		case 15:
			p.version = how & 15
		case 16:
			p.kind = pickFrom(how, 0x0806, 0x8100, 0x86dd, 0x0800, int(how)<<8)
		default:
			p.msg = spoilMessage(p.msg, recipe[0], how)
		}
	}
}

// one chooses an address of the packet's family.
func (p *packet) one(how byte, list ...string) netip.Addr {
	var own []netip.Addr
	for _, s := range list {
		if a := netip.MustParseAddr(s); a.Is6() == p.v6 {
			own = append(own, a)
		}
	}
	return pickFrom(how, own...)
}

// extend adds options of IPv4, or extension headers of IPv6.
func (p *packet) extend(how byte) {
	if !p.v6 {
		if n := 4 * (1 + int(how)%10); len(p.extra)+n <= 40 {
			p.extra = append(p.extra, bytes.Repeat([]byte{1}, n)...) // no operation
		}
		return
	}
	kind := pickFrom[byte](how, 0, 60, 43, 44, 51, 135)
	p.extra = cat([]byte{p.next, 0, 1, 4, 0, 0, 0, 0}, p.extra) // a pad of six
	p.next = kind
}

// spoilMessage does to a DNS message what a library would not: what is done,
// and how, are octets.
func spoilMessage(m []byte, what, how byte) []byte {
	m = slices.Clone(m)
	switch {
	case len(m) <= headerLen:
	case what%6 == 0: // behind the message
		return append(m, make([]byte, how%9)...)
	case what%6 == 1: // a pointer, or a label of another kind, in the question
		m[headerLen+int(how)%(len(m)-headerLen)] = pickFrom[byte](how, 0xc0, 0x40, 0x80, 63, 64, 0)
	case what%6 == 2: // other counts
		m[4+how%8] = pickFrom[byte](how>>3, 0, 1, 2, 255)
	case what%6 == 3: // a flag
		m[2+how>>7] ^= 1 << (how & 7)
	case what%6 == 4:
		return addOption(m, how)
	default: // the name once more in front
		if n := 1 + int(m[headerLen]); n <= int(how) && headerLen+n < len(m) {
			return slices.Insert(m, headerLen, m[headerLen:headerLen+n]...)
		}
	}
	return m
}

// addOption adds an option to the OPT that ends a message, or makes one.
func addOption(m []byte, how byte) []byte {
	at := headerLen
	for at < len(m) && m[at] > 0 {
		at += 1 + int(m[at])
	}
	at += 5 // behind the question
	if len(m) < at {
		return m
	}
	if len(m) < at+11 {
		m = append(m[:at:at], 0, 0, 41, 16, 0, 0, 0, how&0x80, 0, 0, 0)
		m[10], m[11] = 0, 1
	}
	code := pickFrom(how, 8, 10, 12, 3, 11, 19, 65001, 8, 10, 14, 5)
	n := pickFrom(how>>2, 0, 7, 8, 24, 4, 12, 40, 5, 6)
	data := make([]byte, n)
	for i := range data {
		data[i] = how*31 + byte(i)
	}
	if code == 8 && n >= 4 {
		copy(data, []byte{0, byte(1 + n/12), byte(8 * (n - 4)), 0})
	}
	m = cat(m, be16(code), be16(n), data)
	binary.BigEndian.PutUint16(m[at+9:], uint16(len(m)-at-11))
	return m
}

// found is what an independent reader finds in a frame.
type found struct {
	head           int // octets before the message
	msg            []byte
	client, server netip.AddrPort
}

// find reads a frame as RFC 791, 8200 and 768 have it. It is false where no
// plain datagram with a source that can be answered stands behind at most one
// VLAN tag.
func find(f []byte) (found, bool) {
	if len(f) < 14 || f[0]&1 != 0 {
		return found{}, false
	}
	l3 := 12
	if kind := binary.BigEndian.Uint16(f[l3:]); (kind == 0x8100 || kind == 0x88a8) && len(f) >= 18 {
		l3 = 16
	}
	kind, ip := binary.BigEndian.Uint16(f[l3:]), f[l3+2:]
	var src, dst netip.Addr
	var udp []byte
	header := 20
	switch {
	case kind == 0x0800 && len(ip) >= 28 && ip[0] == 0x45 && binary.BigEndian.Uint16(ip[6:])&0x3fff == 0 && ip[9] == 17:
		total := int(binary.BigEndian.Uint16(ip[2:]))
		if total < 28 || total > len(ip) {
			return found{}, false
		}
		src, dst, udp = addrOf(ip[12:16]), addrOf(ip[16:20]), ip[20:total]
	case kind == 0x86dd && len(ip) >= 48 && ip[0]>>4 == 6 && ip[6] == 17:
		size := int(binary.BigEndian.Uint16(ip[4:]))
		if size < 8 || 40+size > len(ip) || ip[46] == 0 && ip[47] == 0 {
			return found{}, false
		}
		src, dst, udp = addrOf(ip[8:24]), addrOf(ip[24:40]), ip[40:40+size]
		header = 40
	default:
		return found{}, false
	}
	sport, dport := binary.BigEndian.Uint16(udp), binary.BigEndian.Uint16(udp[2:])
	limited := src.Is4() && (src.As4()[0] == 0 || src.As4()[0] >= 240)
	if int(binary.BigEndian.Uint16(udp[4:])) != len(udp) || sport == 0 || src == dst || limited ||
		src.Is4In6() || dst.Is4In6() || src.IsLoopback() || src.IsMulticast() || src.IsUnspecified() {
		return found{}, false
	}
	return found{l3 + 2 + header + 8, udp[8:], netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)}, true
}

// back is the frame that answers one, with a message.
func (p *found) back(in, msg []byte) []byte {
	out := frame(p.server, p.client, msg)[12:] // from the EtherType on
	if p.client.Addr().Is6() {
		copy(out[2:], []byte{0x60, 0, 0, 0})
		out[9] = 64
	} else {
		out[3] = 0
		copy(out[6:], []byte{0, 0, 0x40, 0, 64})
		copy(out[12:], []byte{0, 0})
		binary.BigEndian.PutUint16(out[12:], checksum(out[2:22]))
	}
	l2 := p.head - 8 - 20
	if p.client.Addr().Is6() {
		l2 -= 20
	}
	return cat(in[6:12], in[:6], in[12:l2-2], out)
}

// truncated is a response without its records, as the rate limit has it.
func truncated(t testing.TB, response []byte) []byte {
	t.Helper()
	var m dns.Msg
	if err := m.Unpack(response); err != nil {
		t.Fatal(err)
	}
	m.Truncated, m.Answer, m.Ns = true, nil, nil
	m.Extra = slices.DeleteFunc(m.Extra, func(rr dns.RR) bool { return rr.Header().Rrtype != dns.TypeOPT })
	out, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// check gives a frame to the program: what it answers must be what the sockets
// answer to the message in it, and nothing else may have changed. It gives
// whether it answered. Of a machine with a rate limit answers may be missing.
func (m *machine) check(t testing.TB, in []byte, limited bool) bool {
	t.Helper()
	verdict, out := m.run(t, in)
	if verdict == xdpPass {
		if !bytes.Equal(in, out) {
			t.Fatalf("%x\npassed, but not as it came:\n%x", in, out)
		}
		return false
	}
	if limited && verdict == xdpDrop {
		return true
	}
	if verdict != xdpTX {
		t.Fatalf("verdict %d for %x", verdict, in)
	}
	p, ok := find(in)
	if !ok || p.server != server4 && p.server != server6 {
		t.Fatalf("%x\nis no query to the nameserver, and was answered\n%x", in, out)
	}
	response := m.sockets(p.msg, p.client)
	want := p.back(in, response)
	if limited && !bytes.Equal(out, want) {
		want = p.back(in, truncated(t, response))
	}
	if limited && !bytes.Equal(out, want) {
		want = p.back(in, bare(p.msg, response))
	}
	if !bytes.Equal(out, want) {
		t.Fatalf("frame %x, query\n%s\nthe kernel answers\n%x\n%s\nexpected\n%x\n%s", in, text(p.msg), out, text(out[min(len(out), p.head):]), want, text(response))
	}
	return true
}
