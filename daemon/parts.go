package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/fleet"
	"meridian/node"
)

// Part is one room at work in a program. Every function may be nil.
type Part struct {
	Name     string
	Apply    func(*fleet.World) error    // takes a new World, all or nothing
	SetView  func(*fleet.View)           // takes a new View; does not block
	Run      func(context.Context) error // returns when ctx has ended and all is put away
	Register func(prometheus.Registerer) // offers metrics
	Ready    func() error                // why it cannot do its work, nil when it can

	// Sole: one process of a node at a time has it. It ends before another
	// process that takes the node's place starts its own, and starts again where
	// that fails; see HandedOver.
	Sole bool
	// Yield is called with true when another process is about to serve in this
	// one's place, with false where that has failed.
	Yield func(bool)
}

// errHandedOver is why a part's context ends when another process has the place.
var errHandedOver = errors.New("handed over to another process")

// HandedOver says of a part's context that it ended since another process of this
// node goes on with the work: what the two share is not to be taken down.
func HandedOver(ctx context.Context) bool { return errors.Is(context.Cause(ctx), errHandedOver) }

// appliers lists the parts that depend on intent.
func appliers(parts []Part) []node.Named {
	var out []node.Named
	for _, p := range parts {
		if p.Apply != nil {
			out = append(out, node.Named{Name: p.Name, Applier: node.ApplierFunc(p.Apply)})
		}
	}
	return out
}

// group runs parts. They start in order and stop in the opposite one, each
// when those after it are gone, so that what others lean on goes last.
type group struct {
	running []*running
	failed  chan error // the first part that ended by itself
}

type running struct {
	part   Part
	at     int // its place in the order
	cancel context.CancelCauseFunc
	done   chan struct{}
	err    error // valid once done is closed
}

func newGroup() *group { return &group{failed: make(chan error, 1)} }

// start runs those of parts that which takes until they are stopped. Their
// contexts do not end with the program's: stop decides on the order, that of parts.
func (g *group) start(parts []Part, which func(Part) bool) {
	for at, p := range parts {
		if p.Run != nil && which(p) {
			g.run(p, at)
		}
	}
	slices.SortStableFunc(g.running, func(a, b *running) int { return a.at - b.at })
}

func all(Part) bool    { return true }
func sole(p Part) bool { return p.Sole }
func rest(p Part) bool { return !p.Sole }

func (g *group) run(p Part, at int) {
	ctx, cancel := context.WithCancelCause(context.Background())
	r := &running{part: p, at: at, cancel: cancel, done: make(chan struct{})}
	g.running = append(g.running, r)
	go func() {
		defer close(r.done)
		err := p.Run(ctx)
		if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
			return
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		r.err = fmt.Errorf("%s: %w", p.Name, err)
		select {
		case g.failed <- r.err:
		default:
		}
	}()
}

// stop ends those parts that which takes, last started first, and gives their
// errors. why is what their contexts end for; nil: the program ends.
func (g *group) stop(which func(Part) bool, why error) error {
	var errs []error
	var left []*running
	for _, r := range slices.Backward(g.running) {
		if !which(r.part) {
			left = append(left, r)
			continue
		}
		r.cancel(why)
		<-r.done
		errs = append(errs, r.err)
	}
	slices.Reverse(left)
	g.running = left
	return errors.Join(errs...)
}
