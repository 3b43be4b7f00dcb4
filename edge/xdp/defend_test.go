package xdp

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"meridian/edge/defence"
	"meridian/fleet"
	"meridian/geo"
)

// atlas is a small geo database, in ascending order.
type atlas []struct {
	network string
	place   geo.Place
}

func (a atlas) String() string { return "test" }

func (a atlas) Networks() iter.Seq2[netip.Prefix, geo.Place] {
	return func(yield func(netip.Prefix, geo.Place) bool) {
		for _, n := range a {
			if !yield(netip.MustParsePrefix(n.network), n.place) {
				return
			}
		}
	}
}

func (a atlas) Lookup(addr netip.Addr) (geo.Place, bool) {
	for _, n := range a {
		if netip.MustParsePrefix(n.network).Contains(addr) {
			return n.place, true
		}
	}
	return geo.Place{}, false
}

var world = atlas{
	{"192.0.2.0/25", geo.Place{Country: "DE", ASN: 64500}},
	{"192.0.2.128/25", geo.Place{Country: "FR", ASN: 64501}},
	{"198.18.0.0/15", geo.Place{Country: "FR", ASN: 64502}},
	{"2001:db8:f::/48", geo.Place{Country: "FR", ASN: 64501}},
}

// defend has the machine defend itself as the Spec's section says.
func (m *machine) defend(t testing.TB, section string) {
	t.Helper()
	spec := worldOf(t, programSpec+"defence: "+section+"\n").Snapshot.Spec
	s := newShield(func() (geo.Source, error) { return world, nil }, func() {})
	if err := s.apply(spec.Defence, m.want.ours()); err != nil {
		t.Fatal(err)
	}
	m.guard = s.guard.Load()
	m.reconcile(t)
}

// becomes gives what became of a packet, by its reason.
func (m *machine) becomes(t testing.TB, packet []byte) string {
	t.Helper()
	_, _, reasons := m.send(t, fromRouter(packet))
	reasons = slices.DeleteFunc(reasons, func(r string) bool {
		return strings.HasPrefix(r, "flow_") || strings.HasPrefix(r, "chance_")
	})
	return strings.Join(reasons, " ")
}

func tcpFrom(src string, flags byte) []byte {
	dst := any4
	if strings.Contains(src, ":") {
		dst = any6
	}
	return ipHeader{src: src, dst: dst, proto: protoTCP}.packet(segment(5000, 443, flags))
}

func udpFrom(src string, sport int) []byte {
	return ipHeader{src: src, dst: any4, proto: protoUDP}.packet(datagram(sport, 53, 1, 2, 3))
}

// expect sends packets and compares what becomes of each.
func (m *machine) expect(t *testing.T, cases []packetCase) {
	t.Helper()
	for _, c := range cases {
		if got := m.becomes(t, c.packet); got != c.want {
			t.Errorf("%s: %s, expected %s", c.name, got, c.want)
		}
	}
}

type packetCase struct {
	name   string
	packet []byte
	want   string
}

// TCP flags that stand together in no segment are dropped, and no others.
func TestBogusFlags(t *testing.T) {
	m := newMachine(t, programSpec, "lb", Roles{L4: true})
	m.defend(t, "{}")
	legal := map[byte]bool{syn: true, syn | 0x20: true, syn | ack: true, rst: true, rst | ack: true, 1 | ack: true,
		1 | ack | 0x20: true, ack: true, ack | 0x20: true}
	for flags := range 256 {
		want := "drop_bogus_flags"
		if legal[byte(flags)&0x37] {
			want = "tx_tunnel"
		}
		if got := m.becomes(t, tcpFrom(client4, byte(flags))); got != want {
			t.Errorf("flags %02x: %s, expected %s", flags, got, want)
		}
	}
	sent := ipHeader{src: any4, dst: client4, proto: protoTCP, frag: df}.packet(segment(443, 5000, ack))
	m.expect(t, []packetCase{
		{"IPv6", tcpFrom(client6, syn|1), "drop_bogus_flags"},
		{"at a port without a service", ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(5000, 80, 0)), "drop_bogus_flags"},
		{"not for a VIP", ipHeader{src: client4, dst: "10.0.0.1", proto: protoTCP}.packet(segment(5000, 443, 0)), "pass_other"},
		{"an ICMP error about TCP", ipHeader{src: "192.0.2.254", dst: any4, proto: 1}.packet(icmp4(3, 4, 1400, sent[:28])), "tx_tunnel"},
		{"a later fragment", ipHeader{src: client4, dst: any4, proto: protoTCP, frag: 100}.packet(make([]byte, 64)), "tx_tunnel"},
	})
	m.guard = nil
	m.reconcile(t)
	m.expect(t, []packetCase{{"without defence", tcpFrom(client4, 0), "tx_tunnel"}})
}

