package xdp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"meridian/fleet"
)

// session is all that one Run holds.
type session struct {
	l      *Layer4
	nl     *netlink.Handle
	diag   *netlink.Handle // asks for sockets; nil where the kernel tells of none
	kernel *kernel
	link   link.Link
	mode   Mode
	device int
	pins   pins // as far as the folder can be used
	own    [2]netip.Addr
	want   *desired // the newest with those own addresses
	ways   *ways
	rec    *reconciler
	wire   *wire // nil without role l4

	cookies *cookies

	overwritten bool // another session may have written to the same tables

	done    chan struct{} // closed: subscriptions end
	watched func()        // waits for their end

	background sync.WaitGroup
	checkers   map[fleet.Target]runningChecker
	failed     chan error
}

type runningChecker struct {
	plan checkPlan
	stop context.CancelFunc
}

// open makes a session for the World that is wanted, and attaches it: in place
// of old, where there is one, which on an error stays as it is.
func (l *Layer4) open(old *session) (_ *session, err error) {
	d := l.want.Load()
	s := &session{l: l, own: d.own(), want: d, pins: l.pins, done: make(chan struct{}),
		checkers: map[fleet.Target]runningChecker{}, failed: make(chan error, 1)}
	defer func() {
		if err == nil {
			return
		}
		err = errors.Join(err, s.close())
		if s.kernel != nil {
			err = errors.Join(err, s.pins.abandon(s.kernel))
		}
	}()
	if s.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("layer 4: netlink: %w", err)
	}
	if s.diag, err = netlink.NewHandle(unix.NETLINK_INET_DIAG); err != nil {
		s.diag = nil
	}
	dev, err := deviceOf(s.nl, l.cfg.Device, d.own4, d.own6)
	if err != nil {
		return nil, fmt.Errorf("layer 4: %w", err)
	}
	s.device = dev.Attrs().Index
	if s.kernel, err = load(l.cfg.Key, l.cfg.Flows, s.pins, l.cfg.QUIC...); err != nil {
		return nil, err
	}
	s.ways = newWays(s.nl, s.device, l.cfg.Log)
	if err := s.recall(); err != nil {
		return nil, fmt.Errorf("layer 4: %w", err)
	}
	if s.watched, err = watch(s.done, l.cfg.Log, s.ways.awaits, s.moved); err != nil {
		return nil, fmt.Errorf("layer 4: %w", err)
	}
	if l.cfg.Roles.L4 {
		if s.wire, err = newWire(s.kernel, s.device, d.own4, d.own6); err != nil {
			return nil, fmt.Errorf("layer 4: checks: %w", lacking(err, checking))
		}
	}
	s.cookies = &cookies{kernel: s.kernel, nl: s.nl, device: s.device, key: l.cfg.CookieKey, log: l.cfg.Log}
	if err := s.cookies.follow(d); err != nil {
		return nil, fmt.Errorf("layer 4: %w", err)
	}
	if err := s.attach(old, dev.Attrs().Name); err != nil {
		return nil, fmt.Errorf("layer 4: %w", err)
	}
	l.sockets.Store(s.diag)
	l.takes.Store(s.cookies.takes)
	l.stats.attached(s.kernel, s.mode)
	l.cfg.Log.Info("layer 4 attached", "device", dev.Attrs().Name, "mode", s.mode)
	return s, nil
}

// recall has a new reconciler begin with what the tables hold, where they may
// outlive a process or session.
func (s *session) recall() error {
	rec := newReconciler(s.kernel, s.l.cfg.Key)
	rec.alone = s.l.cfg.NoSecondChance
	if s.rec != nil {
		rec.defended, rec.guard, rec.seen = s.rec.defended, s.rec.guard, s.rec.seen
	}
	if s.pins != "" {
		left, err := s.kernel.read()
		if err != nil {
			return fmt.Errorf("tables of an earlier process: %w", err)
		}
		for _, gateway := range rec.restore(left, s.inputs()) {
			s.l.state.presumeTakes(gateway)
		}
	}
	s.rec = rec
	return nil
}

