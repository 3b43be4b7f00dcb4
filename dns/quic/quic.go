// Package quic speaks the protocols over QUIC for dns/server: DNS over QUIC
// (RFC 9250) and, for DNS over HTTPS, HTTP/3.
//
// Adapter floor: it holds quic-go, and is wired by cmd. Sockets, certificates,
// limits and answers are dns/server's.
package quic

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"meridian/dns/server"
)

// Datagrams implements server.Datagrams.
type Datagrams struct{ log *slog.Logger }

// New gives what speaks the protocols; it opens nothing.
func New(log *slog.Logger) *Datagrams { return &Datagrams{log} }

// errTooMany refuses a connection.
var errTooMany = errors.New("too many connections")

// Serve serves one socket until ctx ends.
func (d *Datagrams) Serve(ctx context.Context, c net.PacketConn, e *server.Endpoint) error {
	t := &quic.Transport{
		Conn: c,
		// RFC 9000 section 8.1.2: with many connections open, clients first
		// prove that they are where they say.
		VerifySourceAddress: func(net.Addr) bool { return e.Crowded() },
		ConnContext: func(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
			leave, ok := e.Enter(server.ClientOf(info.RemoteAddr).Addr())
			if !ok {
				return nil, errTooMany
			}
			context.AfterFunc(ctx, leave) // ends with the connection, or with a handshake that fails
			return ctx, nil
		},
	}
	l, err := t.ListenEarly(config(e), limits(e))
	if err != nil {
		return fmt.Errorf("dns quic: %s: %w", c.LocalAddr(), err)
	}
	stop := context.AfterFunc(ctx, func() { l.Close(); t.Close() })
	defer stop()
	if e.Transport == server.HTTPS {
		serveHTTP3(ctx, l, e, d.log)
	} else {
		serveDoQ(ctx, l, e)
	}
	l.Close()
	t.Close()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("dns quic: %s: the socket gave up", c.LocalAddr())
}

// config has each handshake use the certificate of its moment.
func config(e *server.Endpoint) *tls.Config {
	protocol := "doq"
	if e.Transport == server.HTTPS {
		protocol = http3.NextProtoH3
	}
	var mu sync.Mutex
	var made, from *tls.Config
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			now := e.TLS()
			if now == nil {
				return nil, errors.New("the transport is off")
			}
			mu.Lock()
			defer mu.Unlock()
			if from != now { // kept, since it holds the keys of session tickets
				from, made = now, now.Clone()
				made.NextProtos, made.MinVersion = []string{protocol}, tls.VersionTLS13
			}
			return made, nil
		},
	}
}

// limits has each connection take the limits of its moment.
func limits(e *server.Endpoint) *quic.Config {
	base := func() *quic.Config {
		l := e.Limits()
		c := &quic.Config{
			HandshakeIdleTimeout: l.Message,
			MaxIdleTimeout:       l.Idle,
			MaxIncomingStreams:   int64(l.Queries),
			Allow0RTT:            true, // see waitForHandshake
			// A query has 64 K at most, and most have 100 octets.
			InitialStreamReceiveWindow:     4 << 10,
			MaxStreamReceiveWindow:         128 << 10,
			InitialConnectionReceiveWindow: 64 << 10,
			MaxConnectionReceiveWindow:     1 << 20,
			// RFC 9250 section 4.2: there are no unidirectional streams.
			MaxIncomingUniStreams: -1,
		}
		if e.Transport == server.HTTPS {
			c.MaxIncomingUniStreams = 8 // control and QPACK streams (RFC 9114 section 6.2)
			c.Allow0RTT = false         // a request in 0-RTT could be an UPDATE replayed
		}
		return c
	}
	c := base()
	c.GetConfigForClient = func(*quic.ClientInfo) (*quic.Config, error) { return base(), nil }
	return c
}

// clientOf gives the client of a connection.
func clientOf(c *quic.Conn) netip.AddrPort { return server.ClientOf(c.RemoteAddr()) }