// What has an address that no client has is dropped.
func TestMartians(t *testing.T) {
	m := newMachine(t, programSpec, "lb", Roles{L4: true})
	m.defend(t, `{allow: {prefixes: [0.0.0.0/0, "::/0"]}}`)
	for _, src := range []string{"0.1.2.3", "127.0.0.1", "169.254.9.9", "224.0.0.1", "240.0.0.1", "255.255.255.255", any4, "10.0.0.1",
		"::", "::1", "ff02::1", "fe80::1", any6, "fd00::1"} {
		m.expect(t, []packetCase{{src, tcpFrom(src, syn), "drop_martian"}})
	}
	for _, src := range []string{"10.0.0.7", "192.168.1.1", "126.255.255.255", "128.0.0.0", "223.255.255.255", "fd00::7", "2002:7f00:1::1", "64:ff9b::7f00:1"} {
		m.expect(t, []packetCase{{src, tcpFrom(src, syn), "tx_tunnel"}})
	}
	m.defend(t, `{static: false}`)
	m.expect(t, []packetCase{{"not asked for", tcpFrom("127.0.0.1", 0), "tx_tunnel"}})
}

// Networks of VIPs are VIPs: nothing comes from them, and rules and limits may be
// for them.
func TestNetworksAreDefendedToo(t *testing.T) {
	spec := strings.NewReplacer(`v6: ["2001:db8:a::1"]}`, `v6: ["2001:db8:a::1"], prefixes: [198.51.100.16/28, "2001:db8:b::/64"]}`,
		"protocol: udp, ports: [53], forwarding: l2_dsr", "protocol: udp, ports: [53]").Replace(programSpec)
	m := newMachine(t, spec, "lb", Roles{L4: true})
	to := func(src, dst string) []byte {
		return ipHeader{src: src, dst: dst, proto: protoUDP}.packet(datagram(5000, 53))
	}
	m.defend(t, "{rules: [{name: r, match: {vip: 198.51.100.16/29}}]}")
	m.expect(t, []packetCase{
		{"from one of them", tcpFrom("198.51.100.31", syn), "drop_martian"},
		{"from one of them, IPv6", tcpFrom("2001:db8:b::77", syn), "drop_martian"},
		{"from behind it", tcpFrom("198.51.100.32", syn), "tx_tunnel"},
		{"a rule for a part of it", to(client4, "198.51.100.23"), "drop_rule"},
		{"the rest of it", to(client4, "198.51.100.24"), "tx_tunnel"},
	})
	m.defend(t, "{limits: {per_vip: 2}}")
	m.expect(t, []packetCase{
		{"1 to the network", to(client4, "198.51.100.17"), "tx_tunnel"}, {"2", to(client4, "198.51.100.18"), "tx_tunnel"},
		{"3: the network has one limit", to(client4, "198.51.100.19"), "drop_vip_limit"},
	})
}

