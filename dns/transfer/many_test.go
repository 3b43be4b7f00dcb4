package transfer

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/internal/testkit"
)

// manyZones is a World of n small zones; with says what each has besides.
func manyZones(t testing.TB, n int, with string, content bool) *fleet.World {
	t.Helper()
	var doc strings.Builder
	fmt.Fprintf(&doc, "dns: {templates: [{template: all, %s}]}\nzones:\n", with)
	objects := map[fleet.ObjectKey]string{}
	for i := range n {
		if content {
			fmt.Fprintf(&doc, "- {zone: z%d.test, file: f, template: all}\n", i)
			objects[fleet.ObjectKey{Kind: fleet.ObjectZone, ID: fmt.Sprintf("z%d.test.", i)}] = small(fmt.Sprintf("z%d.test.", i), 1)
		} else {
			fmt.Fprintf(&doc, "- {zone: z%d.test, template: all}\n", i)
		}
	}
	return makeWorld(t, doc.String(), objects)
}

// Thousands of secondary zones come from one primary with a bounded number of
// goroutines, stay in step by NOTIFY, and are served at once after a restart.
func TestManyZones(t *testing.T) {
	const zones = 500
	port := testkit.FreePort(t, "127.0.0.1")
	p := serve(t, "", 0, manyZones(t, zones, fmt.Sprintf("transfer: [127.0.0.1], notify: [{address: \"127.0.0.1:%d\"}]", port), true))
	dir := t.TempDir()
	w := manyZones(t, zones, fmt.Sprintf("primaries: [{address: %q}]", p.addr), false)
	before := runtime.NumGoroutine()
	n := serve(t, dir, port, w)
	most := 0
	eventually(t, "all zones are there", func() bool {
		most = max(most, runtime.NumGoroutine()-before)
		return n.count(Current) == zones && n.count(Missing) == 0
	})
	if most > 300 {
		t.Errorf("%d goroutines for %d zones", most, zones)
	}
	p.srv.SetZone(p.srv.Zone("z7.test.")) // no change: no news
	z, err := zone.Load("z9.test.", []byte(small("z9.test.", 2)), "f")
	if err != nil {
		t.Fatal(err)
	}
	p.srv.SetZone(z)
	eventually(t, "a change is there", func() bool { return serialAt(n.addr, "z9.test.") == 2 })
	n.stop()
	n = serve(t, dir, port, w)
	if got := n.count(Missing); got != 0 {
		t.Errorf("%d zones are not served after a restart", got)
	}
	if s, ok := n.StatusOf("z9.test."); !ok || s.Serial != 2 {
		t.Errorf("status %+v", s)
	}
}

func bigZone(b testing.TB, n int) *zone.Zone {
	builder := zone.NewBuilder("example.test.")
	for _, r := range rrs(b, "SOA 1\nexample.test. 300 NS ns1.example.test.\n") {
		if err := builder.Add([]byte(r.owner), r.rtype, r.ttl, r.data); err != nil {
			b.Fatal(err)
		}
	}
	for i := range n {
		if err := builder.Add([]byte(fmt.Sprintf("\x08h%07d\x07example\x04test\x00", i)), zone.TypeA, 300, []byte{192, 0, 2, byte(i)}); err != nil {
			b.Fatal(err)
		}
	}
	z, err := builder.Build()
	if err != nil {
		b.Fatal(err)
	}
	return z
}

func BenchmarkAXFR(b *testing.B) {
	const records = 100_000
	z := bigZone(b, records)
	tr, _ := direct(b, "zones: [{zone: example.test, file: f, transfer: [192.0.2.1]}]", z)
	m := new(dns.Msg)
	m.SetAxfr("example.test.")
	query := pack(b, m)
	var stream [][]byte
	send := func(reply func([]byte) error) {
		tr.Handle(context.Background(), &Request{Message: query, Client: netip.MustParseAddrPort("192.0.2.1:1"), Stream: true, Reply: reply})
	}
	b.Run("out", func(b *testing.B) {
		for b.Loop() {
			send(func([]byte) error { return nil })
		}
		b.ReportMetric(records*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
	send(func(msg []byte) error { stream = append(stream, bytes.Clone(msg)); return nil })
	b.Run("in", func(b *testing.B) {
		for b.Loop() {
			in := newIncoming("example.test.", m.Id, nil, false, limits{1 << 40, 1 << 40})
			for _, msg := range stream {
				if err := in.message(msg); err != nil {
					b.Fatal(err)
				}
			}
			if _, err := in.newest(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(records*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
}
