package keeper

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"meridian/dns/sign"
	"meridian/dns/zone"
)

const exportedZone = `
services:
- {service: web, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}]}
zones:
- zone: example.test
  transfer: [10.0.0.0/8]
  SETTINGS
  steered: [{name: www, service: web EXPORT}]
  records: `

// Whatever changes what transfers show of a steered name raises the serial,
// and what does not leaves the zone as it is.
func TestDeriveOfAChangedExport(t *testing.T) {
	for _, settings := range []string{"zonemd: verify", "dnssec: default", "zonemd: generate", "dnssec: default\n  zonemd: generate"} {
		t.Run(settings, func(t *testing.T) {
			doc := func(export string) string {
				return strings.NewReplacer("SETTINGS", settings, "EXPORT", export).Replace(exportedZone) + records(plain[:strings.Index(plain, "www")])
			}
			b := newBench(t, doc("")).ok()
			last := b.zone("example.test.")
			for _, c := range []struct{ doc, want string }{
				{doc(", export: [192.0.2.77]"), "192.0.2.77"},
				{doc(", export: [192.0.2.78]"), "192.0.2.78"},
				{doc(""), "192.0.2.1"},
				{strings.Replace(doc(""), "services:", "anycast: {v4: [198.51.100.9]}\nservices:", 1), "192.0.2.1"},
				{strings.NewReplacer("services:", "anycast: {v4: [198.51.100.9]}\nservices:", `"10.0.0.1:80"}]}]`, `"10.0.0.1:80"}]}], steering: {answer: anycast}`).Replace(doc("")), "198.51.100.9"},
			} {
				b.now = b.now.Add(time.Minute)
				b.spec(c.doc)
				b.ok()
				z := b.zone("example.test.")
				shown, err := z.Exported()
				if err != nil {
					t.Fatal(err)
				}
				if got := shown.Node(zone.Wire("www.example.test.")).Get(zone.TypeA); got == nil || got.Count != 1 || addr(got.Data[2:]) != c.want {
					t.Fatalf("shows %v, want %s", got, c.want)
				}
				before, err := last.Exported()
				if err != nil {
					t.Fatal(err)
				}
				if same := len(zone.Diff(before, shown)) == 0; !same && !sign.SerialAfter(z.Serial, last.Serial) {
					t.Errorf("%s: serial %d after %d", c.want, z.Serial, last.Serial)
				}
				if strings.Contains(settings, "generate") {
					if err := shown.VerifyZONEMD(); err != nil {
						t.Error(err)
					}
				}
				if z.Signed {
					if err := sign.Verify(z, b.now); err != nil {
						t.Error(err)
					}
					if err := sign.Verify(shown, b.now); err != nil {
						t.Errorf("as shown: %v", err)
					}
				}
				last = z
			}
			b.now = b.now.Add(time.Minute)
			if b.ok(); len(b.put) > 0 {
				t.Error("made anew without cause")
			}
			b.restart()
			if b.ok(); len(b.put) > 0 {
				t.Error("made anew by another process without cause")
			}
		})
	}
}

func addr(b []byte) string { return netip.AddrFrom4([4]byte(b)).String() }