func TestReflectionPorts(t *testing.T) {
	m := newMachine(t, programSpec, "lb", Roles{L4: true})
	m.defend(t, `{reflection_ports: [19, 123, 65535], allow: {prefixes: [203.0.113.77/32]}}`)
	m.expect(t, []packetCase{
		{"a port on the list", udpFrom(client4, 123), "drop_reflected"},
		{"the last port", udpFrom(client4, 65535), "drop_reflected"},
		{"before the allow list", udpFrom("203.0.113.77", 19), "drop_reflected"},
		{"a port that is not", udpFrom(client4, 124), "tx_l2"},
		{"TCP", ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(123, 443, syn)), "tx_tunnel"},
	})
}

func TestLists(t *testing.T) {
	m := newMachine(t, programSpec, "lb", Roles{L4: true})
	m.defend(t, `
  allow: {prefixes: [203.0.113.8/30, 198.18.0.0/16, "2001:db8:bad:1::/64"], countries: [DE], asns: [64502]}
  block: {prefixes: [203.0.113.0/24, 198.18.5.0/24, "2001:db8:bad::/48", 192.0.2.9/32], countries: [FR, DE], asns: [64500, 64501]}`)
	m.expect(t, []packetCase{
		{"a blocked network", tcpFrom("203.0.113.5", syn), "drop_blocked"},
		{"its last address", tcpFrom("203.0.113.255", syn), "drop_blocked"},
		{"behind it", tcpFrom("203.0.114.0", syn), "tx_tunnel"},
		{"an allowed one inside", tcpFrom("203.0.113.11", syn), "tx_tunnel"},
		{"behind that", tcpFrom("203.0.113.12", syn), "drop_blocked"},
		{"a blocked one inside an allowed one", tcpFrom("198.18.5.1", syn), "tx_tunnel"},
		{"IPv6", tcpFrom("2001:db8:bad:2::1", syn), "drop_blocked"},
		{"IPv6, allowed inside", tcpFrom("2001:db8:bad:1::1", syn), "tx_tunnel"},
		{"a country and its AS on both lists", tcpFrom("192.0.2.1", syn), "tx_tunnel"},
		{"a blocked network in an allowed country", tcpFrom("192.0.2.9", syn), "tx_tunnel"},
		{"a blocked country", tcpFrom("192.0.2.200", syn), "drop_blocked_country"},
		{"a blocked country, IPv6", tcpFrom("2001:db8:f::1", syn), "drop_blocked_country"},
		{"a blocked country's allowed AS", tcpFrom("198.19.0.1", syn), "tx_tunnel"},
		{"a port without a service", ipHeader{src: "203.0.113.5", dst: any4, proto: protoTCP}.packet(segment(5000, 80, syn)), "drop_blocked"},
		{"an echo request", ipHeader{src: "203.0.113.5", dst: any4, proto: 1}.packet(icmp4(8, 0, 1, nil)), "drop_blocked"},
		{"to the node itself", ipHeader{src: "203.0.113.5", dst: "10.0.0.1", proto: protoTCP}.packet(segment(5000, 22, syn)), "pass_other"},
	})
	m.defend(t, `{block: {asns: [64501]}}`)
	m.expect(t, []packetCase{
		{"a blocked AS", tcpFrom("192.0.2.200", syn), "drop_blocked_asn"},
		{"another AS", tcpFrom("192.0.2.1", syn), "tx_tunnel"},
		{"no longer on the list", tcpFrom("203.0.113.5", syn), "tx_tunnel"},
	})
}

