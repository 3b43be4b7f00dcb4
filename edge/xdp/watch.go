package xdp

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// watched are the kernel's groups of messages about neighbours, and about all
// that routes depend on.
var watched = []uint{unix.RTNLGRP_NEIGH, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
	unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_NEXTHOP}

const (
	gatherFor   = 100 * time.Millisecond // changes that come so close together are one
	routesEvery = time.Second            // likewise, of links and routes, after which all are asked for
	watchRoom   = 4 << 20                // octets of messages that may wait to be read
	watchAgain  = time.Second            // between subscriptions
)

// watcher waits for changes of neighbours, links and routes.
type watcher struct {
	subscribe func() (*nl.NetlinkSocket, error)
	awaits    func(neighbour) bool // others do not count
	changed   func(routes bool)
	log       *slog.Logger
	done      <-chan struct{}

	events             chan struct{}
	neighbours, routes atomic.Bool // have changed
}

// watch calls changed after changes of neighbours that are awaited, and of links or
// routes, until done is closed; wait then returns when nothing calls it any more. Where
// messages are lost it says that all may have changed. It subscribes in the
// caller's network namespace.
func watch(done <-chan struct{}, log *slog.Logger, awaits func(neighbour) bool, changed func(routes bool)) (wait func(), err error) {
	ns, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("watch routes and neighbours: %w", err)
	}
	w := &watcher{awaits: awaits, changed: changed, log: log, done: done, events: make(chan struct{}, 1)}
	w.subscribe = func() (*nl.NetlinkSocket, error) {
		s, err := nl.SubscribeAt(ns, netns.None(), unix.NETLINK_ROUTE, watched...)
		if err == nil && s.SetReceiveBufferSize(watchRoom, true) != nil {
			_ = s.SetReceiveBufferSize(watchRoom, false) // as much as is allowed
		}
		return s, err
	}
	join, err := w.start()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch routes and neighbours: %w", err), ns.Close())
	}
	return func() {
		join()
		ns.Close()
	}, nil
}

// start subscribes, and runs until done is closed; then join returns.
func (w *watcher) start() (join func(), err error) {
	s, err := w.subscribe()
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for s != nil {
			s = w.follow(s)
		}
	})
	wg.Go(w.gather)
	return wg.Wait, nil
}

// follow takes messages until the subscription ends, and gives another; nil:
// done is closed. What was missed between them counts as a change of all.
func (w *watcher) follow(s *nl.NetlinkSocket) *nl.NetlinkSocket {
	ended := make(chan struct{})
	var closer sync.WaitGroup
	closer.Go(func() {
		select {
		case <-w.done:
		case <-ended:
		}
		s.Close()
	})
	err := w.receive(s)
	close(ended)
	closer.Wait()
	if w.over(0) {
		return nil
	}
	w.log.Warn("changes of routes and neighbours may have been missed; all are read anew", "error", err)
	for !w.over(watchAgain) {
		if next, err := w.subscribe(); err == nil {
			w.note(true)
			return next
		}
	}
	return nil
}

// receive gives the error that ends the subscription.
func (w *watcher) receive(s *nl.NetlinkSocket) error {
	for {
		msgs, _, err := s.Receive()
		if err != nil {
			return err
		}
		for _, m := range msgs {
			routes := m.Header.Type != unix.RTM_NEWNEIGH && m.Header.Type != unix.RTM_DELNEIGH
			if routes || w.matters(m.Data) {
				w.note(routes)
			}
		}
	}
}

// matters says whether a message about a neighbour is about one that is awaited.
func (w *watcher) matters(message []byte) bool {
	n, err := netlink.NeighDeserialize(message)
	if err != nil {
		return true
	}
	at, ok := neighbourOf(n)
	return ok && w.awaits(at)
}

func (w *watcher) note(routes bool) {
	if routes {
		w.routes.Store(true)
	} else {
		w.neighbours.Store(true)
	}
	poke(w.events)
}

// gather makes one call of what comes close together, the first at once; and of
// changes of routes one a second.
func (w *watcher) gather() {
	var due <-chan time.Time // when routes may be told of again; nil: at once
	for {
		select {
		case <-w.done:
			return
		case <-w.events:
		case <-due:
			due = nil
		}
		routes := due == nil && w.routes.Swap(false)
		if neighbours := w.neighbours.Swap(false); !neighbours && !routes {
			continue
		}
		if routes {
			due = time.After(routesEvery)
		}
		w.changed(routes)
		if w.over(gatherFor) {
			return
		}
	}
}

// over says whether done is closed, or will be within a time.
func (w *watcher) over(within time.Duration) bool {
	wait := time.NewTimer(within)
	defer wait.Stop()
	select {
	case <-w.done:
		return true
	case <-wait.C:
	}
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}
