package maglev

import (
	"maps"
	"testing"
)

// The plan of a change is what the change does: slots that move are those whose
// owner differs between the rings.
func TestCompareSaysWhatAChangeMoves(t *testing.T) {
	owners := func(m []Member) []string {
		t.Helper()
		o, err := Owners(m, Slots, 7)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	members := func(m []Member) func(string) bool {
		return func(name string) bool {
			for _, have := range m {
				if have.Name == name {
					return true
				}
			}
			return false
		}
	}
	for _, c := range []struct {
		name          string
		before, after []Member
		atLeast, most float64 // share of slots that move
		gone          bool
	}{
		{"nothing changes", equals(10), equals(10), 0, 0, false},
		{"one comes", equals(10), equals(11), 1.0 / 11, 0.11, false},
		{"one goes", equals(10), equals(9), 0.1, 0.12, true},
		{"all go", equals(10), nil, 1, 1, true},
		{"the first", nil, equals(3), 0, 0, false},
	} {
		before, after := owners(c.before), owners(c.after)
		got := Compare(before, after, members(c.after))
		if got.Slots != Slots || got.Share() < c.atLeast-0.001 || got.Share() > c.most || (got.Gone > 0) != c.gone {
			t.Errorf("%s: %d of %d slots move (%.4f), of %d the owner is gone", c.name, got.Moved, got.Slots, got.Share(), got.Gone)
		}
		if n := len(Moved(before, after)); n != got.Moved {
			t.Errorf("%s: %d slots are listed, %d counted", c.name, n, got.Moved)
		}
	}
	got := Compare([]string{"a", "a", "b", "", "c"}, []string{"a", "b", "b", "b", ""}, func(name string) bool { return name != "c" })
	if got.Moved != 2 || got.Gone != 1 || !maps.Equal(got.Gained, map[string]int{"b": 1}) || !maps.Equal(got.Lost, map[string]int{"a": 1, "c": 1}) {
		t.Errorf("%+v", got)
	}
	if _, err := Owners([]Member{{"a", 0}}, Slots, 7); err == nil {
		t.Error("a ring that cannot be is planned")
	}
}
