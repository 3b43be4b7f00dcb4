package xdp

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

// dropCase is a packet that meets one reason, at a node that is as it has to be
// for that.
type dropCase struct {
	name string
	node func(t *testing.T) *machine
	in   []byte
}

func atBalancer(t *testing.T) *machine { return newMachine(t, programSpec, "lb", Roles{L4: true}) }
func atGateway(t *testing.T) *machine  { return newMachine(t, programSpec, "gw", Roles{L7: true}) }

// defendedBy is a balancer with a section of the Spec's defence.
func defendedBy(section string) func(*testing.T) *machine {
	return func(t *testing.T) *machine {
		m := atBalancer(t)
		m.defend(t, section)
		return m
	}
}

// asking is a balancer one of whose checks waits at port 61000.
func asking(t *testing.T) *machine {
	m := atBalancer(t)
	m.ask(t, any4, 443, 61000)
	return m
}

// besieged is a balancer that answers all SYNs, and lets no stranger through.
func besieged(t *testing.T) *machine {
	m, _ := newCookieMachine(t, cookieSpec("always", 1), "lb", Roles{L4: true})
	var n edgeNode
	if err := m.Self.Lookup(uint32(0), &n); err != nil {
		t.Fatal(err)
	}
	n.Strangers = 0
	if err := m.Self.Put(uint32(0), &n); err != nil {
		t.Fatal(err)
	}
	return m
}

// tired is a gateway that has passed on as much as it does in this second, of slots
// that others had.
func tired(t *testing.T) *machine {
	const whole = 2 * 256
	m := passing(t)
	m.spend(t, whole, 100_000)
	return m
}

// passing is a gateway that passes on packets of connections that it does not have.
func passing(t *testing.T) *machine {
	m := newMachine(t, againstSpec, "gw1", Roles{L7: true})
	if got := m.becomes(t, tunnelled("10.0.0.1", sides[0].packet(protoTCP, segment(5000, 443, ack)))); got != "tx_passed_on" {
		t.Fatalf("before: %s", got)
	}
	return m
}

// spend has so much of a budget been spent in this second.
func (m *machine) spend(t *testing.T, budget uint32, n uint64) {
	type spending struct{ Second, Spent uint64 }
	spent := make([]spending, ebpf.MustPossibleCPU())
	begun := seconds(t)
	for i := range spent {
		spent[i] = spending{uint64(begun), n}
	}
	if err := m.Budgets.Put(budget, spent); err != nil {
		t.Fatal(err)
	}
}

// A source whose packets are of no connection, and are too many, leaves others their
// chance.
func TestOneSourceLeavesOthersTheirChance(t *testing.T) {
	defer oneCPU(t)() // each has budgets of its own
	m := passing(t)
	const before = 256 // budgets of another kind
	for began := seconds(t); ; began = seconds(t) {
		m.spend(t, before+uint32((&reference{key: Key{7}}).budget(netip.MustParseAddr(client4))), 9_999)
		var got []string
		for _, src := range []string{client4, client4, "203.0.113.77"} {
			in := ipHeader{src: src, dst: any4, proto: protoTCP}.packet(segment(5000, 443, ack))
			got = append(got, m.becomes(t, tunnelled("10.0.0.1", in)))
		}
		if seconds(t) != began {
			continue
		}
		if want := "tx_passed_on drop_chance_limit tx_passed_on"; strings.Join(got, " ") != want {
			t.Errorf("%v, expected %s", got, want)
		}
		return
	}
}

