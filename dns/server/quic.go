package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// Datagrams speaks the protocols over QUIC on sockets that the server opens.
// It is declared here and implemented by dns/quic.
type Datagrams interface {
	// Serve serves a socket until ctx ends; it returns when its goroutines are
	// gone, and leaves the socket open.
	Serve(ctx context.Context, c net.PacketConn, e *Endpoint) error
}

// Endpoint is what the protocols over QUIC need of the server, for one socket.
// Its methods are safe for concurrent use.
type Endpoint struct {
	Transport Transport    // QUIC for DNS over QUIC, HTTPS for HTTP/3
	HTTP      http.Handler // for HTTP/3; it takes the client from RemoteAddr

	server *Server
	stats  *stats
}

// Limits are bounds in force on one connection.
type Limits struct {
	Queries int           // at a time
	Idle    time.Duration // without a query
	Message time.Duration // for one message to come, or to be taken, whole
}

// Limits gives those for a connection that begins now.
func (e *Endpoint) Limits() Limits {
	return Limits{Queries: e.server.settings.Load().queries, Idle: e.server.idle(), Message: messageLimit}
}

// TLS is the configuration in force, nil where the transport has just been
// switched off. It does not change.
func (e *Endpoint) TLS() *tls.Config { return e.server.settings.Load().tls[e.Transport] }

// Crowded says that more than half of the connections are in use, so that
// clients should prove their address before they take one up.
func (e *Endpoint) Crowded() bool {
	return e.server.clients.crowded(e.server.settings.Load().connections)
}

// Enter counts a connection; false where there are too many, in all or of this
// client. leave is to be called once at its end.
func (e *Endpoint) Enter(client netip.Addr) (leave func(), ok bool) {
	s, set := e.server, e.server.settings.Load()
	if !s.clients.enter(e.Transport, set.connections) {
		e.stats.drop(dropConnection)
		return nil, false
	}
	if !s.clients.greet(client, set.perClient) {
		s.clients.leave(e.Transport)
		e.stats.drop(dropClient)
		return nil, false
	}
	return func() {
		s.clients.part(client)
		s.clients.leave(e.Transport)
	}, true
}

// Fault is what is wrong with a connection or a message that never becomes a
// query.
type Fault int

// The faults.
const (
	Handshake Fault = dropHandshake // the handshake fails
	Slow      Fault = dropSlow      // a message does not come whole in time
	Send      Fault = dropSend      // the answer cannot be sent
	Protocol  Fault = dropProtocol  // the protocol's rules are broken
)

// Count counts a fault.
func (e *Endpoint) Count(f Fault) { e.stats.drop(int(f)) }

// Peer says who the client of a connection is.
func (e *Endpoint) Peer(client netip.AddrPort, cs *tls.ConnectionState) Peer {
	p := Peer{Client: client, Transport: e.Transport}
	p.secure(cs)
	return p
}

// ClientOf gives the client that an address of an Endpoint's socket stands for.
func ClientOf(a net.Addr) netip.AddrPort {
	if p, ok := a.(*proxiedAddr); ok {
		return p.client
	}
	p, _ := addrOfConn(a)
	return p
}

// proxiedConn takes the PROXY header off each datagram that comes from a proxy.
// It hides what of a UDP socket would go around that: batches of datagrams, and
// with them the address that a datagram came to.
type proxiedConn struct {
	net.PacketConn
	udp    *net.UDPConn // the same
	server *Server
	stats  *stats
}

// proxiedAddr is a client behind a proxy, to which answers go.
type proxiedAddr struct {
	net.Addr // the proxy's
	client   netip.AddrPort
}

// String tells clients behind one proxy apart.
func (a *proxiedAddr) String() string { return a.client.String() + " by " + a.Addr.String() }

// SetReadBuffer sets what the kernel holds for the socket.
func (c *proxiedConn) SetReadBuffer(n int) error { return c.udp.SetReadBuffer(n) }

// SetWriteBuffer sets what the kernel takes at a time.
func (c *proxiedConn) SetWriteBuffer(n int) error { return c.udp.SetWriteBuffer(n) }

// SyscallConn gives the socket itself, for its options.
func (c *proxiedConn) SyscallConn() (syscall.RawConn, error) { return c.udp.SyscallConn() }

// ReadFrom gives the next datagram and its client.
func (c *proxiedConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.PacketConn.ReadFrom(b)
		if err != nil {
			return n, from, err
		}
		a, err := addrOfConn(from)
		if err != nil || !c.server.settings.Load().proxied(a.Addr()) {
			return n, from, nil // a header is no QUIC packet, and dropped as such
		}
		skip, client, err := parseProxy(b[:n], proxyDatagram)
		if err != nil {
			c.stats.drop(dropProxy)
			continue
		}
		if client.IsValid() {
			from = &proxiedAddr{from, client}
		}
		return copy(b, b[skip:n]), from, nil
	}
}

// WriteTo sends to a client, by its proxy where it has one.
func (c *proxiedConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if p, ok := to.(*proxiedAddr); ok {
		to = p.Addr
	}
	return c.PacketConn.WriteTo(b, to)
}
