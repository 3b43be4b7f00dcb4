package answer

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// shapes are the common queries.
func shapes(t testing.TB) map[string][]byte {
	return map[string][]byte{
		"plain":            pack(t, query("mx1.demo.test", dns.TypeA)),
		"plain with EDNS":  pack(t, query("mx1.demo.test", dns.TypeA, edns)),
		"steered":          pack(t, query("www.demo.test", dns.TypeA, subnetOf("10.1.0.0/24"))),
		"steered, sliced":  pack(t, query("split.demo.test", dns.TypeA, subnetOf("10.1.0.0/24"))),
		"steered v6":       pack(t, query("www.demo.test", dns.TypeAAAA, subnetOf("2001:db8:100::/48"))),
		"NXDOMAIN":         pack(t, query("a.b.nothing.demo.test", dns.TypeA, edns)),
		"NODATA":           pack(t, query("mx1.demo.test", dns.TypeTXT, edns)),
		"wildcard":         pack(t, query("x.wild.demo.test", dns.TypeA, edns)),
		"alias to steered": pack(t, query("alias.demo.test", dns.TypeA, edns)),
		"referral":         pack(t, query("x.child.demo.test", dns.TypeA, edns)),
		"DNAME":            pack(t, query("x.old.demo.test", dns.TypeTXT, edns)),
		"MX":               pack(t, query("mail.demo.test", dns.TypeMX, edns)),
		"NS":               pack(t, query("demo.test", dns.TypeNS, edns)),
		"ANY":              pack(t, query("demo.test", dns.TypeANY, edns)),
		"refused":          pack(t, query("elsewhere.example", dns.TypeA, edns)),
		"malformed":        {0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xff},
	}
}

func TestAnswersDoNotAllocate(t *testing.T) {
	p := newPlan(t, nil)
	out := make([]byte, MaxStream)
	var w Worker
	for name, q := range shapes(t) {
		if n := testing.AllocsPerRun(50, func() { p.Answer(&w, q, Client{Addr: resolver}, out) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkAnswer(b *testing.B) {
	p := newPlan(b, nil)
	out := make([]byte, MaxStream)
	var w Worker
	for name, q := range shapes(b) {
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Answer(&w, q, Client{Addr: resolver}, out)
			}
		})
	}
}

// A fleet of 20 regions with 100 services: how long a change of health takes.
func BenchmarkWithView(b *testing.B) {
	var doc strings.Builder
	doc.WriteString("regions:\n")
	for i := range 20 {
		fmt.Fprintf(&doc, "- {id: r%d, location: {latitude: %d, longitude: %d}, vips: {v4: [192.0.2.%d]}}\n", i, i*8-80, i*17-170, i+1)
	}
	doc.WriteString("services:\n")
	for i := range 100 {
		fmt.Fprintf(&doc, "- {service: s%d, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: \"10.0.0.1:80\"}]}]}\n", i)
	}
	p, err := Compile(id, newWorld(b, doc.String()), countries(), nil, now, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(p.classes.Len()), "classes")
	v := down("s1", "r3")
	for b.Loop() {
		p.WithView(v, now)
	}
}

// FuzzSubnet: a Client Subnet option is either echoed or a fault.
func FuzzSubnet(f *testing.F) {
	p, err := Compile(id, newWorld(f, spec), newAtlas(), nil, now, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{0, 1, 24, 0, 10, 1, 2})
	f.Add([]byte{0, 2, 48, 0, 0x20, 1, 0xd, 0xb8, 1, 0})
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 100 {
			t.Skip()
		}
		m := send(t, p, withOption(t, "www.demo.test", 8, data), false)
		switch e := ecsOf(m); {
		case m.Rcode == dns.RcodeFormatError && e == nil:
		case m.Rcode == dns.RcodeSuccess && e != nil && int(e.SourceNetmask) == int(data[2]):
		default:
			t.Fatalf("%x: %v", data, m)
		}
	})
}