// attach puts the session's program at its device. Where that is old's too, or
// an earlier process's, the program takes the place of that one without a packet
// between them: tables first.
func (s *session) attach(old *session, name string) (err error) {
	if old != nil && old.device == s.device {
		return s.inherit(old, name)
	}
	if s.link, err = s.pins.attached(s.device); err != nil {
		return err
	}
	fresh := s.link == nil
	if fresh {
		s.link, s.mode, err = attach(s.nl, s.kernel.edgeObjects.Edge, s.device, name, s.l.cfg.Mode, s.l.cfg.Log)
	} else {
		err = s.succeed(name)
	}
	if err == nil {
		err = s.pins.keep(s.link, s.kernel.layout, fresh)
	}
	if err == nil && old != nil {
		s.ways.takeOver(old.ways)
	}
	return err
}

// inherit puts the program in the place of old's.
func (s *session) inherit(old *session, name string) error {
	in := s.inputs()
	in.hop = old.ways.hop
	old.overwritten = s.pins != ""
	if err := s.rec.reconcile(in); !s.rec.stands {
		return err
	}
	if err := s.replace(old.link, name); err != nil {
		return err
	}
	s.link, s.mode, old.link = old.link, old.mode, nil
	s.ways.takeOver(old.ways)
	return nil
}

// succeed puts the program in the place of an earlier process's.
func (s *session) succeed(name string) error {
	if err := s.ways.refresh(s.want.destinations()); err != nil { // some tables are new, if not all
		return err
	}
	if err := s.rec.reconcile(s.inputs()); !s.rec.stands {
		return err
	}
	if err := s.replace(s.link, name); err != nil {
		return err
	}
	s.mode = modeOf(s.nl, s.device)
	if wanted := s.l.cfg.Mode; wanted != Auto && wanted != s.mode {
		s.l.cfg.Log.Warn("the program stays in the mode in which an earlier process attached it: edge detach takes it off, and then the next start goes by --xdp-mode",
			"device", name, "mode", s.mode, "wanted", wanted)
	}
	return nil
}

func (s *session) replace(at link.Link, name string) error {
	if err := at.Update(s.kernel.edgeObjects.Edge); err != nil {
		return fmt.Errorf("replace the program at %s: %w", name, err)
	}
	return nil
}

// moved takes in that neighbours have changed, or links and routes too.
func (s *session) moved(routes bool) {
	if routes {
		s.ways.moved.Store(true)
	}
	poke(s.l.ways)
}

// inputs are what the tables are to follow now.
func (s *session) inputs() inputs {
	return inputs{want: s.want, state: s.l.state.get, takes: s.l.state.takes, late: s.cookies != nil && s.cookies.late(s.want),
		hop: s.ways.hop, guard: s.l.guard.guard.Load(), now: time.Now()}
}

// close gives everything back, in the reverse order; but the program stays at
// its device where it is to outlive the process.
func (s *session) close() error {
	var errs []error
	s.l.stats.detached(s.kernel)
	s.l.tables.shut(s.kernel)
	if s.link != nil {
		errs = append(errs, s.link.Close())
	}
	if s.cookies != nil {
		errs = append(errs, s.cookies.close())
	}
	close(s.done)
	if s.watched != nil {
		s.watched()
	}
	if s.ways != nil && s.pins == "" { // else the program goes on by them
		s.ways.close()
	}
	if s.wire != nil {
		s.wire.close()
	}
	if s.kernel != nil {
		errs = append(errs, s.kernel.Close())
	}
	for _, h := range []*netlink.Handle{s.nl, s.diag} {
		if h != nil {
			h.Close()
		}
	}
	return errors.Join(errs...)
}

