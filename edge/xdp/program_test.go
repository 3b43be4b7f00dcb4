package xdp

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"meridian/edge/maglev"
	"meridian/fleet"
	"meridian/internal/testkit"
)

// The fixtures' fleet: this node is lb. The services' rings have one member
// each, so that it is plain where a packet goes.
const programSpec = `
anycast: {v4: [198.51.100.1], v6: ["2001:db8:a::1"]}
regions:
  - {id: fra, location: {latitude: 50, longitude: 8}}
nodes:
  - {name: lb, region: fra, roles: [l4, l7], addresses: {v4: 10.0.0.1, v6: "fd00::1"}, state: disabled}
  - {name: lb2, region: fra, roles: [l4], addresses: {v4: 10.0.0.4, v6: "fd00::4"}}
  - {name: gw, region: fra, roles: [l7], addresses: {v4: 10.0.0.2, v6: "fd00::2"}}
services:
  - {service: web, protocol: https, ports: [443], redirect_http: false, pools: [{id: main, endpoints: [{address: "10.9.0.1:443"}]}]}
  - {service: dns, protocol: udp, ports: [53], forwarding: l2_dsr, pools: [{id: main, endpoints: [{address: "10.0.0.3:53"}]}]}
  - {service: own, protocol: tcp, ports: [22], pools: [{id: main, endpoints: [{address: "10.0.0.1:22"}]}]}
  - {service: six, protocol: tcp, ports: [66], pools: [{id: main, endpoints: [{address: "[fd00::9]:66"}]}]}
  - {service: none, protocol: tcp, ports: [99], pools: [{id: main, endpoints: [{address: "10.0.0.9:99", state: disabled}]}]}
`

const (
	any4, any6       = "198.51.100.1", "2001:db8:a::1"
	client4, client6 = "203.0.113.5", "2001:db8:c::5"
)

// machine is the programs with tables as a World wants them.
type machine struct {
	*kernel
	rec   *reconciler
	want  *desired
	state map[fleet.Target]fleet.State
	next  hop
	guard *guard
}

