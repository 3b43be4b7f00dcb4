package l7

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"meridian/edge/l7/wire"
)

// clientFront is the Front of HTTP/1.1. It is used for one request after the
// other of a connection, as long as they follow each other without a pause.
type clientFront struct {
	cl   *client
	in   *buffer
	h    wire.Head
	body clientBody
	out  []byte

	size    int  // of the head
	keep    bool // the connection may carry another request
	framed  bool // the answer's body is in chunks
	endless bool // and ends with the connection
	refused bool // what follows on the connection is of no meaning
	over    bool // End or Break was called
	failed  error
}

var fronts = sync.Pool{New: func() any { return &clientFront{out: make([]byte, 0, bufferSize)} }}

func (f *clientFront) begin(cl *client, b *buffer) { f.cl, f.in = cl, b }

func (f *clientFront) free() {
	f.in.free()
	f.cl, f.in = nil, nil
	f.h.Reset()
	f.body = clientBody{}
	if cap(f.out) > 4*bufferSize {
		f.out = make([]byte, 0, bufferSize)
	}
	fronts.Put(f)
}

// request reads one request and has it served; false: the connection is over.
func (f *clientFront) request() bool {
	f.h.Reset()
	f.keep, f.framed, f.endless, f.refused, f.over, f.failed = true, false, false, false, false, nil
	f.out = f.out[:0]
	fault, err := f.head()
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			f.cl.sess.Abuse("slow_head")
			f.late()
		}
		f.cl.left(err)
		return false
	}
	if fault != wire.NoFault {
		f.keep, f.refused = false, true
		f.cl.sess.Refuse(f, &f.h, fault)
		return false
	}
	// What follows a refused CONNECT may be meant for a tunnel (RFC 9931).
	f.keep = !f.h.Close && !f.h.Is("CONNECT")
	a := &f.cl.c.abort
	a.Reset()
	f.second(f.in.data[f.in.r-f.size : f.in.r])
	f.body.begin(f)
	f.cl.sess.Serve(f, &f.h, a)
	if !f.over || f.failed != nil {
		return false
	}
	if !f.body.linger() {
		f.refused = true
		return false
	}
	f.body.end()
	f.refused = !f.keep && f.in.r < f.in.w
	return f.keep
}

