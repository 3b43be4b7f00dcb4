package xdp

import (
	"net/netip"
	"slices"
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

// A flow that found its first bucket full is found behind it, also when one of
// that bucket's flows has been idle since, and goes on where it was.
func TestFlowsBehindAFullBucketAreFound(t *testing.T) {
	m := newMachine(t, members(false, 1), "lb", Roles{L4: true})
	frame := fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(5000, 443, syn)))
	m.send(t, frame)
	salt := Key{7}.salt(frontend{addr: netip.MustParseAddr(any4), port: 443, proto: protoTCP})
	hash := Key{7}.flowHash(netip.AddrPortFrom(netip.MustParseAddr(client4), 5000), salt)
	f, err := m.findFlow(hash)
	if err != nil || f == nil {
		t.Fatalf("the flow is not kept: %v", err)
	}
	at := func(n uint64) uint32 {
		return uint32(uint64(uint32(hash+n*flowMix)) * uint64(m.Flows.MaxEntries()) >> 32)
	}
	if at(0) == at(1) {
		t.Fatal("the flow's buckets are one")
	}
	var full, next edgeBucket
	for i := range full.Way {
		full.Way[i] = *f
		full.Way[i].Tag = uint64(i) ^ uint64(f.Owner)*flowMix // of other flows
	}
	full.Way[2].Seen -= 2 * 3600 // idle
	next.Way[0] = *f
	for n, b := range []edgeBucket{full, next} {
		if err := m.Flows.Put(at(uint64(n)), &b); err != nil {
			t.Fatal(err)
		}
	}
	m.apply(t, members(false, 1, 2, 3, 4), "lb", Roles{L4: true})
	frame = fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(5000, 443, ack)))
	if _, _, reasons := m.send(t, frame); !slices.Contains(reasons, "flow_hit") {
		t.Errorf("the flow was not found: %v", reasons)
	}
}
