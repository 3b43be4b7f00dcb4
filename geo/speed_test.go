package geo

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"testing"

	"meridian/internal/testkit"
)

// cityNetworks is a database like the largest city databases, of which about
// 20,000 classes come.
func cityNetworks() iter.Seq2[netip.Prefix, Place] {
	return func(yield func(netip.Prefix, Place) bool) {
		for p, n := range testkit.Cities(200_000) {
			if !yield(p, Place{ASN: uint32(n)}) {
				return
			}
		}
	}
}

func cityClass(p Place) Class { return Class(p.ASN+9) / 10 }

var cityTable = sync.OnceValue(func() *Table {
	t, err := Compile(cityNetworks(), cityClass)
	if err != nil {
		panic(err)
	}
	return t
})

// BenchmarkCompileCities makes the table of millions of networks.
func BenchmarkCompileCities(b *testing.B) {
	defer testkit.CPU(b)()
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		t, err := Compile(cityNetworks(), cityClass)
		if err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		v4, v6 := t.Size()
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")
		b.ReportMetric(float64(v4+v6), "blocks")
		runtime.KeepAlive(t)
	}
}

// octets is the memory of an index.
func (x *Index) octets() int { return 4*len(x.Root) + 24*len(x.Nodes) + 4*len(x.Leaves) }

// BenchmarkIndex looks up addresses by roots of different sizes, one after the
// other, each depending on the one before: a few again and again, many, all
// kinds, and many with the caches full of other things.
func BenchmarkIndex(b *testing.B) {
	t := cityTable()
	v4, v6 := randomAddrs(1 << 16)
	of := func(addrs []netip.Addr) func(uint32) netip.Addr {
		return func(n uint32) netip.Addr { return addrs[n&uint32(len(addrs)-1)] }
	}
	for _, bits := range []int{8, 12, 14, 16, 18, 20, 22, 24} {
		l := t.Layout(bits, bits)
		u := &Table{blocks: l.Blocks, first6: l.First6, v4: l.V4, v6: l.V6}
		for _, c := range []struct {
			name  string
			next  func(uint32) netip.Addr
			flush int
		}{{"few", of(v4[:1<<10]), 0}, {"many", of(v4), 0}, {"all", addr4, 0}, {"cold", of(v4), 64}, {"nothing but cold", nil, 64}} {
			b.Run(fmt.Sprintf("v4/root %d/%.1f MB/%s", bits, float64(l.V4.octets())/1e6, c.name), func(b *testing.B) {
				chain(b, u, c.next, c.flush)
			})
		}
		b.Run(fmt.Sprintf("v6/root %d/%.1f MB/few", bits, float64(l.V6.octets())/1e6), func(b *testing.B) { chain(b, u, of(v6[:1<<10]), 0) })
		b.Run(fmt.Sprintf("v6/root %d/%.1f MB/many", bits, float64(l.V6.octets())/1e6), func(b *testing.B) { chain(b, u, of(v6), 0) })
	}
}

var other = sync.OnceValue(func() []uint64 { return make([]uint64, 64<<20/8*4) })

func chain(b *testing.B, t *Table, next func(uint32) netip.Addr, flush int) {
	memory := other()
	x, sum := uint64(1), uint32(0)
	for b.Loop() {
		x = x*6364136223846793005 + 1442695040888963407 + uint64(sum&1)
		if next != nil {
			sum += uint32(t.Class(t.Find(next(uint32(x >> 32)))))
		}
		y := x
		for range flush {
			y = y*6364136223846793005 + 1442695040888963407
			sum += uint32(memory[y>>32&uint64(len(memory)-1)])
		}
	}
}

func randomAddrs(n int) (v4, v6 []netip.Addr) {
	r := rand.New(rand.NewPCG(3, 3))
	for p := range testkit.Cities(1) {
		if p.Addr().Is6() && r.IntN(20) == 0 {
			v6 = append(v6, p.Addr())
		}
	}
	r.Shuffle(len(v6), func(i, j int) { v6[i], v6[j] = v6[j], v6[i] })
	for range n {
		v4 = append(v4, addr4(r.Uint32()))
	}
	return v4, v6[:n]
}

// BenchmarkLookup looks up many different addresses in the table of cities.
func BenchmarkLookup(b *testing.B) {
	t := cityTable()
	v4, v6 := randomAddrs(1 << 16)
	scopes := t.Widen(answers(20))
	for name, addrs := range map[string][]netip.Addr{"v4": v4, "v6": v6} {
		b.Run(name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				at := t.Find(addrs[i&(1<<16-1)])
				_, _ = t.Class(at), scopes.Scope(at)
			}
		})
	}
}

// BenchmarkWiden makes the scopes of one decision.
func BenchmarkWiden(b *testing.B) {
	t := cityTable()
	to := answers(20)
	defer testkit.CPU(b)()
	for b.Loop() {
		t.Widen(to)
	}
}

// answers gives a decision among n answers, in which classes that are near one
// another mostly have the same.
func answers(n int) []uint32 {
	r := rand.New(rand.NewPCG(4, 4))
	to := make([]uint32, 20_002)
	for i := range to {
		if to[i] = uint32(i * n / len(to)); r.IntN(10) == 0 {
			to[i] = uint32(r.IntN(n))
		}
	}
	return to
}
