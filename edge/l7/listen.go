package l7

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"meridian/fleet"
)

// listen opens a plain TCP socket. It is not MPTCP, which is Go's default for
// listeners: layer 4 keeps flows by their 5-tuple, and a subflow has another.
// The address need not be there yet (IP_FREEBIND), so the order in which the
// node sets up its addresses and starts the gateway does not matter.
func (m MaxSegment) listen(ctx context.Context, network, address string) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = m.options(int(fd), network) }); e != nil {
			return e
		}
		return err
	}}
	lc.SetMultipathTCP(false)
	return lc.Listen(ctx, network, address)
}

func (m MaxSegment) options(fd int, network string) error {
	level, freebind, segment := unix.IPPROTO_IP, unix.IP_FREEBIND, m.V4
	if strings.HasSuffix(network, "6") {
		level, freebind, segment = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, m.V6
	}
	if err := unix.SetsockoptInt(fd, level, freebind, 1); err != nil {
		return fmt.Errorf("set IP_FREEBIND: %w", err)
	}
	if segment > 0 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, segment); err != nil {
			return fmt.Errorf("set TCP_MAXSEG to %d: %w", segment, err)
		}
	}
	return nil
}

// profile is what connections of a listener get; a listener whose profile
// changes keeps its socket.
type profile struct {
	secure bool
	idle   time.Duration
}

// listener is one bound socket, whose connections go to the current server.
type listener struct {
	g       *Gateway
	at      netip.AddrPort
	socket  net.Listener
	done    chan struct{} // closed with the socket
	once    sync.Once
	current atomic.Pointer[server]
}

// open binds what gen needs and the Gateway does not have yet. On an error
// nothing stays open.
func (g *Gateway) open(gen *generation) ([]*listener, error) {
	var out []*listener
	for _, a := range g.addresses(gen.world) {
		for _, p := range gen.table.Ports() {
			at := netip.AddrPortFrom(a, p.Number)
			if g.listeners[at] != nil {
				continue
			}
			network := "tcp4"
			if a.Is6() {
				network = "tcp6"
			}
			socket, err := g.cfg.Listen(context.Background(), network, at.String())
			if err != nil {
				for _, l := range out {
					l.socket.Close()
				}
				return nil, fmt.Errorf("listen on %s: %w", at, err)
			}
			out = append(out, &listener{g: g, at: at, socket: socket, done: make(chan struct{})})
		}
	}
	return out, nil
}

// relisten puts new listeners to work, closes those that gen does not want,
// and gives those whose profile changed a new server. Old servers drain on
// their own.
func (g *Gateway) relisten(gen *generation, opened []*listener) {
	for _, l := range opened {
		g.listeners[l.at] = l
	}
	wanted := map[netip.AddrPort]profile{}
	for _, a := range g.addresses(gen.world) {
		for _, p := range gen.table.Ports() {
			wanted[netip.AddrPortFrom(a, p.Number)] = profile{p.Protocol == fleet.HTTPS, gen.idle(p.Number)}
		}
	}
	for at, l := range g.listeners {
		p, ok := wanted[at]
		if !ok {
			delete(g.listeners, at)
			g.retire(func(ctx context.Context) { l.shutdown(ctx); l.close() }, gen.drain)
			continue
		}
		old := l.current.Load()
		if old != nil && old.profile == p {
			continue
		}
		s := g.newServer(at.Port(), p)
		l.current.Store(s)
		g.tasks.run(s.serve)
		if old == nil {
			g.tasks.run(l.accept)
		} else {
			g.retire(func(ctx context.Context) { old.shutdown(ctx); old.close() }, gen.drain)
		}
	}
}

// retire drains something in the background, for at most limit, or until the
// Gateway itself is closed.
func (g *Gateway) retire(drain func(context.Context), limit time.Duration) {
	g.tasks.run(func() {
		ctx, cancel := context.WithTimeout(g.base, limit)
		defer cancel()
		drain(ctx)
	})
}

