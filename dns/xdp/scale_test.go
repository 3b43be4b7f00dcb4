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