// Intervals of the reconciler.
const (
	retryAfter  = 200 * time.Millisecond // a write that failed
	reopenAfter = time.Second            // the node's own address is not here
	refreshAll  = 10 * time.Second       // routes and neighbours, should an event be lost
)

// run is the reconciler's loop. It ends with ctx, on an error of the checks'
// wire, or when the node has other addresses of its own and next, which is
// attached, is to go on in this one's place.
func (s *session) run(ctx context.Context) (next *session, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer s.background.Wait()
	defer cancel()
	if s.wire != nil {
		s.background.Go(func() {
			if err := s.wire.run(ctx); err != nil {
				s.failed <- err
			}
		})
	}
	s.background.Go(func() {
		if err := s.readSamples(ctx); err != nil {
			s.l.cfg.Log.Error("layer 4: no more samples of packets", "error", err)
		}
	})
	refresh := time.NewTicker(refreshAll)
	defer refresh.Stop()
	beat := time.NewTicker(time.Second)
	defer beat.Stop()
	retry := time.NewTimer(0)
	defer retry.Stop()
	stale := true
	for {
		select {
		case <-ctx.Done():
			return nil, nil
		case err := <-s.failed:
			return nil, fmt.Errorf("layer 4: %w", err)
		case <-s.l.ways:
			stale = true
		case <-refresh.C:
			s.ways.moved.Store(true)
			stale = true
		case <-s.l.kick:
		case <-retry.C:
		case <-beat.C:
			s.guard()
			continue
		}
		next, err := s.follow(stale)
		if next != nil {
			return next, nil
		}
		s.attend(ctx, &stale, err, retry)
	}
}

// attend writes the tables, says when to do so again, and whether the node serves;
// err is what is wrong besides.
func (s *session) attend(ctx context.Context, stale *bool, err error, retry *time.Timer) {
	failed := s.step(ctx, stale)
	if s.rec.stands {
		s.l.troubled(failed)
	} else {
		err = errors.Join(err, failed)
	}
	if failed != nil {
		s.l.stats.failed()
		retry.Reset(retryAfter)
	} else if err != nil {
		retry.Reset(reopenAfter)
	} else if next := s.rec.next; !next.IsZero() {
		retry.Reset(max(time.Until(next), 0))
	}
	if err == nil {
		err = s.want.serving(s.l.state.get)
	}
	s.l.setReady(err)
}

// follow takes up what is wanted now. Other own addresses need a new session, and so
// does a device that was made anew; where that cannot be opened, this one goes on as
// it was. stale says that links may have changed.
func (s *session) follow(stale bool) (next *session, err error) {
	d, why := s.l.want.Load(), "the node's own address has changed, and the old one stays in use"
	if s.own == d.own() {
		if s.want = d; !stale || !s.gone() {
			return nil, nil
		}
		why = "the device is gone"
	}
	if next, err = s.l.open(s); err != nil {
		s.l.stats.failed()
		if s.overwritten {
			s.overwritten = false
			err = errors.Join(err, s.recall())
		}
		return nil, fmt.Errorf("%s: %w", why, err)
	}
	return next, nil
}

// gone says whether the kernel has the device no more; one of the same name is
// another.
func (s *session) gone() bool {
	_, err := s.nl.LinkByIndex(s.device)
	return errors.As(err, new(netlink.LinkNotFoundError))
}

// step brings everything in line once. What fails keeps nothing else from being
// done, but what depends on it.
func (s *session) step(ctx context.Context, stale *bool) error {
	d := s.want
	var errs []error
	if *stale {
		err := s.ways.refresh(d.destinations())
		*stale = err != nil
		errs = append(errs, err)
	}
	errs = append(errs, s.cookies.follow(d), s.rec.reconcile(s.inputs()))
	s.l.takes.Store(s.cookies.takes)
	if s.rec.stands {
		s.publish(d)
		s.check(ctx, d)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("layer 4: %w", err)
	}
	return nil
}

