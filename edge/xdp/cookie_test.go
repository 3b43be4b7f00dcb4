package xdp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"meridian/internal/testkit"
	"meridian/internal/testkit/netns"
)

// cookieHash is the twin of cookie_hash in bpf/cookie.h: SipHash-1-3 over both
// addresses, the ports, the client's initial sequence number and the low bits.
func (k Key) cookieHash(client, vip netip.AddrPort, isn uint32, low byte) uint64 {
	var m []byte
	for _, a := range []netip.AddrPort{client, vip} {
		b := a.Addr().As16()
		m = append(m, b[:]...)
	}
	m = binary.BigEndian.AppendUint16(m, client.Port())
	m = binary.BigEndian.AppendUint16(m, vip.Port())
	m = binary.LittleEndian.AppendUint32(m, isn)
	return k.siphash13(append(m, low))
}

// siphash13 is SipHash-1-3 as its authors have it.
func (k Key) siphash13(m []byte) uint64 {
	w := k.words()
	v := [4]uint64{w[0] ^ 0x736f6d6570736575, w[1] ^ 0x646f72616e646f6d, w[0] ^ 0x6c7967656e657261, w[1] ^ 0x7465646279746573}
	last := uint64(len(m)) << 56
	for i, b := range m[len(m)&^7:] {
		last |= uint64(b) << (8 * i)
	}
	words := []uint64{}
	for ; len(m) >= 8; m = m[8:] {
		words = append(words, binary.LittleEndian.Uint64(m))
	}
	for _, x := range append(words, last) {
		v[3] ^= x
		sipRound(&v)
		v[0] ^= x
	}
	v[2] ^= 0xff
	for range 3 {
		sipRound(&v)
	}
	return v[0] ^ v[1] ^ v[2] ^ v[3]
}

// bake is that of bpf/cookie.h: the cookie and its timestamp.
func bake(k edgeCookieKeys, client, vip netip.AddrPort, isn uint32, low byte) (cookie, stamp uint32) {
	h := keyOf(k, k.Current).cookieHash(client, vip, isn, low)
	return k.Current<<29 | uint32(h&0x1fffff)<<8 | uint32(low), uint32(h >> 32)
}

func keyOf(k edgeCookieKeys, id uint32) (out Key) {
	binary.LittleEndian.PutUint64(out[:8], k.Key[id].Word[0])
	binary.LittleEndian.PutUint64(out[8:], k.Key[id].Word[1])
	return out
}

// The general form agrees with the one over three words that layer 4 goes by,
// which a test holds equal to the program's.
func TestSipHash(t *testing.T) {
	k := Key{1, 2, 3, 4, 5, 6, 7, 8, 9}
	var m []byte
	for _, w := range []uint64{11, 1 << 63, 77} {
		m = binary.LittleEndian.AppendUint64(m, w)
	}
	if a, b := k.siphash(11, 1<<63, 77), k.siphash13(m); a != b {
		t.Errorf("%x and %x", a, b)
	}
}

// A cookie that one node made is good on any other for 40 seconds, though their
// clocks differ by up to cookieSkew and each renews its keys at seconds of its
// own.
func TestCookiesAreGoodOnNodesWithOtherClocks(t *testing.T) {
	key := func(_ int, epoch int64) Key { return Key{byte(epoch), byte(epoch >> 8), 1} }
	at := func(d time.Duration) edgeCookieKeys {
		return cookieKeysAt(time.Unix(1_700_000_000, 0).Add(d), 1000*time.Hour, 0, key)
	}
	for made := time.Duration(0); made < 3*CookieEpoch; made += time.Second {
		maker := at(made)
		for _, skew := range []time.Duration{-cookieSkew + time.Second, -time.Second, 0, time.Second, cookieSkew - time.Second} {
			for _, later := range []time.Duration{0, time.Second, 20 * time.Second, 40 * time.Second} {
				taker := at(made + later + skew)
				if taker.Key[maker.Current] != maker.Key[maker.Current] {
					t.Fatalf("made at %s, taken %s later by a clock that is %s ahead: the key is another", made, later, skew)
				}
			}
		}
		if old := at(made + 3*CookieEpoch); old.Key[maker.Current] == maker.Key[maker.Current] {
			t.Fatalf("made at %s: still good after three epochs", made)
		}
		if left := time.Duration(maker.Until) - 1000*time.Hour; left < cookieSkew || left > CookieEpoch+cookieSkew {
			t.Fatalf("at %s keys are made under for %s more", made, left)
		}
	}
}

