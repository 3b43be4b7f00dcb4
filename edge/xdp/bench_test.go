package xdp

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"meridian/edge/quiclb"
)

//go:generate go tool bpf2go -cc clang -cflags "-O2 -g -Wall -Werror -mcpu=v3" -target bpfel -go-package xdp bench bpf/bench.bpf.c -- -Ibpf

// BenchmarkProgram gives the kernel's time for one packet, as ns/packet, by
// the number of flows it is one of. The harness itself is measured beside it:
// subtract "harness". Each case is the median of five runs.
func BenchmarkProgram(b *testing.B) {
	spec := strings.Replace(members(false, 1), "services: [", `services: [{service: gw, protocol: https, http3: true, ports: [444], pools: [{id: main, endpoints: [{address: '10.9.0.1:444'}]}]}, `, 1) +
		"  - {name: gw2, region: fra, roles: [l7], addresses: {v4: 10.0.1.2}}\n"
	m := newMachine(b, spec, "lb", Roles{L4: true})
	m.edgeObjects.Close()
	k, err := load(Key{7}, defaultFlows, "", blockIDs, plainIDs)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { k.Close() })
	m.kernel, m.rec = k, newReconciler(k, Key{7})
	m.reconcile(b)
	to := func(dst string, port int) []byte {
		return fromRouter(ipHeader{src: client4, dst: dst, proto: protoTCP}.packet(segment(5000, port, ack)))
	}
	quic := func(cfg quiclb.Config) []byte {
		id := connectionID(b, cfg, "gw2", 1)
		return fromRouter(ipHeader{src: client4, dst: any4, proto: protoUDP}.packet(datagram(5000, 444, shortHeader(id)...)))
	}
	for _, c := range []struct {
		name    string
		frame   []byte
		verdict uint32
		grown   uint32
		nothing bool
	}{
		{"harness", to(any4, 443), 3, 0, true},
		{"passes", to("10.0.0.1", 22), 2, 0, false},
		{"safe_slot", to(any4, 444), 3, 20, false},
		{"tracked", to(any4, 443), 3, 20, false},
		{"quic_plain", quic(plainIDs), 3, 20, false},
		{"quic_aes", quic(blockIDs), 3, 20, false},
	} {
		for _, flows := range []uint32{1, 65536, 524288, 0} {
			name := fmt.Sprintf("%s/flows=%d", c.name, flows)
			if flows == 0 {
				name = c.name + "/flows=new"
			}
			b.Run(name, func(b *testing.B) { benchmark(b, m, c.frame, flows-1, c.verdict, c.grown, c.nothing) })
		}
	}
}

func benchmark(b *testing.B, m *machine, frame []byte, mask, verdict, grown uint32, nothing bool) {
	benchmarkIn(b, m, map[string]uint32{"flow_count_mask": mask, "grown": grown, "expected": verdict}, frame, nothing)
}

// loadHarness loads the harness with these constants, for this frame.
func loadHarness(t testing.TB, constants map[string]uint32, frame []byte) *benchObjects {
	t.Helper()
	spec, err := loadBench()
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range constants {
		if err := spec.Variables[name].Set(v); err != nil {
			t.Fatal(err)
		}
	}
	o := new(benchObjects)
	if err := spec.LoadAndAssign(o, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	var before [128]uint8
	copy(before[:], frame)
	if err := o.Before.Set(before); err != nil {
		t.Fatal(err)
	}
	return o
}

func benchmarkIn(b *testing.B, m *machine, constants map[string]uint32, frame []byte, nothing bool) {
	o := loadHarness(b, constants, frame)
	prog := m.edgeObjects.Edge
	if nothing {
		prog = o.Nothing
	}
	if err := o.UnderTest.Put(uint32(0), prog); err != nil {
		b.Fatal(err)
	}
	var link benchEthHeader
	copy(link.Dst[:], frame[0:])
	copy(link.Src[:], frame[6:])
	link.Type = 0x0008
	if err := o.LinkHeader.Set(link); err != nil {
		b.Fatal(err)
	}
	run := func(n int) time.Duration {
		_, took, err := o.Bench.Benchmark(frame, n, nil)
		if err != nil {
			b.Fatal(err)
		}
		return took
	}
	run(1 << 20) // fills the table
	for b.Loop() {
		took := make([]time.Duration, 5)
		for i := range took {
			took[i] = run(1 << 19)
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "ns/packet")
	}
	b.ReportMetric(0, "ns/op")
	var wrong uint64
	if err := o.Wrong.Get(&wrong); err != nil || wrong > 0 {
		b.Fatalf("%d packets with another verdict, %v", wrong, err)
	}
}
