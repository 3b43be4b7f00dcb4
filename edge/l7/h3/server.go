package h3

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go"

	"meridian/edge/l7"
)

// server serves one UDP socket; it is an l7.PacketServer.
type server struct {
	socket    net.PacketConn
	vip       netip.AddrPort
	transport *quic.Transport
	tls       *tls.Config
	quic      *quic.Config
	admit     l7.Admit

	handshakes atomic.Int64  // under way
	leaving    chan struct{} // closed by Shutdown

	mu       sync.Mutex // guards what follows
	listener *quic.Listener
	conns    map[*conn]struct{}
	stopping bool
	ended    sync.WaitGroup // Serve
}

// Serve implements l7.PacketServer.
func (s *server) Serve() error {
	l, err := s.listen()
	if l == nil {
		return err
	}
	defer s.ended.Done()
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		q, err := l.Accept(context.Background())
		if err != nil {
			if s.stopped() {
				return nil
			}
			return err
		}
		q.Context().Value(handshakeKey{}).(*handshake).end()
		conns.Go(func() { s.carry(q) })
	}
}

// listen begins to accept; nil without an error where that has ended already.
func (s *server) listen() (*quic.Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil, nil
	}
	l, err := s.transport.Listen(s.tls, s.quic)
	if err != nil {
		return nil, err
	}
	s.listener = l
	s.ended.Add(1)
	return l, nil
}

func (s *server) stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// carry serves one connection.
func (s *server) carry(q *quic.Conn) {
	state := q.ConnectionState().TLS
	session, gone := s.admit(addrPort(q.RemoteAddr()), s.vip, &state)
	if session == nil {
		_ = q.CloseWithError(excessiveLoad.conn(), "")
		return
	}
	defer gone()
	c := newConn(s, q, session)
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	c.serve()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// stop takes no new connection.
func (s *server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return
	}
	s.stopping = true
	close(s.leaving)
	if s.listener != nil {
		_ = s.listener.Close()
	}
}

// Shutdown implements l7.PacketServer.
func (s *server) Shutdown(ctx context.Context) error {
	s.stop()
	gone := make(chan struct{})
	go func() {
		s.ended.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		return s.Close()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close implements l7.PacketServer.
func (s *server) Close() error {
	s.stop()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.q.CloseWithError(noError.conn(), "")
	}
	s.mu.Unlock()
	err := s.transport.Close()
	if e := s.socket.Close(); e != nil && !errors.Is(e, net.ErrClosed) {
		err = errors.Join(err, e)
	}
	s.ended.Wait()
	return err
}

type handshakeKey struct{}

// handshake counts among those under way until it has ended.
type handshake struct {
	s    *server
	once sync.Once
}

func (h *handshake) end() { h.once.Do(func() { h.s.handshakes.Add(-1) }) }

// begins counts a handshake. Its context ends with the connection, or with a
// handshake that fails.
func (s *server) begins(ctx context.Context, _ *quic.ClientInfo) (context.Context, error) {
	h := &handshake{s: s}
	s.handshakes.Add(1)
	context.AfterFunc(ctx, h.end)
	return context.WithValue(ctx, handshakeKey{}, h), nil
}

func addrPort(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := u.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}
