package xdp

import (
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// BenchmarkGatewayDeath kills a gateway a hundred times, at any moment between two
// checks, and gives how long it is until no ring has it: the median, the 99th and
// the longest. Its machine falls silent, or its process ends and its kernel refuses.
func BenchmarkGatewayDeath(b *testing.B) {
	const deaths = 100
	for _, c := range []struct {
		name         string
		kill, revive func(*region, *ebpf.Program)
	}{
		{"silent",
			func(r *region, drop *ebpf.Program) { r.must(r.ports["to-gw1"].Update(drop)) },
			func(r *region, _ *ebpf.Program) { r.must(r.ports["to-gw1"].Update(r.pass)) }},
		{"refused",
			func(r *region, _ *ebpf.Program) { r.gateways["gw1"].srv.Close() },
			func(r *region, _ *ebpf.Program) { r.listen(r.gw1) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := newRegion(b, regionSpec, 1600)
			r.log = slog.New(slog.DiscardHandler)
			drop, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP,
				Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}}) // XDP_DROP
			r.must(err)
			b.Cleanup(func() { drop.Close() })
			lb := r.start(Native)
			for b.Loop() {
				took := make([]time.Duration, deaths)
				for i := range took {
					lb.hasInEachRing(b, 2)
					<-time.After(rand.N(gatewayInterval)) // it came back with a check
					died := time.Now()
					c.kill(r, drop)
					lb.hasInEachRing(b, 1)
					took[i] = time.Since(died)
					c.revive(r, drop)
				}
				slices.Sort(took)
				for metric, at := range map[string]int{"p50-ms": deaths / 2, "p99-ms": deaths*99/100 - 1, "max-ms": deaths - 1} {
					b.ReportMetric(float64(took[at].Microseconds())/1000, metric)
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// hasInEachRing waits until each ring of gateways has so many members.
func (l *Layer4) hasInEachRing(b *testing.B, n int) {
	b.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for l.ringMembers("gateways/ipip/v4") != n || l.ringMembers("gateways/ipip/v6") != n {
		select {
		case <-deadline:
			b.Fatalf("waited in vain for %d in each ring", n)
		case <-tick.C:
		}
	}
}
