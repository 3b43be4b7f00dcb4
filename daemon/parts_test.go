package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"meridian/fleet"
)

// A World that one part refuses is taken back from those that took it, last
// first, and the refusal names the part.
func TestRefusedWorldIsTakenBack(t *testing.T) {
	old, next := &fleet.World{}, &fleet.World{Snapshot: &fleet.Snapshot{}}
	var calls []string
	part := func(name string, refuse bool) Part {
		return Part{Name: name, Apply: func(w *fleet.World) error {
			if w == old {
				calls = append(calls, name+" old")
				return nil
			}
			calls = append(calls, name+" new")
			if refuse {
				return errors.New("no")
			}
			return nil
		}}
	}
	err := applyAll([]Part{part("a", false), {Name: "without"}, part("b", false), part("c", true), part("d", false)}, next, old)
	if err == nil || err.Error() != "c: no" {
		t.Errorf("got %v", err)
	}
	if want := []string{"a new", "b new", "c new", "b old", "a old"}; !slices.Equal(calls, want) {
		t.Errorf("got %v, want %v", calls, want)
	}
}

// What others lean on starts first and stops last.
func TestPartsStopInTheOppositeOrder(t *testing.T) {
	g := newGroup()
	stopped := make(chan string, 2)
	for _, name := range []string{"first", "second"} {
		g.start(Part{Name: name, Run: func(ctx context.Context) error {
			<-ctx.Done()
			stopped <- name
			return ctx.Err()
		}})
	}
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	if a, b := <-stopped, <-stopped; a != "second" || b != "first" {
		t.Errorf("stopped %s, %s", a, b)
	}
}

func TestPartThatEndsByItselfFailsTheGroup(t *testing.T) {
	g := newGroup()
	g.start(Part{Name: "early", Run: func(context.Context) error { return nil }})
	if err := <-g.failed; err == nil || err.Error() != "early: ended by itself" {
		t.Errorf("got %v", err)
	}
	if err := g.stop(); err == nil || !strings.Contains(err.Error(), "early") {
		t.Errorf("stop gives %v", err)
	}
}