func newMachine(t testing.TB, spec, node string, roles Roles) *machine {
	t.Helper()
	testkit.Root(t)
	k, err := load(Key{7}, 1<<10, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	m := &machine{kernel: k, rec: newReconciler(k, Key{7}), state: map[fleet.Target]fleet.State{},
		next: hop{mac: macNext, source: macNode, known: true, onLink: true, mtu: 1500}}
	m.apply(t, spec, node, roles)
	return m
}

func (m *machine) apply(t testing.TB, spec, node string, roles Roles) {
	t.Helper()
	var err error
	if m.want, err = plan(worldOf(t, spec), node, roles); err != nil {
		t.Fatal(err)
	}
	m.reconcile(t)
}

func (m *machine) reconcile(t testing.TB) {
	t.Helper()
	err := m.rec.reconcile(inputs{want: m.want,
		state: func(t fleet.Target) fleet.State { return m.state[t] },
		hop:   func(netip.Addr) hop { return m.next }, guard: m.guard, now: time.Unix(1_000_000, 0)})
	if err != nil {
		t.Fatal(err)
	}
}

// send runs a frame through the program at the device. It gives the verdict as
// a word, what came out, and the reasons counted, in order of name.
func (m *machine) send(t testing.TB, in []byte) (verdict string, out []byte, reasons []string) {
	t.Helper()
	before, err := m.counters()
	if err != nil {
		t.Fatal(err)
	}
	opts := ebpf.RunOptions{Data: in, DataOut: make([]byte, 4096)}
	code, err := m.edgeObjects.Edge.Run(&opts)
	if err != nil {
		t.Fatal(err)
	}
	after, err := m.counters()
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range after {
		for range n - before[name] {
			reasons = append(reasons, name)
		}
	}
	slices.Sort(reasons)
	words := []string{"aborted", "drop", "pass", "tx", "redirect"}
	if int(code) >= len(words) {
		return fmt.Sprint(code), opts.DataOut, reasons
	}
	return words[code], opts.DataOut, reasons
}

// fixture is one packet and what becomes of it.
type fixture struct {
	name    string
	in      []byte
	verdict string
	out     []byte // nil: as it came
	reasons string
}

func (m *machine) check(t *testing.T, fixtures []fixture) {
	for _, f := range fixtures {
		t.Run(f.name, func(t *testing.T) {
			want := f.out
			if want == nil {
				want = f.in
			}
			verdict, out, reasons := m.send(t, f.in)
			if verdict != f.verdict {
				t.Errorf("verdict %s, expected %s", verdict, f.verdict)
			}
			if got := strings.Join(reasons, " "); got != f.reasons {
				t.Errorf("counted %s, expected %s", got, f.reasons)
			}
			if !bytes.Equal(out, want) {
				t.Errorf("out:\n%sexpected:\n%s", hex.Dump(out), hex.Dump(want))
			}
		})
	}
}

// label is the flow label of a tunnelled packet: the low bits of its flow's
// hash.
func label(client string, port int, vip string, vport uint16, proto uint8) uint32 {
	key := Key{7}
	salt := key.salt(frontend{addr: netip.MustParseAddr(vip), port: vport, proto: proto})
	return uint32(key.flowHash(netip.AddrPortFrom(netip.MustParseAddr(client), uint16(port)), salt)) & 0xffff0
}

func TestBalancer(t *testing.T) {
	newMachine(t, programSpec, "lb", Roles{L4: true}).check(t, balancerFixtures())
}

// balancerFixtures are packets to a node that balances. Like the other fixtures
// they are in the golden capture too, and seeds of fuzzing.
func balancerFixtures() []fixture {
	web4 := ipHeader{src: client4, dst: any4, proto: protoTCP, id: 77, frag: df, tos: 0x28}.packet(segment(5000, 443, syn))
	web6 := ipHeader{src: client6, dst: any6, proto: protoTCP, tos: 0x28, label: 5}.packet(segment(5000, 443, syn))
	tunnel4 := func(inner []byte, proto byte, frag, id int, tos byte) []byte {
		return ipHeader{src: "10.0.0.1", dst: "10.0.0.2", proto: proto, frag: frag, id: id, tos: tos}.packet(inner)
	}
	tunnel6 := func(inner []byte, proto byte, dst string, label uint32, tos byte) []byte {
		return ipHeader{src: "fd00::1", dst: dst, proto: proto, tos: tos, label: label}.packet(inner)
	}
	web6out := tunnel6(web6, 41, "fd00::2", label(client6, 5000, any6, 443, protoTCP), 0x28)
	options := ipHeader{src: client4, dst: any4, proto: protoTCP, options: []byte{1, 1, 1, 0}}.packet(segment(5001, 443, syn))
	dns := ipHeader{src: client4, dst: any4, proto: protoUDP}.packet(datagram(5000, 53, 1, 2, 3))
	hop := ipHeader{src: client6, dst: any6, proto: 0}.packet(cat([]byte{protoTCP, 0, 1, 4, 0, 0, 0, 0}, segment(5002, 443, syn)))
	six := ipHeader{src: client4, dst: any4, proto: protoTCP, frag: df}.packet(segment(5003, 66, syn))
	// What a router tells the VIP about a packet that a gateway sent.
	sent4 := ipHeader{src: any4, dst: client4, proto: protoTCP, frag: df}.packet(segment(443, 5000, ack))
	need4 := ipHeader{src: "192.0.2.254", dst: any4, proto: 1}.packet(icmp4(3, 4, 1400, sent4[:28]))
	sent6 := ipHeader{src: any6, dst: client6, proto: protoTCP}.packet(segment(443, 5000, ack))
	big6 := ipHeader{src: "2001:db8:f::1", dst: any6, proto: 58}.packet(icmp6("2001:db8:f::1", any6, 2, 0, 1400, sent6))
	lies4 := ipHeader{src: "192.0.2.254", dst: any4, proto: 1}.packet(icmp4(3, 4, 1400,
		ipHeader{src: "10.0.0.1", dst: client4, proto: protoTCP}.packet(segment(443, 5000, ack))))
	full4 := ipHeader{src: client4, dst: any4, proto: protoTCP, frag: df}.packet(segment(5004, 443, ack, make([]byte, 1460)...))
	loose4 := ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(5004, 443, ack, make([]byte, 1460)...))
	full6 := ipHeader{src: client6, dst: any6, proto: protoTCP}.packet(segment(5004, 443, ack, make([]byte, 1440)...))

	return []fixture{
		{"IPv4 goes into IPv4, DF, TOS and the id but for its last bits kept", fromRouter(web4), "tx",
			toNext(tunnel4(web4, 4, df, 64, 0x28)), "flow_safe tx_tunnel"},
		{"a SYN that repeats is chosen anew", fromRouter(web4), "tx",
			toNext(tunnel4(web4, 4, df, 64, 0x28)), "flow_safe tx_tunnel"},
		{"IPv6 goes into IPv6, the flow's hash in the label", fromRouter(web6), "tx", toNext(web6out), "flow_safe tx_tunnel"},
		{"IPv4 goes into IPv6 to an endpoint without IPv4", fromRouter(six), "tx",
			toNext(tunnel6(six, 4, "fd00::9", label(client4, 5003, any4, 66, protoTCP), 0)), "flow_new tx_tunnel"},
		{"a VLAN tag stays", fromRouter(web4, 42), "tx", toNext(tunnel4(web4, 4, df, 64, 0x28), 42), "flow_safe tx_tunnel"},
		{"two VLAN tags stay", fromRouter(web4, 42, 43), "tx", toNext(tunnel4(web4, 4, df, 64, 0x28), 42, 43), "flow_safe tx_tunnel"},
		{"three VLAN tags are not ours", fromRouter(web4, 42, 43, 44), "pass", nil, "pass_other"},
		{"padding behind the packet stays behind it", cat(fromRouter(web4), make([]byte, 6)), "tx",
			cat(toNext(tunnel4(web4, 4, df, 64, 0x28)), make([]byte, 6)), "flow_safe tx_tunnel"},
		{"IPv4 options are stepped over", fromRouter(options), "tx", toNext(tunnel4(options, 4, 0, 0, 0)), "flow_safe tx_tunnel"},
		{"IPv6 extension headers are stepped over", fromRouter(hop), "tx",
			toNext(tunnel6(hop, 41, "fd00::2", label(client6, 5002, any6, 443, protoTCP), 0)), "flow_safe tx_tunnel"},
		{"L2 DSR changes MAC addresses alone", fromRouter(dns), "tx", toNext(dns), "flow_new tx_l2"},
		{"the second datagram is of a known flow", fromRouter(dns), "tx", toNext(dns), "flow_hit tx_l2"},
		{"an endpoint on this node gets it from the kernel",
			fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(5000, 22, syn))), "pass", nil, "flow_new pass_local"},
		{"no member", fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(5000, 99, syn))), "drop", nil, "drop_no_member flow_new"},
		{"fragmentation needed goes where the flow goes", fromRouter(need4), "tx", toNext(tunnel4(need4, 4, 0, 0, 0)), "flow_safe tx_tunnel"},
		{"packet too big goes where the flow goes", fromRouter(big6), "tx",
			toNext(tunnel6(big6, 41, "fd00::2", label(client6, 5000, any6, 443, protoTCP), 0)), "flow_safe tx_tunnel"},
		{"an ICMP error about somebody else's packet", fromRouter(lies4), "drop", nil, "drop_no_service"},
		{"too big for the tunnel, IPv4: the client is told", fromRouter(full4), "tx",
			frame(macRouter, macNode, ipHeader{src: any4, dst: client4, proto: 1}.packet(icmp4(3, 4, 1480, full4[:68]))), "flow_safe tx_too_big"},
		{"too big for the tunnel, IPv6: the client is told", fromRouter(full6), "tx",
			frame(macRouter, macNode, ipHeader{src: any6, dst: client6, proto: 58}.packet(icmp6(any6, client6, 2, 0, 1460, full6[:1232]))), "flow_safe tx_too_big"},
		{"too big and without DF: the client is told too, since nobody cuts it", fromRouter(loose4), "tx",
			frame(macRouter, macNode, ipHeader{src: any4, dst: client4, proto: 1}.packet(icmp4(3, 4, 1480, loose4[:68]))), "flow_safe tx_too_big"},
		{"a port without a service", fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(5000, 80, syn))), "drop", nil, "drop_no_service"},
		{"another protocol at a port of a service", fromRouter(ipHeader{src: client4, dst: any4, proto: protoUDP}.packet(datagram(5000, 443))), "drop", nil, "drop_no_service"},
		{"not for a VIP", fromRouter(ipHeader{src: client4, dst: "10.0.0.1", proto: protoTCP}.packet(segment(5000, 443, syn))), "pass", nil, "pass_other"},
		{"a tunnel to this node, which is no gateway", fromRouter(ipHeader{src: "10.0.0.4", dst: "10.0.0.1", proto: 4}.packet(web4)), "pass", nil, "pass_other"},
		{"ARP", cat(macNode[:], macRouter[:], be16(0x0806), make([]byte, 28)), "pass", nil, "pass_other"},
		{"IPv4 cut short", fromRouter(web4)[:14+19], "pass", nil, "pass_malformed"},
		{"TCP cut short", fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(5000, 443, syn)[:19])), "drop", nil, "drop_malformed"},
		{"a length beyond the frame", fromRouter(web4[:len(web4)-1]), "pass", nil, "pass_malformed"},
		{"a header length below 20", fromRouter(cat([]byte{0x44}, web4[1:])), "pass", nil, "pass_malformed"},
		{"too many extension headers", fromRouter(ipHeader{src: client6, dst: any6, proto: 60}.packet(bytes.Repeat([]byte{60, 0, 1, 4, 0, 0, 0, 0}, 8))), "drop", nil, "drop_malformed"},
	}
}