// Options of a SYN as Linux sends them, and in other orders.
var (
	synOptions   = []byte{2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 0, 1, 3, 3, 9}
	otherOptions = []byte{1, 3, 3, 15, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 2, 4, 0x05, 0x50, 30, 4, 0, 0, 4, 2, 0, 7}
)

// sealed is a TCP segment in an IP packet, its checksum right.
type sealed struct {
	ipHeader
	sport, dport int
	seq, ack     uint32
	flags        byte
	options      []byte // of TCP
	data         []byte
	extension    []byte // IPv6: of 8 octets, before TCP
}

func (s sealed) bytes() []byte {
	tcp := cat(be16(s.sport), be16(s.dport), binary.BigEndian.AppendUint32(nil, s.seq), binary.BigEndian.AppendUint32(nil, s.ack),
		[]byte{byte((20 + len(s.options)) / 4 << 4), s.flags, 0xff, 0xff, 0, 0, 0, 0}, s.options, s.data)
	binary.BigEndian.PutUint16(tcp[16:], sumTCP(netip.MustParseAddr(s.src), netip.MustParseAddr(s.dst), tcp))
	h := s.ipHeader
	h.proto = protoTCP
	if s.extension != nil {
		h.proto = 60
		return h.packet(cat(s.extension, tcp))
	}
	return h.packet(tcp)
}

// sumTCP is the checksum of a segment; 0 where it is right already.
func sumTCP(src, dst netip.Addr, tcp []byte) uint16 {
	return checksum(cat(src.AsSlice(), dst.AsSlice(), be16(0), be16(len(tcp)), be16(0), be16(protoTCP), tcp))
}

// cookieSpec is the fixtures' fleet, answering SYNs.
func cookieSpec(mode string, threshold int) string {
	return programSpec + fmt.Sprintf("defence: {syn_cookies: {mode: %s, threshold: %d}}\n", mode, threshold)
}

// newCookieMachine has keys too.
func newCookieMachine(t testing.TB, spec, node string, roles Roles) (*machine, edgeCookieKeys) {
	t.Helper()
	m := newMachine(t, spec, node, roles)
	k := cookieKeysAt(time.Now(), monotonic(), 0, func(generation int, epoch int64) Key { return Key{byte(epoch), 5, byte(generation)} })
	k.Until += uint64(time.Hour) // benchmarks may take long
	if err := m.Cookies.Put(uint32(0), &k); err != nil {
		t.Fatal(err)
	}
	return m, k
}

// synAck is what a SYN-ACK says.
type synAck struct {
	seq, ack    uint32
	flags       byte
	mss         uint16
	sack        bool
	scale       int // -1: none
	value, echo uint32
	stamped     bool
}

