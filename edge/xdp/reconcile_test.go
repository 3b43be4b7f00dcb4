package xdp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"meridian/edge/defence"
	"meridian/fleet"
)

// memory is tables in memory. Every tenth call fails at random, and after each
// one that a packet could see, the whole must make sense.
type memory struct {
	t    *testing.T
	fail func() bool

	node      *edgeNode
	balancers map[netip.Addr]bool
	endpoints map[uint16]edgeEndpoint
	rings     map[uint32]map[uint16]bool // the endpoints in each
	vips      map[edgeVipKey]edgeVip
	servers   map[edgeServerKey]uint16
	networks  map[netip.Prefix]bool
	want      *desired // what the tables are to become
	calls     int
}

var errInjected = errors.New("injected")

func newMemory(t *testing.T, fail func() bool) *memory {
	return &memory{t: t, fail: fail, balancers: map[netip.Addr]bool{}, endpoints: map[uint16]edgeEndpoint{},
		rings: map[uint32]map[uint16]bool{}, vips: map[edgeVipKey]edgeVip{}, want: new(desired),
		servers: map[edgeServerKey]uint16{}, networks: map[netip.Prefix]bool{}}
}

// do makes a change and looks at the whole.
func (m *memory) do(change func()) error {
	m.calls++
	if m.fail() {
		return errInjected
	}
	change()
	for k, e := range m.servers {
		if m.endpoints[e].How == uint8(edgeForwardFORWARD_NONE) {
			m.t.Fatalf("server %v is endpoint %d, which is none", k, e)
		}
	}
	for n := range m.networks {
		if _, ok := m.vips[edgeVipKey{Addr: toAddress(n.Addr()), Net: 1}]; !ok {
			m.t.Fatalf("network %s is none", n)
		}
	}
	for k, v := range m.vips {
		if v.address() {
			continue
		}
		ring, ok := m.rings[v.Ring]
		if !ok {
			m.t.Fatalf("VIP %v has no ring", k)
		}
		if v.Gate != 0 && (m.node == nil || m.node.AttackSyns == 0 || m.node.Strangers == 0) {
			m.t.Fatalf("VIP %v has a gate at a node without thresholds", k)
		}
		for e := range ring {
			if e != 0 && m.endpoints[e].How == uint8(edgeForwardFORWARD_NONE) {
				m.t.Fatalf("the ring of VIP %v holds endpoint %d, which is none", k, e)
			}
		}
	}
	return nil
}

func (m *memory) setNode(n edgeNode) error { return m.do(func() { m.node = &n }) }
func (m *memory) setBalancer(a netip.Addr) error {
	return m.do(func() { m.balancers[a] = true })
}
func (m *memory) dropBalancer(a netip.Addr) error {
	return m.do(func() { delete(m.balancers, a) })
}
func (m *memory) setEndpoint(i uint16, e edgeEndpoint) error {
	return m.do(func() { m.endpoints[i] = e })
}
func (m *memory) setRings(rings map[uint32]ringTable) error {
	return m.do(func() {
		for i, table := range rings {
			m.rings[i] = map[uint16]bool{}
			for _, slot := range table.slots {
				m.rings[i][slot&^slotUnsafe] = true
			}
		}
	})
}
func (m *memory) dropRing(i uint32) error { return m.do(func() { delete(m.rings, i) }) }
func (m *memory) setServer(k edgeServerKey, e uint16) error {
	return m.do(func() { m.servers[k] = e })
}
func (m *memory) dropServer(k edgeServerKey) error { return m.do(func() { delete(m.servers, k) }) }
func (m *memory) setNetwork(p netip.Prefix) error  { return m.do(func() { m.networks[p] = true }) }
func (m *memory) dropNetwork(p netip.Prefix) error {
	return m.do(func() { delete(m.networks, p) })
}
func (m *memory) clearTraffic(uint32) error { return m.do(func() {}) }

// setVIP looks whether an address comes after its ports.
func (m *memory) setVIP(k edgeVipKey, v edgeVip) error {
	return m.do(func() {
		m.vips[k] = v
		for _, f := range m.want.frontends {
			port := f.key()
			if _, ok := m.vips[port]; !ok && v.address() && port.Addr == k.Addr && port.Net == k.Net {
				m.t.Fatalf("the address of %s came before the port", f.label())
			}
		}
	})
}

// dropVIP looks whether an address goes after its ports.
func (m *memory) dropVIP(k edgeVipKey) error {
	return m.do(func() {
		address := m.vips[k].address()
		delete(m.vips, k)
		for port := range m.vips {
			if address && port.Addr == k.Addr && port.Net == k.Net {
				m.t.Fatalf("the address of VIP %v went before the port", port)
			}
		}
	})
}

func (m *memory) setLists(*defence.Table) error { return m.do(func() {}) }
func (m *memory) setReflectors([]uint16) error  { return m.do(func() {}) }
func (m *memory) setDefence(edgeDefence) error  { return m.do(func() {}) }
func (m *memory) setRules(*edgeRules) error     { return m.do(func() {}) }
func (m *memory) clearTally(uint32) error       { return m.do(func() {}) }

