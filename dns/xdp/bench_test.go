package xdp

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"meridian/dns/answer"
	"meridian/dns/zone"
)

//go:generate go tool bpf2go -cc clang -cflags "-O2 -g -Wall -Werror -mcpu=v3" -target bpfel -go-package xdp bench bpf/bench.bpf.c -- -Ibpf

// harness runs a program on queries by turns. The time that it gives is net of
// its own, which is that of the empty program.
type harness struct {
	objs benchObjects
}

func newHarness(b testing.TB, frames [][]byte) *harness {
	b.Helper()
	spec, err := loadBench()
	if err != nil {
		b.Fatal(err)
	}
	if err := spec.Variables["frame_mask"].Set(uint32(len(frames) - 1)); err != nil {
		b.Fatal(err)
	}
	if err := spec.Variables["expected"].Set(uint32(xdpTX)); err != nil {
		b.Fatal(err)
	}
	h := &harness{}
	if err := spec.LoadAndAssign(&h.objs, nil); err != nil {
		b.Fatalf("%+v", err)
	}
	b.Cleanup(func() { h.objs.Close() })
	mem, err := h.objs.Frames.Memory()
	if err != nil {
		b.Fatal(err)
	}
	for i, f := range frames {
		var e [8 + 184]byte
		binary.NativeEndian.PutUint32(e[:], uint32(len(f)))
		if copy(e[8:], f) < len(f) {
			b.Fatalf("%d octets", len(f))
		}
		if _, err := mem.WriteAt(e[:], int64(i*len(e))); err != nil {
			b.Fatal(err)
		}
	}
	return h
}

// run gives the median time of a program for one query.
func (h *harness) run(b testing.TB, p *ebpf.Program, frame []byte) float64 {
	b.Helper()
	if err := h.objs.UnderTest.Put(uint32(0), p); err != nil {
		b.Fatal(err)
	}
	took := make([]time.Duration, 5)
	for i := range took {
		var err error
		if _, took[i], err = h.objs.Bench.Benchmark(frame, 1<<19, nil); err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(took)
	return float64(took[len(took)/2].Nanoseconds())
}

// benchZone has so many names with an address each.
func benchZone(b testing.TB, names int) *zone.Zone {
	var text strings.Builder
	text.WriteString("$TTL 300\n@ SOA ns1 admin 1 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\n")
	for i := range names {
		fmt.Fprintf(&text, "host%d A 10.%d.%d.%d\n", i, i>>16, i>>8&255, i&255)
	}
	z, err := zone.Load("example.test.", []byte(text.String()), "")
	if err != nil {
		b.Fatal(err)
	}
	return z
}

// BenchmarkProgram gives the kernel's time for one query, as ns/query, net of
// the harness, whose own is given beside it.
func BenchmarkProgram(b *testing.B) {
	for _, names := range []int{1000, 100_000} {
		m := newMachine(b, answer.Zones(id, []*zone.Zone{benchZone(b, names)}))
		for _, c := range []struct {
			name    string
			options []byte
			edns    bool
		}{
			{"plain", nil, false},
			{"EDNS", nil, true},
			{"EDNS+ECS", []byte{0, 8, 0, 7, 0, 1, 24, 0, 10, 1, 2}, true},
			{"EDNS+cookie", []byte{0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8}, true},
		} {
			for _, kind := range []string{"A", "NODATA", "NXDOMAIN"} {
				for _, queries := range []int{1, 65536} {
					frames := make([][]byte, queries)
					r := rand.New(rand.NewPCG(1, 1))
					for i := range frames {
						name, rtype := fmt.Sprintf("host%d", r.IntN(names)), uint16(1)
						switch kind {
						case "NODATA":
							rtype = 16
						case "NXDOMAIN":
							name += "x"
						}
						q := question(cat([]byte{byte(len(name))}, []byte(name), []byte("\x07example\x04test\x00")), rtype, false)
						if !c.edns {
							q[11], q = 0, q[:len(q)-11]
						} else {
							q = append(binary.BigEndian.AppendUint16(q[:len(q)-2], uint16(len(c.options))), c.options...)
						}
						frames[i] = frame(nobodyPort, server4, q)
					}
					b.Run(fmt.Sprintf("names=%d/%s/%s/queries=%d", names, c.name, kind, queries), func(b *testing.B) {
						h := newHarness(b, frames)
						for b.Loop() {
							floor := h.run(b, h.objs.Nothing, frames[0])
							ns := h.run(b, m.Dns, frames[0])
							b.ReportMetric(floor, "harness-ns")
							b.ReportMetric(ns-floor, "ns/query")
						}
						b.ReportMetric(0, "ns/op")
						var wrong uint64
						if err := h.objs.Wrong.Get(&wrong); err != nil || wrong > 0 {
							b.Fatalf("%d queries not answered, %v", wrong, err)
						}
					})
				}
			}
		}
	}
}
