package xdp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"meridian/fleet"
	"meridian/geo"
)

// tcpSegment is a TCP segment with a window and options.
func tcpSegment(window int, options []byte, payload ...byte) []byte {
	s := segment(5000, 443, ack)
	binary.BigEndian.PutUint16(s[14:], uint16(window))
	s[12] = byte((20 + len(options)) / 4 << 4)
	return cat(s, options, payload)
}

// The fields that few rules name match what they say and nothing else.
func TestRuleDetails(t *testing.T) {
	m := newMachine(t, programSpec, "lb", Roles{L4: true})
	tcp := func(h ipHeader, window int, options []byte, payload ...byte) []byte {
		if h.src == "" {
			h.src = client4
		}
		h.dst, h.proto = any4, protoTCP
		if strings.Contains(h.src, ":") {
			h.dst = any6
		}
		return h.packet(tcpSegment(window, options, payload...))
	}
	plain := tcp(ipHeader{}, 1024, nil, 1, 2, 3, 4)
	// a first fragment that ends in the options
	cut := ipHeader{src: client4, dst: any4, proto: protoTCP, frag: 0x2000}.packet(tcpSegment(1, []byte{2, 4, 5, 180, 1, 1, 1, 0})[:24])
	linux := []byte{2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7}
	nops := bytes.Repeat([]byte{1}, 15)
	for _, c := range []struct {
		match     string
		hit, miss []byte
	}{
		{"ip_id: 0", plain, tcp(ipHeader{id: 1}, 1024, nil)},
		{"ip_id: 5-65535", tcp(ipHeader{id: 65535}, 1024, nil), tcp(ipHeader{id: 4}, 1024, nil)},
		{"ip_id: 0-65535", plain, tcp(ipHeader{src: client6}, 1024, nil)},
		{"protocol: tcp, window: 1024", plain, tcp(ipHeader{}, 1025, nil)},
		{"protocol: tcp, window: 0", tcp(ipHeader{src: client6}, 0, nil), plain},
		{"protocol: tcp, window: 0-1023", tcp(ipHeader{}, 1023, nil), tcp(ipHeader{frag: 9}, 0, nil)},
		{"protocol: tcp, tcp_options: none", plain, tcp(ipHeader{}, 1024, linux)},
		{"protocol: tcp, tcp_options: 'mss,sack,timestamp,nop,scale'", tcp(ipHeader{}, 1024, linux), tcp(ipHeader{}, 1024, linux[:16])},
		{"protocol: tcp, tcp_options: 'mss,sack,timestamp'", tcp(ipHeader{src: client6}, 1024, linux[:16]), tcp(ipHeader{}, 1024, cat(linux[4:16], linux[:4]))},
		{"protocol: tcp, tcp_options: 'other,nop,end'", tcp(ipHeader{}, 1024, []byte{254, 2, 1, 0}), tcp(ipHeader{}, 1024, []byte{253, 2, 0, 1})},
		{"protocol: tcp, tcp_options: mss", tcp(ipHeader{}, 1024, linux[:4]), cut},
		{"protocol: tcp, tcp_options: 'mss,sack,timestamp'", tcp(ipHeader{}, 1024, linux[:16]), tcp(ipHeader{}, 1024, cat(linux[:6], []byte{8, 0}))},
		{"protocol: tcp, tcp_options: 'mss,timestamp'", tcp(ipHeader{}, 1024, cat(linux[:4], []byte{8, 4, 0, 0})), tcp(ipHeader{}, 1024, cat(linux[:4], []byte{8, 0, 0, 0}))},
		{"protocol: tcp, tcp_options: '" + strings.Repeat("nop,", 14) + "sack'", tcp(ipHeader{}, 1024, cat(nops[:14], linux[4:6])), tcp(ipHeader{}, 1024, cat(nops[:15], linux[4:6], make([]byte, 3)))},
		{"protocol: tcp, payload: '0:01020304'", plain, tcp(ipHeader{}, 1024, nil, 1, 2, 3, 5)},
		{"protocol: tcp, payload: '2:03'", tcp(ipHeader{}, 1024, linux, 9, 9, 3), tcp(ipHeader{}, 1024, linux, 9, 9)},
		{"protocol: tcp, payload: '0:0100000000000008/ff000000000000ff'", tcp(ipHeader{src: client6}, 1024, nil, 1, 2, 3, 4, 5, 6, 7, 8), tcp(ipHeader{}, 1024, nil, 1, 2, 3, 4, 5, 6, 7)},
		{"protocol: udp, payload: '1:02/0f'", ipHeader{src: client4, dst: any4, proto: protoUDP}.packet(datagram(5000, 53, 1, 0xf2)), tcp(ipHeader{}, 1024, nil, 1, 2)},
		{"source_asn: 64501", tcp(ipHeader{src: "192.0.2.200"}, 1, nil), tcp(ipHeader{src: "192.0.2.1"}, 1, nil)},
		{"source_country: FR", tcp(ipHeader{src: "2001:db8:f::9"}, 1, nil), tcp(ipHeader{src: "192.0.2.1"}, 1, nil)},
	} {
		m.defend(t, "{rules: [{name: one, match: {"+c.match+"}}]}")
		m.expect(t, []packetCase{{c.match, c.hit, "drop_rule"}, {"other than " + c.match, c.miss, "tx_tunnel"}})
	}
}