// readSynAck takes one apart, and says what is not right about it.
func readSynAck(frame []byte, from, to netip.AddrPort) (s synAck, err error) {
	ip := behindLink(frame)
	head := 40
	if ip[0]>>4 == 4 {
		head = 20
		if checksum(ip[:20]) != 0 || int(binary.BigEndian.Uint16(ip[2:])) != len(ip) {
			return s, fmt.Errorf("IP header %x, with %d octets behind", ip[:20], len(ip)-20)
		}
	} else if int(binary.BigEndian.Uint16(ip[4:])) != len(ip)-40 || ip[6] != protoTCP {
		return s, fmt.Errorf("IP header %x, with %d octets behind", ip[:40], len(ip)-40)
	}
	n := from.Addr().BitLen() / 8
	src, _ := netip.AddrFromSlice(ip[head-2*n : head-n])
	dst, _ := netip.AddrFromSlice(ip[head-n : head])
	tcp := ip[head:]
	src2, dst2 := netip.AddrPortFrom(src, binary.BigEndian.Uint16(tcp)), netip.AddrPortFrom(dst, binary.BigEndian.Uint16(tcp[2:]))
	if src2 != from || dst2 != to {
		return s, fmt.Errorf("from %s to %s", src2, dst2)
	}
	if sumTCP(src, dst, tcp) != 0 {
		return s, fmt.Errorf("the checksum is wrong")
	}
	s = synAck{seq: binary.BigEndian.Uint32(tcp[4:]), ack: binary.BigEndian.Uint32(tcp[8:]), flags: tcp[13], scale: -1}
	if int(tcp[12]>>4)*4 != len(tcp) {
		return s, fmt.Errorf("a header of %d octets in a segment of %d", tcp[12]>>4*4, len(tcp))
	}
	for o := tcp[20:]; len(o) > 0; {
		switch o[0] {
		case 1:
			o = o[1:]
			continue
		case 2:
			s.mss = binary.BigEndian.Uint16(o[2:])
		case 3:
			s.scale = int(o[2])
		case 4:
			s.sack = true
		case 8:
			s.stamped, s.value, s.echo = true, binary.BigEndian.Uint32(o[2:]), binary.BigEndian.Uint32(o[6:])
		}
		o = o[o[1]:]
	}
	return s, nil
}

// A SYN is answered in the VIP's name, whatever it comes in, by no longer a header than its own, and the cookie says
// what the client can do.
func TestSYNIsAnsweredWithACookie(t *testing.T) {
	m, keys := newCookieMachine(t, cookieSpec("always", 1), "lb", Roles{L4: true})
	for _, c := range []struct {
		name string
		in   sealed
		tags []int
		low  byte // of the cookie
		want synAck
	}{
		{"all options", sealed{options: synOptions}, nil, 3<<6 | 1<<4 | 9, synAck{mss: 1412, sack: true, scale: 7, stamped: true, echo: 0x11223344}},
		{"no options", sealed{}, nil, 15, synAck{scale: -1}},
		{"options in another order, a scale beyond the largest, and an end before the end", sealed{options: otherOptions}, nil,
			1<<6 | 1<<4 | 14, synAck{mss: 1412, sack: true, scale: 7, stamped: true, echo: 1}},
		{"an option that is cut short ends them", sealed{options: []byte{4, 2, 8, 20}}, nil, 1<<4 | 15, synAck{sack: true, scale: -1}},
		{"ECN", sealed{flags: 0xc0, options: synOptions[:4]}, nil, 3<<6 | 1<<5 | 15, synAck{mss: 1412, scale: -1, flags: 0x40}},
		{"data, an odd number of octets", sealed{data: []byte(strings.Repeat("abc", 77))}, nil, 15, synAck{scale: -1}},
		{"a VLAN tag", sealed{options: synOptions[:4]}, []int{42}, 3<<6 | 15, synAck{mss: 1412, scale: -1}},
		{"two VLAN tags", sealed{}, []int{42, 43}, 15, synAck{scale: -1}},
		{"IPv4 options", sealed{ipHeader: ipHeader{options: []byte{1, 1, 1, 0}}, options: synOptions}, nil,
			3<<6 | 1<<4 | 9, synAck{mss: 1412, sack: true, scale: 7, stamped: true, echo: 0x11223344}},
		{"IPv6", sealed{ipHeader: ipHeader{dst: any6}, options: synOptions}, nil,
			3<<6 | 1<<4 | 9, synAck{mss: 1392, sack: true, scale: 7, stamped: true, echo: 0x11223344}},
		{"IPv6 extension headers", sealed{ipHeader: ipHeader{dst: any6}, extension: []byte{protoTCP, 0, 1, 4, 0, 0, 0, 0}}, nil,
			15, synAck{scale: -1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.in.src = client6
			if c.in.dst == "" {
				c.in.src, c.in.dst = client4, any4
			}
			c.in.sport, c.in.dport, c.in.seq, c.in.flags = 5000, 443, 0xfffffff0, c.in.flags|syn
			client, vip := netip.AddrPortFrom(netip.MustParseAddr(c.in.src), 5000), netip.AddrPortFrom(netip.MustParseAddr(c.in.dst), 443)
			verdict, out, reasons := m.send(t, fromRouter(c.in.bytes(), c.tags...))
			if verdict != "tx" || strings.Join(reasons, " ") != "tx_cookie" {
				t.Fatalf("%s %v", verdict, reasons)
			}
			head := frame(macRouter, macNode, c.in.bytes(), c.tags...)[:14+4*len(c.tags)]
			if string(out[:len(head)]) != string(head) {
				t.Errorf("link header %x, expected %x", out[:len(head)], head)
			}
			got, err := readSynAck(out[len(head)-14:], vip, client)
			if err != nil {
				t.Fatal(err)
			}
			c.want.flags |= syn | ack
			c.want.ack = c.in.seq + 1
			c.want.seq, c.want.value = bake(keys, client, vip, c.in.seq, c.low)
			if !c.want.stamped {
				c.want.value = 0
			}
			if got != c.want {
				t.Errorf("answer %+v, expected %+v", got, c.want)
			}
		})
	}
}