// What L2 DSR sends has to be for a host on the link: a router would send it
// back.
func TestL2DSRBehindARouter(t *testing.T) {
	m := newMachine(t, programSpec, "lb", Roles{L4: true})
	m.next.onLink = false
	m.reconcile(t)
	m.check(t, []fixture{
		{"L2 DSR", fromRouter(ipHeader{src: client4, dst: any4, proto: protoUDP}.packet(datagram(5000, 53))), "drop", nil, "drop_no_neighbour flow_new"},
	})
}

// Without a next hop's MAC address a tunnelled packet goes back to the router
// that it came from, which knows the way; L2 DSR has no such way out.
func TestUnknownNextHop(t *testing.T) {
	m := newMachine(t, programSpec, "lb", Roles{L4: true})
	m.next = hop{mtu: 1500}
	m.reconcile(t)
	web := ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(5000, 443, syn))
	m.check(t, []fixture{
		{"tunnel", fromRouter(web), "tx",
			frame(macRouter, macNode, ipHeader{src: "10.0.0.1", dst: "10.0.0.2", proto: 4}.packet(web)), "flow_safe tx_tunnel"},
		{"L2 DSR", fromRouter(ipHeader{src: client4, dst: any4, proto: protoUDP}.packet(datagram(5000, 53))), "drop", nil, "drop_no_neighbour flow_new"},
	})
}

