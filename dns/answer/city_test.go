package answer

import (
	"iter"
	"math"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"

	"meridian/geo"
)

// cities is a database like the largest of its kind: networks of IPv4 and
// IPv6 in their millions, and places in their hundreds of thousands, which
// neighbours in the address space often share.
type cities struct {
	places   []geo.Place
	networks int
}

func newCities(places, networks int) *cities {
	r := rand.New(rand.NewPCG(1, 1))
	all := geo.Countries()
	c := &cities{networks: networks}
	for i := range places { // neighbours in the list are of one country
		at := all[i*len(all)/places].Place()
		at.Latitude = math.Round(1e4*math.Max(-85, math.Min(85, at.Latitude+8*r.NormFloat64()))) / 1e4
		at.Longitude = math.Round(1e4*math.Max(-180, math.Min(180, at.Longitude+8*r.NormFloat64()))) / 1e4
		c.places = append(c.places, at)
	}
	return c
}

func (c *cities) Networks() iter.Seq2[netip.Prefix, geo.Place] {
	return func(yield func(netip.Prefix, geo.Place) bool) {
		r := rand.New(rand.NewPCG(2, 2))
		near := 0
		place := func() geo.Place {
			if r.IntN(4) == 0 {
				near = r.IntN(len(c.places))
			}
			return c.places[(near+r.IntN(20))%len(c.places)]
		}
		for i := range c.networks * 3 / 4 {
			n := uint32(0x01000000 + i<<10)
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), 22)
			if !yield(p, place()) {
				return
			}
		}
		for i := range c.networks / 4 {
			p := netip.PrefixFrom(netip.AddrFrom16([16]byte{0x24, byte(i >> 20), byte(i >> 12), byte(i >> 4), byte(i << 4)}), 36)
			if !yield(p, place()) {
				return
			}
		}
	}
}

func (c *cities) Lookup(netip.Addr) (geo.Place, bool) { return geo.Place{}, false }
func (c *cities) String() string                      { return "made-up cities" }

// BenchmarkCompileCities compiles the largest of databases against a fleet of
// 20 regions and 100 services of some dozen kinds.
func BenchmarkCompileCities(b *testing.B) {
	source := newCities(200_000, 4_000_000)
	w := newWorld(b, fleet20(100))
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		p, err := Compile(id, w, source, nil, now, nil)
		if err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		v4, v6 := p.table.Size()
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")
		b.ReportMetric(float64(p.classes.Len()), "classes")
		b.ReportMetric(float64(v4+v6), "runs")
		b.ReportMetric(float64(len(p.steering.wide)), "partitions")
	}
}
