package quic

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"

	"meridian/dns/server"
)

// Error codes (RFC 9250 section 8.4).
const (
	codeNoError       = 0
	codeInternalError = 1
	codeProtocolError = 2
)

// serveDoQ accepts connections until the listener closes, and returns when all
// are done.
func serveDoQ(ctx context.Context, l *quic.EarlyListener, e *server.Endpoint) {
	var open sync.WaitGroup
	defer open.Wait()
	for {
		c, err := l.Accept(ctx)
		if err != nil {
			return
		}
		open.Go(func() { serveConn(ctx, c, e) })
	}
}

// serveConn answers the queries of one connection, each on a stream of its own
// and all at a time, as many as the limit on streams lets the client open.
func serveConn(ctx context.Context, c *quic.Conn, e *server.Endpoint) {
	var queries sync.WaitGroup
	var working atomic.Int32
	defer queries.Wait()
	defer c.CloseWithError(codeNoError, "")
	for {
		s, err := accept(ctx, c, e.Limits().Idle)
		if err != nil && ctx.Err() == nil && c.Context().Err() == nil && working.Load() > 0 {
			continue // not idle
		}
		if err != nil {
			return // the client has gone or is idle, or ctx has ended
		}
		working.Add(1)
		queries.Go(func() {
			defer working.Add(-1)
			if err := serveStream(c, s, e); errors.Is(err, errProtocol) {
				e.Count(server.Protocol)
				_ = c.CloseWithError(codeProtocolError, err.Error())
			}
		})
	}
}

// accept waits for the next stream, no longer than idle: packets that keep a
// connection alive are no queries.
func accept(ctx context.Context, c *quic.Conn, idle time.Duration) (*quic.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, idle)
	defer cancel()
	return c.AcceptStream(ctx)
}

// errProtocol says that the client broke the protocol's rules; the connection
// ends with it (RFC 9250 section 4.3.3).
var errProtocol = errors.New("DoQ protocol error")

type protocolError string

func (e protocolError) Error() string        { return string(e) }
func (e protocolError) Is(target error) bool { return target == errProtocol }

// serveStream answers the one query of a stream (RFC 9250 section 4.2).
func serveStream(c *quic.Conn, s *quic.Stream, e *server.Endpoint) error {
	limit := e.Limits().Message
	_ = s.SetReadDeadline(time.Now().Add(limit)) // fails on a closed stream, as reading does
	query, err := readQuery(s)
	if errors.Is(err, errProtocol) {
		return err // the connection's end says why; a reset of the stream would be heard before it
	}
	if err != nil {
		s.CancelRead(codeInternalError)
		s.CancelWrite(codeInternalError)
		e.Count(server.Slow)
		return err
	}
	if err := waitForHandshake(c, query); err != nil {
		return err
	}
	cs := c.ConnectionState()
	p := e.Peer(clientOf(c), &cs.TLS)
	err = e.Respond(s.Context(), query, &p, func(msg []byte) error {
		_ = s.SetWriteDeadline(time.Now().Add(limit))
		framed := make([]byte, 2, 2+len(msg))
		binary.BigEndian.PutUint16(framed, uint16(len(msg)))
		_, err := s.Write(append(framed, msg...))
		if err != nil {
			e.Count(server.Send)
		}
		return err
	})
	if err != nil {
		s.CancelWrite(codeInternalError)
		return nil
	}
	return s.Close()
}

// readQuery reads the one message of a stream, to the stream's end.
func readQuery(r io.Reader) ([]byte, error) {
	var size [2]byte
	_, err := io.ReadFull(r, size[:])
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errEarlyEnd
	}
	if err != nil {
		return nil, err
	}
	// The buffer grows with what comes: a length alone costs a client nothing.
	n := int(binary.BigEndian.Uint16(size[:]))
	query, err := io.ReadAll(io.LimitReader(r, int64(n)+1))
	switch {
	case err != nil:
		return nil, err
	case len(query) < n:
		return nil, errEarlyEnd
	case len(query) > n:
		return nil, protocolError("more than one query on a stream")
	}
	return query, checkQuery(query)
}

// errEarlyEnd is against the rules (RFC 9250 section 4.3.3).
const errEarlyEnd = protocolError("the stream ends before the message does")

// checkQuery says what DoQ forbids in a query: an ID other than 0 (RFC 9250
// section 4.2.1), and edns-tcp-keepalive (section 5.5.2).
func checkQuery(query []byte) error {
	if len(query) < 12 {
		return protocolError("the message is shorter than its header")
	}
	if query[0] != 0 || query[1] != 0 {
		return protocolError("message ID is not 0")
	}
	var m dns.Msg
	if binary.BigEndian.Uint16(query[10:]) == 0 || m.Unpack(query) != nil {
		return nil // no options, or malformed, which the answer will tell
	}
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if o.Option() == dns.EDNS0TCPKEEPALIVE {
				return protocolError("edns-tcp-keepalive over QUIC")
			}
		}
	}
	return nil
}

// waitForHandshake holds back a message that came in 0-RTT data and might do
// harm when it is replayed: all but QUERY and NOTIFY (RFC 9250 section 4.5),
// and of those the transfers.
func waitForHandshake(c *quic.Conn, query []byte) error {
	select {
	case <-c.HandshakeComplete():
		return nil
	default:
	}
	opcode := query[2] >> 3 & 15
	if opcode == dns.OpcodeNotify || opcode == dns.OpcodeQuery && !transfer(query) {
		return nil
	}
	select {
	case <-c.HandshakeComplete():
		return nil
	case <-c.Context().Done():
		return context.Cause(c.Context())
	}
}

// transfer says whether a query asks for a zone.
func transfer(query []byte) bool {
	var m dns.Msg
	if m.Unpack(query) != nil || len(m.Question) != 1 {
		return true // not known to be harmless
	}
	t := m.Question[0].Qtype
	return t == dns.TypeAXFR || t == dns.TypeIXFR
}
