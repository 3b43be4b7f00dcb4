package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// streamListener is a listening TCP socket for one transport.
type streamListener struct {
	net.Listener
	transport Transport
	stats     *stats
	web       *web // for HTTPS
}

// serve accepts until ctx ends, and returns when all connections are done.
func (l *streamListener) serve(ctx context.Context, s *Server) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var open sync.WaitGroup
	defer open.Wait()
	for {
		c, err := l.Accept()
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			if err == nil {
				c.Close()
			}
			return nil
		case err != nil: // out of descriptors or memory, or a client's: the socket is sound
			l.stats.drop(dropConnection)
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		if !s.clients.enter(l.transport, s.settings.Load().connections) {
			l.stats.drop(dropConnection)
			c.Close()
			continue
		}
		open.Go(func() {
			defer s.clients.leave(l.transport)
			l.admit(ctx, s, c)
		})
	}
}

// admit finds out who a connection's client is and serves it, if it has not
// too many connections.
func (l *streamListener) admit(ctx context.Context, s *Server, c net.Conn) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	set := s.settings.Load()
	if c.SetDeadline(time.Now().Add(handshakeLimit)) != nil {
		return
	}
	client, err := clientOf(c, set)
	if err != nil {
		l.stats.drop(dropProxy)
		return
	}
	if !s.clients.greet(client.Addr(), set.perClient) {
		l.stats.drop(dropClient)
		return
	}
	defer s.clients.part(client.Addr())
	p := Peer{Client: client, Transport: l.transport}
	if l.transport == TCP {
		s.converse(ctx, c, p, l.stats)
		return
	}
	l.secure(ctx, s, c, p)
}

// clientOf gives the address that a connection comes from, or that a proxy
// says.
func clientOf(c net.Conn, set *settings) (netip.AddrPort, error) {
	a, err := addrOfConn(c.RemoteAddr())
	if err != nil || !set.proxied(a.Addr()) {
		return a, err
	}
	told, err := readProxy(c)
	if err == nil && told.IsValid() {
		a = told
	}
	return a, err
}

// secure shakes hands and serves what comes by TLS.
func (l *streamListener) secure(ctx context.Context, s *Server, c net.Conn, p Peer) {
	config := s.settings.Load().tls[l.transport]
	if config == nil {
		return // the transport has just been switched off
	}
	if l.web != nil {
		c = newTracked(c, p.Client)
	}
	t := tls.Server(c, config)
	if err := t.HandshakeContext(ctx); err != nil {
		l.stats.drop(dropHandshake)
		return
	}
	if t.SetDeadline(time.Time{}) != nil {
		return
	}
	if l.web != nil {
		l.web.serveHTTP(ctx, t, c.(*tracked))
		return
	}
	state := t.ConnectionState()
	p.secure(&state)
	s.converse(ctx, t, p, l.stats)
}
