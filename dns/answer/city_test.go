package answer

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"

	"meridian/geo"
	"meridian/internal/testkit"
)

// cities is a database like the largest of its kind: networks of IPv4 and
// IPv6 in their millions, and places in their hundreds of thousands, which
// neighbours in the address space often share.
type cities struct{ places []geo.Place }

func newCities(places int) *cities {
	r := rand.New(rand.NewPCG(1, 1))
	all := geo.Countries()
	c := &cities{}
	for i := range places { // neighbours in the list are of one country
		at := all[i*len(all)/places].Place()
		at.City = fmt.Sprint("City ", i)
		at.Latitude = math.Round(1e4*math.Max(-85, math.Min(85, at.Latitude+8*r.NormFloat64()))) / 1e4
		at.Longitude = math.Round(1e4*math.Max(-180, math.Min(180, at.Longitude+8*r.NormFloat64()))) / 1e4
		c.places = append(c.places, at)
	}
	return c
}

func (c *cities) Networks() iter.Seq2[netip.Prefix, geo.Place] {
	return func(yield func(netip.Prefix, geo.Place) bool) {
		for p, n := range testkit.Cities(len(c.places)) {
			if !yield(p, c.places[n]) {
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
	source := newCities(200_000)
	w := newWorld(b, fleet20(100))
	defer testkit.CPU(b)()
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
		b.ReportMetric(float64(v4+v6), "blocks")
		b.ReportMetric(float64(len(p.steering.wide)), "partitions")
	}
}

// BenchmarkSettleCities is a change of health in a fleet of 20 regions and
// 10,000 steered names with such a database, and then the scopes as wide as the
// new answers go.
func BenchmarkSettleCities(b *testing.B) {
	w := newWorld(b, fleet20(1000))
	p, err := Compile(id, w, newCities(200_000), nil, now, nil)
	if err != nil {
		b.Fatal(err)
	}
	v := fullView(w.Snapshot, 2, "r0")
	b.Run("flip", func(b *testing.B) {
		defer testkit.CPU(b)()
		for b.Loop() {
			p.WithView(v, now)
		}
	})
	b.Run("settle", func(b *testing.B) {
		q := p.WithView(v, now)
		defer testkit.CPU(b)()
		for b.Loop() {
			q.Settle()
		}
		b.ReportMetric(float64(len(q.Settle().steering.wide)), "partitions")
	})
}