// The program finds in the rows what Go finds in the table.
func TestListsAgreeWithGo(t *testing.T) {
	m := newMachine(t, programSpec, "lb", Roles{L4: true})
	rnd := rand.New(rand.NewPCG(1, 2))
	var block, near []string
	for range 3000 {
		var a netip.Addr
		if rnd.IntN(2) == 0 {
			a = netip.AddrFrom4([4]byte{byte(rnd.IntN(223)), byte(rnd.IntN(3)), byte(rnd.IntN(256)), byte(rnd.IntN(256))})
		} else {
			a = netip.AddrFrom16([16]byte{0x20, 1, byte(rnd.IntN(4)), byte(rnd.IntN(256)), 7: byte(rnd.IntN(256)), 15: byte(rnd.IntN(256))})
		}
		p, _ := a.Prefix(8 + rnd.IntN(a.BitLen()-7))
		block = append(block, fmt.Sprintf("%q", p))
		near = append(near, a.String(), p.Addr().String())
		if before := p.Addr().Prev(); before.IsValid() {
			near = append(near, before.String())
		}
	}
	m.defend(t, fmt.Sprintf("{static: false, block: {prefixes: [%s]}}", strings.Join(block, ", ")))
	want := map[geo.Class]string{defence.None: "tx_tunnel", defence.Blocked: "drop_blocked"}
	met := map[geo.Class]int{}
	for _, a := range near {
		class, _ := m.guard.table.Lookup(netip.MustParseAddr(a))
		met[class]++
		if got := m.becomes(t, tcpFrom(a, syn)); got != want[class] {
			t.Fatalf("%s: %s, expected %s", a, got, want[class])
		}
	}
	if met[defence.None] == 0 || met[defence.Blocked] == 0 {
		t.Errorf("not all classes were met: %v", met)
	}
}

