package xdp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"meridian/edge/maglev"
	"meridian/fleet"
)

const servicesSpec = `
anycast: {v4: [198.51.100.1], v6: ["2001:db8:a::1"], prefixes: [203.0.113.0/28, "2001:db8:b::/64"]}
regions: [{id: fra, location: {latitude: 50, longitude: 8}}]
nodes:
  - {name: lb, region: fra, roles: [l4], addresses: {v4: 10.0.0.1, v6: "fd00::1"}}
  - {name: gw1, region: fra, roles: [l7], addresses: {v4: 10.0.1.1, v6: "fd00:1::1"}}
  - {name: gw2, region: fra, roles: [l7], addresses: {v4: 10.0.1.2}}
services:
  - {service: web, protocol: https, ports: [443], forwarding: gue, ring: large, pools: [{id: main, endpoints: [{address: "10.9.0.1:443"}]}]}
  - {service: near, protocol: tcp, ports: [80], affinity: {by: source, v4_prefix: 24, v6_prefix: 56}, pools: [{id: main, endpoints: [{address: "10.0.2.1:80"}, {address: "10.0.2.2:80"}]}]}
  - {service: all, protocol: tcp, all_ports: true, ports: [22], pools: [{id: main, endpoints: [{address: "10.0.3.1:22"}]}]}
  - {service: dns, protocol: udp, ports: [53], healthcheck: {type: dns, name: example.com, interval: 1s}, pools: [{id: main, endpoints: [{address: "10.0.4.1:53"}]}]}
layer4: {flow_timeout: {tcp: 10m, udp: 30s}, flow_retire: 1h, ramp: 40s}
`

func TestPlanOfServices(t *testing.T) {
	d, err := plan(worldOf(t, servicesSpec), "lb", Roles{L4: true})
	if err != nil {
		t.Fatal(err)
	}
	compare(t, d.describe(), `
balancers [10.0.0.1 fd00::1 10.0.1.1 fd00:1::1 10.0.1.2]
addresses [198.51.100.1 2001:db8:a::1]
tcp/198.51.100.1:443 web -> gateways/gue/v4/large
tcp/[2001:db8:a::1]:443 web -> gateways/gue/v6/large
tcp/198.51.100.1:80 near -> near/80/v4
tcp/[2001:db8:a::1]:80 near -> near/80/v6
tcp/203.0.113.0/28:80 near -> near/80/v4
tcp/2001:db8:b::/64:80 near -> near/80/v6
tcp/198.51.100.1:0 all -> all/22/v4
tcp/[2001:db8:a::1]:0 all -> all/22/v6
tcp/203.0.113.0/28:0 all -> all/22/v4
tcp/2001:db8:b::/64:0 all -> all/22/v6
udp/198.51.100.1:53 dns -> dns/53/v4
udp/[2001:db8:a::1]:53 dns -> dns/53/v6
udp/203.0.113.0/28:53 dns -> dns/53/v4
udp/2001:db8:b::/64:53 dns -> dns/53/v6
gateways/gue/v4/large: [gw1 100 active tunnel4 10.0.1.1] [gw2 100 active tunnel4 10.0.1.2]
gateways/gue/v6/large: [gw1 100 active tunnel6 fd00:1::1] [gw2 100 active tunnel4 10.0.1.2]
near/80/v4: [10.0.2.1:80 100 active tunnel4 10.0.2.1] [10.0.2.2:80 100 active tunnel4 10.0.2.2]
near/80/v6: [10.0.2.1:80 100 active tunnel4 10.0.2.1] [10.0.2.2:80 100 active tunnel4 10.0.2.2]
all/22/v4: [10.0.3.1:22 100 active tunnel4 10.0.3.1]
all/22/v6: [10.0.3.1:22 100 active tunnel4 10.0.3.1]
dns/53/v4: [10.0.4.1:53 100 active tunnel4 10.0.4.1]
dns/53/v6: [10.0.4.1:53 100 active tunnel4 10.0.4.1]
check gateway/gw1@fra: https every 150ms by 198.51.100.1:443 [2001:db8:a::1]:443
check gateway/gw2@fra: https every 150ms by 198.51.100.1:443 [2001:db8:a::1]:443
check endpoint/near/main/10.0.2.1:80@fra: tcp every 5s by 198.51.100.1:80 [2001:db8:a::1]:80
check endpoint/near/main/10.0.2.2:80@fra: tcp every 5s by 198.51.100.1:80 [2001:db8:a::1]:80
check endpoint/all/main/10.0.3.1:22@fra: tcp every 5s by 198.51.100.1:22 [2001:db8:a::1]:22
check endpoint/dns/main/10.0.4.1:53@fra: dns every 1s by 198.51.100.1:53 [2001:db8:a::1]:53
`)
	if want := (keeping{tcp: 10 * time.Minute, udp: 30 * time.Second, retire: time.Hour, ramp: 40 * time.Second, strangers: 100_000}); d.keep != want {
		t.Errorf("keeping %+v, expected %+v", d.keep, want)
	}
	if len(d.fragmentRows()) != 4 { // of udp: for tcp all ports go one way
		t.Errorf("rows for fragments: %v", d.fragmentRows())
	}
}

