package xdp

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// Frames around DNS messages, and what is in them.

var (
	macClient = []byte{2, 0, 0, 0, 0, 1}
	macServer = []byte{2, 0, 0, 0, 0, 2}

	server4 = netip.MustParseAddrPort("198.51.100.53:53")
	server6 = netip.MustParseAddrPort("[2001:db8:53::53]:53")
)

func cat(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func be16(v int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }

// checksum is the Internet checksum (RFC 1071).
func checksum(parts ...[]byte) uint16 {
	b := cat(parts...)
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	sum := uint32(0)
	for ; len(b) > 0; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// frame puts a message into UDP, IP, VLANs and Ethernet.
func frame(from, to netip.AddrPort, msg []byte, tags ...int) []byte {
	udp := cat(be16(int(from.Port())), be16(int(to.Port())), be16(8+len(msg)), be16(0), msg)
	src, dst := from.Addr().AsSlice(), to.Addr().AsSlice()
	sum := checksum(src, dst, be16(17), be16(len(udp)), udp)
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
	out := cat(macServer, macClient)
	for _, t := range tags {
		out = cat(out, be16(0x8100), be16(t))
	}
	if from.Addr().Is6() {
		return cat(out, be16(0x86dd), []byte{0x60, 1, 2, 3}, be16(len(udp)), []byte{17, 61}, src, dst, udp)
	}
	ip := cat([]byte{0x45, 0x10}, be16(20+len(udp)), be16(77), be16(0), []byte{61, 17, 0, 0}, src, dst)
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	return cat(out, be16(0x0800), ip, udp)
}

// unframe checks a frame that answers one from the client, octet by octet, and
// gives the message in it.
func unframe(t testing.TB, f []byte, client, server netip.AddrPort, tags ...int) []byte {
	t.Helper()
	head := 14 + 4*len(tags) + 20 + 8
	if server.Addr().Is6() {
		head += 20
	}
	if len(f) < head {
		t.Fatalf("%d octets are no answer", len(f))
	}
	want := frame(server, client, f[head:], tags...)
	copy(want, cat(macClient, macServer))
	l3 := 14 + 4*len(tags)
	if server.Addr().Is6() {
		copy(want[l3:], []byte{0x60, 0, 0, 0})
		want[l3+7] = 64
	} else {
		copy(want[l3+1:], []byte{0})
		copy(want[l3+4:], []byte{0, 0, 0x40, 0, 64})
		copy(want[l3+10:], []byte{0, 0})
		binary.BigEndian.PutUint16(want[l3+10:], checksum(want[l3:l3+20]))
	}
	if string(f[:head]) != string(want[:head]) {
		t.Fatalf("headers\n%x, want\n%x", f[:head], want[:head])
	}
	return f[head:]
}
