package answer

import (
	"fmt"
	"testing"

	"meridian/dns/zone"
	"meridian/fleet"
)

func dynamic(name string, serial int) fleet.Object {
	return fleet.Object{Key: fleet.ObjectKey{Kind: fleet.ObjectZone, ID: name}, Version: fmt.Sprint(serial),
		Data: fmt.Appendf(nil, "@ 300 SOA ns.example. admin.example. %d 3600 600 86400 60\n@ 300 NS ns.example.\nwww 300 A 192.0.2.1\n", serial)}
}

func mustZone(t testing.TB, name fleet.Name, text string) *zone.Zone {
	t.Helper()
	z, err := zone.Load(name, []byte(text), "")
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// Zones come from the Spec, from the World's own set of zones, and from
// outside; each goes when its owner lets it go.
func TestZonesOfAPlan(t *testing.T) {
	doc := spec + `
- {zone: secondary.test, primaries: [{address: "192.0.2.53:53"}]}
- {zone: made.test, dynamic: true}
`
	w := newWorld(t, doc)
	w.Zones = w.Zones.With([]fleet.Object{dynamic("made.test.", 1), dynamic("more.test.", 1)}, nil)
	compile := func(w *fleet.World, old *Plan) *Plan {
		t.Helper()
		p, err := Compile(id, w, newAtlas(), nil, now, old)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := compile(w, nil)
	if p.Zone("made.test.").Serial != 1 || p.Zone("more.test.").Serial != 1 || p.Zone("demo.test.") == nil {
		t.Error("zones with versions of their own are not served")
	}
	if m := ask(t, p, "www.secondary.test", 1, edns); m.Rcode != ServFail {
		t.Errorf("a secondary zone that has not been transferred: %v", m)
	}
	second := mustZone(t, "secondary.test.", string(dynamic("", 5).Data))
	member := mustZone(t, "member.test.", string(dynamic("", 5).Data))
	p = p.WithZone(second).WithZone(member)
	if m := ask(t, p, "www.secondary.test", 1); m.Rcode != 0 || len(m.Answer) != 1 {
		t.Errorf("transferred: %v", m)
	}
	next := *w
	next.Zones = w.Zones.With([]fleet.Object{dynamic("made.test.", 2)}, []fleet.Name{"more.test."})
	q := compile(&next, p)
	told := map[fleet.Name]string{}
	for was, is := range q.Changed(p) {
		switch {
		case was == nil:
			told[is.Name] = "new"
		case is == nil:
			told[was.Name] = "gone"
		default:
			told[is.Name] = "changed"
		}
	}
	if len(told) != 2 || told["made.test."] != "changed" || told["more.test."] != "gone" {
		t.Errorf("changed: %v", told)
	}
	if q.Zone("made.test.").Serial != 2 || q.Zone("more.test.") != nil || q.Zone("demo.test.") != p.Zone("demo.test.") {
		t.Error("a changed zone is not taken, or another one is not kept")
	}
	if q.Zone("secondary.test.") != second || q.Zone("member.test.") != member {
		t.Error("zones from outside are lost by a change of another")
	}
	if p.Zone("made.test.").Serial != 1 || p.Zone("more.test.") == nil {
		t.Error("the plan before has changed")
	}
	q = compile(newWorld(t, spec), q)
	if q.Zone("secondary.test.") != nil || q.Zone("made.test.") != nil {
		t.Error("zones stay that the Spec names no longer")
	}
	if q.Zone("member.test.") != member {
		t.Error("a catalog's member is lost by a change of the Spec")
	}
	if q = q.WithoutZone("member.test."); q.Zone("member.test.") != nil {
		t.Error("a removed zone stays")
	}
	if m := ask(t, p.WithUnavailable("secondary.test."), "www.secondary.test", 1, edns); m.Rcode != ServFail {
		t.Errorf("a secondary zone that has expired: %v", m)
	}
}

// One zone changes among many: what it costs to have it served.
func BenchmarkOneZoneOf100000(b *testing.B) {
	w := newWorld(b, spec)
	var objects []fleet.Object
	for i := range 100_000 {
		objects = append(objects, dynamic(fmt.Sprintf("zone%d.test.", i), 1))
	}
	w.Zones = w.Zones.With(objects, nil)
	source := newAtlas()
	p, err := Compile(id, w, source, nil, now, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Compile", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			next := *w
			next.Zones = w.Zones.With([]fleet.Object{dynamic("zone7.test.", i+2)}, nil)
			if p, err = Compile(id, &next, source, nil, now, p); err != nil {
				b.Fatal(err)
			}
			w = &next
		}
	})
	b.Run("WithZone", func(b *testing.B) {
		z := mustZone(b, "zone8.test.", string(dynamic("", 9).Data))
		for b.Loop() {
			p.WithZone(z)
		}
	})
}
