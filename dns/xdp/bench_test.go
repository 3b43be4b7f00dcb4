package xdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"meridian/dns/answer"
	"meridian/dns/limit"
	"meridian/dns/zone"
	"meridian/geo/mmdb"
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
	z, err := zone.Load("example.test.", []byte(benchText(names)), "")
	if err != nil {
		b.Fatal(err)
	}
	return z
}

func benchText(names int) string {
	var text strings.Builder
	text.WriteString("$TTL 300\n@ SOA ns1 admin 1 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\n")
	for i := range names {
		fmt.Fprintf(&text, "host%d A 10.%d.%d.%d\n", i, i>>16, i>>8&255, i&255)
	}
	return text.String()
}

// benchCase is queries of one kind.
type benchCase struct {
	name    string
	rtype   uint16
	suffix  string // of the first label
	edns    bool
	options func(r *rand.Rand) []byte
	crowd   bool // each query is another client's
}

func noOptions(*rand.Rand) []byte { return nil }

func oneSubnet(*rand.Rand) []byte { return ecs4(10, 1, 2) }

func anySubnet(r *rand.Rand) []byte {
	return ecs4(byte(1+r.IntN(222)), byte(r.Uint32()), byte(r.Uint32()))
}

func newCookie(r *rand.Rand) []byte {
	return binary.NativeEndian.AppendUint64([]byte{0, 10, 0, 8}, r.Uint64())
}

// frames makes so many queries for some of the names host0, host1, ...
func (c *benchCase) frames(names, queries int) [][]byte {
	out := make([][]byte, queries)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range out {
		name := fmt.Sprintf("host%d%s", r.IntN(names), c.suffix)
		q := question(cat([]byte{byte(len(name))}, []byte(name), []byte("\x07example\x04test\x00")), c.rtype, false)
		if c.edns {
			o := c.options(r)
			q = append(binary.BigEndian.AppendUint16(q[:len(q)-2], uint16(len(o))), o...)
		} else {
			q[11], q = 0, q[:len(q)-11]
		}
		from := nobodyPort
		if c.crowd {
			from = netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(11 + r.IntN(99)), byte(r.Uint32()), byte(r.Uint32()), 1}), from.Port())
		}
		out[i] = frame(from, server4, q)
	}
	return out
}

// measure gives the time of one query, net of the harness.
func (m *machine) measure(b *testing.B, frames [][]byte) {
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
}

// BenchmarkProgram gives the kernel's time for one query, as ns/query, net of
// the harness, whose own is given beside it; without rate limit.
func BenchmarkProgram(b *testing.B) {
	for _, names := range []int{1000, 100_000} {
		m := newMachine(b, answer.Zones(id, []*zone.Zone{benchZone(b, names)}))
		for _, c := range []benchCase{
			{"plain/A", 1, "", false, noOptions, false},
			{"plain/NODATA", 16, "", false, noOptions, false},
			{"plain/NXDOMAIN", 1, "x", false, noOptions, false},
			{"EDNS/A", 1, "", true, noOptions, false},
			{"EDNS+ECS/A", 1, "", true, oneSubnet, false},
			{"EDNS+ECS/NXDOMAIN", 1, "x", true, oneSubnet, false},
			{"EDNS+cookie/A", 1, "", true, newCookie, false},
		} {
			for _, queries := range []int{1, 65536} {
				b.Run(fmt.Sprintf("names=%d/%s/queries=%d", names, c.name, queries), func(b *testing.B) { m.measure(b, c.frames(names, queries)) })
			}
		}
	}
	source, err := mmdb.Default()
	if err != nil {
		b.Fatal(err)
	}
	plan, err := answer.Compile(id, newWorld(b, steeredDoc(12_500, 10)), source, nil, now, nil)
	if err != nil {
		b.Fatal(err)
	}
	m := newMachine(b, plan)
	for _, c := range []benchCase{
		{"steered/A", 1, "", false, noOptions, false},
		{"steered/ECS", 1, "", true, anySubnet, false},
	} {
		for _, queries := range []int{1, 65536} {
			b.Run(fmt.Sprintf("names=12500/%s/queries=%d", c.name, queries), func(b *testing.B) { m.measure(b, c.frames(12_500, queries)) })
		}
	}
	features(b, m)
	proofs(b)
}

// features gives what each costs that is off above.
func features(b *testing.B, m *machine) {
	c := benchCase{"", 1, "", true, anySubnet, true}
	frames := c.frames(12_500, 65536)
	table, err := m.debtTable()
	if err != nil {
		b.Fatal(err)
	}
	if err := m.setLimit(limit.NewIn(limit.Config{PerSecond: 1 << 30}, table), table); err != nil {
		b.Fatal(err)
	}
	b.Run("names=12500/steered/ECS, rate limit/queries=65536", func(b *testing.B) { m.measure(b, frames) })
	if err := errors.Join(m.setLimit(nil, table), m.share(0.01)); err != nil {
		b.Fatal(err)
	}
	b.Run("names=12500/steered/ECS, 1 % to the query log/queries=65536", func(b *testing.B) { m.measure(b, frames) })
}
