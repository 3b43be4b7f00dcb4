package xdp

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"meridian/dns/answer"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/geo/mmdb"
)

// steeredWorld has so many names, steered over eight regions by so many
// services.
func steeredDoc(names, services int) string {
	var doc strings.Builder
	doc.WriteString("regions:\n")
	for i, at := range []string{"50.1, 8.7", "35.7, 139.7", "-23.5, -46.6", "40.7, -74", "37.8, -122.4", "1.35, 103.8", "-33.9, 151.2", "19.1, 72.9"} {
		lat, lon, _ := strings.Cut(at, ", ")
		fmt.Fprintf(&doc, "- {id: r%d, location: {latitude: %s, longitude: %s}, vips: {v4: [192.0.2.%d], v6: [\"2001:db8::%d\"]}}\n", i, lat, lon, i+1, i+1)
	}
	doc.WriteString("services:\n")
	for i := range services {
		fmt.Fprintf(&doc, "- {service: s%d, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: \"10.0.0.1:80\"}]}], steering: {policy: proximity}}\n", i)
	}
	doc.WriteString("zones:\n- zone: example.test\n  records: |\n    $TTL 300\n    @ SOA ns1 admin 1 3600 600 86400 60\n    @ NS ns1\n    ns1 A 192.0.2.53\n  steered:\n")
	for i := range names {
		fmt.Fprintf(&doc, "  - {name: host%d, service: s%d}\n", i, i%services)
	}
	return doc.String()
}

// memory is what a kernel's maps take, in octets, by the kernel's account, but for
// those of blocks.
func (k *kernel) memory(t testing.TB) (total uint64) {
	t.Helper()
	v := reflect.ValueOf(&k.dnsObjects.dnsMaps).Elem()
	for i := range v.NumField() {
		info, err := v.Field(i).Interface().(*ebpf.Map).Info()
		if err != nil {
			t.Fatal(err)
		}
		n, _ := info.Memlock()
		total += n
	}
	return total
}

// BenchmarkImage gives what it takes to make answers ready for the kernel.
func BenchmarkImage(b *testing.B) {
	source, err := mmdb.Default()
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		plan func() *answer.Plan
	}{
		{"100000 plain names", func() *answer.Plan { return answer.Zones(id, []*zone.Zone{benchZone(b, 100_000)}) }},
		{"100000 steered names of 8 regions", func() *answer.Plan {
			p, err := answer.Compile(id, newWorld(b, steeredDoc(100_000, 10)), source, nil, now, nil)
			if err != nil {
				b.Fatal(err)
			}
			return p
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := c.plan()
			for b.Loop() {
				begin := time.Now()
				im, err := compile(p, 1, newZoneNumbers(), 1<<15)
				if err != nil {
					b.Fatal(err)
				}
				compiled := time.Now()
				k, err := load(im, now, nil)
				if err != nil {
					b.Fatalf("%+v", err)
				}
				loaded := time.Now()
				b.ReportMetric(compiled.Sub(begin).Seconds(), "compile-s")
				b.ReportMetric(loaded.Sub(compiled).Seconds(), "load-s")
				b.ReportMetric(float64(k.memory(b)+uint64(im.arena.used())*(32<<10))/1e6, "kernel-MB")
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				b.ReportMetric(float64(m.HeapAlloc)/1e6, "heap-MB")
				runtime.KeepAlive(im)
				k.Close()
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// numberedZone has so many names; version tells it from others of its name.
func numberedZone(b testing.TB, number, names, version int) *zone.Zone {
	var text strings.Builder
	fmt.Fprintf(&text, "$TTL 300\n@ SOA ns1 admin %d 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\n", version)
	for i := range names - 2 {
		fmt.Fprintf(&text, "host%d A 10.%d.%d.%d\n", i, version, number%250, i%250)
	}
	z, err := zone.Load(fleet.Name(fmt.Sprintf("z%d.test.", number)), []byte(text.String()), "")
	if err != nil {
		b.Fatal(err)
	}
	return z
}

// BenchmarkChange gives what it takes until a change of one zone is in force in
// the kernel, without the rest, and until all would be made anew.
func BenchmarkChange(b *testing.B) {
	for _, c := range []struct{ zones, names int }{{1000, 100}, {100_000, 5}, {1, 100_000}} {
		b.Run(fmt.Sprintf("%d zones of %d names", c.zones, c.names), func(b *testing.B) {
			var zones []*zone.Zone
			for i := range c.zones {
				zones = append(zones, numberedZone(b, i, c.names, 1))
			}
			heap := func() float64 {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				return float64(m.HeapAlloc) / 1e6
			}
			p, floor, begin := answer.Zones(id, zones), heap(), time.Now()
			m := newMachine(b, p)
			anew, memory := time.Since(begin), float64(m.memory(b)+uint64(m.image.arena.used())*(32<<10))
			runtime.KeepAlive(zones)
			taken := heap() - floor
			var followed, mended time.Duration
			version := 1
			for b.Loop() {
				version++
				p = p.WithZone(numberedZone(b, version*7%c.zones, c.names, version))
				begin := time.Now()
				m.follow(b, p)
				followed += time.Since(begin)
				if !m.mendAll(b) {
					b.Fatal(m.image.worn)
				}
				mended += time.Since(begin)
			}
			b.ReportMetric(anew.Seconds(), "anew-s")
			b.ReportMetric(taken, "heap-MB")
			b.ReportMetric(memory/1e6, "kernel-MB")
			b.ReportMetric(followed.Seconds()*1e3/float64(b.N), "sockets-ms")
			b.ReportMetric(mended.Seconds()*1e3/float64(b.N), "in-force-ms")
			b.ReportMetric(float64(m.memory(b)+uint64(m.image.arena.used())*(32<<10))/1e6, "kernel-MB-then")
			b.ReportMetric(0, "ns/op")
			m.kernel.Close()
		})
	}
}
