package fleet

import (
	"fmt"
	"slices"
	"testing"
)

func zoneObject(name, text string) Object {
	return Object{Key: ObjectKey{ObjectZone, name}, Data: []byte(text)}
}

func TestASetOfZonesIsNotChangedByOnesMadeFromIt(t *testing.T) {
	var none *Zones
	a := none.With([]Object{zoneObject("a.", "1"), zoneObject("b.", "1")}, nil)
	b := a.With([]Object{zoneObject("a.", "2"), zoneObject("c.", "1")}, []Name{"b.", "not-there."})
	if a.Len() != 2 || b.Len() != 2 || none.Len() != 0 {
		t.Errorf("lengths %d, %d, %d", none.Len(), a.Len(), b.Len())
	}
	if o, ok := a.Get("a."); !ok || string(o.Data) != "1" {
		t.Errorf("the old set has %q", o.Data)
	}
	put, gone := b.Since(a)
	slices.SortFunc(put, func(x, y Object) int { return int(x.Key.ID[0]) - int(y.Key.ID[0]) })
	if len(put) != 2 || put[0].Key.ID != "a." || put[1].Key.ID != "c." || !slices.Equal(gone, []Name{"b."}) {
		t.Errorf("put %v, gone %v", put, gone)
	}
	if put, gone := b.Since(b.With([]Object{zoneObject("a.", "2")}, nil)); len(put)+len(gone) != 0 {
		t.Errorf("equal sets differ by %v and %v", put, gone)
	}
	if put, gone := none.Since(b); len(put) != 0 || len(gone) != 2 {
		t.Errorf("nothing after something: %v %v", put, gone)
	}
	n := 0
	for range b.All() {
		n++
	}
	if n != 2 {
		t.Errorf("%d of 2 are listed", n)
	}
}

func BenchmarkChangeOneZoneOf100000(b *testing.B) {
	var list []Object
	for i := range 100_000 {
		list = append(list, zoneObject(fmt.Sprintf("z%d.test.", i), "x"))
	}
	var none *Zones
	z := none.With(list, nil)
	b.ResetTimer()
	for b.Loop() {
		next := z.With([]Object{zoneObject("z7.test.", "y")}, nil)
		if put, _ := next.Since(z); len(put) != 1 {
			b.Fatal(put)
		}
	}
}
