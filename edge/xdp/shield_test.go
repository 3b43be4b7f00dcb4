package xdp

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"meridian/edge/defence"
	"meridian/fleet"
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
