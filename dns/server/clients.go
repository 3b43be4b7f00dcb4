package server

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
)

// clients counts the connections that are open: in all, by transport, and by
// client. IPv6 clients are told apart by /64, of which anybody has many
// addresses. It is safe for concurrent use.
type clients struct {
	all  atomic.Int64
	by   [HTTPS + 1]atomic.Int64
	mu   sync.Mutex
	open map[netip.Addr]int
}

// enter counts a connection; false where there are too many. Leave it with
// leave.
func (c *clients) enter(t Transport, most int64) bool {
	if c.all.Add(1) > most {
		c.all.Add(-1)
		return false
	}
	c.by[t].Add(1)
	return true
}

func (c *clients) leave(t Transport) {
	c.all.Add(-1)
	c.by[t].Add(-1)
}

// crowded says whether more than half of the connections are in use.
func (c *clients) crowded(most int64) bool { return 2*c.all.Load() > most }

// greet counts a connection of a client; false where it has too many. Part
// with part.
func (c *clients) greet(a netip.Addr, most int) bool {
	a = household(a)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = map[netip.Addr]int{}
	}
	if c.open[a] >= most {
		return false
	}
	c.open[a]++
	return true
}

func (c *clients) part(a netip.Addr) {
	a = household(a)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[a]--; c.open[a] == 0 {
		delete(c.open, a)
	}
}

// shares bounds how much of something one client, told apart as by clients, has
// at a time. It is safe for concurrent use.
type shares struct {
	each int
	mu   sync.Mutex
	used map[netip.Addr]*share
}

// share is one client's.
type share struct {
	slots   chan struct{}
	holders int // those that hold or await a slot
}

// take waits until the client may have one more; false where ctx ends before.
// Give it back with release, once.
func (s *shares) take(ctx context.Context, a netip.Addr) (release func(), ok bool) {
	a = household(a)
	s.mu.Lock()
	if s.used == nil {
		s.used = map[netip.Addr]*share{}
	}
	x := s.used[a]
	if x == nil {
		x = &share{slots: make(chan struct{}, s.each)}
		s.used[a] = x
	}
	x.holders++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if x.holders--; x.holders == 0 {
			delete(s.used, a)
		}
	}
	select {
	case x.slots <- struct{}{}:
		return func() { <-x.slots; leave() }, true
	case <-ctx.Done():
		leave()
		return nil, false
	}
}

func household(a netip.Addr) netip.Addr {
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}
