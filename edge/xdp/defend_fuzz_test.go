package xdp

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// Whatever the packet: with all of the defence on and sampling every packet,
// there is one verdict and one reason to it, what is dropped is as it came, and
// a packet that is not for a VIP is none of the defence's business.
func FuzzDefence(f *testing.F) {
	m := newMachine(f, programSpec, "lb", Roles{L4: true})
	m.defend(f, `
  reflection_ports: [123]
  allow: {prefixes: [203.0.113.8/30], countries: [DE]}
  block: {prefixes: [203.0.113.0/28, "2001:db8:bad::/48"], asns: [64501]}
  rules:
    - {name: a, match: {length: 900-65535}, mode: count}
    - {name: b, match: {protocol: tcp, flags: "syn,!ack", port: 443, ttl: 1-10}}
    - {name: c, match: {fragment: later}, mode: rate, rate: 1000000}
    - {name: d, match: {protocol: tcp, window: 0-65000, tcp_options: "mss,nop,nop,nop,nop", payload: "3:0102/0f0f"}}
    - {name: e, match: {source_country: FR, ip_id: 0-9}}
  limits: {per_source: 1000000, per_vip: 100000000}
  sampling: {rate: 1, per_second: 100000}`)
	for _, p := range [][]byte{
		tcpFrom(client4, syn), tcpFrom(client6, syn|1), tcpFrom("127.0.0.1", ack), tcpFrom("2001:db8:bad::7", ack), tcpFrom("::ffff:1.2.3.4", ack),
		udpFrom("203.0.113.9", 5), udpFrom("192.0.2.200", 123),
		ipHeader{src: client4, dst: any4, proto: protoUDP, frag: 9, options: []byte{1, 1, 1, 0}}.packet(datagram(5000, 53)),
		ipHeader{src: client6, dst: any6, proto: 44}.packet(cat([]byte{protoTCP, 0, 0, 1, 0, 0, 0, 0}, segment(5000, 443, syn))),
		ipHeader{src: "192.0.2.254", dst: any4, proto: 1}.packet(icmp4(3, 4, 1400, ipHeader{src: any4, dst: client4, proto: protoTCP}.packet(segment(443, 5000, ack)))),
		ipHeader{src: "203.0.113.1", dst: any4, proto: 1}.packet(icmp4(8, 0, 1, nil)),
		ipHeader{src: "203.0.113.1", dst: "10.0.0.1", proto: protoTCP}.packet(segment(5000, 22, 0)),
	} {
		f.Add(fromRouter(p))
		f.Add(fromRouter(p, 7))
	}
	vips := [][]byte{m.want.addresses[0].AsSlice(), m.want.addresses[1].AsSlice()}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 14 || len(in) > 3000 {
			t.Skip("the kernel runs no such packet")
		}
		verdict, out, reasons := m.send(t, in)
		reasons = slices.DeleteFunc(reasons, func(r string) bool { return strings.HasPrefix(r, "flow_") })
		if len(reasons) != 1 || !strings.HasPrefix(reasons[0], verdict+"_") {
			t.Fatalf("verdict %s, reasons %v", verdict, reasons)
		}
		if verdict == "drop" && !bytes.Equal(in, out) {
			t.Fatalf("%s changed the packet", reasons[0])
		}
		if verdict == "drop" && !bytes.Contains(in, vips[0]) && !bytes.Contains(in, vips[1]) && reasons[0] != "drop_reply" && reasons[0] != "drop_reply_full" {
			t.Fatalf("%s of a packet that names no VIP", reasons[0])
		}
	})
}