// randomSpec is a region with some VIPs, gateways and endpoints.
func randomSpec(rnd *rand.Rand) string {
	var b strings.Builder
	b.WriteString("regions: [{id: fra, location: {latitude: 1, longitude: 1}, vips: {v4: [192.0.2.0")
	for i := range 1 + rnd.IntN(3) {
		fmt.Fprintf(&b, ", 192.0.2.%d", 1+3*i+rnd.IntN(3))
	}
	b.WriteString("]")
	if rnd.IntN(2) == 0 {
		fmt.Fprintf(&b, ", prefixes: [203.0.113.0/%d]", 24+rnd.IntN(4))
	}
	b.WriteString("}}]\nnodes:\n  - {name: lb, region: fra, roles: [l4], addresses: {v4: 10.0.0.1, v6: 'fd00::1'}}\n")
	for i := range 6 {
		if rnd.IntN(2) == 0 {
			state := []string{"active", "active", "draining", "disabled"}[rnd.IntN(4)]
			fmt.Fprintf(&b, "  - {name: gw%d, region: fra, roles: [l7, l4], weight: %d, state: %s, addresses: {v4: 10.0.1.%d}}\n", i, 1+rnd.IntN(3), state, i)
		}
	}
	forwarding := []string{"ipip", "gue", "l2_dsr"}[rnd.IntN(3)]
	fmt.Fprintf(&b, "services:\n  - {service: web, protocol: https, http3: %v, forwarding: %s, ports: [80, 8080], pools: [{id: main, endpoints: [{address: '10.9.0.1:80'}]}]}\n", rnd.IntN(2) == 0, forwarding)
	if rnd.IntN(2) == 0 {
		b.WriteString("  - {service: all, protocol: tcp, all_ports: true, ports: [1], pools: [{id: main, endpoints: [{address: '10.5.2.1:1'}]}]}\n")
	}
	if rnd.IntN(2) == 0 {
		fmt.Fprintf(&b, "  - {service: tcp, protocol: tcp, ports: [7], pools: [{id: main, endpoints: [{address: '10.5.0.%d:7'}, {address: '10.5.1.1:7'}]}]}\n", rnd.IntN(4))
	}
	if rnd.IntN(2) == 0 {
		b.WriteString("defence: {syn_cookies: {mode: auto}}\n")
	}
	return b.String()
}

// Through any sequence of Worlds, verdicts and failures, no packet meets a half
// state, and in the end the tables hold what is wanted and nothing else.
func TestReconcilerConvergesWithoutHalfStates(t *testing.T) {
	for seed := range uint64(4) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		failing := true
		m := newMemory(t, func() bool { return failing && rnd.IntN(10) == 0 })
		r := newReconciler(m, Key{})
		for range 12 {
			d, err := plan(worldOf(t, randomSpec(rnd)), "lb", Roles{L4: true})
			if err != nil {
				t.Fatal(err)
			}
			m.want = d
			state := map[fleet.Target]fleet.State{}
			in := inputs{want: d,
				state: func(t fleet.Target) fleet.State { return state[t] },
				hop:   func(netip.Addr) hop { return hop{known: true, mtu: uint16(1400 + rnd.IntN(2))} }}
			for range 3 {
				for _, g := range d.groups {
					for _, mem := range g.members {
						state[mem.key.target] = fleet.State(rnd.IntN(4))
					}
				}
				for err := errInjected; err != nil; {
					if err = r.reconcile(in); err != nil && !errors.Is(err, errInjected) {
						t.Fatal(err)
					}
				}
				m.holds(r, d, in.state)
			}
		}
		// What is in line is left alone.
		calm, err := plan(worldOf(t, randomSpec(rnd)), "lb", Roles{L4: true})
		if err != nil {
			t.Fatal(err)
		}
		failing, m.want = false, calm
		in := inputs{want: calm, state: func(fleet.Target) fleet.State { return fleet.Up }, hop: func(netip.Addr) hop { return hop{} }}
		for i := range 2 {
			m.calls = 0
			if err := r.reconcile(in); err != nil {
				t.Fatal(err)
			}
			if i == 1 && m.calls > 0 {
				t.Errorf("%d calls although nothing has changed", m.calls)
			}
		}
	}
}

