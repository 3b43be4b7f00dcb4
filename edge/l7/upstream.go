package l7

import (
	"context"
	"net"
	"runtime"
	"strings"
	"sync"
	"time"

	"crypto/tls"

	"meridian/edge/l7/wire"
)

// asked is a request under way at an endpoint, whatever version of HTTP it
// goes by; link is HTTP/1.1's.
type asked interface {
	stopper
	// send begins the request: its head as HTTP/1.1 writes it, and body, if any.
	send(head, body []byte) error
	// write sends octets of the body, endUpload its end; both while another
	// goroutine waits for the answer.
	write(p []byte) error
	endUpload(trailers *wire.Head) error
	// head waits for the next head of the answer: interim, or the final one.
	head(h *wire.Head) error
	// piece waits for octets of the answer's body; io.EOF: there are no more.
	// They hold until the next call. Before it waits it calls exchange.waiting.
	piece() ([]byte, error)
	trailers() *wire.Head
	// silent says whether nothing of an answer has come.
	silent() bool
	// discard takes the rest of a short answer away, so that release keeps the
	// connection.
	discard()
	// unbound lifts all deadlines, for a tunnel: write carries it from then on, up
	// to endTunnel, and tunnelled waits for what comes by it, as piece does.
	unbound()
	tunnelled() ([]byte, error)
	endTunnel() error
	// bare gives the connection where octets pass on it as they are, else nil.
	bare() *net.TCPConn
	// release ends the request. The connection serves again where the answer is
	// complete and whole says that so is the request; else it is closed.
	release(whole bool)
}

// connectError says that no connection came about, so that nothing of the
// request was sent.
type connectError struct{ err error }

func (e *connectError) Error() string { return "connect: " + e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

const (
	maxIdleLinks = 256              // connections kept for each endpoint
	linkIdle     = 60 * time.Second // a connection without a request
)

// upstream is one endpoint's idle connections, in shards that share no lock.
// The last one used is the first one used again. Each endpoint has its own:
// one that goes takes its connections along.
type upstream struct {
	g       *Gateway
	address string
	limit   time.Duration // for connecting, TLS included; 0 for none
	tls     *tls.Config   // nil: plain
	proxy   byte          // version of the PROXY protocol that introduces clients; 0: none
	dial    net.Dialer
	gates   connGates
	shards  []shard
	h2      bool
	muxes   muxes // where h2
}

type shard struct {
	mu     sync.Mutex
	links  []*link // oldest first
	closed bool
	_      [88]byte // keeps shards on cache lines of their own
}

func newUpstream(g *Gateway, key upstreamKey, trust trust, gates connGates) *upstream {
	n := 1
	for n < runtime.GOMAXPROCS(0) && n < 16 {
		n *= 2
	}
	u := &upstream{g: g, gates: gates, address: key.target.Endpoint, limit: key.connect, tls: trust.config, proxy: key.proxy, h2: key.h2, shards: make([]shard, n)}
	// Without MPTCP, whose sockets cost more and which endpoints in a data
	// centre gain nothing from.
	u.dial.SetMultipathTCP(false)
	return u
}

// connect gives a connection for the exchange: an idle one that lives (used is
// true), unless fresh, else a new one.
func (u *upstream) connect(x *exchange, fresh bool) (up asked, used bool, err error) {
	if u.h2 {
		return u.call(x, fresh)
	}
	var l *link
	name := x.serverName()
	if u.proxy != 0 {
		l = x.sess.ownLink(u, name, fresh)
		used = l != nil
	} else if !fresh {
		l = u.idle(x.sess.shard(len(u.shards)), name)
		used = l != nil
	}
	if l == nil {
		begun := u.g.now()
		if l, err = u.open(x, name); err != nil {
			return nil, false, err
		}
		x.pool.stats.connects.observe(x.sess.shard(spread), u.g.now().since(begun))
	}
	x.connected = x.g.now()
	l.begin(x)
	return l, used, nil
}

// idle takes the last connection used, from the given shard before others.
func (u *upstream) idle(at int, name string) *link {
	for i := range u.shards {
		s := &u.shards[(at+i)&(len(u.shards)-1)]
		for {
			l := s.pop(name)
			if l == nil {
				break
			}
			if l.alive() {
				return l
			}
			l.Close()
		}
	}
	return nil
}

func (s *shard) pop(name string) *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.links) - 1; i >= 0; i-- {
		if l := s.links[i]; l.name == name {
			copy(s.links[i:], s.links[i+1:])
			s.links[len(s.links)-1] = nil
			s.links = s.links[:len(s.links)-1]
			return l
		}
	}
	return nil
}

// keep takes a connection that carries no request any more.
func (u *upstream) keep(at int, l *link) {
	s := &u.shards[at]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.links) >= maxIdleLinks/len(u.shards) {
		l.Close()
		return
	}
	s.links = append(s.links, l)
}

// sweep closes connections that were idle for too long.
func (u *upstream) sweep(now moment) {
	for i := range u.shards {
		s := &u.shards[i]
		s.mu.Lock()
		n := 0
		for n < len(s.links) && s.links[n].since.add(linkIdle) < now {
			s.links[n].Close()
			n++
		}
		s.links = append(s.links[:0], s.links[n:]...)
		s.mu.Unlock()
	}
}

// close closes what is idle, and what becomes so later. It says whether nothing
// is left that somebody must wait for.
func (u *upstream) close() bool {
	if u.h2 {
		return u.muxes.retire()
	}
	for i := range u.shards {
		s := &u.shards[i]
		s.mu.Lock()
		s.closed = true
		for _, l := range s.links {
			l.Close()
		}
		s.links = nil
		s.mu.Unlock()
	}
	return true
}

// open makes a new connection.
func (u *upstream) open(x *exchange, name string) (*link, error) {
	ctx, until := u.g.base, x.until()
	if u.limit > 0 {
		until = sooner(until, u.g.now().add(u.limit))
	}
	if until != 0 {
		c, cancel := context.WithDeadline(ctx, u.g.time(until))
		defer cancel()
		ctx = c
	}
	raw, leave, err := u.gates.open(ctx, &u.dial, u.address)
	if err != nil {
		return nil, &connectError{err}
	}
	l := newLink(u, raw, strings.Clone(name))
	l.leave = sync.OnceFunc(leave)
	if u.proxy != 0 {
		if err := introduce(u.proxy, x.sess.client, x.sess.vip, raw); err != nil {
			l.Close()
			return nil, &connectError{err}
		}
	}
	if u.tls != nil {
		config := u.tls.Clone()
		config.ServerName = l.name
		c := tls.Client(raw, config)
		if err := c.HandshakeContext(ctx); err != nil {
			l.Close()
			return nil, &connectError{err}
		}
		l.Conn = c
	}
	return l, nil
}

// serverName is the name to ask a TLS endpoint for, by which connections are
// kept apart; "" of a plain one.
func (x *exchange) serverName() string {
	switch {
	case x.pool.tls == nil:
		return ""
	case x.pool.tls.ServerName != "":
		return x.pool.tls.ServerName
	case x.to.name != "":
		return x.to.name
	case x.host == "" || x.h.PlainConnect(): // whose host is the tunnel's, not the endpoint's
		host, _, _ := net.SplitHostPort(x.endpoint)
		return host
	}
	return x.host
}
