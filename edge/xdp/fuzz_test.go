package xdp

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

// Whatever the packet: one verdict, one reason to it; what passes and was not
// unpacked is as it came; what is sent goes to an endpoint of ours in a valid
// header or back to the sender; nothing grows by more than a tunnel's header.
// (That no octet outside of the packet is read or written is the kernel's
// verifier's proof.)
func FuzzPacket(f *testing.F) {
	both := newMachine(f, strings.Replace(programSpec, ", state: disabled", "", 1), "lb", Roles{L4: true, L7: true})
	web4 := ipHeader{src: client4, dst: any4, proto: protoTCP, frag: df}.packet(segment(5000, 443, syn))
	web6 := ipHeader{src: client6, dst: any6, proto: protoTCP}.packet(segment(5000, 443, syn))
	for _, p := range [][]byte{
		web4, web6,
		ipHeader{src: client4, dst: any4, proto: protoUDP, options: []byte{1, 1, 1, 0}}.packet(datagram(5000, 53)),
		ipHeader{src: "10.0.0.4", dst: "10.0.0.1", proto: 4}.packet(web4),
		ipHeader{src: "fd00::4", dst: "fd00::1", proto: 41}.packet(web6),
		ipHeader{src: client6, dst: any6, proto: 60}.packet(cat([]byte{protoTCP, 0, 1, 4, 0, 0, 0, 0}, segment(5000, 443, syn))),
		ipHeader{src: client6, dst: any6, proto: 44}.packet(cat([]byte{protoTCP, 0, 0, 1, 0, 0, 0, 0}, segment(5000, 443, syn))),
		ipHeader{src: "192.0.2.254", dst: any4, proto: 1}.packet(icmp4(3, 4, 1400, ipHeader{src: any4, dst: client4, proto: protoTCP}.packet(segment(443, 5000, ack)))),
		ipHeader{src: any4, dst: "10.0.0.1", proto: protoTCP}.packet(segment(443, 61000, syn|ack)),
		ipHeader{src: client4, dst: any4, proto: protoTCP, frag: df}.packet(segment(5000, 443, ack, make([]byte, 1460)...)),
		ipHeader{src: client6, dst: any6, proto: protoTCP}.packet(segment(5000, 443, ack, make([]byte, 1440)...)),
	} {
		f.Add(fromRouter(p))
		f.Add(fromRouter(p, 7))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 14 || len(in) > 3000 {
			t.Skip("the kernel runs no such packet")
		}
		verdict, out, reasons := both.send(t, in)
		reasons = slices.DeleteFunc(reasons, func(r string) bool { return strings.HasPrefix(r, "flow_") || strings.HasPrefix(r, "chance_") })
		if len(reasons) != 1 || !strings.HasPrefix(reasons[0], verdict+"_") {
			t.Fatalf("verdict %s, reasons %v", verdict, reasons)
		}
		if len(out) > len(in)+Overhead6 {
			t.Fatalf("%d octets became %d", len(in), len(out))
		}
		if verdict == "pass" && reasons[0] != "pass_decapsulated" && !bytes.Equal(in, out) {
			t.Fatalf("%s changed the packet", reasons[0])
		}
		if reasons[0] == "pass_decapsulated" && !unpacked(in, behindLink(out)) {
			t.Fatal("what was unpacked was not inside")
		}
		if verdict == "tx" {
			sent(t, in, out, reasons[0])
		}
	})
}

// unpacked says whether a packet was inside a frame, but for the ECN field that the
// tunnel had, CE or ECT(1), and the checksum over it.
func unpacked(in, ip []byte) bool {
	if bytes.Contains(in, ip) {
		return true
	}
	if ip[0]>>4 == 4 {
		return ip[1]&1 == 1 && bytes.Contains(in, ip[2:10]) && bytes.Contains(in, ip[12:])
	}
	return ip[1]>>4&1 == 1 && bytes.Contains(in, ip[2:])
}

// sent judges a transmitted frame.
func sent(t *testing.T, in, out []byte, reason string) {
	t.Helper()
	ip := behindLink(out)
	switch reason {
	case "tx_l2":
		if !bytes.Equal(in[12:], out[12:]) {
			t.Fatal("L2 DSR changed more than MAC addresses")
		}
	case "tx_tunnel":
		if link := len(out) - len(ip); !bytes.Equal(ip[outerLen(ip):], in[link:]) {
			t.Fatal("the packet inside is not the packet that came")
		}
		fallthrough
	default:
		if ip[0]>>4 == 4 && checksum(ip[:20]) != 0 {
			t.Fatal("wrong header checksum")
		}
	}
}

// outerLen gives the length of an outer header.
func outerLen(ip []byte) int {
	if ip[0]>>4 == 6 {
		return 40
	}
	return 20
}

// behindLink gives what follows the link header and its VLAN tag.
func behindLink(frame []byte) []byte {
	if t := binary.BigEndian.Uint16(frame[12:]); t == 0x8100 || t == 0x88a8 {
		return frame[18:]
	}
	return frame[14:]
}