// The ACK that brings a cookie back is let through, on any balancer, and so is
// all that follows; what is of no known flow, up to a number.
func TestWhatPassesUnderAttack(t *testing.T) {
	maker, _ := newCookieMachine(t, cookieSpec("always", 1), "lb", Roles{L4: true})
	m, _ := newCookieMachine(t, cookieSpec("always", 1), "lb", Roles{L4: true})
	flow := sealed{ipHeader: ipHeader{src: client4, dst: any4}, sport: 5000, dport: 443, seq: 1000, flags: syn, options: synOptions}
	_, out, _ := maker.send(t, fromRouter(flow.bytes()))
	s, err := readSynAck(out, netip.MustParseAddrPort(any4+":443"), netip.MustParseAddrPort(client4+":5000"))
	if err != nil {
		t.Fatal(err)
	}
	stamp := func(echo uint32) []byte {
		return binary.BigEndian.AppendUint32([]byte{1, 1, 8, 10, 0, 0, 0, 9}, echo)
	}
	third := flow
	third.flags, third.seq, third.ack, third.options = ack, 1001, s.seq+1, stamp(s.value)
	with := func(change func(*sealed)) []byte {
		p := third
		change(&p)
		return fromRouter(p.bytes())
	}
	passes := func(name string, in []byte, reasons string) {
		t.Helper()
		if verdict, _, got := m.send(t, in); verdict != "tx" || strings.Join(got, " ") != reasons {
			t.Errorf("%s: %s %v, expected tx %s", name, verdict, got, reasons)
		}
	}
	const stranger = "cookie_stranger flow_safe tx_tunnel"
	passes("another acknowledgement", with(func(p *sealed) { p.ack++ }), stranger)
	passes("another sequence number", with(func(p *sealed) { p.seq++ }), stranger)
	passes("other low bits", with(func(p *sealed) { p.ack ^= 1 << 7 }), stranger)
	passes("another epoch's key", with(func(p *sealed) { p.ack ^= 1 << 29 }), stranger)
	for id := range uint32(8) {
		if of := s.seq&(1<<29-1) | id<<29; of != s.seq {
			passes(fmt.Sprintf("key %d", id), with(func(p *sealed) { p.ack = of + 1 }), stranger)
		}
	}
	passes("another client", with(func(p *sealed) { p.src = "203.0.113.6" }), stranger)
	passes("another port", with(func(p *sealed) { p.sport++ }), stranger)
	passes("another timestamp", with(func(p *sealed) { p.options = stamp(s.value ^ 1) }), stranger)
	passes("a reset", with(func(p *sealed) { p.flags |= rst }), stranger)
	passes("a SYN-ACK", with(func(p *sealed) { p.flags |= syn }), stranger)
	passes("an ICMP error about what a gateway sent", fromRouter(ipHeader{src: "192.0.2.254", dst: any4, proto: 1}.packet(icmp4(3, 4, 1400,
		ipHeader{src: any4, dst: client4, proto: protoTCP}.packet(segment(443, 5000, ack))[:28]))), stranger)
	passes("a later fragment", fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP, frag: 100}.packet(make([]byte, 24))),
		"cookie_stranger flow_fragment_row tx_tunnel")
	passes("the cookie, with data", with(func(p *sealed) { p.data = []byte("GET /") }), "cookie_valid flow_safe tx_tunnel")
	passes("what follows", with(func(p *sealed) { p.seq, p.options = 2000, stamp(77) }), "flow_safe tx_tunnel")
	passes("an ICMP error about the connection", fromRouter(ipHeader{src: "192.0.2.254", dst: any4, proto: 1}.packet(icmp4(3, 4, 1400,
		ipHeader{src: any4, dst: client4, proto: protoTCP}.packet(segment(443, 5000, ack))[:28]))), "flow_safe tx_tunnel")
	passes("UDP", fromRouter(ipHeader{src: client4, dst: any4, proto: protoUDP}.packet(datagram(5000, 53))), "flow_new tx_l2")
	passes("a SYN for a service that goes straight to endpoints",
		fromRouter(sealed{ipHeader: ipHeader{src: client4, dst: any4}, sport: 5000, dport: 66, flags: syn}.bytes()), "flow_new tx_tunnel")
}