// What a service says of forwarding, ports and clients is what the program does.
func TestServices(t *testing.T) {
	m := newMachine(t, servicesSpec, "lb", Roles{L4: true})
	tcp := func(src, dst string, sport, dport int) []byte {
		return ipHeader{src: src, dst: dst, proto: protoTCP}.packet(segment(sport, dport, syn))
	}
	udp := func(dst string, port int) []byte {
		return ipHeader{src: client4, dst: dst, proto: protoUDP}.packet(datagram(5000, port, 1))
	}
	sent := func(ip []byte) string {
		t.Helper()
		verdict, out, reasons := m.send(t, fromRouter(ip))
		if verdict != "tx" {
			return verdict + " " + strings.Join(reasons, " ")
		}
		return netip.AddrFrom4([4]byte(out[14+16 : 14+20])).String()
	}
	for _, c := range []struct {
		name string
		ip   []byte
		want string
	}{
		{"a port with a service", udp(any4, 53), "10.0.4.1"},
		{"any port of all", tcp(client4, any4, 5000, 7777), "10.0.3.1"},
		{"the port that checks ask", tcp(client4, any4, 5000, 22), "10.0.3.1"},
		{"another protocol", udp(any4, 7777), "drop drop_no_service"},
		{"an address of a network", udp("203.0.113.9", 53), "10.0.4.1"},
		{"any port there", tcp(client4, "203.0.113.15", 5000, 9), "10.0.3.1"},
		{"another protocol there", udp("203.0.113.9", 54), "drop drop_no_service"},
		{"beyond the network", udp("203.0.113.16", 53), "pass pass_other"},
		{"a network of IPv6", ipHeader{src: client6, dst: "2001:db8:b::77", proto: protoUDP}.packet(datagram(5000, 53, 1)), "10.0.4.1"},
	} {
		if got := sent(c.ip); got != c.want {
			t.Errorf("%s: %s, expected %s", c.name, got, c.want)
		}
	}
	if got := sent(tcp(client4, "203.0.113.0", 5000, 443)); got != "10.0.3.1" {
		t.Errorf("a gateway's service at a network: %s, expected that of all ports", got)
	}
	// Whatever port a client has, and whatever address of its network.
	for _, c := range []struct{ vip, near, far string }{
		{any4, "203.0.113.%d", "203.0.%d.113"},
		{"203.0.113.3", "198.18.7.%d", "198.18.%d.7"},
		{any6, "2001:db8:c:aa%02x::1", "2001:db8:%x:aa00::1"},
	} {
		near, far := map[string]bool{}, map[string]bool{}
		for i := range 64 {
			near[sent(tcp(fmt.Sprintf(c.near, i), c.vip, 1024+i, 80))] = true
			far[sent(tcp(fmt.Sprintf(c.far, i), c.vip, 5000, 80))] = true
		}
		if len(near) != 1 || len(far) != 2 {
			t.Errorf("%s: neighbours went to %v, others to %v", c.vip, near, far)
		}
	}
	// Fragments of a service of all ports go after their first.
	first := ipHeader{src: client4, dst: any4, proto: protoTCP, id: 9, frag: 0x2000}.packet(segment(5000, 5, ack, make([]byte, 20)...))
	later := ipHeader{src: client4, dst: any4, proto: protoTCP, id: 9, frag: 5}.packet(make([]byte, 20))
	if a, b := sent(first), sent(later); a != "10.0.3.1" || b != a {
		t.Errorf("first fragment went to %s, the later one to %s", a, b)
	}
}

