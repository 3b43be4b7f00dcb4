package l7

import (
	"bytes"
	"context"
	"crypto/tls"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"meridian/fleet"
)

// server is one http.Server, or what passes a port's streams on; its listener
// side is a channel.
type server struct {
	profile
	g       *Gateway
	http    *http.Server // nil: for streams
	port    uint16
	arrived chan net.Conn
	done    chan struct{}
	once    sync.Once
	at      net.Addr
	leaving atomic.Bool // answers ask clients to close

	mu    sync.Mutex // guards below
	conns map[*conn]bool
	empty chan struct{} // where not nil: closed with the last connection
}

// conn is a client's connection.
type conn struct {
	net.Conn
	since   time.Time    // when it was accepted
	state   atomic.Int32 // http.ConnState
	http2   atomic.Bool
	spoiled atomic.Bool // what follows on it may be the rest of a request's body
}

// CloseWrite passes on a half-close; tunnels use it.
func (c *conn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return c.Conn.Close()
}

// connKey is the context key of a request's *conn.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, bare(c))
}

// bare gives the connection below TLS.
func bare(c net.Conn) *conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return c.(*conn)
}

func (g *Gateway) newServer(port uint16, p profile) *server {
	s := &server{profile: p, g: g, port: port, at: &net.TCPAddr{Port: int(port)},
		arrived: make(chan net.Conn), done: make(chan struct{}), conns: map[*conn]bool{}}
	if p.protocol == fleet.TCP {
		return s
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(p.secure())
	s.http = &http.Server{
		Handler:           &handler{g: g, server: s, port: port},
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       p.idle,
		MaxHeaderBytes:    g.cfg.MaxHeader,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          128,
			MaxReceiveBufferPerConnection: 4 << 20,
			MaxReceiveBufferPerStream:     1 << 20,
			SendPingTimeout:               30 * time.Second,
			PingTimeout:                   15 * time.Second,
		},
		BaseContext: func(net.Listener) context.Context { return g.base },
		ConnContext: withConn,
		ConnState:   s.connState,
		ErrorLog:    log.New(&strangers{g}, "", 0),
	}
	if p.secure() {
		s.http.TLSConfig = g.tlsConfig(port)
	}
	return s
}

// connState follows a connection's life. A spoiled connection must not carry
// another request: net/http would take the rest of the body for one.
func (s *server) connState(nc net.Conn, state http.ConnState) {
	c := bare(nc)
	if was := http.ConnState(c.state.Swap(int32(state))); was == http.StateNew && state != http.StateNew {
		if t, ok := nc.(*tls.Conn); ok && t.ConnectionState().NegotiatedProtocol == "h2" {
			c.http2.Store(true)
		}
	}
	switch state {
	case http.StateIdle:
		if c.spoiled.Load() {
			nc.Close()
		}
	case http.StateClosed:
		s.forget(c)
		s.g.connClosed()
	case http.StateHijacked: // and ends with its tunnel
		s.forget(c)
	}
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
	g.metrics.connections.Inc()
}

func (g *Gateway) connClosed() {
	g.metrics.connections.Dec()
	g.conns.Done()
}

// serve runs until shutdown or close.
func (s *server) serve() {
	switch {
	case s.http == nil:
		s.serveStreams()
	case s.secure():
		s.http.ServeTLS(s, "", "")
	default:
		s.http.Serve(s)
	}
}

// take gives the server a connection; false where it takes no more.
func (s *server) take(c *conn) bool {
	s.mu.Lock()
	s.conns[c] = true
	s.mu.Unlock()
	select {
	case s.arrived <- c:
		return true
	case <-s.done:
		s.forget(c)
		return false
	}
}

// Accept, Close and Addr make the server its own net.Listener.
func (s *server) Accept() (net.Conn, error) {
	select {
	case c := <-s.arrived:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept; http.Server calls it, also more than once.
func (s *server) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

// Addr is only shown in messages.
func (s *server) Addr() net.Addr { return s.at }

// shutdown lets every connection end in good order. HTTP/1.1 comes first, and
// not by http.Server.Shutdown, which drops requests that it has just read:
// what is idle is closed, what is active ends with its request, since answers
// say Connection: close. HTTP/2 connections then get their GOAWAY.
func (s *server) shutdown(ctx context.Context) error {
	s.leaving.Store(true)
	s.Close()
	if s.http == nil {
		return s.streamsEnd(ctx)
	}
	for s.closeIdle(time.Now()) > 0 && pauseFor(ctx, 10*time.Millisecond) {
	}
	return s.http.Shutdown(ctx)
}

// firstRequest is how long a client that just connected may take, while the
// server is leaving, to send its first request.
const firstRequest = 2 * time.Second

// closeIdle closes the idle HTTP/1.1 connections and counts those to wait for.
func (s *server) closeIdle(now time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	busy := 0
	for c := range s.conns {
		state := http.ConnState(c.state.Load())
		switch {
		case c.http2.Load():
			// net/http calls one idle before its first request, and
			// Shutdown would cut it off.
			if now.Sub(c.since) < firstRequest {
				busy++
			}
		case state == http.StateIdle, state == http.StateNew && now.Sub(c.since) > firstRequest:
			c.Close()
			delete(s.conns, c)
			s.tellEmpty()
		default:
			busy++
		}
	}
	return busy
}

func (s *server) close() {
	s.Close()
	if s.http == nil {
		s.cutStreams()
		return
	}
	s.http.Close()
}

// strangers takes what net/http says about connections of clients: broken
// handshakes and the like. They are counted, and told only when debugging:
// strangers must not fill the log.
type strangers struct{ g *Gateway }

func (s *strangers) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("panic serving")) {
		s.g.cfg.Logger.Error("gateway: handler", "err", string(b))
		return len(b), nil
	}
	s.g.metrics.connErrors.Inc()
	s.g.cfg.Logger.Debug("gateway: connection", "err", strings.TrimSpace(string(b)))
	return len(b), nil
}
