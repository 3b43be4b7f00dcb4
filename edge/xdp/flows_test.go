package xdp

import (
	"strings"
	"testing"

	"meridian/fleet"
)

// A flow to an endpoint that is no gateway stays with it while the ring changes
// around it, until the endpoint is down; what takes the endpoint's place in the
// table does not inherit its flows.
func TestFlowsOutliveTheRing(t *testing.T) {
	roles := Roles{L4: true}
	m := newMachine(t, members(false, 1), "lb", roles)
	for i := range 20 {
		m.state[endpointTarget(i)] = fleet.Up
	}
	sent := func(flags byte) map[string]int { return m.sent(t, 1000, flags) }
	expect := func(when string, got, want map[string]int) { t.Helper(); expectSent(t, when, got, want) }
	expect("first", sent(syn), map[string]int{"gw1 flow_new": flows})

	m.apply(t, members(false, 1, 2, 3, 4), "lb", roles)
	expect("more endpoints", sent(ack), map[string]int{"gw1 flow_hit": flows})

	gw1 := endpointTarget(1)
	m.state[gw1] = fleet.Drain
	m.reconcile(t)
	expect("gw1 drains", sent(ack), map[string]int{"gw1 flow_hit": flows})
	expect("a reset of each", sent(rst), map[string]int{"gw1 flow_hit": flows})

	m.state[gw1] = fleet.Down
	m.reconcile(t)
	for got := range sent(ack) {
		if strings.HasPrefix(got, "gw1") || !strings.HasSuffix(got, "flow_moved") {
			t.Errorf("gw1 is down: %s", got)
		}
	}
	m.state[gw1] = fleet.Up
	m.reconcile(t)
	for got := range sent(ack) {
		if strings.HasPrefix(got, "gw1") || !strings.HasSuffix(got, "flow_hit") {
			t.Errorf("gw1 is back, but its flows live elsewhere now: %s", got)
		}
	}

	// All gateways go and as many come: old indexes, new generations.
	m.apply(t, members(false, 5, 6, 7, 8), "lb", roles)
	m.apply(t, members(false, 11, 12, 13, 14), "lb", roles)
	for got := range sent(ack) {
		if !strings.HasPrefix(got, "gw1") || !strings.HasSuffix(got, "flow_moved") {
			t.Errorf("all gateways replaced: %s", got)
		}
	}
}

// At slots that never had another owner that lives nothing is looked up nor
// kept. At the others new flows are kept, so that they stay while the ring
// changes on, and older ones go to the slot's owner, a gateway that passes on
// what is not its own.
func TestUnsafeSlotsAlone(t *testing.T) {
	roles := Roles{L4: true}
	m := newMachine(t, members(true, 1, 2), "lb", roles)
	total := func(got map[string]int, result string) (n int) {
		for k, v := range got {
			if strings.HasSuffix(k, result) {
				n += v
			}
		}
		return n
	}
	if got := m.sent(t, 1000, syn); total(got, "flow_safe") != flows {
		t.Fatalf("the first ring: %v", got)
	}
	m.apply(t, members(true, 1, 2, 3), "lb", roles)
	if got := m.sent(t, 1000, ack); total(got, "flow_safe") != flows {
		t.Fatalf("gw3 has not been found up yet: %v", got)
	}
	m.state[gatewayNumber(3)] = fleet.Up
	m.reconcile(t)
	got := m.sent(t, 1000, ack)
	if got["gw3 flow_unknown"] == 0 || total(got, "flow_unknown") != got["gw3 flow_unknown"] || total(got, "flow_safe") == 0 {
		t.Fatalf("flows begun before gw3: %v", got)
	}
	moved := got["gw3 flow_unknown"]
	expectSent(t, "again", m.sent(t, 1000, ack), got)
	if got := m.sent(t, 1000, syn); got["gw3 flow_new"] != moved {
		t.Fatalf("new flows at those slots: %v, expected %d of gw3", got, moved)
	}
	if got := m.sent(t, 1000, ack); got["gw3 flow_hit"] != moved {
		t.Errorf("the same, later: %v", got)
	}
	m.state[gatewayNumber(3)] = fleet.Drain
	m.reconcile(t)
	if got := m.sent(t, 1000, ack); got["gw3 flow_hit"] != moved {
		t.Errorf("gw3 drains: %v", got)
	}
	m.state[gatewayNumber(3)] = fleet.Down
	m.reconcile(t)
	if got := m.sent(t, 1000, ack); total(got, "flow_safe") != flows {
		t.Errorf("gw3 is down, and nobody else ever had a slot that is another's now: %v", got)
	}
}