// A SYN that is not whole is not answered: its checksum is wrong, or it is in
// fragments, or it brings more than any client sends.
func TestSYNThatIsNotWhole(t *testing.T) {
	m, _ := newCookieMachine(t, cookieSpec("always", 1), "lb", Roles{L4: true})
	good := sealed{ipHeader: ipHeader{src: client4, dst: any4}, sport: 5000, dport: 443, flags: syn, options: synOptions, data: []byte("abcde")}
	six := good
	six.src, six.dst = client6, any6
	wrong := func(s sealed, at int) []byte {
		b := s.bytes()
		b[len(b)-at] ^= 1
		return fromRouter(b)
	}
	cut := good
	cut.frag = 0x2000
	long := good
	long.data = make([]byte, 1537)
	short := good.bytes()
	short[20+12] = 0xf0 // a header longer than the segment
	m.check(t, []fixture{
		{"a bit in the data", wrong(good, 1), "drop", nil, "drop_bad_checksum"},
		{"a bit in the options", wrong(good, 9), "drop", nil, "drop_bad_checksum"},
		{"a bit in the data, IPv6", wrong(six, 1), "drop", nil, "drop_bad_checksum"},
		{"from another source", fromRouter(cat(good.bytes()[:12], []byte{1, 2, 3, 4}, good.bytes()[16:])), "drop", nil, "drop_bad_checksum"},
		{"a first fragment", fromRouter(cut.bytes()), "drop", nil, "drop_bad_checksum"},
		{"much data", fromRouter(long.bytes()), "drop", nil, "drop_bad_checksum"},
		{"a header that does not fit", fromRouter(short), "drop", nil, "drop_bad_checksum"},
	})
	if verdict, _, reasons := m.send(t, fromRouter(good.bytes())); verdict != "tx" || reasons[0] != "tx_cookie" {
		t.Errorf("as it was: %s %v", verdict, reasons)
	}
}

// Without keys in force a balancer makes no cookies, and holds nothing up.
func TestWithoutKeysTheGateStandsOpen(t *testing.T) {
	m := newMachine(t, cookieSpec("always", 1), "lb", Roles{L4: true})
	in := fromRouter(sealed{ipHeader: ipHeader{src: client4, dst: any4}, sport: 5000, dport: 443, flags: syn}.bytes())
	keys := cookieKeysAt(time.Now(), monotonic()-2*CookieEpoch, 0, func(int, int64) Key { return Key{1} })
	for _, when := range []string{"none", "not renewed"} {
		if verdict, _, reasons := m.send(t, in); verdict != "tx" || strings.Join(reasons, " ") != "flow_safe tx_tunnel" {
			t.Errorf("keys %s: %s %v", when, verdict, reasons)
		}
		if err := m.Cookies.Put(uint32(0), &keys); err != nil {
			t.Fatal(err)
		}
	}
}

