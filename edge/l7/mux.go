package l7

import (
	"context"
	"errors"
	"net"
	"time"

	"meridian/edge/l7/wire"
)

// Mux holds one endpoint's connections of a version of HTTP that carries many
// requests over each; edge/l7/h2 makes it. It is safe for concurrent use.
type Mux interface {
	// Open sends a request's head on a connection that has room for one more, or
	// on a new one; end says that nothing follows it. ctx and by, where it is not
	// zero, bound the wait for a connection alone, and, for an extended CONNECT, for
	// the endpoint's word that it takes them. Its error is ErrRefused,
	// ErrNoWebSocket, or says why there is no connection.
	Open(ctx context.Context, by time.Time, h *wire.Head, end bool) (Call, error)
	// Retire lets connections end with their requests. It says whether none is
	// left.
	Retire() bool
	// Close cuts all connections, and returns when their goroutines are gone.
	Close()
}

// Call is one request to an endpoint and its answer, as Front is of a client.
// One goroutine reads of it and another may write at the same time; Stop may be
// called by any, until Close.
type Call interface {
	// Write, Flush and End send the request's body, as Front's.
	Write(p []byte) error
	Flush() error
	End(trailers *wire.Head) error
	// Head waits for the next head of the answer and puts it into h: those with
	// 1xx come before the final one. Its error is a wire.Fault where the answer
	// is malformed, and ErrRefused where the endpoint has not acted on the
	// request.
	Head(h *wire.Head) error
	// Body and BodyTrailers give what follows the final head, as Front's; Ready
	// says whether Body would not wait.
	Body(p []byte) (int, error)
	Ready() bool
	BodyTrailers() *wire.Head
	// Deadlines bounds the waits of reads and writes; the zero time means none.
	Deadlines(read, write time.Time)
	// Stop ends all waiting with an error, and the request with it.
	Stop()
	// Close ends what has not ended yet. The Call is not used after it.
	Close()
}

// ErrRefused says that an endpoint has not acted on a request, which so may be
// sent again whatever its method (RFC 9113 section 8.7).
var ErrRefused = errors.New("the endpoint has not acted on the request")

// ErrNoWebSocket says that an endpoint takes no extended CONNECT (RFC 8441
// section 3); nothing was sent.
var ErrNoWebSocket = errors.New("the endpoint takes no WebSocket over HTTP/2")

var errNoMux = errors.New("this program speaks no HTTP/2 to endpoints")

// MuxMaker makes the Mux of one endpoint. dial opens a connection, past its TLS
// handshake where secure.
type MuxMaker func(dial func(ctx context.Context) (net.Conn, error), secure bool) Mux
