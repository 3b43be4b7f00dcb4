package xdp

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"meridian/fleet"
)

// restarted gives a machine whose reconciler begins with what the tables hold, by
// the Spec of now, and the gateways whose cookies were relied on.
func (m *machine) restarted(t *testing.T, spec string) []fleet.Target {
	t.Helper()
	d, err := plan(worldOf(t, spec), "lb", Roles{L4: true})
	if err != nil {
		t.Fatal(err)
	}
	left, err := m.read()
	if err != nil {
		t.Fatal(err)
	}
	m.want, m.rec = d, newReconciler(m.kernel, Key{7})
	return m.rec.restore(left, inputs{want: d, now: time.Unix(1_000_000, 0)})
}

// A member that left the Spec while no process was there has no flows any more,
// and its index comes to another with another generation.
func TestMembersThatLeftMeanwhileLoseTheirFlows(t *testing.T) {
	m := newMachine(t, members(false, 1, 2), "lb", Roles{L4: true})
	m.sent(t, 1000, syn)
	var gone edgeEndpoint
	for key, i := range m.rec.endpoints {
		if key.addr == netip.MustParseAddr("10.0.1.2") {
			gone = m.rec.records[i]
		}
	}
	m.restarted(t, members(false, 1))
	m.reconcile(t)
	var e edgeEndpoint
	if err := m.kernel.Endpoints.Lookup(uint32(gone.Index), &e); err != nil || e.Keeps != 0 || e.How != uint8(edgeForwardFORWARD_NONE) || e.Generation != gone.Generation {
		t.Errorf("the record of who left: %+v, %v", e, err)
	}
	for got := range m.sent(t, 1000, ack) {
		if strings.HasPrefix(got, "gw2") {
			t.Errorf("flows of who left: %s", got)
		}
	}
	if len(m.rec.endpoints) != 1 {
		t.Errorf("known are %v", m.rec.endpoints)
	}
}

// The digest by which members are known again is the same in all versions.
func TestWhoIsLasting(t *testing.T) {
	for want, k := range map[uint64]memberKey{
		0x276794fa7fca53de: {target: fleet.Target{Kind: fleet.TargetGateway, Region: "fra", Node: "gw1"}, addr: netip.MustParseAddr("10.0.0.1"), how: edgeForwardFORWARD_TUNNEL4},
		0xe46c6676b067d5ec: {target: fleet.Target{Kind: fleet.TargetEndpoint, Region: "fra", Service: "s", Pool: "p", Endpoint: "10.0.0.1:53"},
			addr: netip.MustParseAddr("10.0.0.1"), how: edgeForwardFORWARD_L2, gue: true},
	} {
		if got := k.who(); got != want {
			t.Errorf("%+v: %#x, expected %#x", k, got, want)
		}
	}
}

// After a restart in a flood cookies are made on: gateways that took them count as
// taking them until they are heard. One that is new does not.
func TestGateStaysThroughARestart(t *testing.T) {
	spec := strings.Replace(members(true, 1, 2), "services:", "defence: {syn_cookies: {mode: always}}\nservices:", 1)
	m, _ := newCookieMachine(t, spec, "lb", Roles{L4: true}) // as if all took them
	states := newStates()
	first := fromRouter(sealed{ipHeader: ipHeader{src: client4, dst: any4}, sport: 1, dport: 443, flags: syn}.bytes())
	expect := func(when, want string) {
		t.Helper()
		if err := m.rec.reconcile(inputs{want: m.want, now: time.Unix(1_000_000, 0), state: func(fleet.Target) fleet.State { return fleet.Up },
			takes: states.takes, hop: func(netip.Addr) hop { return m.next }}); err != nil {
			t.Fatal(err)
		}
		if _, _, got := m.send(t, first); got[len(got)-1] != want {
			t.Errorf("%s: %v, expected %s", when, got, want)
		}
	}
	for _, gateway := range m.restarted(t, spec) {
		states.presumeTakes(gateway)
	}
	expect("after a restart", "tx_cookie")
	states.setTakes(t.Context(), gatewayNumber(2), false)
	expect("gw2 takes none", "tx_tunnel")
	took := m.restarted(t, spec)
	if len(took) > 0 {
		t.Errorf("%v were relied on", took)
	}
	states = newStates()
	expect("after a restart without", "tx_tunnel")

	for _, n := range []int{1, 2} {
		states.setTakes(t.Context(), gatewayNumber(n), true)
	}
	expect("both take them", "tx_cookie")
	states = newStates()
	took = m.restarted(t, strings.Replace(spec, "addresses: {v4: 10.0.1.2}}\n", "addresses: {v4: 10.0.1.2}}\n  - {name: gw3, region: fra, roles: [l7], addresses: {v4: 10.0.1.3}}\n", 1))
	for _, gateway := range took {
		states.presumeTakes(gateway)
	}
	if slices.Contains(took, gatewayNumber(3)) {
		t.Error("a gateway that is new was relied on")
	}
	expect("with one more, which was not heard", "tx_tunnel")
}

