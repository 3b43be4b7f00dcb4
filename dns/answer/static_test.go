package answer

import (
	"strings"
	"testing"

	"github.com/miekg/dns"

	"meridian/dns/zone"
)

// A zone transfer shows for a steered name what the Spec exports, or what a
// client of whom nothing is known gets when all is well.
func TestStatic(t *testing.T) {
	doc := strings.Replace(spec, "{name: split, service: split}", "{name: split, service: split, export: [192.0.2.77, \"2001:db8::77\"]}", 1)
	p, err := Compile(id, newWorld(t, doc), newAtlas(), down("web", "fra"), now, nil)
	if err != nil {
		t.Fatal(err)
	}
	z := p.Static("demo.test.")
	shown := Zones(id, []*zone.Zone{z})
	for name, want := range map[string]string{
		"www.demo.test":   "www.demo.test. 30 A 192.0.2.1",
		"demo.test":       "demo.test. 60 A 192.0.2.1",
		"x.geo.demo.test": "x.geo.demo.test. 30 A 192.0.2.1",
		"split.demo.test": "split.demo.test. 30 A 192.0.2.77",
		"mx1.demo.test":   "mx1.demo.test. 300 A 192.0.2.25",
	} {
		if got := text(ask(t, shown, name, dns.TypeA).Answer); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := text(ask(t, shown, "split.demo.test", dns.TypeAAAA).Answer); got != "split.demo.test. 30 AAAA 2001:db8::77" {
		t.Errorf("%s", got)
	}
	if p.Static("demo.test.") != z || p.WithView(nil, now).Static("demo.test.") != z {
		t.Error("what has not changed is made anew")
	}
	again, err := Compile(id, newWorld(t, strings.Replace(doc, "answer: anycast", "answer: anycast, records: 2", 1)), newAtlas(), nil, now, p)
	if err != nil || again.Static("demo.test.") != z {
		t.Errorf("another Snapshot that shows the same makes another zone: %v", err)
	}
	w := newWorld(t, strings.Replace(doc, "mx1 A 192.0.2.25", "mx1 A 192.0.2.26", 1))
	changed, err := Compile(id, w, newAtlas(), nil, now, again)
	if err != nil || text(ask(t, Zones(id, []*zone.Zone{changed.Static("demo.test.")}), "mx1.demo.test", dns.TypeA).Answer) != "mx1.demo.test. 300 A 192.0.2.26" {
		t.Errorf("a changed zone is shown as it was: %v", err)
	}
	if p.Static("other.test.") != p.Zone("other.test.") || p.Static("missing.test.") != nil {
		t.Error("zones without steered names are shown as they are")
	}
}

// RFC 5936 §2.2: what a signed zone shows to secondaries verifies there.
func TestRFC5936StaticSignedZoneVerifies(t *testing.T) {
	for _, policy := range []string{"default", "hashed"} {
		p, err := Compile(id, signedWorld(t, policy, true), newAtlas(), down("web", "fra"), now, nil)
		if err != nil {
			t.Fatal(err)
		}
		z := p.Static("signed.test.")
		if z == nil {
			t.Fatal("no zone")
		}
		shown := Zones(id, []*zone.Zone{z})
		for _, name := range []string{"www", "split", "order", "x.any", "alias", "nothing", "plain"} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeMX} {
				m := ask(t, shown, name+".signed.test.", qtype, do)
				verify(t, z, m)
				if m.Rcode == 0 && count(m.Answer, qtype) == 0 && name != "alias" {
					if types, ok := matched(m, strings.Replace(name, "x.", "*.", 1)+".signed.test."); !ok || contains(types, qtype) {
						t.Errorf("%s %s: %v", name, dns.Type(qtype), m)
					}
				}
			}
		}
	}
}

func contains(types []uint16, t uint16) bool { return subset([]uint16{t}, types) }
