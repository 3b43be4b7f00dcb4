package server

import (
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

func household(a netip.Addr) netip.Addr {
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}
