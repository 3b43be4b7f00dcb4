package l7

import (
	"context"
	"crypto/tls"
	"sync"
	"sync/atomic"
	"time"

	"meridian/fleet"
)

// server is what serves the connections of a listener under one profile.
type server struct {
	profile
	g       *Gateway
	port    uint16
	config  *tls.Config   // nil: plain
	leaving chan struct{} // closed: answers ask clients to go
	once    sync.Once
	left    atomic.Bool

	mu     sync.Mutex // guards below
	closed bool       // it takes no more connections
	conns  map[*conn]struct{}
	empty  chan struct{} // where not nil: closed with the last connection
}

func (g *Gateway) newServer(port uint16, p profile) *server {
	s := &server{profile: p, g: g, port: port, leaving: make(chan struct{}), conns: map[*conn]struct{}{}}
	if p.secure() {
		s.config = g.tlsConfig(port, false)
	}
	return s
}

// take serves a connection; false where the server takes no more.
func (s *server) take(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.conns[c] = struct{}{}
	if s.protocol == fleet.TCP {
		go s.pass(c) // g.conns counts it
	} else {
		go s.serve(c)
	}
	return true
}

// serve carries one connection until it has ended.
func (s *server) serve(c *conn) {
	defer s.g.connClosed()
	defer s.forget(c)
	defer c.Close()
	if !s.introduced(c) {
		return
	}
	s.g.path(c)
	if s.config == nil {
		newClient(s, c, c, nil).run()
		return
	}
	c.veiled = true
	t := tls.Server(c, s.config)
	ctx, cancel := context.WithTimeout(s.g.base, s.g.cfg.header)
	err := t.HandshakeContext(ctx)
	cancel()
	if err != nil {
		s.g.stranger(err)
		return
	}
	state := t.ConnectionState()
	if state.NegotiatedProtocol == "h2" {
		s.mu.Lock()
		c.carried = true
		s.mu.Unlock()
		sess := newSession(s, c, &state)
		s.g.cfg.HTTP2.Carry(t, sess)
		sess.end()
		return
	}
	newClient(s, c, t, &state).run()
}

// stranger counts a client's connection that broke, and tells of it only when
// debugging: strangers must not fill the log.
func (g *Gateway) stranger(err error) {
	g.metrics.connErrors.Inc()
	g.cfg.Logger.Debug("gateway: connection", "err", err)
}

func (s *server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.tellEmpty()
}

// tellEmpty is called with mu held.
func (s *server) tellEmpty() {
	if s.empty != nil && len(s.conns) == 0 {
		close(s.empty)
		s.empty = nil
	}
}

// outlived gives a channel that is closed when the last connection is gone.
func (s *server) outlived() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	empty := make(chan struct{})
	s.empty = empty
	s.tellEmpty()
	return empty
}

func (g *Gateway) connOpened() {
	g.conns.Add(1)
	g.clients.Add(1)
	g.metrics.connections.Inc()
	g.metrics.opened.Inc()
}

func (g *Gateway) connClosed() {
	g.clients.Add(-1)
	g.metrics.connections.Dec()
	g.conns.Done()
}

// refuse takes no more connections.
func (s *server) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// leave asks clients to go with their next answer.
func (s *server) leave() {
	s.once.Do(func() {
		s.left.Store(true)
		close(s.leaving)
	})
}

// shutdown lets every connection end in good order: what is idle is closed,
// what is active ends with its request, since answers say Connection: close.
func (s *server) shutdown(ctx context.Context) error {
	s.leave()
	s.refuse()
	if s.protocol == fleet.TCP {
		select {
		case <-s.outlived():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for s.closeIdle(s.g.now()) > 0 {
		if !pauseFor(ctx, 10*time.Millisecond) {
			return ctx.Err()
		}
	}
	return nil
}

// firstRequest is how long a client that just connected may take, while the
// server is leaving, to send its first request.
const firstRequest = 2 * time.Second

// closeIdle ends the idle HTTP/1.1 connections and counts those to wait for.
// Each ends itself, so that a request which has just come is still served.
func (s *server) closeIdle(now moment) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		switch {
		case c.carried:
		case c.state.CompareAndSwap(stateIdle, stateKicked),
			now.since(c.since) > firstRequest && c.state.CompareAndSwap(stateNew, stateKicked):
			c.Conn.SetReadDeadline(past)
		}
	}
	return len(s.conns)
}

// begun marks a connection active; where it was told to end at the same moment,
// the deadline that said so is lifted.
func (s *server) begun(c *conn) {
	if c.state.Swap(stateActive) == stateKicked {
		s.mu.Lock()
		defer s.mu.Unlock()
		c.readBy(time.Time{})
	}
}

// close cuts all connections.
func (s *server) close() {
	s.leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.conns {
		c.Conn.Close()
		c.abort.Fire()
	}
}
