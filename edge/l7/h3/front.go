package h3

import (
	"errors"
	"io"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"meridian/edge/l7/wire"
)

// Body reads what DATA frames hold.
func (x *exchange) Body(p []byte) (int, error) {
	n, err := x.body(p)
	if err == nil && x.left == 0 && x.declared > 0 && x.got == x.declared {
		// The last octets are given when nothing follows them: else the whole body
		// of a malformed request would have been passed on.
		if err = x.rest(); err != nil {
			n = 0
		}
	}
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	if e, ok := errors.AsType[*broken](err); ok {
		x.c.fail(e)
	}
	if errors.Is(err, errMessage) {
		x.s.CancelRead(messageError.stream())
	}
	x.noteReset(err)
	return n, err
}

func (x *exchange) body(p []byte) (int, error) {
	for x.left == 0 {
		if err := x.next(); err != nil {
			return 0, err
		}
	}
	if uint64(len(p)) > x.left {
		p = p[:x.left]
	}
	n, err := copy(p, x.in[x.from:x.to]), error(nil)
	if x.from += n; n == 0 && len(p) > 0 {
		if x.eof {
			return 0, errFrame
		}
		n, err = x.s.Read(p)
		if errors.Is(err, io.EOF) {
			if x.eof, err = true, nil; n == 0 {
				return 0, errFrame
			}
		}
	}
	x.left -= uint64(n)
	return n, err
}

// rest reads what follows a body that is complete: trailers, and what means
// nothing.
func (x *exchange) rest() error {
	for {
		if err := x.next(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// next goes to the next DATA frame; io.EOF says that there is none.
func (x *exchange) next() error {
	kind, length, err := x.frame()
	switch {
	case errors.Is(err, io.EOF):
		if x.declared >= 0 && x.got != x.declared {
			return errMessage
		}
		return io.EOF
	case err != nil:
		return err
	case kind == frameData && !x.trailed:
		if length > quicvarint.Max-uint64(x.got) || x.declared >= 0 && length > uint64(x.declared-x.got) {
			return errMessage // RFC 9114 section 4.1.2
		}
		if length == 0 {
			return x.skip(0)
		}
		x.left, x.got = length, x.got+int64(length)
		return nil
	case kind == frameHeaders && !x.trailed && !x.connect:
		x.trailed, x.trail.Version = true, wire.HTTP3
		fault, err := x.section(&x.trail, length, x.c.session.Limits().Header, noPseudo)
		if err == nil && (fault != wire.NoFault || x.trail.After() != wire.NoFault) {
			err = errMessage
		}
		return err
	case knownFrame(kind):
		return errUnexpected
	}
	return x.skip(length)
}

// BodyTrailers implements l7.Front.
func (x *exchange) BodyTrailers() *wire.Head {
	if !x.trailed {
		return nil
	}
	return &x.trail
}

// Interim implements l7.Front.
func (x *exchange) Interim(h *wire.Head) error {
	x.fields(h.Status, h)
	return x.Flush()
}

// Answer implements l7.Front.
func (x *exchange) Answer(h *wire.Head, end bool) error {
	x.fields(h.Status, h)
	if end {
		return x.end()
	}
	return nil
}

// fields keeps a HEADERS frame.
func (x *exchange) fields(status int, h *wire.Head) {
	const room = 1 + 2 // of a frame's head, where the length has two octets
	at := len(x.out)
	x.out = append(x.out, frameHeaders, 0, 0)
	x.out = appendSection(x.out, status, h.Fields)
	n := len(x.out) - at - room
	if n < 1<<14 {
		x.out[at+1], x.out[at+2] = 0x40|byte(n>>8), byte(n)
		return
	}
	x.out = append(x.out, 0, 0)
	copy(x.out[at+room+2:], x.out[at+room:len(x.out)-2])
	quicvarint.AppendWithLen(x.out[:at+1], uint64(n), 4)
}

// Write implements l7.Front.
func (x *exchange) Write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	small := len(x.out)+len(p) <= outMost
	x.out = appendFrameHead(x.out, frameData, uint64(len(p)))
	if small {
		x.out = append(x.out, p...)
		return nil
	}
	if err := x.Flush(); err != nil {
		return err
	}
	return x.send(p)
}

// Flush implements l7.Front.
func (x *exchange) Flush() error {
	if len(x.out) == 0 {
		return nil
	}
	err := x.send(x.out)
	x.out = x.out[:0]
	return err
}

func (x *exchange) send(p []byte) error {
	_, err := x.s.Write(p)
	if err != nil {
		x.noteReset(err)
	}
	return err
}

// End implements l7.Front.
func (x *exchange) End(trailers *wire.Head) error {
	if x.closed {
		return nil
	}
	if trailers != nil {
		x.fields(0, trailers)
	}
	return x.end()
}

// inPacket is what quic-go takes over without waiting for packets to go out.
const inPacket = 1400

// end sends what was kept, and that it was the last: in such a way that both
// go out together, and the caller need not wait until they do.
func (x *exchange) end() error {
	var err error
	if len(x.out) > inPacket {
		err = x.s.TryWriteAll(x.out)
		if errors.Is(err, quic.ErrWouldBlock) {
			err = x.send(x.out)
		}
		x.out = x.out[:0]
	} else {
		err = x.Flush()
	}
	if err != nil {
		x.noteReset(err)
		return err
	}
	x.closed = true
	return x.s.Close()
}

// Break implements l7.Front.
func (x *exchange) Break() {
	if !x.closed {
		x.closed = true
		x.s.CancelWrite(internalError.stream())
	}
	x.out = x.out[:0]
}

// Deadlines implements l7.Front.
func (x *exchange) Deadlines(read, write time.Time) {
	_ = x.s.SetReadDeadline(read) // these fail on a closed stream, as reading and writing do
	_ = x.s.SetWriteDeadline(write)
}
