package h3

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
)

const (
	inSize  = 4 << 10  // octets of the buffer that requests are read to; it grows for a larger head
	outSize = 4 << 10  // octets of the buffer that answers are kept in; it grows to outMost
	outMost = 16 << 10 // what does not fit goes out at once

	// A request may hold so many frames that carry nothing, of so many octets
	// each: unknown types (RFC 9114 section 9 wants them to be skipped), empty DATA.
	maxOdd      = 32
	maxOddFrame = 16 << 10
)

// exchange is one request and its answer, on a stream of their own. It is the
// l7.Front of that request, and used again for others.
type exchange struct {
	c  *conn
	s  *quic.Stream
	at int // its place in c.active

	in          []byte // of which in[from:to] was read and not used
	from, to    int
	eof         bool   // the client's direction has ended
	left        uint64 // octets of the DATA frame at hand
	got         int64  // octets of the body
	declared    int64  // as many were announced; -1: the client did not say
	odd         int
	trailed     bool
	connect     bool // no trailers (RFC 9114 section 4.4)
	dec         decoder
	head, trail wire.Head

	out    []byte
	closed bool // the gateway's direction has ended
	reset  bool // the client gave up

	updated bool // its priority, by PRIORITY_UPDATE; guarded by c.mu

	abort l7.Abort
}

var exchanges = sync.Pool{New: func() any {
	return &exchange{in: make([]byte, inSize), out: make([]byte, 0, outSize)}
}}

// release readies x for another request.
func (x *exchange) release() {
	if len(x.in) > inSize {
		x.in = make([]byte, inSize)
	}
	x.head.Reset()
	x.trail.Reset()
	x.abort.Reset()
	x.c, x.s = nil, nil
	x.from, x.to, x.left, x.got, x.odd = 0, 0, 0, 0, 0
	x.eof, x.trailed, x.connect, x.closed, x.reset, x.updated = false, false, false, false, false, false
	x.out = x.out[:0]
	exchanges.Put(x)
}

// Errors that end one request.
var (
	errIncomplete = errors.New("HTTP/3 request: the stream ended before a head")
	errMessage    = errors.New("HTTP/3 request: malformed body or trailers")
)

// run serves the request.
func (x *exchange) run() {
	limits := x.c.session.Limits()
	_ = x.s.SetReadDeadline(time.Now().Add(limits.HeaderTimeout))
	fault, err := x.readHead(limits.Header)
	why := noError
	switch {
	case err != nil:
		why = x.unread(err)
	case fault != wire.NoFault:
		why = messageError
		x.c.session.Refuse(x, &x.head, fault)
	default:
		_ = x.s.SetReadDeadline(time.Time{})
		x.prioritise()
		x.c.session.Serve(x, &x.head, &x.abort)
	}
	if !x.eof {
		x.s.CancelRead(why.stream())
	}
	if !x.closed {
		if why == noError {
			why = internalError
		}
		x.s.CancelWrite(why.stream())
	}
	x.c.finish(x)
}

// unread says with which code a request ends whose head could not be read.
func (x *exchange) unread(err error) code {
	if e, ok := errors.AsType[*broken](err); ok {
		x.c.fail(e)
		return e.code
	}
	x.reset = errors.Is(err, os.ErrDeadlineExceeded) // as bad as one that was given up
	x.noteReset(err)
	return requestIncomplete
}

// noteReset remembers that the client gave up.
func (x *exchange) noteReset(err error) {
	if e, ok := errors.AsType[*quic.StreamError](err); ok && e.Remote {
		x.reset = true
	}
}

// more reads what comes after what is at hand; io.EOF after the last octet.
func (x *exchange) more() error {
	switch {
	case x.eof:
		return io.EOF
	case x.from == x.to:
		x.from, x.to = 0, 0
	case x.to == len(x.in) && x.from > 0:
		x.to = copy(x.in, x.in[x.from:x.to])
		x.from = 0
	case x.to == len(x.in):
		x.in = append(x.in, make([]byte, len(x.in))...)
	}
	n, err := x.s.Read(x.in[x.to:])
	x.to += n
	if errors.Is(err, io.EOF) {
		x.eof = true
		if n > 0 {
			err = nil
		}
	}
	return err
}

// ended says whether nothing will follow.
func (x *exchange) ended() bool { return x.eof && x.from == x.to }

