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
