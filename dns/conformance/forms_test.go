package conformance

import (
	"bytes"
	"net/netip"
	"os"
	"testing"

	"meridian/dns/answer"
	dnszone "meridian/dns/zone"
	"meridian/fleet"
)

// TestFormsOfAZoneAnswerAlike takes every zone of the corpus through the forms
// that zones have on their way through a fleet: written as text and read
// again, encoded and decoded, and made from another version by the difference.
// Each question gets the same octets from each.
func TestFormsOfAZoneAnswerAlike(t *testing.T) {
	w := worlds(t)[0]
	var read []*dnszone.Zone
	for _, z := range w.zones {
		text, err := os.ReadFile(z.path)
		if err != nil {
			t.Fatal(err)
		}
		loaded, err := dnszone.Load(fleet.Name(z.name), text, z.path)
		if err != nil {
			t.Fatal(err)
		}
		read = append(read, loaded)
	}
	id := answer.Identity{Node: "here"}
	first := answer.Zones(id, read)
	for name, form := range map[string]func(*dnszone.Zone) (*dnszone.Zone, error){
		"as text": func(z *dnszone.Zone) (*dnszone.Zone, error) {
			var b bytes.Buffer
			if err := z.WriteText(&b); err != nil {
				return nil, err
			}
			return dnszone.Load(z.Name, b.Bytes(), "again")
		},
		"encoded": func(z *dnszone.Zone) (*dnszone.Zone, error) { return dnszone.Decode(z.Name, z.Encode()) },
		"by difference": func(z *dnszone.Zone) (*dnszone.Zone, error) {
			const seed = "$TTL 60\n@ SOA ns1 host 1 7200 3600 1209600 60\n@ NS ns1\nns1 A 192.0.2.1\nx.y.z TXT \"goes\"\n* A 192.0.2.9\n"
			other, err := dnszone.Load(z.Name, []byte(seed), "seed")
			if err != nil {
				return nil, err
			}
			return other.With(dnszone.Diff(other, z))
		},
	} {
		t.Run(name, func(t *testing.T) {
			var zones []*dnszone.Zone
			for _, z := range read {
				formed, err := form(z)
				if err != nil {
					t.Fatalf("%s: %v", z.Name, err)
				}
				if formed.Records() != z.Records() || formed.Serial != z.Serial {
					t.Errorf("%s: %d records with serial %d, want %d with %d", z.Name, formed.Records(), formed.Serial, z.Records(), z.Serial)
				}
				zones = append(zones, formed)
			}
			sameAnswers(t, w.queries, first, answer.Zones(id, zones))
		})
	}
}

// sameAnswers holds two plans against each other, octet by octet.
func sameAnswers(t *testing.T, queries []query, a, b *answer.Plan) {
	t.Helper()
	var workers [2]answer.Worker
	var out [2][answer.MaxStream]byte
	for i, q := range queries {
		msg := q.wire(uint16(i))
		c := answer.Client{Addr: netip.MustParseAddr("192.0.2.200"), Stream: q.mode.tcp}
		n, _ := a.Answer(&workers[0], msg, c, out[0][:])
		m, _ := b.Answer(&workers[1], msg, c, out[1][:])
		if !bytes.Equal(out[0][:n], out[1][:m]) {
			t.Errorf("%s: %d octets and %d differ", q.key(), n, m)
		}
	}
}
