package mmdb

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"meridian/geo"
	"meridian/internal/testkit"
)

// BenchmarkCities reads a database like the largest city databases, checks it,
// and makes the table of about 20,000 classes. To write it takes a minute.
func BenchmarkCities(b *testing.B) {
	const places = 200_000
	w, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "GeoIP2-City", RecordSize: 28, IncludeReservedNetworks: true})
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	all := geo.Countries()
	records := make([]mmdbtype.Map, places)
	for i := range records {
		c := all[i*len(all)/places]
		records[i] = mmdbtype.Map{
			"continent": mmdbtype.Map{"code": mmdbtype.String(c.Continent)}, "country": mmdbtype.Map{"iso_code": mmdbtype.String(c.Code)},
			"city":     mmdbtype.Map{"names": mmdbtype.Map{"en": mmdbtype.String(fmt.Sprint("City ", i))}},
			"location": mmdbtype.Map{"latitude": mmdbtype.Float64(c.Latitude + r.Float64()), "longitude": mmdbtype.Float64(c.Longitude + r.Float64())},
		}
	}
	n := 0
	for p, i := range testkit.Cities(places) {
		ip := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
		if err := w.Insert(ip, records[i]); err != nil {
			b.Fatal(err)
		}
		n++
	}
	var file bytes.Buffer
	if _, err := w.WriteTo(&file); err != nil {
		b.Fatal(err)
	}
	w, records = nil, nil
	runtime.GC()
	d, err := parse(file.Bytes(), "cities")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("open", func(b *testing.B) {
		defer testkit.CPU(b)()
		for b.Loop() {
			if _, err := parse(file.Bytes(), "cities"); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(file.Len())/1e6, "MB")
		b.ReportMetric(float64(n), "networks")
	})
	b.Run("walk", func(b *testing.B) {
		defer testkit.CPU(b)()
		for b.Loop() {
			for range d.Networks() {
			}
		}
	})
	b.Run("compile", func(b *testing.B) {
		defer testkit.CPU(b)()
		for b.Loop() {
			var next geo.Class
			t, err := geo.Compile(d.Networks(), func(geo.Place) geo.Class { next++; return next / 10 })
			if err != nil {
				b.Fatal(err)
			}
			v4, v6 := t.Size()
			b.ReportMetric(float64(v4+v6), "blocks")
		}
	})
}