// GUE puts UDP between, whose source port spreads the flows; the gateway unpacks
// it.
func TestGUE(t *testing.T) {
	lb := newMachine(t, servicesSpec, "lb", Roles{L4: true})
	gw := newMachine(t, servicesSpec, "gw1", Roles{L7: true})
	spec := strings.Replace(servicesSpec, "  - {name: gw2, region: fra, roles: [l7], addresses: {v4: 10.0.1.2}}\n", "", 1)
	lb.apply(t, spec, "lb", Roles{L4: true})
	gw.apply(t, spec, "gw1", Roles{L7: true})
	ports := map[string]bool{}
	for i := range 32 {
		for _, in := range [][]byte{
			ipHeader{src: client4, dst: any4, proto: protoTCP, frag: df}.packet(segment(5000+i, 443, syn)),
			ipHeader{src: client6, dst: any6, proto: protoTCP}.packet(segment(5000+i, 443, syn)),
		} {
			verdict, out, reasons := lb.send(t, fromRouter(in))
			if verdict != "tx" {
				t.Fatalf("verdict %s, %v", verdict, reasons)
			}
			outer := outerLen(out[14:])
			udp := out[14+outer:]
			if len(out) != 14+outer+8+len(in) || udp[2] != 6080>>8 || udp[3] != 6080&0xff {
				t.Fatalf("%d octets, UDP header %x", len(out), udp[:8])
			}
			ports[string(udp[:2])] = true
			verdict, back, reasons := gw.send(t, cat(fromRouter(out[14:])))
			if verdict != "pass" || string(back) != string(fromRouter(in)) || reasons[0] != "pass_decapsulated" {
				t.Fatalf("unpacked: %s, %v\n%x\n%x", verdict, reasons, back, in)
			}
		}
	}
	if len(ports) < 32 {
		t.Errorf("64 flows have %d source ports", len(ports))
	}
	full := ipHeader{src: client4, dst: any4, proto: protoTCP, frag: df}.packet(segment(5004, 443, ack, make([]byte, 1460)...))
	_, out, _ := lb.send(t, fromRouter(full))
	want := frame(macRouter, macNode, ipHeader{src: any4, dst: client4, proto: 1}.packet(icmp4(3, 4, 1500-28, full[:68])))
	if string(out) != string(want) {
		t.Errorf("too big: %x, expected %x", out, want)
	}
}

// A large ring is what Go builds, and weights are true to its size.
func TestLargeRing(t *testing.T) {
	spec := strings.Replace(servicesSpec, "addresses: {v4: 10.0.1.2}", "addresses: {v4: 10.0.1.2}, weight: 1", 1)
	m := newMachine(t, spec, "lb", Roles{L4: true})
	key := Key{7}
	ring, err := maglev.Build([]maglev.Member{{Name: "gw1", Weight: 100}, {Name: "gw2", Weight: 1}}, maglev.LargeSlots, key.ringSeed())
	if err != nil {
		t.Fatal(err)
	}
	salt := key.salt(frontend{addr: netip.MustParseAddr(any4), port: 443, proto: protoTCP})
	light := 0
	for i := range 1000 {
		client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), 5000)
		_, out, _ := m.send(t, fromRouter(ipHeader{src: client.Addr().String(), dst: any4, proto: protoTCP}.packet(segment(5000, 443, syn))))
		want := ring[ring.Of(key.flowHash(client, salt))]
		if got := uint16(out[14+19]) - 1; got != want {
			t.Fatalf("%s went to gw%d, expected gw%d", client, got+1, want+1)
		}
		light += int(want)
	}
	if light == 0 || light > 40 {
		t.Errorf("%d of 1000 flows went to the gateway with a 101st of the weight", light)
	}
}