func TestGateway(t *testing.T) {
	newMachine(t, programSpec, "gw", Roles{L7: true}).check(t, gatewayFixtures())
}

// gatewayFixtures are packets to a gateway.
func gatewayFixtures() []fixture {
	web4 := ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(5000, 443, syn))
	web6 := ipHeader{src: client6, dst: any6, proto: protoTCP}.packet(segment(5000, 443, syn))
	other := ipHeader{src: client4, dst: "10.0.0.2", proto: protoTCP}.packet(segment(5000, 22, syn))
	six := ipHeader{src: client6, dst: "2001:db8:b::1", proto: protoTCP}.packet(segment(5000, 443, syn))
	in := func(src, dst string, proto byte, inner []byte) []byte {
		return ipHeader{src: src, dst: dst, proto: proto}.packet(inner)
	}
	return []fixture{
		{"IPv4 in IPv4", fromRouter(in("10.0.0.1", "10.0.0.2", 4, web4)), "pass", fromRouter(web4), "pass_decapsulated"},
		{"IPv6 in IPv4", fromRouter(in("10.0.0.1", "10.0.0.2", 41, web6)), "pass", fromRouter(web6), "pass_decapsulated"},
		{"IPv6 in IPv6", fromRouter(in("fd00::4", "fd00::2", 41, web6)), "pass", fromRouter(web6), "pass_decapsulated"},
		{"IPv4 in IPv6", fromRouter(in("fd00::4", "fd00::2", 4, web4)), "pass", fromRouter(web4), "pass_decapsulated"},
		{"a VLAN tag stays", fromRouter(in("10.0.0.1", "10.0.0.2", 4, web4), 42), "pass", fromRouter(web4, 42), "pass_decapsulated"},
		{"from a stranger", fromRouter(in("10.0.0.77", "10.0.0.2", 4, web4)), "drop", nil, "drop_untrusted"},
		{"from a stranger, IPv6", fromRouter(in("fd00::77", "fd00::2", 41, web6)), "drop", nil, "drop_untrusted"},
		{"inside is not for a VIP", fromRouter(in("10.0.0.1", "10.0.0.2", 4, other)), "pass", nil, "pass_other"},
		{"another overlay's tunnel", fromRouter(in("10.0.0.77", "10.0.0.2", 4, other)), "pass", nil, "pass_other"},
		{"another overlay's tunnel, IPv6 in IPv4", fromRouter(in("10.0.0.77", "10.0.0.2", 41, six)), "pass", nil, "pass_other"},
		{"another overlay's tunnel, IPv6 in IPv6", fromRouter(in("fd00::77", "fd00::2", 41, six)), "pass", nil, "pass_other"},
		{"a fragment of another overlay's tunnel", fromRouter(ipHeader{src: "10.0.0.77", dst: "10.0.0.2", proto: 4, frag: 0x2000}.packet(other)), "pass", nil, "pass_other"},
		{"inside is another version than said", fromRouter(in("10.0.0.1", "10.0.0.2", 4, web6)), "pass", nil, "pass_other"},
		{"inside is nothing", fromRouter(in("10.0.0.1", "10.0.0.2", 4, nil)), "pass", nil, "pass_other"},
		{"a fragment of a tunnelled packet", fromRouter(ipHeader{src: "10.0.0.1", dst: "10.0.0.2", proto: 4, frag: 0x2000}.packet(web4)), "drop", nil, "drop_bad_inner"},
		{"a fragment from a stranger", fromRouter(ipHeader{src: "10.0.0.77", dst: "10.0.0.2", proto: 4, frag: 0x2000}.packet(web4)), "drop", nil, "drop_untrusted"},
		{"a tunnel to another node", fromRouter(in("10.0.0.1", "10.0.0.3", 4, web4)), "pass", nil, "pass_other"},
		{"a VIP without tunnel is the kernel's", fromRouter(web4), "pass", nil, "pass_other"},
	}
}

