package xdp

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"meridian/edge/defence"
	"meridian/fleet"
	"meridian/geo"
)

func (g *guard) names() string {
	var out []string
	for _, r := range g.rules {
		out = append(out, r.Name)
	}
	return strings.Join(out, " ")
}

// Rules that are added stand before the Spec's, replace their own kind, and go
// when their time has come.
func TestAddedRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShield(nil, func() {})
		off := false
		spec := &fleet.Defence{Static: &off, Rules: []fleet.PacketRule{{Name: "a", Mode: fleet.RuleDrop}, {Name: "b", Mode: fleet.RuleDrop}}}
		if err := s.apply(spec, nil); err != nil {
			t.Fatal(err)
		}
		add := func(name string, d time.Duration) error {
			return s.add(fleet.PacketRule{Name: name, Mode: fleet.RuleDrop, Until: time.Now().Add(d)})
		}
		expect := func(want string) {
			t.Helper()
			if got := s.guard.Load().names(); got != want {
				t.Errorf("rules %q, expected %q", got, want)
			}
		}
		for _, name := range []string{"x", "a", "x"} {
			if err := add(name, time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		expect("x a a b")
		if !s.drop("a") || s.drop("b") {
			t.Error("expected the added rule a to go, and the Spec's b to stay")
		}
		expect("x a b")
		if err := add("late", -time.Second); !errors.Is(err, ErrRule) {
			t.Errorf("a rule of the past: %v", err)
		}
		if err := s.add(fleet.PacketRule{Name: "forever"}); !errors.Is(err, ErrRule) {
			t.Errorf("a rule without an end: %v", err)
		}
		for i := range defence.MaxAdded - 1 {
			if err := add(fmt.Sprint("n", i), time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		if err := add("one-more", time.Hour); !errors.Is(err, ErrRule) {
			t.Errorf("one rule too many: %v", err)
		}
	})
}

// Who watches raises the rate for as long as he does.
func TestSamplingOfWatchers(t *testing.T) {
	s := newShield(nil, func() {})
	expect := func(rate, perSecond int) {
		t.Helper()
		if got := s.guard.Load().sampling; got != (fleet.PacketSampling{Rate: rate, PerSecond: perSecond}) {
			t.Errorf("sampling %+v, expected %d and %d", got, rate, perSecond)
		}
	}
	expect(0, 0)
	first := s.sample(fleet.PacketSampling{Rate: 100, PerSecond: 500})
	second := s.sample(fleet.PacketSampling{Rate: 10, PerSecond: 200})
	expect(10, 500)
	second()
	expect(100, 500)
	first()
	expect(0, 0)
}

// A rule that replaces another in one change has another place than that: the old
// one holds until the new one is in the tables, which the lists are before.
func TestAPlaceIsFreeOnceNoRuleHasIt(t *testing.T) {
	s := newShield(func() (geo.Source, error) { return world, nil }, func() {})
	off := false
	place := func(match fleet.PacketMatch) int {
		t.Helper()
		err := s.apply(&fleet.Defence{Static: &off, Rules: []fleet.PacketRule{{Name: "r", Mode: fleet.RuleDrop, Match: match}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Index(s.guard.Load().named, defence.PlaceOf(&match))
	}
	german, french, number := fleet.PacketMatch{Country: "DE"}, fleet.PacketMatch{Country: "FR"}, fleet.PacketMatch{ASN: 64500}
	for i, c := range []struct {
		match fleet.PacketMatch
		want  int
	}{{german, 0}, {french, 1}, {french, 1}, {german, 0}, {number, 1}, {french, 0}} {
		if got := place(c.match); got != c.want {
			t.Errorf("change %d: place %d, expected %d", i, got, c.want)
		}
	}
	// The last rule is of an AS, and the next database knows none.
	place(number)
	place(german)
	if err := s.setGeo(atlas{{"192.0.2.0/24", geo.Place{Country: "DE"}}}); err != nil {
		t.Errorf("a database that lacks what the last rules went by: %v", err)
	}
}
