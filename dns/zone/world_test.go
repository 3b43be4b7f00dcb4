package zone

import (
	"strings"
	"testing"

	"meridian/fleet"
)

// Zones with versions of their own go before the Snapshot's text; what has not
// changed is not read again; a zone whose content comes from elsewhere is left
// out.
func TestLoadWorldTakesTheNewestWriter(t *testing.T) {
	w, err := world(t, "x A 192.0.2.1\n", `[{name: w, service: web}]`)
	if err != nil {
		t.Fatal(err)
	}
	w.Snapshot.Spec.Zones = append(w.Snapshot.Spec.Zones, fleet.Zone{Zone: "transferred.test."})
	load := func(old []*Zone) *Zone {
		t.Helper()
		zones, err := LoadWorld(w, old)
		if err != nil || len(zones) != 1 {
			t.Fatalf("%d zones: %v", len(zones), err)
		}
		return zones[0]
	}
	inline := load(nil)
	if inline.Node(name(t, "x.example.test")) == nil || load([]*Zone{inline}) != inline {
		t.Error("the Spec's records are not taken, or taken anew")
	}
	text := fleet.Object{Key: fleet.ObjectKey{Kind: fleet.ObjectZone, ID: "example.test."}, Data: []byte(top + "y A 192.0.2.1\n")}
	w.Zones = w.Zones.With([]fleet.Object{text}, nil)
	written := load([]*Zone{inline})
	if written.Node(name(t, "y.example.test")) == nil || written.Node(name(t, "w.example.test")).Steer != 1 {
		t.Error("the zone that was written is not taken")
	}
	text.Data = mustLoad(t, "w A 192.0.2.1\n").Encode() // the keeper's: it knows what it puts at steered names
	w.Zones = w.Zones.With([]fleet.Object{text}, nil)
	derived := load([]*Zone{written})
	if n := derived.Node(name(t, "w.example.test")); n.Steer != 1 || n.Get(TypeA) == nil {
		t.Error("the derived zone is not taken")
	}
	if load([]*Zone{derived}) != derived {
		t.Error("a derived zone is read anew")
	}
	w.Snapshot.Spec.Zones[0].Steered = nil
	if plain := load([]*Zone{derived}); plain.Node(name(t, "w.example.test")).Steer != 0 || len(plain.Steered()) != 0 {
		t.Error("a mark stays")
	}
	text.Data = []byte(top + "w A nonsense\n")
	w.Zones = w.Zones.With([]fleet.Object{text}, nil)
	if _, err := LoadWorld(w, nil); err == nil || !strings.Contains(err.Error(), "zone example.test.: records:6: w.example.test. A:") {
		t.Error(err)
	}
}