// A list that the database cannot tell is refused, and so is one without a
// database.
func TestListsNeedTheirDatabase(t *testing.T) {
	on := true
	asns := &fleet.Defence{Static: &on, Block: fleet.Sources{ASNs: []uint32{64500}}}
	for name, s := range map[string]*shield{
		"no AS numbers": newShield(func() (geo.Source, error) { return atlas{{"192.0.2.0/24", geo.Place{Country: "DE"}}}, nil }, func() {}),
		"no database":   newShield(nil, func() {}),
	} {
		if err := s.apply(asns, nil); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	s := newShield(func() (geo.Source, error) { return world, nil }, func() {})
	if err := s.apply(asns, nil); err != nil {
		t.Fatal(err)
	}
	before := s.guard.Load()
	if err := s.setGeo(atlas{{"192.0.2.0/24", geo.Place{Country: "DE"}}}); err == nil || s.guard.Load() != before {
		t.Errorf("a database without AS numbers was taken into use: %v", err)
	}
}

// Each field of a rule matches what it says and nothing else.
func TestRuleFields(t *testing.T) {
	m := newMachine(t, programSpec, "lb", Roles{L4: true})
	udp := func(h ipHeader, sport int, payload ...byte) []byte {
		h.src, h.dst, h.proto = client4, any4, protoUDP
		return h.packet(datagram(sport, 53, payload...))
	}
	base := udp(ipHeader{}, 1000, 1, 2, 3)
	sent := ipHeader{src: any4, dst: client4, proto: protoTCP, frag: df}.packet(segment(443, 5000, ack))
	need := ipHeader{src: "192.0.2.254", dst: any4, proto: 1}.packet(icmp4(3, 4, 1400, sent[:28]))
	for _, c := range []struct {
		match   string
		hit     []byte
		miss    []byte
		missing string // what becomes of miss
	}{
		{"protocol: udp", base, tcpFrom(client4, syn), "tx_tunnel"},
		{"protocol: tcp", tcpFrom(client6, syn), base, "tx_l2"},
		{"protocol: icmp", need, tcpFrom(client4, ack), "tx_tunnel"},
		{`protocol: tcp, flags: "syn,!ack"`, tcpFrom(client4, syn), tcpFrom(client4, syn|ack), "tx_tunnel"},
		{"source: 203.0.113.0/24", base, udpFrom("203.0.112.255", 1000), "tx_l2"},
		{`source: "2001:db8:c::/48"`, tcpFrom(client6, syn), tcpFrom("2001:db8:d::5", syn), "tx_tunnel"},
		{`source: "::/0"`, tcpFrom(client6, syn), base, "tx_l2"},
		{"source: 0.0.0.0/0", base, tcpFrom(client6, syn), "tx_tunnel"},
		{"vip: 198.51.100.1", tcpFrom(client4, syn), tcpFrom(client6, syn), "tx_tunnel"},
		{"protocol: udp, source_port: 1000-1002", udp(ipHeader{}, 1002), udp(ipHeader{}, 1003), "tx_l2"},
		{"protocol: udp, source_port: 1000-1002", udp(ipHeader{}, 1000), udp(ipHeader{}, 999), "tx_l2"},
		{"protocol: tcp, port: 443", tcpFrom(client4, syn), base, "tx_l2"},
		{"length: 31", base, udp(ipHeader{}, 1000, 1, 2, 3, 4), "tx_l2"},
		{"length: 31-32", udp(ipHeader{}, 1000, 1, 2, 3, 4), udp(ipHeader{}, 1000), "tx_l2"},
		{"ttl: 5-7", udp(ipHeader{ttl: 7}, 1000), udp(ipHeader{ttl: 8}, 1000), "tx_l2"},
		{"fragment: no", base, udp(ipHeader{frag: 0x2000}, 1000), "tx_l2"},
		{"fragment: first", udp(ipHeader{frag: 0x2000}, 1000), udp(ipHeader{frag: 9}, 1000), "tx_l2"},
		{"fragment: later", udp(ipHeader{frag: 9}, 1000), base, "tx_l2"},
		{"fragment: yes", udp(ipHeader{frag: 0x2000}, 1000), base, "tx_l2"},
		{"protocol: udp, port: 53", base, udp(ipHeader{frag: 9}, 1000), "tx_l2"},
	} {
		m.defend(t, "{rules: [{name: one, match: {"+c.match+"}}]}")
		m.expect(t, []packetCase{{c.match, c.hit, "drop_rule"}, {"other than " + c.match, c.miss, c.missing}})
	}
}

// The first rule that matches decides; one that counts decides nothing.
func TestRulesInOrder(t *testing.T) {
	m := newMachine(t, programSpec, "lb", Roles{L4: true})
	m.defend(t, `
  rules:
    - {name: seen, match: {protocol: udp}, mode: count}
    - {name: some, match: {source: 203.0.113.0/25}, mode: rate, rate: 2}
    - {name: none, match: {source: 203.0.113.0/24}}`)
	m.expect(t, []packetCase{
		{"under the rate", udpFrom("203.0.113.1", 1000), "tx_l2"},
		{"under the rate", udpFrom("203.0.113.2", 1000), "tx_l2"},
		{"above it", udpFrom("203.0.113.1", 1000), "drop_rule_rate"},
		{"the next rule", udpFrom("203.0.113.128", 1000), "drop_rule"},
		{"none", udpFrom("203.0.112.1", 1000), "tx_l2"},
		{"not counted", tcpFrom("203.0.113.128", syn), "drop_rule"},
	})
	for name, want := range map[string]edgeTally{
		"seen": {Packets: 5, Octets: 5 * 31}, "some": {Packets: 3, Octets: 3 * 31, Dropped: 1}, "none": {Packets: 2, Octets: 31 + 40, Dropped: 2},
	} {
		got, err := m.tally(m.rec.defended.index[ruleKey{name, false}])
		if err != nil || got != want {
			t.Errorf("rule %s: %+v (%v), expected %+v", name, got, err, want)
		}
	}
}

// A rule whose time has come is passed over by the program itself.
func TestRulesExpire(t *testing.T) {
	m := newMachine(t, programSpec, "lb", Roles{L4: true})
	now := bootSecond(time.Now())
	drop := rule{PacketRule: fleet.PacketRule{Name: "one", Mode: fleet.RuleDrop, Match: fleet.PacketMatch{Protocol: fleet.ProtocolUDP}}}
	for until, want := range map[uint32]string{0: "drop_rule", now + 1000: "drop_rule", now - 2: "tx_l2", 1: "tx_l2"} { // the program's clock may be a tick behind
		drop.until = until
		m.guard = &guard{rules: []rule{drop}}
		m.reconcile(t)
		m.expect(t, []packetCase{{fmt.Sprintf("until %d, at %d", until, now), udpFrom(client4, 1000), want}})
	}
}

func TestSourceLimit(t *testing.T) {
	m := newMachine(t, programSpec, "lb", Roles{L4: true})
	m.defend(t, `{limits: {per_source: 2}, allow: {prefixes: [203.0.113.77/32]}}`)
	m.expect(t, []packetCase{
		{"1", udpFrom("203.0.113.1", 1000), "tx_l2"},
		{"2", tcpFrom("203.0.113.1", syn), "tx_tunnel"},
		{"3", udpFrom("203.0.113.1", 1001), "drop_source_limit"},
		{"another address", udpFrom("203.0.113.2", 1000), "tx_l2"},
		{"IPv6, 1", tcpFrom("2001:db8:c::1", syn), "tx_tunnel"},
		{"IPv6, 2", tcpFrom("2001:db8:c::2", syn), "tx_tunnel"},
		{"IPv6, 3: its /64 counts", tcpFrom("2001:db8:c::3", syn), "drop_source_limit"},
		{"IPv6, another /64", tcpFrom("2001:db8:c:1::3", syn), "tx_tunnel"},
	})
	for range 5 {
		m.expect(t, []packetCase{{"allowed", udpFrom("203.0.113.77", 1000), "tx_l2"}})
	}
}

// The table of sources forgets those who send little before the one who sends
// too much.
func TestFloodsDoNotWashOutASource(t *testing.T) {
	m := newMachine(t, programSpec, "lb", Roles{L4: true})
	m.defend(t, `{limits: {per_source: 1}}`)
	m.expect(t, []packetCase{{"first", udpFrom("203.0.113.1", 1000), "tx_l2"}})
	rows := make([]edgeDebts, m.Sources.MaxEntries())
	for i := range rows {
		if err := m.Sources.Lookup(uint32(i), &rows[i]); err != nil {
			t.Fatal(err)
		}
		if rows[i] == (edgeDebts{}) {
			continue // the source's is another
		}
		for j, way := range rows[i].Way {
			if way == 0 {
				rows[i].Way[j] = 1<<48 | uint64(j+1) // others, without debt
			}
		}
		if err := m.Sources.Put(uint32(i), &rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	m.expect(t, []packetCase{{"again", udpFrom("203.0.113.1", 1000), "drop_source_limit"}})
}

func TestVIPLimit(t *testing.T) {
	m := newMachine(t, programSpec, "lb", Roles{L4: true})
	m.defend(t, `{limits: {per_vip: 2}}`)
	m.expect(t, []packetCase{
		{"1", udpFrom("203.0.113.1", 1000), "tx_l2"},
		{"2", udpFrom("203.0.113.2", 1000), "tx_l2"},
		{"3", udpFrom("203.0.113.3", 1000), "drop_vip_limit"},
		{"another port", tcpFrom("203.0.113.3", syn), "tx_tunnel"},
	})
}

// High rates are let through to within the batches that a CPU pays at once.
func TestRatesAreExact(t *testing.T) {
	m := newMachine(t, programSpec, "lb", Roles{L4: true})
	const rate = 100_000 // a burst of a second's packets
	m.defend(t, fmt.Sprintf("{static: false, rules: [{name: r, match: {protocol: udp}, mode: rate, rate: %d}]}", rate))
	frame := fromRouter(ipHeader{src: client4, dst: any4, proto: protoUDP}.packet(datagram(1000, 54)))
	before := bootSecond(time.Now())
	if _, err := m.edgeObjects.Edge.Run(&ebpf.RunOptions{Data: frame, Repeat: 2 * rate}); err != nil {
		t.Fatal(err)
	}
	seconds := int(bootSecond(time.Now())-before) + 1
	got, err := m.tally(0)
	if err != nil {
		t.Fatal(err)
	}
	if passed := int(got.Packets - got.Dropped); passed < rate || passed > rate*(1+seconds) {
		t.Errorf("%d of %d packets passed in %d s, expected %d and what is paid meanwhile", passed, got.Packets, seconds, rate)
	}
}
