package answer

import (
	"net/netip"
	"testing"

	"meridian/dns/zone"
	"meridian/geo"
	"meridian/geo/mmdb"
	"meridian/steer"
)

// At the borders of the embedded database's networks, one before and one
// behind, the answer is the decision on the place that the database gives,
// whatever tables lie between.
func TestAnswersAtTheBordersOfTheEmbeddedDatabase(t *testing.T) {
	source, err := mmdb.Default()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(id, newWorld(t, fleet20(20)), source, nil, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	p = p.WithView(fullView(p.world.Snapshot, 1, "r1"), now).Settle()
	z := p.find(zone.Wire("x.test."), zone.TypeA)
	var w scratch
	check := func(a netip.Addr) {
		if !a.IsValid() {
			return
		}
		place, _ := source.Lookup(geo.Carried(a))
		for _, i := range []int{0, 10, 20, 30, 50} { // a name of each kind of steering
			target := &z.steered[i]
			set, _, _ := p.pick(&w, target, zone.TypeA, a)
			slot, _ := steer.SlotOf(a)
			c := p.scene.Choose(target.service, steer.V4, p.classes.Rank(target.service, p.classes.Locate(place, a)), slot)
			o := outcome{v4: c.Answer()}
			if want, _ := p.records(nil, kindA, &o); string(want) != string(set.Data) {
				t.Fatalf("name %d for %s in %s: answered %x, decided %x", i, a, place, set.Data, want)
			}
		}
	}
	n := 0
	for prefix := range source.Networks() {
		if n++; n%211 != 0 {
			continue
		}
		first, last := prefix.Masked().Addr(), lastOf(prefix)
		for _, a := range []netip.Addr{first.Prev(), first, last, last.Next()} {
			check(a)
		}
	}
}
