package l7

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"meridian/fleet"
)

// Listen opens a plain TCP socket. It is not MPTCP, which is Go's default for
// listeners: layer 4 keeps flows by their 5-tuple, and a subflow has another.
// The address need not be there yet (IP_FREEBIND), so the order in which the
// node sets up its addresses and starts the gateway does not matter.
func (m MaxSegment) Listen(ctx context.Context, network, address string) (net.Listener, error) {
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
	protocol fleet.Protocol
	idle     time.Duration // of http and https
}

func (p profile) secure() bool { return p.protocol == fleet.HTTPS }

// listener is one bound socket, whose connections go to the current server.
type listener struct {
	g       *Gateway
	at      netip.AddrPort
	socket  net.Listener
	done    chan struct{} // closed with the socket
	once    sync.Once
	ended   chan struct{} // closed when accept has handed over its last connection
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
			out = append(out, &listener{g: g, at: at, socket: socket, done: make(chan struct{}), ended: make(chan struct{})})
		}
	}
	return out, nil
}

// relisten puts new listeners to work, closes those that gen does not want,
// and gives those whose profile changed a new server. Old servers whose
// protocol changed drain on their own, for as long as the services before and
// after allow.
func (g *Gateway) relisten(old, gen *generation, opened []*listener) {
	limit := gen.drain
	if old != nil {
		limit = max(limit, old.drain)
	}
	for _, l := range opened {
		g.listeners[l.at] = l
	}
	wanted := map[netip.AddrPort]profile{}
	for _, a := range g.addresses(gen.world) {
		for _, p := range gen.table.Ports() {
			wanted[netip.AddrPortFrom(a, p.Number)] = profile{p.Protocol, gen.idle(p.Number)}
		}
	}
	for at, l := range g.listeners {
		p, ok := wanted[at]
		if !ok {
			delete(g.listeners, at)
			l.closeSocket()
			g.retire(l.current.Load(), l.ended, limit)
			continue
		}
		had := l.current.Load()
		if had != nil && had.profile == p {
			continue
		}
		s := g.newServer(at.Port(), p)
		l.current.Store(s)
		switch {
		case had == nil:
			g.tasks.run(l.accept)
		case had.protocol == p.protocol:
			g.outlive(had)
		default:
			g.retire(had, nil, limit)
		}
	}
}

// outlive lets a server keep the connections that it has, whose idle limit
// alone is out of date; new ones go to its successor.
func (g *Gateway) outlive(s *server) {
	g.outlived[s] = true
	s.refuse()
	g.tasks.run(func() {
		select {
		case <-s.outlived():
		case <-g.base.Done():
		}
		g.mu.Lock()
		delete(g.outlived, s)
		g.mu.Unlock()
		s.close()
	})
}

// retire drains a server in the background: after the grace period and, where
// its socket is closed, after the last connection accepted; for at most limit,
// or until the Gateway itself is closed.
func (g *Gateway) retire(s *server, accepted <-chan struct{}, limit time.Duration) {
	s.leave()
	g.tasks.run(func() {
		ctx, cancel := context.WithTimeout(g.base, g.cfg.Grace+limit)
		defer cancel()
		pauseFor(ctx, g.cfg.Grace)
		if accepted != nil {
			<-accepted
		}
		if err := s.shutdown(ctx); err != nil {
			g.cfg.Logger.Warn("gateway: requests were cut off", "port", s.port, "err", err)
		}
		s.close()
	})
}

// accept hands each connection to the current server.
func (l *listener) accept() {
	defer close(l.ended)
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
		if l.g.turnsAway(c) {
			continue
		}
		l.g.connOpened()
		l.give(newConn(c, l.g.now()))
	}
}

// give hands a connection to the current server; one that takes no more has
// been replaced, or all is cut off.
func (l *listener) give(c *conn) {
	for !l.current.Load().take(c) {
		if l.g.base.Err() != nil {
			c.Close()
			l.g.connClosed()
			return
		}
	}
}

// shutdown closes the socket and waits for the requests under way, those of
// connections just accepted among them.
func (l *listener) shutdown(ctx context.Context) error {
	l.closeSocket()
	select {
	case <-l.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	return l.current.Load().shutdown(ctx)
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