// A node with both roles unpacks what its fellows sent and does not balance it
// again.
func TestUnpackedIsNotBalancedAgain(t *testing.T) {
	spec := strings.Replace(programSpec, ", state: disabled", "", 1)
	m := newMachine(t, spec, "lb", Roles{L4: true, L7: true})
	web := ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(5000, 443, syn))
	m.check(t, []fixture{
		{"from a fellow", fromRouter(ipHeader{src: "10.0.0.4", dst: "10.0.0.1", proto: 4}.packet(web)), "pass", fromRouter(web), "chance_mine pass_decapsulated"},
		{"a VIP's port without a service is answered by the kernel",
			fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(5000, 80, syn))), "pass", nil, "pass_no_service"},
	})
}

// A reply to a check is taken off, and what only looks like one is dropped if it
// comes in a VIP's name; anything else passes.
func TestCheckReplies(t *testing.T) {
	m := newMachine(t, programSpec, "lb", Roles{L4: true})
	m.ask(t, any4, 443, 61000)
	m.ask(t, any6, 443, 61999)
	m.check(t, replyFixtures())
}

// ask has a port of the checks wait for a VIP's TCP port.
func (m *machine) ask(t *testing.T, vip string, at, port uint16) {
	t.Helper()
	a := netip.MustParseAddr(vip)
	i, ok := checkPort(a.Is6(), false, port)
	if err := m.setAsked(i, edgeAsked{Vip: toAddress(a), Port: swap16(at), Waits: 1}); err != nil || !ok {
		t.Fatal(err, ok)
	}
}

// replyFixtures are packets that come back from members, or seem to.
func replyFixtures() []fixture {
	reply := func(src, dst string, sport, dport int) []byte {
		return fromRouter(ipHeader{src: src, dst: dst, proto: protoTCP}.packet(segment(sport, dport, syn|ack)))
	}
	return []fixture{
		{"IPv4", reply(any4, "10.0.0.1", 443, 61000), "drop", nil, "drop_reply"},
		{"IPv6", reply(any6, "fd00::1", 443, 61999), "drop", nil, "drop_reply"},
		{"a port that is not the checks'", reply(any4, "10.0.0.1", 443, 60999), "pass", nil, "pass_other"},
		{"not from a VIP", reply("10.0.0.2", "10.0.0.1", 443, 61000), "pass", nil, "pass_other"},
		{"from another port than was asked", reply(any4, "10.0.0.1", 444, 61000), "drop", nil, "drop_unasked"},
		{"to a port that waits for nobody", reply(any4, "10.0.0.1", 443, 61001), "drop", nil, "drop_unasked"},
		{"of IPv6, to a port that waits for IPv4", reply(any6, "fd00::1", 443, 61000), "drop", nil, "drop_unasked"},
		{"of UDP, to a port that waits for TCP", fromRouter(ipHeader{src: any4, dst: "10.0.0.1", proto: protoUDP}.packet(datagram(443, 61000))), "drop", nil, "drop_unasked"},
		{"not to this node", reply(any4, "10.0.0.5", 443, 61000), "pass", nil, "pass_other"},
	}
}

