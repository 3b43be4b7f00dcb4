package l7

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"meridian/edge/l7/wire"
)

// clientBody reads a request's body off the connection. Reads of it come from
// one goroutine at a time.
type clientBody struct {
	f       *clientFront
	chunks  wire.Chunks
	stage   *buffer // octets that are not decoded yet; nil: f.in
	pending []byte  // decoded, in stage
	left    int64   // of a body with a length
	ended   bool
	broken  bool
	asked   bool // something was read
}

func (b *clientBody) begin(f *clientFront) {
	b.f, b.stage, b.pending, b.left, b.broken, b.asked = f, nil, nil, f.h.Length, false, false
	b.ended = f.h.Length == 0
	if f.h.Chunked {
		b.chunks.Reset()
	}
}

// whole gives the body where all of it has come with the head, else nil.
func (b *clientBody) whole() []byte {
	rest, n := b.f.in.rest(), b.left
	if n <= 0 || int64(len(rest)) < n {
		return nil
	}
	b.f.in.r += int(n)
	b.ended, b.left = true, 0
	return rest[:n:n]
}

func (b *clientBody) read(p []byte) (int, error) {
	b.asked = true
	switch {
	case b.ended:
		return 0, io.EOF
	case b.broken:
		return 0, io.ErrUnexpectedEOF
	case b.f.h.Chunked:
		return b.readChunked(p)
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n := copy(p, b.f.in.rest())
	b.f.in.r += n
	var err error
	if n == 0 {
		n, err = b.f.cl.nc.Read(p)
	}
	if b.left -= int64(n); b.left == 0 {
		b.ended = true
		return n, io.EOF
	}
	return n, b.fail(err)
}

func (b *clientBody) fail(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		b.broken = true
	}
	return err
}

// readChunked decodes into p. Octets that are not decoded yet have a buffer of
// their own, since the head must stay where it is.
func (b *clientBody) readChunked(p []byte) (int, error) {
	if b.stage == nil {
		b.ownStage()
	}
	for n := 0; ; {
		k := copy(p[n:], b.pending)
		b.pending = b.pending[k:]
		if n += k; n == len(p) {
			return n, nil
		}
		data, took, fault := b.chunks.Next(b.stage.rest())
		b.stage.r += took
		b.pending = data
		switch {
		case fault != wire.NoFault:
			b.broken = true
			b.f.cl.s.g.metrics.malformed[fault].Inc()
			return n, fault
		case b.chunks.Ended():
			b.ended = true
			return n, io.EOF
		case took > 0:
		case n > 0:
			return n, nil
		default:
			if err := b.fill(); err != nil {
				return 0, err
			}
		}
	}
}

// stageLimit is above all that must be whole to be decoded.
const stageLimit = 2 * bufferSize

func (b *clientBody) ownStage() {
	b.stage = takeBuffer()
	if rest := b.f.in.rest(); len(rest) > len(b.stage.data) {
		b.stage.free()
		b.stage = &buffer{data: make([]byte, len(b.f.in.data))}
	}
	b.stage.w = copy(b.stage.data, b.f.in.rest())
	b.f.in.r = b.f.in.w
}

func (b *clientBody) fill() error {
	if !b.stage.room(max(stageLimit, len(b.stage.data))) {
		b.broken = true
		return wire.BadChunk
	}
	n, err := b.f.cl.nc.Read(b.stage.data[b.stage.w:])
	b.stage.w += n
	if n > 0 {
		return nil
	}
	return b.fail(err)
}

func (b *clientBody) trailers() *wire.Head {
	if !b.f.h.Chunked || len(b.chunks.Trailers.Fields) == 0 {
		return nil
	}
	return &b.chunks.Trailers
}

// linger is how long a client whose request was answered before its body ended
// may go on sending, so that it sees the answer rather than a reset.
const linger = 250 * time.Millisecond

// linger reads the rest of a body that nobody wants any more. False: it does
// not end soon, or the client waits to be asked for it.
func (b *clientBody) linger() bool {
	if b.ended {
		return true
	}
	if b.broken || b.f.h.Expect && !b.asked {
		return false
	}
	b.f.cl.c.readBy(time.Now().Add(linger))
	p := takeBuffer()
	defer p.free()
	for {
		if _, err := b.read(p.data); err == io.EOF {
			b.f.cl.c.readBy(time.Time{})
			return true
		} else if err != nil {
			return false
		}
	}
}

// end gives back what was read beyond the body.
func (b *clientBody) end() {
	if b.stage == nil {
		return
	}
	rest := b.stage.rest()
	if len(rest) > len(b.f.in.data) {
		b.f.in.free()
		b.f.in = &buffer{data: make([]byte, len(b.stage.data))}
	}
	b.f.in.r, b.f.in.w = 0, copy(b.f.in.data, rest)
	b.stage.free()
	b.stage = nil
}

// begunWhole says whether all of the body has come with the head.
func (b *clientBody) begunWhole() bool {
	return b.left > 0 && int64(b.f.in.w-b.f.in.r) >= b.left
}

// spliceFrom is the length from which the kernel passes bodies on.
const spliceFrom = 64 << 10

// splices says whether the kernel may pass on what is left of the body.
func (b *clientBody) splices() bool {
	return b.left >= spliceFrom && b.f.cl.nc == net.Conn(b.f.cl.c) && b.f.cl.c.tcp != nil
}

// spare takes what has been read of the body.
func (b *clientBody) spare() []byte {
	b.asked = true
	rest := b.f.in.rest()
	rest = rest[:min(int64(len(rest)), b.left)]
	b.f.in.r += len(rest)
	b.left -= int64(len(rest))
	return rest
}