// accept hands each connection to the current server.
func (l *listener) accept() {
	pause := 5 * time.Millisecond
	for {
		c, err := l.socket.Accept()
		if err != nil {
			select {
			case <-l.done:
				return
			default:
			}
			// Out of descriptors or memory: the socket is sound, so wait.
			l.g.metrics.acceptErrors.Inc()
			l.g.cfg.Logger.Warn("gateway: accept", "address", l.at, "err", err)
			select {
			case <-l.done:
				return
			case <-time.After(pause):
				pause = min(2*pause, time.Second)
			}
			continue
		}
		pause = 5 * time.Millisecond
		for !l.current.Load().take(c) {
			// A server that takes no more has been replaced, or all is over.
			select {
			case <-l.done:
				c.Close()
				return
			default:
			}
		}
	}
}

// shutdown closes the socket and waits for the requests under way.
func (l *listener) shutdown(ctx context.Context) error {
	l.closeSocket()
	if s := l.current.Load(); s != nil {
		return s.shutdown(ctx)
	}
	return nil
}

func (l *listener) close() {
	l.closeSocket()
	if s := l.current.Load(); s != nil {
		s.close()
	}
}

func (l *listener) closeSocket() {
	l.once.Do(func() {
		close(l.done)
		l.socket.Close()
	})
}

// server is one http.Server; its listener side is a channel.
type server struct {
	profile
	http  *http.Server
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	at    net.Addr
}

func (g *Gateway) newServer(port uint16, p profile) *server {
	s := &server{profile: p, conns: make(chan net.Conn), done: make(chan struct{}), at: &net.TCPAddr{Port: int(port)}}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(p.secure)
	s.http = &http.Server{
		Handler:           &handler{g: g, port: port, secure: p.secure},
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
		ConnState:   g.connState,
		ErrorLog:    log.New(&strangers{g}, "", 0),
	}
	if p.secure {
		s.http.TLSConfig = g.tlsConfig(port)
	}
	return s
}

// connState counts connections. One that is hijacked ends with its tunnel,
// which counts it down.
func (g *Gateway) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		g.conns.Add(1)
		g.metrics.connections.Inc()
	case http.StateClosed:
		g.connClosed()
	}
}

func (g *Gateway) connClosed() {
	g.metrics.connections.Dec()
	g.conns.Done()
}

// serve runs until shutdown or close.
func (s *server) serve() {
	if s.secure {
		s.http.ServeTLS(s, "", "")
	} else {
		s.http.Serve(s)
	}
}

// take gives the server a connection; false where it takes no more.
func (s *server) take(c net.Conn) bool {
	select {
	case s.conns <- c:
		return true
	case <-s.done:
		return false
	}
}

// Accept, Close and Addr make the server its own net.Listener.
func (s *server) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
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

func (s *server) shutdown(ctx context.Context) error {
	s.Close()
	return s.http.Shutdown(ctx)
}

func (s *server) close() {
	s.Close()
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

// tlsConfig asks the current generation for the certificate of each handshake,
// so that a new one serves at once and connections stay.
func (g *Gateway) tlsConfig(port uint16) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return g.certificate(port, hello)
		},
	}
}

var errNoSnapshot = errors.New("no snapshot yet")

// certificate picks by server name: of the certificates for the name the first
// that the client can use (so an ECDSA one may stand before an RSA one). A
// client that names no server gets the first certificate of the Spec. A client
// that names one for which there is no certificate gets the first as well
// where a service takes any host, else the alert unrecognized_name (RFC 6066
// section 3), as HAProxy with strict-sni and nginx with ssl_reject_handshake:
// a certificate for another name would only move the error into the browser.
func (g *Gateway) certificate(port uint16, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	gen := g.gen.Load()
	if gen == nil {
		return nil, errNoSnapshot
	}
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if list := gen.certs.Find(name); len(list) > 0 {
		for _, c := range list {
			if len(list) == 1 || hello.SupportsCertificate(c) == nil {
				return c, nil
			}
		}
		return list[0], nil
	}
	if name == "" || name == fleet.GatewayHost || gen.table.AnyHost(port) {
		return gen.certs.Default(), nil
	}
	return nil, nil // crypto/tls sends unrecognized_name
}
