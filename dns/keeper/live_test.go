package keeper

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/rules"
)

// withLive gives the bench's World other live objects.
func (b *bench) live(put map[fleet.Name][]byte) {
	var objects []fleet.Object
	for id, data := range put {
		objects = append(objects, rules.LiveObject(id, data))
	}
	var none *fleet.Zones
	next := *b.world
	next.Live = none.With(objects, nil)
	b.world = &next
}

// A text that is to be in DNS for a while is in the deepest zone of the fleet
// that it lies in, whoever writes that; signed where that is signed; and then
// gone.
func TestTextsOfLiveObjectsAreInTheirZone(t *testing.T) {
	for settings, signed := range map[string]bool{"": false, ", dnssec: default": true} {
		b := newBench(t, "zones:\n- {zone: example.test"+settings+", records: "+quoted(plain)+"}\n- {zone: sub.example.test, records: "+quoted(plain)+"}\n")
		b.ok()
		before := b.old.Len()
		b.live(map[fleet.Name][]byte{"txt/_acme-challenge.www.example.test./1": []byte("one"), "txt/_acme-challenge.www.example.test./2": []byte("two"),
			"txt/x.other.test./1": []byte("elsewhere")})
		b.now = b.now.Add(time.Second)
		b.ok()
		if b.old.Len() != max(before, 1) {
			t.Errorf("%q: %d zones were made, %d before", settings, b.old.Len(), before)
		}
		n := b.zone("example.test.").Node(zone.Wire("_acme-challenge.www.example.test."))
		if n == nil || n.Get(zone.TypeTXT) == nil || n.Get(zone.TypeTXT).Count != 2 || (len(n.Get(zone.TypeTXT).Sigs) > 0) != signed {
			t.Fatalf("%q: %+v", settings, n)
		}
		b.live(map[fleet.Name][]byte{"txt/a.sub.example.test./1": []byte("deep")})
		b.now = b.now.Add(time.Second)
		b.ok()
		if n := b.zone("sub.example.test.").Node(zone.Wire("a.sub.example.test.")); n == nil {
			t.Errorf("%q: not in the deepest zone", settings)
		}
		if o, ok := b.old.Get("example.test."); ok != signed || ok && b.zone("example.test.").Node(zone.Wire("_acme-challenge.www.example.test.")) != nil {
			t.Errorf("%q: the texts stay: %v %s", settings, ok, o.Version)
		}
		b.live(nil)
		b.now = b.now.Add(time.Second)
		b.ok()
		if b.old.Len() != before {
			t.Errorf("%q: %d zones in the end, %d before", settings, b.old.Len(), before)
		}
	}
}

func quoted(text string) string {
	q, _ := json.Marshal(strings.TrimSpace(text) + "\n")
	return string(q)
}

// A signed zone has signatures of its HTTPS records with the keys that they
// name now, and with those that they will name next.
func TestHTTPSRecordsAreSignedBeforeTheirKeysAreServed(t *testing.T) {
	b := newBench(t, `
services: [{service: web, protocol: https, ports: [443], hosts: [www.example.test], pools: [{id: p, endpoints: [{address: "10.0.0.1:80"}]}]}]
certificates: [{id: c, acme: {directory: internal, names: [www.example.test, public.example.test]}}]
ech: {public_name: public.example.test}
zones:
- {zone: example.test, dnssec: default, records: `+quoted("@ 3600 SOA ns1 hostmaster 7 3600 600 86400 300\n@ 3600 NS ns1\nns1 A 192.0.2.53\n")+`, steered: [{name: www, service: web, https: {}}]}
`)
	lists := func(now, next string) int {
		t.Helper()
		data, _ := json.Marshal(fleet.ECHLists{Now: []byte(now), Next: []byte(next)})
		b.live(map[fleet.Name][]byte{"ech-list/fleet": data})
		b.now = b.now.Add(time.Second)
		b.ok()
		n := 0
		for _, v := range b.zone("example.test.").Variants(string(zone.Wire("www.example.test.")), zone.TypeHTTPS) {
			if len(v.Set.Sigs) == 0 {
				t.Error("a variant has no signature")
			}
			for _, key := range []string{"FIRST", "SECOND"} {
				if strings.Contains(string(v.Set.Data), key) {
					n++
				}
			}
		}
		return n
	}
	b.ok()
	with := lists("", "FIRST")
	if with == 0 || lists("FIRST", "") != with || lists("FIRST", "SECOND") != 2*with || lists("SECOND", "") < with {
		t.Errorf("%d variants with a key", with)
	}
}
