package daemon

import (
	"context"
	"strings"
	"testing"
)

// What others lean on starts first and stops last.
func TestPartsStopInTheOppositeOrder(t *testing.T) {
	g := newGroup()
	stopped := make(chan string, 2)
	var parts []Part
	for _, name := range []string{"first", "second"} {
		parts = append(parts, Part{Name: name, Sole: name == "second", Run: func(ctx context.Context) error {
			<-ctx.Done()
			stopped <- name
			return ctx.Err()
		}})
	}
	// The order is that of the parts, whichever started before.
	g.start(parts, sole)
	g.start(parts, rest)
	if err := g.stop(all, nil); err != nil {
		t.Fatal(err)
	}
	if a, b := <-stopped, <-stopped; a != "second" || b != "first" {
		t.Errorf("stopped %s, %s", a, b)
	}
}

func TestPartThatEndsByItselfFailsTheGroup(t *testing.T) {
	g := newGroup()
	g.start([]Part{{Name: "early", Run: func(context.Context) error { return nil }}}, all)
	if err := <-g.failed; err == nil || err.Error() != "early: ended by itself" {
		t.Errorf("got %v", err)
	}
	if err := g.stop(all, nil); err == nil || !strings.Contains(err.Error(), "early") {
		t.Errorf("stop gives %v", err)
	}
}