// A member that joins gets its share in steps; one that was there from the
// start, or joined long ago, has it.
func TestRamp(t *testing.T) {
	g := &group{members: []member{{key: memberKey{addr: netip.MustParseAddr("10.0.0.1")}, name: "old", weight: 100},
		{key: memberKey{addr: netip.MustParseAddr("10.0.0.2")}, name: "new", weight: 50}, {key: memberKey{addr: netip.MustParseAddr("10.0.0.3")}, name: "light", weight: 1}}}
	began := time.Unix(1000, 0)
	since := map[memberKey]time.Time{g.members[0].key: {}, g.members[1].key: began, g.members[2].key: began}
	for _, c := range []struct {
		after   time.Duration
		weights []int
		next    time.Duration // 0: never
	}{
		{0, []int{100, 10, 1}, 10 * time.Second},
		{9 * time.Second, []int{100, 10, 1}, 10 * time.Second},
		{10 * time.Second, []int{100, 20, 1}, 20 * time.Second},
		{25 * time.Second, []int{100, 30, 1}, 30 * time.Second},
		{30 * time.Second, []int{100, 40, 1}, 40 * time.Second},
		{40 * time.Second, []int{100, 50, 1}, 0},
		{time.Hour, []int{100, 50, 1}, 0},
		{-time.Second, []int{100, 10, 1}, 10 * time.Second}, // the clock was set back
	} {
		ch := choice{ring: []int{0, 1, 2}}
		next := ch.ramp(g, since, 40*time.Second, began.Add(c.after))
		var weights []int
		for _, i := range ch.ring {
			weights = append(weights, ch.member(g, i).Weight)
		}
		if want := began.Add(c.next); !slices.Equal(weights, c.weights) || (c.next == 0) != next.IsZero() || c.next != 0 && !next.Equal(want) {
			t.Errorf("after %s: weights %v, next at %v; expected %v, %v", c.after, weights, next, c.weights, want)
		}
	}
	ch := choice{ring: []int{1}}
	if next := ch.ramp(g, since, 0, began); !next.IsZero() || ch.member(g, 1).Weight != 50 {
		t.Error("a ramp of no time is one")
	}
}

// The reconciler brings a gateway that joins, or comes back, in by the ramp.
func TestRingsRamp(t *testing.T) {
	m := newMemory(t, func() bool { return false })
	r := newReconciler(m, Key{})
	state := map[fleet.Target]fleet.State{}
	now := time.Unix(1_000_000, 0)
	do := func(spec string) {
		t.Helper()
		d, err := plan(worldOf(t, spec), "lb", Roles{L4: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.reconcile(inputs{want: d, state: func(t fleet.Target) fleet.State { return state[t] }, hop: func(netip.Addr) hop { return hop{} }, now: now}); err != nil {
			t.Fatal(err)
		}
	}
	weights := func() string {
		var out []string
		for _, m := range r.rings["gateways/gue/v4/large"].history.Members() {
			out = append(out, fmt.Sprint(m.Name, " ", m.Weight))
		}
		return strings.Join(out, ", ")
	}
	expect := func(when, want string) {
		t.Helper()
		if got := weights(); got != want {
			t.Errorf("%s: %s, expected %s", when, got, want)
		}
	}
	gw := func(name string) fleet.Target {
		return fleet.Target{Kind: fleet.TargetGateway, Region: "fra", Node: name}
	}
	do(servicesSpec)
	expect("at first", "gw1 100, gw2 100")
	more := strings.Replace(servicesSpec, "services:\n", `  - {name: gw3, region: fra, roles: [l7], addresses: {v4: 10.0.1.3}}
services:
`, 1)
	state[gw("gw1")], state[gw("gw2")], state[gw("gw3")] = fleet.Up, fleet.Up, fleet.Up
	do(more)
	expect("gw3 joins", "gw1 100, gw2 100, gw3 20")
	if want := now.Add(10 * time.Second); !r.next.Equal(want) {
		t.Errorf("next at %v, expected %v", r.next, want)
	}
	now = now.Add(20 * time.Second)
	do(more)
	expect("half of the time", "gw1 100, gw2 100, gw3 60")
	now = now.Add(20 * time.Second)
	do(more)
	expect("all of it", "gw1 100, gw2 100, gw3 100")
	state[gw("gw1")] = fleet.Down
	do(more)
	expect("gw1 is down", "gw2 100, gw3 100")
	now = now.Add(time.Hour)
	state[gw("gw1")] = fleet.Up
	do(more)
	expect("gw1 is back", "gw1 20, gw2 100, gw3 100")
}