// holds compares the tables with what is wanted.
func (m *memory) holds(r *reconciler, d *desired, state func(fleet.Target) fleet.State) {
	m.t.Helper()
	if len(m.vips) != len(d.frontends)+len(d.fragmentRows())+len(d.addresses)+len(d.networks) {
		m.t.Fatalf("%d VIPs in the table, expected %d and %d addresses", len(m.vips), len(d.frontends), len(d.addresses))
	}
	if len(m.networks) != len(d.networks) || fmt.Sprint(m.servers) != fmt.Sprint(r.wantServers(d)) {
		m.t.Fatalf("networks %v and servers %v in the tables, expected %v and %v", m.networks, m.servers, d.networks, r.wantServers(d))
	}
	if len(m.rings) != len(d.groups) {
		m.t.Fatalf("%d rings in the table, expected %d", len(m.rings), len(d.groups))
	}
	if len(m.balancers) != len(d.balancers) {
		m.t.Fatalf("%d balancers in the table, expected %d", len(m.balancers), len(d.balancers))
	}
	live := 0
	for _, e := range m.endpoints {
		if e.How != uint8(edgeForwardFORWARD_NONE) {
			live++
		}
	}
	if live != len(r.endpoints) {
		m.t.Fatalf("%d endpoints in the table, expected %d", live, len(r.endpoints))
	}
	for _, f := range d.frontends {
		g := &d.groups[f.group]
		c := g.choose(state, r.joined)
		want := map[uint16]bool{}
		for _, i := range c.ring {
			want[r.endpoints[g.members[i].key]] = true
		}
		if len(c.ring) == 0 {
			want[0] = true
		}
		got := m.rings[m.vips[f.key()].Ring]
		if fmt.Sprint(got) != fmt.Sprint(want) {
			m.t.Fatalf("ring of %s holds endpoints %v, expected %v", f.label(), got, want)
		}
		for i, mem := range g.members {
			if usable := m.endpoints[r.endpoints[mem.key]].Keeps == 1; c.keep[i] && !usable {
				m.t.Fatalf("%s: member %s should keep its flows", f.label(), mem.name)
			}
		}
	}
}

// An index that another member had comes with another generation.
func TestReusedIndexHasANewGeneration(t *testing.T) {
	m := newMemory(t, func() bool { return false })
	r := newReconciler(m, Key{})
	seen := map[string]string{}
	for i := range 20 {
		spec := strings.ReplaceAll(`
regions: [{id: fra, location: {latitude: 1, longitude: 1}, vips: {v4: [192.0.2.1]}}]
nodes:
  - {name: lb, region: fra, roles: [l4], addresses: {v4: 10.0.0.1}}
  - {name: gw, region: fra, roles: [l7], addresses: {v4: 10.0.1.N}}
services: [{service: web, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: '10.9.0.1:80'}]}]}]
`, "N", fmt.Sprint(i))
		d, err := plan(worldOf(t, spec), "lb", Roles{L4: true})
		if err != nil {
			t.Fatal(err)
		}
		err = r.reconcile(inputs{want: d, state: func(fleet.Target) fleet.State { return fleet.Up }, hop: func(netip.Addr) hop { return hop{} }})
		if err != nil {
			t.Fatal(err)
		}
		for key, index := range r.endpoints {
			ref := fmt.Sprint(index, "/", m.endpoints[index].Generation)
			if was, ok := seen[ref]; ok {
				t.Errorf("%s was %s and is now %s", ref, was, key.addr)
			}
			seen[ref] = key.addr.String()
		}
	}
}

// noLists are tables that have no memory for lists.
type noLists struct{ *memory }

func (noLists) setLists(*defence.Table) error { return errInjected }

// A defence that cannot be put in place keeps no dead gateway in its ring, and is not
// said to be there.
func TestFailingDefenceKeepsNothingElse(t *testing.T) {
	d, err := plan(worldOf(t, members(true, 1, 2)), "lb", Roles{L4: true})
	if err != nil {
		t.Fatal(err)
	}
	m, state := newMemory(t, func() bool { return false }), map[fleet.Target]fleet.State{}
	r := newReconciler(noLists{m}, Key{})
	in := inputs{want: d, state: func(t fleet.Target) fleet.State { return state[t] }, hop: func(netip.Addr) hop { return hop{} },
		guard: &guard{static: true}}
	if err := r.reconcile(in); err != nil {
		t.Fatal(err)
	}
	in.guard = &guard{static: true, table: new(defence.Table)}
	for _, want := range []int{2, 1} {
		if err := r.reconcile(in); !errors.Is(err, errInjected) || !r.stands {
			t.Fatalf("%v; the rest stands: %v", err, r.stands)
		}
		if len(m.rings[0]) != want || m.node.Defends != uint32(edgeDefendFlagDEFEND_STATIC) {
			t.Errorf("%d members in the ring, expected %d; defends by %b", len(m.rings[0]), want, m.node.Defends)
		}
		state[gatewayNumber(2)] = fleet.Down
	}
	r.tables = m
	if err := r.reconcile(in); err != nil || m.node.Defends != uint32(edgeDefendFlagDEFEND_STATIC|edgeDefendFlagDEFEND_LISTS) {
		t.Errorf("%v; defends by %b", err, m.node.Defends)
	}
}

// The tables in the kernel have room for what the limits allow, twice.
func TestTablesHoldTheLimits(t *testing.T) {
	spec, err := loadEdge()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{
		edgeMapVips: maxVIPs + 3*maxAddresses, edgeMapServers: maxEndpoints, edgeMapNetworks: maxAddresses, edgeMapVipStats: maxVIPs, edgeMapRings: maxRings,
		edgeMapEndpoints: maxEndpoints, edgeMapBalancers: maxBalancers, edgeMapQuestions: 4 * checkPorts,
	} {
		if got := int(spec.Maps[name].MaxEntries); got != want {
			t.Errorf("table %s has %d entries, expected %d", name, got, want)
		}
	}
}
