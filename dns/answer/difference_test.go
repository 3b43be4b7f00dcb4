package answer

import (
	"slices"
	"strings"
	"testing"

	"meridian/dns/zone"
	"meridian/fleet"
)

// A plan tells a fast path in what it differs from an older one.
func TestDiffers(t *testing.T) {
	source := newAtlas()
	compiled := func(doc string, v *fleet.View, old *Plan) *Plan {
		t.Helper()
		p, err := Compile(id, newWorld(t, doc), source, v, now, old)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := compiled(spec, nil, nil)
	outside := mustZone(t, "outside.test.", string(dynamic("", 1).Data))
	for _, c := range []struct {
		what    string
		next    *Plan
		differs Difference
		altered []string
	}{
		{"nothing, but it was decided anew", compiled(spec, nil, p), Difference{Decided: true}, nil},
		{"health", p.WithView(down("web", "fra"), now), Difference{Decided: true}, nil},
		{"a zone more", p.WithZone(outside), Difference{}, []string{"outside.test."}},
		{"one without content more", p.WithUnavailable("outside.test."), Difference{}, []string{"outside.test."}},
		{"one less", p.WithoutZone("other.test."), Difference{}, []string{"other.test."}},
		{"records in the Spec", compiled(strings.Replace(spec, "x A 192.0.2.80", "x A 192.0.2.81", 1), nil, p), Difference{Decided: true}, []string{"other.test."}},
		{"a region", compiled(strings.Replace(spec, "[192.0.2.1]", "[192.0.2.11]", 1), nil, p), Difference{Clients: true, Decided: true}, nil},
		{"how it is decided", compiled(strings.Replace(spec, "all_down: fail_closed", "all_down: fail_open", 1), nil, p), Difference{Decided: true}, nil},
		{"among what", compiled(strings.Replace(spec, "regions: [gru, fra]", "regions: [gru, tyo]", 1), nil, p), Difference{Clients: true, Decided: true}, nil},
		{"settings", compiled("dns: {errors_to: errors.example}\n"+spec, nil, p), Difference{Settings: true, Decided: true}, nil},
		{"the clients' table", func() *Plan { q, _ := Compile(id, newWorld(t, spec), newAtlas(), nil, now, p); return q }(), Difference{Clients: true, Decided: true}, nil},
	} {
		var altered []string
		for apex := range c.next.Altered(p) {
			altered = append(altered, string(zone.Text([]byte(apex))))
		}
		if got := c.next.Differs(p); got != c.differs || !slices.Equal(altered, c.altered) {
			t.Errorf("%s: %+v, altered %v", c.what, got, altered)
		}
	}
	q := p.WithUnavailable("gone.other.test.")
	for name, want := range map[string]string{"x.other.test.": "other.test.", "x.gone.other.test.": "gone.other.test.", "x.test.": ""} {
		if got := q.Apex(zone.Wire(fleet.Name(name))); got != "" && string(zone.Text([]byte(got))) != want || got == "" && want != "" {
			t.Errorf("%s belongs to %q, expected %s", name, got, want)
		}
	}
}
