package xdp

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"

	"meridian/edge/maglev"
)

// BenchmarkTenMillionFlows keeps ten million flows on one node, whose table has
// that size, and then has all of them again: none was lost. It gives the net time
// of a packet that begins a flow and of one of a flow that is known, and the memory.
func BenchmarkTenMillionFlows(b *testing.B) {
	const flows = 10_000_000
	m := newMachine(b, members(false, 1), "lb", Roles{L4: true})
	m.edgeObjects.Close()
	k, err := load(Key{7}, flows, "")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { k.Close() })
	m.kernel, m.rec = k, newReconciler(k, Key{7})
	m.reconcile(b)
	frame := fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(5000, 443, ack)))
	constants := map[string]uint32{"flow_count_mask": ^uint32(0), "grown": 20, "expected": 3}
	for b.Loop() {
		floor, _ := loadHarness(b, map[string]uint32{"flow_count_mask": ^uint32(0), "expected": 3}, frame).nothing(b, frame)
		for _, pass := range []struct{ metric, reason string }{{"insert-net-ns", "flow_new"}, {"hit-net-ns", "flow_hit"}} {
			o := loadHarness(b, constants, frame) // each time the same flows in the same order
			o.aim(b, m.edgeObjects.Edge, frame)
			before, err := m.counters()
			if err != nil {
				b.Fatal(err)
			}
			_, took, err := o.Bench.Benchmark(frame, flows, nil)
			if err != nil {
				b.Fatal(err)
			}
			after, err := m.counters()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(took.Nanoseconds())-floor, pass.metric)
			if n, lost := after[pass.reason]-before[pass.reason], after["flow_evicted"]; n != flows || lost > 0 {
				b.Fatalf("%d packets of %d met %s, and %d flows were evicted", n, flows, pass.reason, lost)
			}
		}
	}
	b.ReportMetric(float64(memlock(b, k.Flows))/flows, "octets/flow")
	b.ReportMetric(float64(memlock(b, k.Flows))/1e6, "MB")
	b.ReportMetric(0, "ns/op")
}

// memlock is what the kernel holds for a map, in octets (Linux 6.4).
func memlock(b *testing.B, m *ebpf.Map) uint64 {
	b.Helper()
	info, err := m.Info()
	if err != nil {
		b.Fatal(err)
	}
	n, _ := info.Memlock() // none where nothing is in it yet
	return n
}

// BenchmarkTables fills the tables with 4,096 endpoints and as many rings as they
// hold, and gives their memory but for the flows'.
func BenchmarkTables(b *testing.B) {
	m := newMachine(b, programSpec, "lb", Roles{L4: true})
	const endpoints = 4096
	var members []maglev.Member
	for i := range endpoints / maxRings {
		members = append(members, maglev.Member{Name: fmt.Sprint(i), Weight: 100})
	}
	ring, err := maglev.Build(members, maglev.Slots, 1)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for i := range uint16(endpoints) {
			if err := m.setEndpoint(1+i, edgeEndpoint{How: uint8(edgeForwardFORWARD_TUNNEL4), Index: 1 + i}); err != nil {
				b.Fatal(err)
			}
		}
		tables := map[uint32]ringTable{}
		for r := range uint32(maxRings) {
			slots := make([]uint16, len(ring))
			for i, of := range ring {
				slots[i] = uint16(r)*uint16(len(members)) + of + 1
			}
			tables[r] = ringTable{slots: slots}
		}
		if err := m.setRings(tables); err != nil {
			b.Fatal(err)
		}
	}
	total := uint64(0)
	for _, t := range []*ebpf.Map{m.Self, m.Vips, m.Networks, m.Servers, m.Balancers, m.kernel.Endpoints, m.Rings, m.BigRings,
		m.Owners, m.BigOwners, m.Counters, m.VipStats, m.Budgets, m.Questions, m.ReplyDesks, m.Replies} {
		total += memlock(b, t)
	}
	for r := range uint32(maxRings) {
		var inner *ebpf.Map
		if err := m.Rings.Lookup(r, &inner); err != nil {
			b.Fatalf("ring %d: %v", r, err)
		}
		total += memlock(b, inner)
		inner.Close()
	}
	b.ReportMetric(float64(total)/1e6, "MB")
}

// BenchmarkRingSwap builds a ring of 100 endpoints anew, one of which has another
// weight, and swaps it in.
func BenchmarkRingSwap(b *testing.B) {
	m := newMachine(b, programSpec, "lb", Roles{L4: true})
	var members []maglev.Member
	for i := range 100 {
		members = append(members, maglev.Member{Name: fmt.Sprintf("endpoint-%d", i), Weight: 100})
	}
	weight := 100
	for b.Loop() {
		weight = 150 - weight
		members[0].Weight = weight
		ring, err := maglev.Build(members, maglev.Slots, 1)
		if err != nil {
			b.Fatal(err)
		}
		slots := make([]uint16, len(ring))
		for i, of := range ring {
			slots[i] = of + 1
		}
		if err := m.setRings(map[uint32]ringTable{0: {slots: slots}}); err != nil {
			b.Fatal(err)
		}
	}
}