// frame reads the beginning of a frame; io.EOF where the stream ended before.
func (x *exchange) frame() (kind, length uint64, err error) {
	for {
		rest := x.in[x.from:x.to]
		if kind, n, err := quicvarint.Parse(rest); err == nil {
			if length, m, err := quicvarint.Parse(rest[n:]); err == nil {
				x.from += n + m
				return kind, length, nil
			}
		}
		if err := x.more(); errors.Is(err, io.EOF) && len(rest) > 0 {
			return 0, 0, errFrame
		} else if err != nil {
			return 0, 0, err
		}
	}
}

// skip passes over a frame that means nothing here.
func (x *exchange) skip(length uint64) error {
	if x.odd++; x.odd > maxOdd || length > maxOddFrame {
		return errFlood
	}
	for {
		n := min(length, uint64(x.to-x.from))
		x.from += int(n)
		if length -= n; length == 0 {
			return nil
		}
		if err := x.more(); err != nil {
			return cut(err)
		}
	}
}

// cut makes the end of a stream inside a frame the error that it is.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return errFrame
	}
	return err
}

// readHead reads the request's head, of no more than limit octets.
func (x *exchange) readHead(limit int) (wire.Fault, error) {
	for {
		kind, length, err := x.frame()
		switch {
		case errors.Is(err, io.EOF):
			return 0, errIncomplete
		case err != nil:
			return 0, err
		case kind == frameHeaders:
			x.head.Version = wire.HTTP3
			fault, err := x.section(&x.head, length, limit, pseudo)
			if err != nil || fault != wire.NoFault {
				return fault, err
			}
			if err := x.bodiless(); err != nil {
				return 0, err
			}
			return x.settle()
		case knownFrame(kind):
			return 0, errUnexpected
		}
		if err := x.skip(length); err != nil {
			return 0, err
		}
	}
}

// bodiless waits for what comes after the head of a request that will have no
// body, most likely: some clients end their direction in a packet of its own.
// Who knows that there is no body may try again.
func (x *exchange) bodiless() error {
	if x.eof || x.from < x.to || !x.head.Is("GET") && !x.head.Is("HEAD") {
		return nil
	}
	if err := x.more(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// section reads the payload of a HEADERS frame. What is larger than the limit
// is left unread: it says nothing about other sections.
func (x *exchange) section(h *wire.Head, length uint64, limit int, pseudo func(*wire.Head, []byte, []byte) wire.Fault) (wire.Fault, error) {
	if length > uint64(limit) {
		return wire.TooLarge, nil
	}
	for uint64(x.to-x.from) < length {
		if err := x.more(); err != nil {
			return 0, cut(err)
		}
	}
	b := x.in[x.from : x.from+int(length)]
	x.from += int(length)
	fault, err := x.dec.section(b, h, limit, pseudo)
	if err != nil {
		return 0, errSection
	}
	return fault, nil
}

// pseudo takes a pseudo-field of a request (RFC 9114 section 4.3.1), each once
// and before all others.
func pseudo(h *wire.Head, name, value []byte) wire.Fault {
	var to *[]byte
	switch string(name) {
	case ":method":
		to = &h.Method
	case ":scheme":
		to = &h.Scheme
	case ":authority":
		to = &h.Authority
	case ":path":
		to = &h.Target
	case ":protocol":
		to = &h.Protocol
	}
	if to == nil || *to != nil || len(value) == 0 || len(h.Fields) > 0 {
		return wire.BadPseudo
	}
	*to = value
	return wire.NoFault
}

// noPseudo is for trailers.
func noPseudo(*wire.Head, []byte, []byte) wire.Fault { return wire.BadPseudo }

// settle applies the rules on heads, and those on the length of what follows.
func (x *exchange) settle() (wire.Fault, error) {
	h := &x.head
	x.connect = h.Is("CONNECT")
	if fault := h.Request(); fault != wire.NoFault {
		return fault, nil
	}
	x.declared = h.Length
	switch {
	case x.ended() && h.Length > 0:
		return wire.BadLength, nil // RFC 9114 section 4.1.2
	case x.ended():
		h.Length, x.declared = 0, 0
	case h.Length == 0 && !x.connect:
		// Nobody will read the body, so what it must not hold is looked for here.
		if err := x.rest(); errors.Is(err, errMessage) {
			return wire.BadLength, nil
		} else if err != nil {
			return 0, err
		}
	}
	return wire.NoFault, nil
}