// dropCases are the reasons to drop a packet, and one for each.
func dropCases() map[string]dropCase {
	tcp := func(sport, dport int, flags byte) []byte {
		return sides[0].packet(protoTCP, segment(sport, dport, flags))
	}
	reply := func(data int) []byte {
		return ipHeader{src: any4, dst: "10.0.0.1", proto: protoTCP}.packet(segment(443, 61000, ack, make([]byte, data)...))
	}
	tunnel := func(src string, frag int) []byte {
		return ipHeader{src: src, dst: "10.0.0.2", proto: protoIPIP, frag: frag}.packet(tcp(5000, 443, syn))
	}
	linked := func(t *testing.T) *machine {
		m := atBalancer(t)
		m.next.onLink = false
		m.reconcile(t)
		return m
	}
	return map[string]dropCase{
		"drop_no_service":      {"a port without a service", atBalancer, tcp(5000, 80, syn)},
		"drop_malformed":       {"half a TCP header", atBalancer, sides[0].packet(protoTCP, segment(5000, 443, syn)[:10])},
		"drop_no_member":       {"a service without members", atBalancer, tcp(5000, 99, syn)},
		"drop_too_big":         {"a later fragment that fits no tunnel", atBalancer, ipHeader{src: client4, dst: any4, proto: protoTCP, frag: 100}.packet(make([]byte, 1480))},
		"drop_untrusted":       {"a tunnel of a stranger's", atGateway, tunnel("10.0.0.77", 0)},
		"drop_bad_inner":       {"a tunnel in fragments", atGateway, tunnel("10.0.0.1", 0x2000)},
		"drop_congested":       {"congestion noted on a tunnel of what cannot bear it", atGateway, ipHeader{src: "10.0.0.1", dst: "10.0.0.2", proto: protoIPIP, tos: 3}.packet(tcp(5000, 443, syn))},
		"drop_no_room":         {"a frame without headroom", atBalancer, tcp(5000, 443, syn)},
		"drop_no_neighbour":    {"on the link, at nobody's MAC address", linked, udpFrom(client4, 5000)},
		"drop_reply":           {"a check's reply", asking, reply(0)},
		"drop_reply_full":      {"a check's reply that is too large", asking, reply(2100)},
		"drop_unasked":         {"a reply to no check", atBalancer, reply(0)},
		"drop_bogus_flags":     {"SYN and FIN", defendedBy("{}"), tcp(5000, 443, syn|1)},
		"drop_martian":         {"from a VIP", defendedBy("{}"), tcpFrom(any4, syn)},
		"drop_reflected":       {"from NTP's port", defendedBy("{reflection_ports: [123]}"), udpFrom(client4, 123)},
		"drop_blocked":         {"from a blocked network", defendedBy("{block: {prefixes: [203.0.113.0/24]}}"), tcp(5000, 443, syn)},
		"drop_blocked_country": {"from a blocked country", defendedBy("{block: {countries: [DE]}}"), tcpFrom("192.0.2.1", syn)},
		"drop_blocked_asn":     {"from a blocked AS", defendedBy("{block: {asns: [64500]}}"), tcpFrom("192.0.2.1", syn)},
		"drop_rule":            {"what a rule matches", defendedBy("{rules: [{name: r, match: {protocol: tcp}}]}"), tcp(5000, 443, syn)},
		"drop_rule_rate":       {"the second packet of one a second", onceBefore("{rules: [{name: r, match: {protocol: tcp}, mode: rate, rate: 1}]}"), tcp(5000, 443, syn)},
		"drop_source_limit":    {"a source's second packet of one a second", onceBefore("{limits: {per_source: 1}}"), tcp(5000, 443, syn)},
		"drop_vip_limit":       {"a VIP's second packet of one a second", onceBefore("{limits: {per_vip: 1}}"), tcp(5000, 443, syn)},
		"drop_bad_checksum":    {"a SYN with a wrong checksum", besieged, tcp(5000, 443, syn)},
		"drop_no_cookie":       {"an ACK of no connection", besieged, tcp(5000, 443, ack)},
		"drop_chance_limit":    {"of no connection here, and too many were passed on", tired, tunnelled("10.0.0.1", tcp(5000, 443, ack))},
	}
}

func tunnelled(src string, inner []byte) []byte {
	return ipHeader{src: src, dst: "10.0.0.2", proto: protoIPIP}.packet(inner)
}

// onceBefore is a balancer that has had the packet that a rate lets through.
func onceBefore(section string) func(*testing.T) *machine {
	return func(t *testing.T) *machine {
		m := defendedBy(section)(t)
		if got := m.becomes(t, sides[0].packet(protoTCP, segment(5000, 443, syn))); got != "tx_tunnel" {
			t.Fatalf("the first packet: %s", got)
		}
		return m
	}
}

// Every reason to drop a packet is met by the case that is named for it, and drops
// it as it came.
func TestEveryDropReasonIsMet(t *testing.T) {
	spec, err := loadEdge()
	if err != nil {
		t.Fatal(err)
	}
	reasons, err := enumNames(spec, "reason")
	if err != nil {
		t.Fatal(err)
	}
	cases := dropCases()
	for _, reason := range reasons {
		if !strings.HasPrefix(reason, "drop_") {
			continue
		}
		c, ok := cases[reason]
		if !ok {
			t.Errorf("%s: no case meets it", reason)
			continue
		}
		t.Run(reason+", "+c.name, func(t *testing.T) {
			defer oneCPU(t)()
			for began := seconds(t); ; began = seconds(t) {
				got := c.node(t).drops(t, fromRouter(c.in), reason == "drop_no_room")
				if got != reason && seconds(t) != began {
					continue // budgets are by the second
				}
				if got != reason {
					t.Errorf("%s", got)
				}
				return
			}
		})
	}
}

// drops gives why a frame is dropped, by the counter that moved; crowded: in a
// buffer with next to no room before it.
func (m *machine) drops(t *testing.T, frame []byte, crowded bool) string {
	t.Helper()
	before, err := m.counters()
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	if crowded {
		at = 200 // of 256 octets
	}
	opts := ebpf.RunOptions{Data: append(make([]byte, at), frame...), DataOut: make([]byte, 4096), Context: xdpContext{Data: uint32(at), DataEnd: uint32(at + len(frame))}}
	code, err := m.edgeObjects.Edge.Run(&opts)
	if err != nil {
		t.Fatal(err)
	}
	after, err := m.counters()
	if err != nil {
		t.Fatal(err)
	}
	var met []string
	for name, n := range after {
		if n != before[name] && strings.HasPrefix(name, "drop_") {
			met = append(met, name)
		}
	}
	const xdpDrop = 1
	if code != xdpDrop {
		return verdictName(code)
	}
	if len(met) == 1 && met[0] != "drop_chance_limit" && !bytes.Equal(opts.DataOut[at:], frame) { // that comes out of its tunnel before
		t.Errorf("%s changed the frame", met[0])
	}
	return strings.Join(met, " ")
}