// What a check reports when it is wanted no more counts for nothing, and a verdict
// that goes from the View is a change.
func TestStatesForget(t *testing.T) {
	s := newStates()
	gw := gatewayNumber(1)
	wanted, stop := context.WithCancel(t.Context())
	defer stop()
	if !s.set(wanted, gw, fleet.Up) || !s.setTakes(wanted, gw, true) {
		t.Fatal("news are none")
	}
	stop()
	s.forget(gw)
	if s.set(wanted, gw, fleet.Up) || s.setTakes(wanted, gw, true) || s.get(gw) != fleet.Unknown || s.takes(gw) {
		t.Error("a check that was under way counts")
	}
	view := &fleet.View{Verdicts: map[fleet.Target]fleet.Verdict{gw: {State: fleet.Down}}}
	for i, c := range []struct {
		view *fleet.View
		want bool
	}{{view, true}, {view, false}, {&fleet.View{}, true}, {&fleet.View{}, false}} {
		if got := s.setView(c.view); got != c.want {
			t.Errorf("View %d: news %v, expected %v", i, got, c.want)
		}
	}
}

// A member that drained by its own word drains on after a restart, until it is
// heard.
func TestDrainingOutlivesARestart(t *testing.T) {
	spec := members(true, 1, 2)
	m := newMachine(t, spec, "lb", Roles{L4: true})
	m.state[gatewayNumber(2)] = fleet.Drain
	m.reconcile(t)
	m.state = map[fleet.Target]fleet.State{}
	m.restarted(t, spec)
	takes := func() (out []uint8) {
		m.reconcile(t)
		for _, n := range []int{1, 2} {
			for key, i := range m.rec.endpoints {
				if key.target == gatewayNumber(n) {
					out = append(out, m.rec.records[i].Takes, m.rec.records[i].Keeps)
				}
			}
		}
		return out
	}
	if got := takes(); !slices.Equal(got, []uint8{1, 1, 0, 1}) {
		t.Errorf("before gw2 is heard: takes and keeps %v", got)
	}
	m.state[gatewayNumber(2)] = fleet.Up
	if got := takes(); !slices.Equal(got, []uint8{1, 1, 1, 1}) {
		t.Errorf("when it is up: takes and keeps %v", got)
	}
}

// VIPs that had one ring, and have two since, keep apart.
func TestVIPsThatPartMeanwhile(t *testing.T) {
	const head = `
regions:
  - {id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.10]}}
nodes:
  - {name: lb, region: fra, roles: [l4], addresses: {v4: 10.0.0.1}}
  - {name: gw1, region: fra, roles: [l7], addresses: {v4: 10.0.1.1}}
services:
  - {service: tls, protocol: https, ports: [443], pools: [{id: main, endpoints: [{address: "10.9.0.1:443"}]}]}
`
	m := newMachine(t, head+`  - {service: web, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.9.0.1:80"}]}]}
`, "lb", Roles{L4: true})
	m.restarted(t, head+`  - {service: web, protocol: tcp, ports: [80], pools: [{id: main, endpoints: [{address: "10.9.0.2:80"}]}]}
`)
	m.reconcile(t)
	rings := map[uint32]string{}
	for id, e := range m.rec.rings {
		if other, taken := rings[e.index]; taken {
			t.Errorf("%s and %s have one ring", id, other)
		}
		rings[e.index] = id
	}
	if len(rings) != 2 {
		t.Errorf("rings %v", rings)
	}
}
