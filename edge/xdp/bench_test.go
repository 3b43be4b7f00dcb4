package xdp

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"meridian/edge/quiclb"
)

//go:generate go tool bpf2go -cc clang -cflags "-O2 -g -Wall -Werror -mcpu=v3" -target bpfel -go-package xdp bench bpf/bench.bpf.c -- -Ibpf

// BenchmarkProgram gives the kernel's time for one packet by the number of flows
// it is one of: net of the harness, which is measured beside it with an empty
// program, and in all. Each is the median of five runs, with their spread.
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
		name           string
		frame          []byte
		verdict, grown uint32
	}{
		{"passes", to("10.0.0.1", 22), 2, 0},
		{"safe_slot", to(any4, 444), 3, 20},
		{"tracked", to(any4, 443), 3, 20},
		{"quic_plain", quic(plainIDs), 3, 20},
		{"quic_aes", quic(blockIDs), 3, 20},
	} {
		for _, flows := range []uint32{1, 65536, 524288, 0} {
			name := fmt.Sprintf("%s/flows=%d", c.name, flows)
			if flows == 0 {
				name = c.name + "/flows=new"
			}
			frame := c.frame
			if flows == 0 && c.name == "tracked" { // each begins, as its flow does
				frame = slices.Clone(frame)
				frame[14+20+13] = syn
			}
			b.Run(name, func(b *testing.B) { benchmark(b, m, frame, flows-1, c.verdict, c.grown) })
		}
	}
}

func benchmark(b *testing.B, m *machine, frame []byte, mask, verdict, grown uint32) {
	benchmarkIn(b, m, map[string]uint32{"flow_count_mask": mask, "grown": grown, "expected": verdict}, frame)
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

// aim has the harness run a program on a frame.
func (o *benchObjects) aim(b *testing.B, prog *ebpf.Program, frame []byte) {
	b.Helper()
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
}

// timed runs a program in the harness, and gives the median of five runs and how
// far they are apart, in ns for one packet.
func (o *benchObjects) timed(b *testing.B, prog *ebpf.Program, frame []byte) (median, spread float64) {
	b.Helper()
	o.aim(b, prog, frame)
	run := func(n int) float64 {
		_, took, err := o.Bench.Benchmark(frame, n, nil)
		if err != nil {
			b.Fatal(err)
		}
		return float64(took.Nanoseconds())
	}
	run(1 << 20) // fills the table
	took := make([]float64, 5)
	for i := range took {
		took[i] = run(1 << 19)
	}
	slices.Sort(took)
	var wrong uint64
	if err := o.Wrong.Get(&wrong); err != nil || wrong > 0 {
		b.Fatalf("%d packets with another verdict, %v", wrong, err)
	}
	return took[len(took)/2], took[len(took)-1] - took[0]
}

// benchmarkIn measures the machine's program and, with the same packets, one that
// does nothing.
func benchmarkIn(b *testing.B, m *machine, constants map[string]uint32, frame []byte) {
	b.Helper()
	empty := maps.Clone(constants)
	empty["expected"], empty["grown"] = 3, 0
	for b.Loop() {
		floor, _ := loadHarness(b, empty, frame).nothing(b, frame)
		o := loadHarness(b, constants, frame)
		median, spread := o.timed(b, m.edgeObjects.Edge, frame)
		b.ReportMetric(median-floor, "net-ns/packet")
		b.ReportMetric(median, "ns/packet")
		b.ReportMetric(spread, "spread-ns")
	}
	b.ReportMetric(0, "ns/op")
}

func (o *benchObjects) nothing(b *testing.B, frame []byte) (median, spread float64) {
	return o.timed(b, o.Nothing, frame)
}
