package l7

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"time"

	"meridian/edge/l7/wire"
)

// Front is the client's side of one request, whatever version of HTTP it came
// by. The exchange calls it from one goroutine, but for Body and BodyTrailers,
// which another may call at the same time.
//
// After an answer 101, or a 2xx one to CONNECT, Body and Write carry the tunnel,
// and End ends the gateway's direction of it.
type Front interface {
	// Body reads octets of the request's body into p, waiting for some; io.EOF
	// says that it has ended, any other error that it never will.
	Body(p []byte) (int, error)
	// BodyTrailers gives the fields that came after the body, nil where there
	// are none; call it after Body's io.EOF.
	BodyTrailers() *wire.Head

	// Interim sends an answer 1xx that others will follow.
	Interim(h *wire.Head) error
	// Answer sends the head of the final answer, once; end says that nothing
	// follows, neither body nor trailers. It may be kept to be sent with what
	// follows, until Flush or End.
	Answer(h *wire.Head, end bool) error
	// Write sends octets of the answer's body; they may be kept as Answer's.
	// It does not keep p.
	Write(p []byte) error
	// Flush sends what was kept.
	Flush() error
	// End ends the answer, with trailers where they are not nil, and flushes.
	End(trailers *wire.Head) error
	// Break ends an answer that cannot be completed, in such a way that the
	// client sees it broken and not short.
	Break()

	// Deadlines bounds waits for the client: of Body, and of all that sends.
	// The zero time means none.
	Deadlines(read, write time.Time)
}

// Abort lets a carrier end an exchange whose client has gone, from any
// goroutine. The zero Abort is ready for use. Reset it before it serves another
// exchange.
type Abort struct {
	mu   sync.Mutex
	gone bool
	stop stopper
}

// stopper is what an exchange waits for at the moment, an endpoint's
// connection for one.
type stopper interface{ stop() }

// Fire says that the client has gone. It may be called more than once, and
// after the exchange has ended.
func (a *Abort) Fire() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gone = true
	if a.stop != nil {
		a.stop.stop()
	}
}

// Gone says whether the client has gone.
func (a *Abort) Gone() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.gone
}

// Reset readies a for another exchange.
func (a *Abort) Reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gone, a.stop = false, nil
}

// during says what to stop when the client goes, nil for nothing. False: it
// has gone already.
func (a *Abort) during(s stopper) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stop = s
	return !a.gone
}

// Limits are those of a client's connection.
type Limits struct {
	Header        int           // octets of a request's head
	Streams       int           // requests under way at a time, of HTTP/2 and HTTP/3
	HeaderTimeout time.Duration // from a head's first octet to its last
	Idle          time.Duration // without a request; 0 for no limit
}

// Session is one client's connection as the gateway sees it. A carrier is
// handed one with each connection and runs its requests through it. It is safe
// for concurrent use.
type Session interface {
	// Serve runs one exchange on the caller's goroutine; when it returns the
	// answer has ended or was broken off, and f, h and a are the caller's again.
	// h must have been accepted by h.Request.
	Serve(f Front, h *wire.Head, a *Abort)
	// Refuse answers a request whose head is at fault, and counts it.
	Refuse(f Front, h *wire.Head, fault wire.Fault)
	// Abuse counts what made the carrier end the connection: floods, broken
	// framing. reason is one of few constant words.
	Abuse(reason string)
	// Leaving is closed when the connection shall end in good order: no request
	// is begun any more after those that the client may have under way.
	Leaving() <-chan struct{}
	// Limits may change from one call to the next.
	Limits() Limits
}

// Carrier carries requests of one version of HTTP over a client's connection;
// edge/l7/h2 is one.
type Carrier interface {
	// Carry serves c until it has ended and no exchange of it is left. c is
	// past its TLS handshake. It closes c.
	Carry(c net.Conn, s Session)
}

// PacketCarrier carries requests over a UDP socket; edge/l7/h3 is one.
type PacketCarrier interface {
	// Listen makes what serves the socket, which is then the PacketServer's to
	// close. Handshakes by config, and by what it chooses for a client, agree on
	// "h3" and TLS 1.3 alone. It starts nothing.
	Listen(socket net.PacketConn, config *tls.Config, admit Admit) (PacketServer, error)
}

// Admit gives a new connection its session; nil: it is not wanted. gone is to be
// called when the connection has ended and no exchange of it is left.
type Admit func(client, vip netip.AddrPort, state *tls.ConnectionState) (s Session, gone func())

// PacketServer serves one UDP socket.
type PacketServer interface {
	// Serve runs until Shutdown or Close, and returns when all its goroutines
	// are gone.
	Serve() error
	// Shutdown takes no new connection, sends GOAWAY and waits for the requests
	// under way; ctx's error where that ended first.
	Shutdown(ctx context.Context) error
	// Close cuts everything.
	Close() error
}
