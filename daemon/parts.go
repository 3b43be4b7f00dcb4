package daemon

import (
	"context"
	"errors"
	"fmt"

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
}

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
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error // valid once done is closed
}

func newGroup() *group { return &group{failed: make(chan error, 1)} }

// start runs p until stop. Its context does not end with the program's: stop
// decides on the order.
func (g *group) start(p Part) {
	if p.Run == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{name: p.Name, cancel: cancel, done: make(chan struct{})}
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

// stop ends all parts, last started first, and gives their errors.
func (g *group) stop() error {
	var errs []error
	for i := len(g.running) - 1; i >= 0; i-- {
		r := g.running[i]
		r.cancel()
		<-r.done
		errs = append(errs, r.err)
	}
	return errors.Join(errs...)
}
