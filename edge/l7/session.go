package l7

import (
	"crypto/tls"
	"net"
	"net/netip"

	"meridian/edge/l7/wire"
)

// session is a client's connection as exchanges know it.
type session struct {
	s    *server
	conn *conn // nil: it is none of TCP
	*origin
	tls *tls.ConnectionState
	own ownLinks // connections to endpoints that carry this client's requests alone
	id  uint32
}

func newSession(s *server, c *conn, state *tls.ConnectionState) *session {
	return &session{s: s, conn: c, origin: &c.origin, tls: state, id: s.g.sessions.Add(1)}
}

// ends are the connection's own addresses, whatever a balancer says.
func (x *session) ends() (peer, local netip.AddrPort) {
	if x.conn == nil {
		return x.client, x.vip
	}
	return addressOf(x.conn.RemoteAddr()), addressOf(x.conn.LocalAddr())
}

// addressOf reads a TCP or UDP address; else it is invalid.
func addressOf(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// shard gives one of n, a power of two: always the same, so that a client's
// requests find the connections that they have used.
func (x *session) shard(n int) int { return int(x.id) & (n - 1) }

// end closes what the session alone uses.
func (x *session) end() {
	x.own.close()
}

// Serve implements Session.
func (x *session) Serve(f Front, h *wire.Head, a *Abort) {
	e := exchanges.Get().(*exchange)
	e.begin(x, f, h, a)
	e.serve()
	e.finish()
	e.free()
}

// Refuse implements Session.
func (x *session) Refuse(f Front, h *wire.Head, fault wire.Fault) {
	x.s.g.metrics.malformed[fault].Inc()
	e := exchanges.Get().(*exchange)
	e.begin(x, f, h, nil)
	e.refuse(fault.Status(), flagBadRequest, "malformed request: "+fault.String())
	e.finish()
	e.free()
}

// Abuse implements Session.
func (x *session) Abuse(reason string) {
	x.s.g.metrics.abuse.WithLabelValues(reason).Inc()
}

// Leaving implements Session.
func (x *session) Leaving() <-chan struct{} { return x.s.leaving }

// Limits implements Session.
func (x *session) Limits() Limits {
	return Limits{Header: x.s.g.cfg.MaxHeader, Streams: 128, HeaderTimeout: x.s.g.cfg.header, Idle: x.s.g.gen.Load().idle(x.s.port)}
}