// A place that a rule names is told although the lists name others, and a rule
// that is added brings its own; what the lists say goes first.
func TestRulesOfPlaces(t *testing.T) {
	m := newMachine(t, programSpec, "lb", Roles{L4: true})
	spec := worldOf(t, programSpec+`
defence:
  allow: {prefixes: [192.0.2.129/32]}
  block: {countries: [DE]}
  rules: [{name: fr, match: {source_country: FR, protocol: udp}}]
`).Snapshot.Spec
	s := newShield(func() (geo.Source, error) { return world, nil }, func() {})
	if err := s.apply(spec.Defence, m.want.ours()); err != nil {
		t.Fatal(err)
	}
	take := func() {
		m.guard = s.guard.Load()
		m.reconcile(t)
	}
	take()
	m.expect(t, []packetCase{
		{"a blocked country", tcpFrom("192.0.2.1", syn), "drop_blocked_country"},
		{"the rule's", udpFrom("192.0.2.200", 5000), "drop_rule"},
		{"the rule's, but TCP", tcpFrom("192.0.2.200", syn), "tx_tunnel"},
		{"the rule's, but allowed", udpFrom("192.0.2.129", 5000), "tx_l2"},
		{"of no place", udpFrom(client4, 5000), "tx_l2"},
	})
	asn := fleet.PacketRule{Name: "as", Mode: fleet.RuleDrop, Until: time.Now().Add(time.Hour), Match: fleet.PacketMatch{ASN: 64501}}
	if err := s.add(asn); err != nil {
		t.Fatal(err)
	}
	take()
	m.expect(t, []packetCase{
		{"the added rule's", tcpFrom("192.0.2.200", syn), "drop_rule"},
		{"the first rule's still", udpFrom("198.18.0.1", 5000), "drop_rule"},
		{"neither's", tcpFrom("198.18.0.1", syn), "tx_tunnel"},
	})
	s.drop("as")
	take()
	m.expect(t, []packetCase{{"no longer the added rule's", tcpFrom("192.0.2.200", syn), "tx_tunnel"}})

	s = newShield(nil, func() {})
	if err := s.add(asn); !errors.Is(err, ErrRule) {
		t.Errorf("a rule of an AS without a database: %v", err)
	}
}

// With rules of all kinds no verdict differs from the reference's, whatever the
// packet.
func TestRulesAgainstReference(t *testing.T) {
	rules := []string{
		"protocol: tcp, window: 100-2000, flags: '!syn'", "ip_id: 3", "protocol: tcp, tcp_options: 'mss,nop,nop'", "protocol: tcp, tcp_options: none, length: 40-60",
		"protocol: tcp, payload: '1:00/0f'", "protocol: udp, payload: '0:4000/c0c0', port: 77", "source_country: FR, protocol: udp", "source_asn: 64500, protocol: tcp",
		"ttl: 1-9", "fragment: later, length: 1-900", "protocol: icmp", `protocol: icmpv6, source: "2001:db8:c::/64"`, "vip: 198.51.100.2, protocol: tcp, port: 66-77",
		"protocol: tcp, source_port: 5000-5004", "fragment: first, protocol: udp",
	}
	packets := 300
	if testing.Short() {
		packets = 50
	}
	defer oneCPU(t)()
	w := newTwin(t, againstSpec, "lb", againstRoles["lb"])
	d, met := newDice(5), map[string]int{}
	for i, match := range rules {
		section := fmt.Sprintf("{rules: [{name: c, match: {ttl: 1-255}, mode: count}, {name: r, match: {%s}}, {name: s, match: {%s}}]}", match, rules[(i+1)%len(rules)])
		spec := worldOf(t, againstSpec+"defence: "+section+"\n").Snapshot.Spec
		s := newShield(func() (geo.Source, error) { return world, nil }, func() {})
		if err := s.apply(spec.Defence, w.want.ours()); err != nil {
			t.Fatal(err)
		}
		w.guard = s.guard.Load()
		w.reconcileTwin(t)
		for n := range packets {
			what, frame := d.frame()
			if n%2 == 0 {
				what, frame = "a header", fromRouter(d.sound())
			}
			for _, r := range w.agree(t, fmt.Sprintf("%s: packet %d, %s", match, n, what), frame).reasons() {
				met[r]++
			}
		}
	}
	if met["drop_rule"] < packets || met["tx_tunnel"] < packets {
		t.Errorf("too few packets were dropped, or passed: %v", met)
	}
}

// sound makes a packet of TCP or UDP, with options that make sense or not.
func (d dice) sound() []byte {
	h := ipHeader{src: pick(d, client4, "192.0.2.1", "192.0.2.200", "198.18.0.1"), dst: pick(d, any4, "198.51.100.2"), proto: protoTCP, id: d.IntN(5), ttl: byte(1 + d.IntN(20))}
	if d.often(30) {
		h.src, h.dst = pick(d, client6, "2001:db8:f::1"), any6
	}
	if d.often(30) {
		h.proto = protoUDP
		return h.packet(datagram(5000+d.IntN(9), pick(d, 53, 77), d.bytes(d.IntN(4))...))
	}
	options := pick(d, nil, nil, []byte{2, 4, 5, 180, 1, 1, 0, 0}[:4+4*d.IntN(2)], []byte{2, 4, 5, 180, 1, 1, 1, 1}, d.bytes(4*d.IntN(11)))
	s := tcpSegment(pick(d, 0, 100, 2000, 2001, d.IntN(65536)), options, d.bytes(d.IntN(6))...)
	s[13] = pick[byte](d, syn, ack, ack, 1|ack)
	if d.often(10) {
		s[12] = byte(d.IntN(16)) << 4
	}
	if d.often(10) {
		s = s[:20+d.IntN(len(s)-19)]
	}
	return h.packet(s)
}