// late answers a client whose head did not come in time.
func (f *clientFront) late() {
	f.out = append(f.out, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"...)
	f.Flush()
}

// head reads until the head is whole.
func (f *clientFront) head() (wire.Fault, error) {
	limit := wire.Limit{Octets: f.cl.s.g.cfg.MaxHeader, Line: wire.MaxLine, Fields: wire.MaxFields}
	for first := true; ; first = false {
		n, fault := wire.ParseRequest(f.in.rest(), &f.h, limit)
		if n > 0 || fault != wire.NoFault {
			f.in.r += n
			f.size = n
			if !first {
				f.cl.c.readBy(time.Time{})
			}
			return fault, nil
		}
		if first {
			f.cl.c.readBy(time.Now().Add(f.cl.s.g.cfg.header))
		}
		if !f.in.room(limit.Octets + 1) {
			return wire.TooLarge, nil
		}
		m, err := f.cl.nc.Read(f.in.data[f.in.w:])
		if m == 0 && err != nil {
			return wire.NoFault, err
		}
		f.in.w += m
	}
}

// close ends the connection. Where the client may still be sending, it is
// heard out for a short time, since a reset would take the answer from it.
func (f *clientFront) close() {
	if !f.refused || f.failed != nil {
		return
	}
	if cw, ok := f.cl.nc.(interface{ CloseWrite() error }); ok {
		cw.CloseWrite()
	}
	f.cl.c.readBy(time.Now().Add(linger))
	for {
		if _, err := f.cl.nc.Read(f.in.data); err != nil {
			return
		}
	}
}

// Body implements Front.
func (f *clientFront) Body(p []byte) (int, error) { return f.body.read(p) }

// BodyTrailers implements Front.
func (f *clientFront) BodyTrailers() *wire.Head { return f.body.trailers() }

// Deadlines implements Front.
func (f *clientFront) Deadlines(read, write time.Time) {
	if read == past {
		f.cl.c.readBy(past)
		return
	}
	if f.h.Length == 0 {
		f.cl.c.writing.set(write, f.cl.c.Conn.SetWriteDeadline)
		return
	}
	f.cl.c.deadlines(read, write)
}

// Interim implements Front.
func (f *clientFront) Interim(h *wire.Head) error {
	if f.h.Version == wire.HTTP10 {
		return nil
	}
	f.out = wire.AppendStatusLine(f.out, h.Status, h.Reason)
	f.out = wire.AppendFields(f.out, h)
	f.out = append(f.out, '\r', '\n')
	return f.Flush()
}

// Answer implements Front.
func (f *clientFront) Answer(h *wire.Head, end bool) error {
	b := wire.AppendStatusLine(f.out, h.Status, h.Reason)
	b = wire.AppendFields(b, h)
	if f.leaving() {
		f.keep = false
	}
	connected := h.Status/100 == 2 && f.h.PlainConnect()
	switch {
	case connected:
	case h.Status == 101:
		b = append(b, "Connection: Upgrade\r\n"...)
		b = wire.AppendField(b, wire.Upgrade.Name(), h.Upgrade)
		f.keep = false
	case h.Length >= 0 || end:
	case f.h.Version == wire.HTTP11:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		f.framed = true
	default:
		f.endless, f.keep = true, false
	}
	switch {
	case h.Status == 101, connected:
	case !f.keep:
		b = append(b, "Connection: close\r\n"...)
	case f.h.Version == wire.HTTP10:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	f.out = append(b, '\r', '\n')
	return nil
}

// leaving says whether clients are asked to go.
func (f *clientFront) leaving() bool { return f.cl.s.left.Load() || f.cl.s.g.draining.Load() }

// Write implements Front.
func (f *clientFront) Write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if f.framed {
		f.out = wire.AppendChunk(f.out, len(p))
	}
	if len(f.out)+len(p)+2 <= bufferSize {
		f.out = append(f.out, p...)
	} else if err := f.both(p); err != nil {
		return err
	}
	if f.framed {
		f.out = append(f.out, '\r', '\n')
	}
	return nil
}

// both sends what was kept, and p.
func (f *clientFront) both(p []byte) error {
	if len(f.out) == 0 {
		return f.send(p)
	}
	if f.cl.nc != net.Conn(f.cl.c) || f.cl.c.tcp == nil {
		if err := f.Flush(); err != nil {
			return err
		}
		return f.send(p)
	}
	err := writeSocket(f.cl.c.raw, f.out, p)
	f.out = f.out[:0]
	return f.sent(err)
}

func (f *clientFront) send(p []byte) error {
	_, err := f.cl.nc.Write(p)
	return f.sent(err)
}

func (f *clientFront) sent(err error) error {
	if err != nil {
		f.failed = err
	}
	return err
}

// Flush implements Front.
func (f *clientFront) Flush() error {
	if len(f.out) == 0 {
		return nil
	}
	err := f.send(f.out)
	f.out = f.out[:0]
	return err
}

// End implements Front.
func (f *clientFront) End(trailers *wire.Head) error {
	f.over = true
	if f.framed {
		f.out = wire.AppendLast(f.out, trailers)
	}
	return f.Flush()
}

// Break implements Front.
func (f *clientFront) Break() {
	f.over, f.keep, f.refused = true, false, false
	f.Flush() // what an answer has begun with, so that nobody takes the end for a lost request
	f.failed = errBroken
	if f.endless && f.cl.c.tcp != nil {
		f.cl.c.tcp.SetLinger(0) // a reset: an orderly end would pass for the answer's
	}
	f.cl.c.Conn.Close()
}

var errBroken = errors.New("the answer was broken off")
