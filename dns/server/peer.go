package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"

	"meridian/dns/answer"
)

// Peer is the other side of a stream, as far as answers depend on it.
type Peer struct {
	Client    netip.AddrPort
	Transport Transport
	Name      string // the first DNS name of its verified certificate; "" without one

	weak bool // TLS below 1.3
}

// takes says whether what the plan is not asked for may be handed over for this
// peer: transfers not by TLS below 1.3 (RFC 9103 section 7.1), nor by HTTPS,
// where a query has one response.
func (p *Peer) takes(o *answer.Outcome) bool {
	transfer := o.Type == typeIXFR || o.Type == typeAXFR
	return !transfer || !p.weak && p.Transport != HTTPS
}

// secure notes what a TLS connection says of the peer.
func (p *Peer) secure(cs *tls.ConnectionState) {
	p.weak = cs.Version < tls.VersionTLS13
	if len(cs.VerifiedChains) > 0 {
		if names := cs.VerifiedChains[0][0].DNSNames; len(names) > 0 {
			p.Name = names[0]
		}
	}
}

// exchange is the space for one query and its answer; connections share them,
// so that idle ones cost little.
type exchange struct {
	work  answer.Worker
	query [answer.MaxStream]byte
	out   [2 + answer.MaxStream]byte
}

// errNoAnswer says that a message gets no answer: it is a response itself, or
// too short to be a message.
var errNoAnswer = errors.New("the message gets no answer")

// answer writes the plan's answer into x.out[2:] and gives its length, 0 for
// none. special says that the Handler is to be asked instead.
func (s *Server) answer(x *exchange, msg []byte, p *Peer, st *stats) (n int, special bool) {
	plan, now := s.plan.Load(), time.Now()
	n, o := plan.Answer(&x.work, msg, s.asker(p.Client, p.Transport, now), x.out[2:])
	if o.Special && s.cfg.Special != nil && p.takes(&o) {
		st.handed.Add(1)
		return 0, true
	}
	st.count(&o, 1)
	seen := observed{msg, x.out[2 : 2+n], p.Client, p.Transport, o, answered}
	if st.due(now.Unix()) {
		st.ring.add(plan, &seen, now)
	}
	if s.tapped(st) {
		s.tap(&seen, now)
	}
	return n, false
}

// asker is who asks, for the plan.
func (s *Server) asker(client netip.AddrPort, t Transport, now time.Time) answer.Client {
	c := answer.Client{Addr: client.Addr(), Port: client.Port(), Stream: t.Stream(), Encrypted: t.Encrypted(), Now: uint32(now.Unix())}
	if t == TCP || t == TLS { // RFC 7828 section 3.3.2; not QUIC (RFC 9250 section 5.5.2)
		c.Idle = s.idle()
	}
	return c
}

// hurry is the idle time while more than half of the connections are in use
// (RFC 7766 section 6.2.3).
const hurry = 2 * time.Second

// idle is the time without a query after which a connection is closed.
func (s *Server) idle() time.Duration {
	set := s.settings.Load()
	if s.clients.crowded(set.connections) {
		return min(set.idle, hurry)
	}
	return set.idle
}

// Respond answers one message by reply, or has the Handler do it, and returns
// when that is done. It serves the transports that give each query a stream of
// its own. msg is not kept.
func (e *Endpoint) Respond(ctx context.Context, msg []byte, p *Peer, reply func([]byte) error) error {
	s := e.server
	x := s.exchanges.Get().(*exchange)
	n, special := s.answer(x, msg, p, e.stats)
	answer := append([]byte(nil), x.out[2:2+n]...) // while a slow client takes it, the space is others'
	s.exchanges.Put(x)
	switch {
	case special:
		return s.handle(ctx, append([]byte(nil), msg...), p, reply)
	case n == 0:
		return errNoAnswer
	}
	return reply(answer)
}

// handle gives one message over a stream to the Handler. A client that takes
// its answers slowly holds up none but its own.
func (s *Server) handle(ctx context.Context, msg []byte, p *Peer, reply func([]byte) error) error {
	release, ok := s.fair.take(ctx, p.Client.Addr())
	if !ok {
		return ctx.Err()
	}
	defer release()
	select {
	case s.handling <- struct{}{}:
		defer func() { <-s.handling }()
	case <-ctx.Done():
		return ctx.Err()
	}
	s.cfg.Special.Handle(ctx, &Request{
		Message: msg, Client: p.Client, Transport: p.Transport, PeerName: p.Name, Reply: reply,
		Answer: func(query []byte) []byte { return s.respond(query, p.Client, p.Transport) },
	})
	return nil
}

// respond gives the plan's answer to one query, in a buffer of its own; nil
// where there is none.
func (s *Server) respond(query []byte, client netip.AddrPort, t Transport) []byte {
	x := s.exchanges.Get().(*exchange)
	defer s.exchanges.Put(x)
	n, _ := s.plan.Load().Answer(&x.work, query, s.asker(client, t, time.Now()), x.out[2:])
	if n == 0 {
		return nil
	}
	return append([]byte(nil), x.out[2:2+n]...)
}

// addrOfConn is the address of the other side of a connection.
func addrOfConn(a net.Addr) (netip.AddrPort, error) {
	p, err := netip.ParseAddrPort(a.String())
	return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port()), err
}
