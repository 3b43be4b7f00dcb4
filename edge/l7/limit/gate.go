package limit

import (
	"sync/atomic"

	"meridian/fleet"
)

// Gate bounds how many of something are under way. The zero Gate has no bound.
// It is safe for concurrent use.
type Gate struct {
	most, in atomic.Int64
	refused  atomic.Uint64
}

// SetMost sets the bound, 0 for none. What is under way beyond it stays.
func (g *Gate) SetMost(n int) { g.most.Store(int64(n)) }

// Enter lets one in, if there is room: Leave must follow.
func (g *Gate) Enter() bool { return enter(&g.in, g.most.Load(), &g.refused) }

// enter adds one to in, unless that would be more than most (0: no bound).
func enter(in *atomic.Int64, most int64, refused *atomic.Uint64) bool {
	if most == 0 {
		in.Add(1)
		return true
	}
	for {
		n := in.Load()
		if n >= most {
			refused.Add(1)
			return false
		}
		if in.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Leave notes that one that was let in is over.
func (g *Gate) Leave() { g.in.Add(-1) }

// In is how many are under way.
func (g *Gate) In() int64 { return g.in.Load() }

// Refused is how many were not let in.
func (g *Gate) Refused() uint64 { return g.refused.Load() }

// Circuit is the gates of one pool on one gateway. It lasts from one generation
// to the next.
type Circuit struct{ Connections, Pending, Requests, Retries Gate }

// Set takes the bounds of a service.
func (c *Circuit) Set(l *fleet.Limits) {
	c.Connections.SetMost(l.Connections)
	c.Pending.SetMost(l.Pending)
	c.Requests.SetMost(l.Requests)
	c.Retries.SetMost(l.Retries)
}

// EndpointCircuit is the gates of one endpoint.
type EndpointCircuit struct{ Connections, Requests Gate }

// Set takes the bounds of a service.
func (c *EndpointCircuit) Set(l *fleet.Limits) {
	c.Connections.SetMost(l.EndpointConnections)
	c.Requests.SetMost(l.EndpointRequests)
}