// No cookie is made under the keys of zeros that a table begins with, nor taken.
func TestNoKeysAreNoKey(t *testing.T) {
	m := newMachine(t, cookieSpec("always", 1), "gw", Roles{L7: true})
	client, vip := netip.MustParseAddrPort(client4+":5000"), netip.MustParseAddrPort(any4+":443")
	cookie, _ := bake(edgeCookieKeys{}, client, vip, 1000, 15)
	in := sealed{ipHeader: ipHeader{src: client4, dst: any4}, sport: 5000, dport: 443, seq: 1001, ack: cookie + 1, flags: ack}
	if got := m.atGateway(t, acceptProgram, nil, in.bytes()); got != "" {
		t.Errorf("counted %s", got)
	}
}

// atGateway runs a packet through one of the gateway's programs in a namespace
// (nil: this one) and gives the reasons that were counted.
func (m *machine) atGateway(t *testing.T, name string, ns *netns.NS, ip []byte) string {
	t.Helper()
	prog, err := m.gatewayProgram(name)
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	before, err := m.counters()
	if err != nil {
		t.Fatal(err)
	}
	run := func() error {
		_, err := prog.Run(&ebpf.RunOptions{Data: fromRouter(ip), DataOut: make([]byte, 2048)})
		return err
	}
	if ns != nil {
		err = ns.Do(run)
	} else {
		err = run()
	}
	if err != nil {
		t.Fatal(err)
	}
	after, err := m.counters()
	if err != nil {
		t.Fatal(err)
	}
	var reasons []string
	for _, name := range m.reasons {
		if after[name] != before[name] {
			reasons = append(reasons, name)
		}
	}
	return strings.Join(reasons, " ")
}

// The verdicts of the gateway's programs that no packet on a device meets: in a
// test run the kernel makes no connection, for the packet comes from nowhere.
func TestGatewayPrograms(t *testing.T) {
	testkit.Root(t)
	ns, err := netns.New("gw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	if err := ns.Sysctl("net/ipv4/tcp_syncookies", "2"); err != nil {
		t.Fatal(err)
	}
	l, err := ns.Listen("tcp", "[::]:443")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m, keys := newCookieMachine(t, cookieSpec("auto", 1), "gw", Roles{L7: true})
	client, vip := netip.MustParseAddrPort(client4+":5000"), netip.MustParseAddrPort(any4+":443")
	cookie, _ := bake(keys, client, vip, 1000, 3<<6|15)
	third := sealed{ipHeader: ipHeader{src: client4, dst: any4}, sport: 5000, dport: 443, seq: 1001, ack: cookie + 1, flags: ack}
	if got := m.atGateway(t, acceptProgram, ns, third.bytes()); got != "cookie_refused" {
		t.Errorf("a cookie in a test run: counted %q", got)
	}
	other := third
	other.ack++
	if got := m.atGateway(t, acceptProgram, ns, other.bytes()); got != "" {
		t.Errorf("no cookie: counted %q", got)
	}
	m.apply(t, cookieSpec("kernel", 1), "gw", Roles{L7: true})
	first := sealed{ipHeader: ipHeader{src: client4, dst: any4}, sport: 5000, dport: 443, seq: 1000, flags: syn, options: synOptions}
	if got := m.atGateway(t, replyProgram, ns, first.bytes()); got != "tx_cookie" {
		t.Errorf("a SYN: counted %q", got)
	}
	bad := first.bytes()
	bad[len(bad)-1] ^= 1
	if got := m.atGateway(t, replyProgram, ns, bad); got != "drop_bad_checksum" {
		t.Errorf("a SYN with a wrong checksum: counted %q", got)
	}
	first.dport = 80
	if got := m.atGateway(t, replyProgram, ns, first.bytes()); got != "" {
		t.Errorf("a SYN for no service: counted %q", got)
	}
}