// The ring that Go builds and the slot that Go computes are what the program
// uses, so that every balancer of a region sends a flow the same way.
func TestProgramAgreesWithGoOnTheRing(t *testing.T) {
	spec := `
anycast: {v4: [198.51.100.1], v6: ["2001:db8:a::1"]}
regions: [{id: fra, location: {latitude: 50, longitude: 8}}]
nodes:
  - {name: lb, region: fra, roles: [l4], addresses: {v4: 10.0.0.1, v6: "fd00::1"}}
`
	var members []maglev.Member
	for i := range 9 {
		name := fmt.Sprintf("gw%d", i)
		spec += fmt.Sprintf("  - {name: %s, region: fra, roles: [l7], weight: %d, addresses: {v4: 10.0.1.%d, v6: \"fd00:1::%d\"}}\n", name, 10+50*i, i, i)
		members = append(members, maglev.Member{Name: name, Weight: 10 + 50*i})
	}
	spec += "services: [{service: web, protocol: https, ports: [443], pools: [{id: main, endpoints: [{address: '10.9.0.1:443'}]}]}]\n"
	m := newMachine(t, spec, "lb", Roles{L4: true})
	key := Key{7}
	ring, err := maglev.Build(members, maglev.Slots, key.ringSeed())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		client, vip := fmt.Sprintf("203.0.%d.%d", i/200, i%200), any4
		if i%2 == 1 {
			client, vip = fmt.Sprintf("2001:db8:c::%x", i), any6
		}
		_, out, _ := m.send(t, fromRouter(ipHeader{src: client, dst: vip, proto: protoTCP}.packet(segment(1000+i, 443, syn))))
		salt := key.salt(frontend{addr: netip.MustParseAddr(vip), port: 443, proto: protoTCP})
		hash := key.flowHash(netip.AddrPortFrom(netip.MustParseAddr(client), uint16(1000+i)), salt)
		want := ring[ring.Of(hash)]
		dst := out[14+16 : 14+20]
		if i%2 == 1 {
			dst = out[14+24 : 14+40]
		}
		if dst[len(dst)-1] != byte(want) {
			t.Fatalf("%s: the program chose the gateway at %v, Go chooses %s", client, dst, members[want].Name)
		}
	}
}

// flows are packets of so many flows from one client, by their port.
const flows = 200

// sent sends a packet of each flow, and gives how many went to each member, by
// the last octet of its address, with what the table said of them.
func (m *machine) sent(t *testing.T, port int, flags byte) map[string]int {
	out := map[string]int{}
	for i := range flows {
		_, frame, reasons := m.send(t, fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(port+i, 443, flags))))
		out[fmt.Sprintf("gw%d %s", frame[33], reasons[0])]++
	}
	return out
}

// members is a Spec with so many gateways, or endpoints of a tcp service, by the
// last octet of their addresses.
func members(gateways bool, list ...int) string {
	nodes, endpoints := "", "{address: '10.9.0.1:443'}"
	for i, n := range list {
		switch {
		case gateways:
			nodes += fmt.Sprintf("  - {name: gw%d, region: fra, roles: [l7], addresses: {v4: 10.0.1.%d}}\n", n, n)
		case i == 0:
			endpoints = fmt.Sprintf("{address: '10.0.1.%d:443'}", n)
		default:
			endpoints += fmt.Sprintf(", {address: '10.0.1.%d:443'}", n)
		}
	}
	protocol := map[bool]string{true: "https", false: "tcp"}[gateways]
	return fmt.Sprintf(`
anycast: {v4: [198.51.100.1]}
regions: [{id: fra, location: {latitude: 50, longitude: 8}}]
services: [{service: web, protocol: %s, ports: [443], pools: [{id: main, endpoints: [%s]}]}]
nodes:
  - {name: lb, region: fra, roles: [l4], addresses: {v4: 10.0.0.1}}
%s`, protocol, endpoints, nodes)
}

// gatewayTarget and endpointTarget are members' targets.
func gatewayNumber(n int) fleet.Target {
	return fleet.Target{Kind: fleet.TargetGateway, Region: "fra", Node: fmt.Sprintf("gw%d", n)}
}

func endpointTarget(n int) fleet.Target {
	return fleet.Target{Kind: fleet.TargetEndpoint, Region: "fra", Service: "web", Pool: "main", Endpoint: fmt.Sprintf("10.0.1.%d:443", n)}
}

func expectSent(t *testing.T, when string, got, want map[string]int) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s: %v, expected %v", when, got, want)
	}
}