// guard does what is to be done each second: the keys of SYN cookies, and a look
// at who is under attack.
func (s *session) guard() {
	s.cookies.others = s.rec.untaken
	if s.rec.late != s.cookies.late(s.want) {
		poke(s.l.kick)
	}
	err := errors.Join(s.cookies.follow(s.want), s.l.stats.watch(s.l.cfg.Log))
	s.l.takes.Store(s.cookies.takes)
	s.l.stats.guarded(s.want.cookies.Mode, s.cookies.works())
	if n := s.l.stats.newlySkipped(); n > 0 {
		s.l.cfg.Log.Warn("layer 4 has made no checks: all ports of their kind are in use", "checks", n)
	}
	if err != nil {
		s.l.stats.failed()
		s.l.cfg.Log.Warn("layer 4 is not looked after", "error", err)
	}
}

// publish tells the checkers what the tables hold.
func (s *session) publish(d *desired) {
	orders := make(map[memberKey]order, len(s.rec.endpoints))
	for key, index := range s.rec.endpoints {
		orders[key] = order{index, s.rec.records[index].Generation}
	}
	s.l.orders.Store(&orders)
	members := s.rec.members
	s.l.members.Store(&members)
	s.l.stats.applied(s.rec, d)
	s.l.stamped.Store(uint32(d.keep.stamp))
	s.l.tables.show(s.kernel, d)
}

// check starts the checkers that are wanted and stops the others.
func (s *session) check(ctx context.Context, d *desired) {
	if s.wire == nil {
		return
	}
	wanted := map[fleet.Target]checkPlan{}
	for _, p := range d.checks {
		wanted[p.target] = p
	}
	for t, c := range s.checkers {
		if p, ok := wanted[t]; !ok || !reflect.DeepEqual(p, c.plan) {
			c.stop()
			delete(s.checkers, t)
			if !ok {
				s.l.state.forget(t)
			}
		}
	}
	for t, p := range wanted {
		if _, ok := s.checkers[t]; ok {
			continue
		}
		cctx, stop := context.WithCancel(ctx)
		s.checkers[t] = runningChecker{p, stop}
		c := &checker{plan: p, node: s.l.cfg.Node, dial: s.dial, skip: s.l.stats.skip,
			report: func(o fleet.Observation) { s.observe(cctx, o) },
			takes:  func(t fleet.Target, takes bool) { s.learn(cctx, t, takes) }}
		s.background.Go(func() { c.run(cctx) })
	}
}

// learn takes in whether a gateway takes SYN cookies, while its checker is wanted.
func (s *session) learn(wanted context.Context, t fleet.Target, takes bool) {
	if s.l.state.setTakes(wanted, t, takes) {
		poke(s.l.kick)
	}
}

// observe has Health judge a fact; a verdict that changed goes to the rings, while
// the checker is wanted.
func (s *session) observe(wanted context.Context, o fleet.Observation) {
	v := s.l.cfg.Health.Observe(o)
	s.l.stats.checked(o)
	if s.l.state.set(wanted, o.Target, v.State) {
		poke(s.l.kick)
	}
}

// dial connects by the way of a check: to a VIP through the program, or to what
// is on this very node and to an endpoint's own address as any process would.
func (s *session) dial(ctx context.Context, way checkWay) (net.Conn, error) {
	network := "tcp"
	if way.udp {
		network = "udp"
	}
	if way.key.how == edgeForwardFORWARD_LOCAL {
		return s.l.cfg.Dial(ctx, network, way.vip.String())
	}
	o, ok := (*s.l.orders.Load())[way.key]
	if !ok {
		return nil, errors.New("not in the tables yet")
	}
	own := s.own[0]
	if way.vip.Addr().Is6() {
		own = s.own[1]
	}
	q := question{own, way.vip, o, way.key.target.Kind == fleet.TargetGateway}
	if way.udp {
		return s.wire.dialUDP(ctx, q)
	}
	return s.wire.dial(ctx, q)
}
