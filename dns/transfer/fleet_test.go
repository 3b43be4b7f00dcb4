package transfer

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/rules"
)

// RFC 1995 §5: the history of a secondary zone survives a restart, so that its own secondaries go on with differences.
func TestRFC1995HistorySurvivesRestart(t *testing.T) {
	version := func(serial uint32) string { return zoneText(serial, 50, fmt.Sprintf("v%d TXT x\n", serial)) }
	p, set := primary(t, version(1))
	dir := t.TempDir()
	w := secondaryOf(t, p.addr)
	n := serve(t, dir, 0, w)
	for serial := uint32(1); serial <= 3; serial++ {
		set(version(serial))
		if err := n.Refresh("example.test."); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the version is there", func() bool { return serialAt(n.addr, "example.test.") == serial })
		n.version("example.test.", n.policy("example.test.")) // as a transfer does
	}
	n.stop()
	n = serve(t, dir, 0, w)
	c := patient()
	m := new(dns.Msg)
	m.SetIxfr("example.test.", 1, "ns1.", "admin.")
	ch, err := c.In(m, n.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for e := range ch {
		if e.Error != nil {
			t.Fatal(e.Error)
		}
		count += len(e.RR)
	}
	if count != 6 { // SOA 3, SOA 1, v1, SOA 3, v3, SOA 3
		t.Errorf("%d records from version 1 to 3", count)
	}
}

// RFC 5936 §3.1: a steered name is transferred as the records that the Spec exports, or by default those of its answer when all is well, as differences too.
func TestRFC5936SteeredNames(t *testing.T) {
	world := func(serial uint32, export string) *fleet.World {
		doc := fmt.Sprintf("zones: [{zone: example.test, file: f, transfer: [127.0.0.1], steered: [{name: www, service: web%s}]}]", export)
		return makeWorld(t, doc, map[fleet.ObjectKey]string{{Kind: fleet.ObjectZone, ID: "example.test."}: timers(int(serial), 86400)})
	}
	n := serve(t, t.TempDir(), 0, world(1, ""))
	has := func(want string) bool {
		return strings.Contains(strings.Join(axfr(t, n.addr, "example.test.", ""), "\n"), want)
	}
	if !has("www.example.test. 30 in a 192.0.2.1") {
		t.Errorf("AXFR gives %q", axfr(t, n.addr, "example.test.", ""))
	}
	n.apply(t, world(2, ", export: [198.51.100.7]"))
	if !has("www.example.test. 30 in a 198.51.100.7") || has("192.0.2.1\n") {
		t.Errorf("AXFR gives %q", axfr(t, n.addr, "example.test.", ""))
	}
	p := n.policy("example.test.")
	z, changes, ok := n.since("example.test.", p, 1, 1<<20)
	if !ok || len(changes) != 4 || z.Serial != 2 {
		t.Errorf("%d changes from version 1, %v", len(changes), ok)
	}
}

// A zone that the admin API makes is transferred and told of by its template.
func TestZonesOfTheAPI(t *testing.T) {
	world := func(old *fleet.World, serial int) *fleet.World {
		w := makeWorld(t, "dns: {zones: api, templates: [{template: api, transfer: [127.0.0.1]}]}", nil)
		if old != nil {
			w.Snapshot, w.Zones = old.Snapshot, old.Zones
		}
		z, err := zone.Load("example.test.", []byte(timers(serial, 86400)), "f")
		if err != nil {
			t.Fatal(err)
		}
		w.Zones = w.Zones.With([]fleet.Object{rules.ZoneObject("example.test.", z.Encode())}, nil)
		return w
	}
	w := world(nil, 1)
	n := serve(t, t.TempDir(), 0, w)
	if got := axfr(t, n.addr, "example.test.", ""); len(got) != 3 {
		t.Errorf("%q", got)
	}
	n.apply(t, world(w, 2))
	if _, changes, ok := n.since("example.test.", n.policy("example.test."), 1, 1<<20); !ok || len(changes) != 2 {
		t.Errorf("%d changes, %v", len(changes), ok)
	}
}
