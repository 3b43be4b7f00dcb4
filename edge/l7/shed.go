package l7

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"meridian/edge/l7/overload"
	"meridian/edge/l7/wire"
	"meridian/fleet"
)

const (
	measureEvery = 250 * time.Millisecond
	// retryAfter is what clients of refused requests are told, in seconds.
	retryAfter = "1"
)

// What was shed, as metrics have it.
const (
	shedIdle       = "idle"
	shedConnection = "connection"
	shedRequest    = "request"
	shedStream     = "stream"
	shedFlow       = "flow"
)

// watch measures, decides and sheds until ctx ends.
func (g *Gateway) watch(ctx context.Context) {
	measure := g.cfg.measure
	if measure == nil {
		measure = newGauge().read
	}
	var state overload.State
	for pauseFor(ctx, measureEvery) {
		m := measure()
		if limit := g.gen.Load().connectionLimit(); limit > 0 {
			m[overload.Connections] = float64(g.clients.Load()) / float64(limit)
		}
		next := state.Next(worst(m), time.Now())
		if next.Level != state.Level {
			r, p := m.Worst()
			g.cfg.Logger.Warn("gateway: overload", "was", state.Level.String(), "is", next.Level.String(), "resource", r.String(), "pressure", p)
		}
		state = next
		g.level.Store(uint32(state.Level))
		g.metrics.stress.overloaded(state.Level, m)
		if state.Level >= overload.Idle {
			g.metrics.stress.shed.WithLabelValues(shedIdle).Add(float64(g.closeIdlest()))
		}
	}
}

func worst(m overload.Measures) float64 {
	_, p := m.Worst()
	return p
}

// sheds says whether the gateway does without what the level names.
func (g *Gateway) sheds(l overload.Level) bool { return g.level.Load() >= uint32(l) }

// rejects says whether requests of services of that priority are refused.
func (g *Gateway) rejects(p fleet.Priority) bool {
	switch p {
	case fleet.PriorityHigh:
		return false
	case fleet.PriorityLow:
		return g.sheds(overload.RejectLow)
	}
	return g.sheds(overload.Reject)
}

// turnsAway refuses a connection that has just come, unless it is one of the fleet's
// own nodes', whose checks must not fail for that. A reset tells the client at once,
// and leaves nothing behind here.
func (g *Gateway) turnsAway(c net.Conn) bool {
	if !g.turnsAwayFrom(addressOf(c.RemoteAddr()).Addr()) {
		return false
	}
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	c.Close()
	return true
}

// turnsAwayFrom says whether a new connection from an address is refused, and counts
// those that are.
func (g *Gateway) turnsAwayFrom(client netip.Addr) bool {
	if !g.sheds(overload.Refuse) || g.gen.Load().nodes[client] {
		return false
	}
	g.metrics.stress.shed.WithLabelValues(shedConnection).Inc()
	return true
}

// closeIdlest closes a sixteenth of the idle HTTP/1.1 connections, those that have
// been idle the longest, and says how many.
func (g *Gateway) closeIdlest() int {
	type idle struct {
		s     *server
		c     *conn
		since int64
	}
	var all []idle
	g.mu.Lock()
	servers := make([]*server, 0, len(g.listeners)+len(g.outlived))
	for _, l := range g.listeners {
		servers = append(servers, l.current.Load())
	}
	for s := range g.outlived {
		servers = append(servers, s)
	}
	g.mu.Unlock()
	for _, s := range servers {
		s.mu.Lock()
		for c := range s.conns {
			if !c.carried && c.state.Load() == stateIdle {
				all = append(all, idle{s, c, c.rested.Load()})
			}
		}
		s.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b idle) int { return int(min(max(a.since-b.since, -1), 1)) })
	n := 0
	for _, i := range all[:(len(all)+15)/16] {
		i.s.mu.Lock()
		if _, here := i.s.conns[i.c]; here && i.c.state.CompareAndSwap(stateIdle, stateKicked) {
			i.c.Conn.SetReadDeadline(past)
			n++
		}
		i.s.mu.Unlock()
	}
	return n
}

// reject answers a request that is refused for want of room.
func (x *exchange) reject() {
	x.g.metrics.stress.shed.WithLabelValues(shedRequest).Inc()
	x.note("overload", "refused: priority ", string(x.service.spec.Priority))
	x.flag = flagShed
	x.ans.Reset()
	x.ans.AddID(wire.RetryAfter, retryAfter)
	x.say(http.StatusServiceUnavailable, "503 overloaded\n")
}

// nodesOf are the addresses from which the fleet's nodes check gateways.
func nodesOf(s *fleet.Spec) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for i := range s.Nodes {
		for _, a := range []netip.Addr{s.Nodes[i].Addresses.V4, s.Nodes[i].Addresses.V6} {
			if a.IsValid() {
				out[a] = true
			}
		}
	}
	return out
}

// connectionLimit is how many clients' connections there may be, 0 for no limit.
func (gen *generation) connectionLimit() int {
	if gen == nil {
		return 0
	}
	return gen.world.Snapshot.Spec.Gateway.MaxConnections
}
