package xdp

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"meridian/fleet"
)

// Layer4 is layer 4 of one node.
type Layer4 struct {
	cfg      Config
	want     atomic.Pointer[desired]
	guard    *shield
	watchers watchers
	kick     chan struct{} // something that the tables depend on has changed
	ways     chan struct{} // likewise, routes or neighbours
	state    *states
	stats    *stats

	tables window
	pins   pins // what Run found usable

	mu    sync.Mutex
	ready error // nil: can serve

	trouble string // last told; of the goroutine that runs a session

	orders  atomic.Pointer[map[memberKey]order] // what the tables hold
	members atomic.Pointer[[]memberStatus]      // of the rings in the tables
	sockets atomic.Pointer[netlink.Handle]      // nil: the kernel tells of none; to be used while looking at the tables
	stamped atomic.Uint32                       // of one connection in so many arrivals are noted; 0: of none
	takes   atomic.Bool                         // this gateway takes SYN cookies
}

var errNotAttached = errors.New("layer 4: not attached")

// New checks the configuration. It opens nothing.
func New(cfg Config) (*Layer4, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	l := &Layer4{
		cfg: cfg, kick: make(chan struct{}, 1), ways: make(chan struct{}, 1),
		state: newStates(), stats: newStats(), ready: errNotAttached, watchers: watchers{subs: map[chan *Sample]bool{}},
	}
	l.guard = newShield(cfg.Geo, func() { poke(l.kick) })
	l.orders.Store(&map[memberKey]order{})
	l.members.Store(new([]memberStatus))
	return l, nil
}

// Apply takes a World in, all or nothing: on an error, which says that the
// node is not in the Spec, that the Spec does not fit layer 4's tables, or that
// it gives the node another own address which this machine does not hold, the
// last one stays. The tables follow as soon as Run gets to it; what fails
// there is tried again until it is in. Apply looks for addresses in the
// caller's network namespace, which has to be Run's.
//
// The first World is not held against the machine's addresses, for a network
// may come up after this program; Run waits for them.
func (l *Layer4) Apply(w *fleet.World) error {
	d, err := plan(w, l.cfg.Node, l.cfg.Roles)
	if err != nil {
		return err
	}
	if was := l.want.Load(); was != nil && was.own() != d.own() {
		if err := l.holds(d); err != nil {
			return fmt.Errorf("layer 4: node %q: %w", l.cfg.Node, err)
		}
	}
	if err := l.guard.apply(w.Snapshot.Spec.Defence, d.ours()); err != nil {
		return fmt.Errorf("layer 4: %w", err)
	}
	if d.unread != nil { // connections may break in a later change; a node that refuses to begin breaks more
		l.cfg.Log.Warn("layer 4 goes on without knowing earlier gateways", "error", d.unread)
	}
	l.want.Store(d)
	poke(l.kick)
	poke(l.ways)
	return nil
}

// SetView takes in what the fleet knows of gateways: a gateway that is no
// balancer goes by it to tell whose a connection may be.
func (l *Layer4) SetView(v *fleet.View) {
	if l.state.setView(v) {
		poke(l.kick)
	}
}

// holds says why this machine cannot be the node with these own addresses, or
// nil.
func (l *Layer4) holds(d *desired) error {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer nl.Close()
	for _, a := range valid(d.own4, d.own6) {
		if _, err := deviceOf(nl, "", a); err != nil {
			return err
		}
	}
	_, err = deviceOf(nl, l.cfg.Device, d.own4, d.own6)
	return err
}

// Ready says whether this node can serve: nil, or why not. With role l4 every
// VIP of an http or https service needs a gateway that is known to live.
func (l *Layer4) Ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ready
}

// TakesCookies says whether this node makes connections of the SYN cookies of the
// region's balancers.
func (l *Layer4) TakesCookies() bool { return l.takes.Load() }

func (l *Layer4) setReady(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil && l.ready != nil:
		l.cfg.Log.Info("layer 4 serves")
	case err != nil && err != errNotAttached && (l.ready == nil || l.ready.Error() != err.Error()):
		l.cfg.Log.Warn("layer 4 cannot serve", "reason", err)
	}
	l.ready = err
}

// troubled says, once, what goes wrong while packets go on as they should: the node
// is not withdrawn for it.
func (l *Layer4) troubled(err error) {
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	if reason != "" && reason != l.trouble {
		l.cfg.Log.Warn("layer 4 goes on with a part as it was", "reason", err)
	}
	l.trouble = reason
}

// poke leaves a sign; one that is already there serves as well.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run waits for the first World and for the node's own address, attaches, and
// keeps tables and checks in line until ctx ends; then it detaches. Everything
// that it opens belongs to the network namespace of the goroutine that calls
// it. It may be called again after it returned. Errors among others: ErrUnable;
// ErrClaimed where another process that runs has the same Pins.
func (l *Layer4) Run(ctx context.Context) error {
	defer l.setReady(errNotAttached)
	defer l.takes.Store(false)
	if l.pins = pins(l.cfg.Pins).usable(l.cfg.Log); l.pins != "" {
		release, err := Claim(string(l.pins))
		if err != nil {
			return fmt.Errorf("layer 4: tables that outlive the process: %w; end that, or give this one other pins", err)
		}
		defer release()
	}
	s, err := l.first(ctx)
	for s != nil && err == nil {
		var next *session
		next, err = s.run(ctx)
		err = errors.Join(err, s.close())
		s = next
	}
	if s != nil {
		err = errors.Join(err, s.close())
	}
	return err
}

// first opens the first session; none if ctx ends before.
func (l *Layer4) first(ctx context.Context) (*session, error) {
	again := time.NewTicker(reopenAfter)
	defer again.Stop()
	for {
		if l.want.Load() != nil {
			s, err := l.open(nil)
			if !errors.Is(err, errNoAddress) {
				return s, err
			}
			l.setReady(err)
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-l.kick:
		case <-again.C:
		}
	}
}
