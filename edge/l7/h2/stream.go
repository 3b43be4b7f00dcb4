package h2

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
)

// stream is one request and its answer, on either side. The reader puts into it
// what the peer sends; one exchange takes that out, and sends. All fields but
// those marked are guarded by conn.mu.
type stream struct {
	c    *conn
	id   uint32
	cond sync.Cond // of conn.mu: something changed

	queue      queue
	recvWindow int   // what the peer may still send
	owed       int   // octets read that the peer was not told of
	want       int64 // octets of body still to come; -1: not told
	received   bool  // the peer has sent all
	trailers   *wire.Head

	sendWindow int
	answered   bool   // a head was sent (server) or received (client)
	ended      bool   // all is sent
	lastTurn   uint64 // conn.turn when the last frame was put into out
	lastFlags  int    // and where its flags are

	lost      bool // reset, or the connection is gone: nothing moves any more
	resetHere bool // by this end
	code      Code // the peer's reason
	kept      bool // others may still point to it: not to be used again

	readBy, writeBy time.Time
	readClock       clock
	writeClock      clock
	stalled         time.Time // since when it has waited for the peer's window

	served // of servers
	asked  // of clients
}

// open readies s for use under id. mu is held.
func (s *stream) open(c *conn, id uint32) {
	s.c, s.id, s.cond.L = c, id, &c.mu
	s.recvWindow, s.sendWindow, s.want = streamWindow, c.firstWindow, -1
	c.streams[id] = s
}

// close takes what is left out of s, and gives it back for the next use where
// nobody else can hold it. mu is held.
func (s *stream) close() {
	c := s.c
	c.forget(s, s.resetHere)
	if left := s.queue.drop(c.mem); !c.client {
		c.repay(left)
	}
	if !s.readClock.stop() || !s.writeClock.stop() || s.kept {
		return
	}
	s.received, s.answered, s.ended, s.lost, s.resetHere = false, false, false, false, false
	s.owed, s.lastTurn, s.lastFlags, s.code = 0, 0, 0, 0
	s.readBy, s.writeBy, s.stalled = time.Time{}, time.Time{}, time.Time{}
	s.trailers = nil
	s.interim, s.malformed, s.link, s.bare = nil, wire.NoFault, nil, false
	s.final.Reset()
	c.mem.streams.Put(s)
}

// Errors of streams.
var (
	errReset = errors.New("http2: the stream was reset")
	errTime  = os.ErrDeadlineExceeded
)

// whyLost gives the error of a lost stream. mu is held.
func (s *stream) whyLost() error {
	switch {
	case s.refused():
		return l7.ErrRefused
	case s.c.err != nil:
		return errEnded
	}
	return errReset
}

// clock wakes a stream that waits. conn.mu guards it.
type clock struct {
	timer *time.Timer
	armed bool // it will ring, or is about to
}

// stop says whether the clock will certainly not ring any more.
func (k *clock) stop() bool {
	sure := !k.armed || k.timer.Stop()
	k.armed = false
	return sure
}

// wait waits for a change, until by at the latest; false: that has passed.
// mu is held.
func (s *stream) wait(by time.Time, k *clock) bool {
	if !by.IsZero() {
		left := time.Until(by)
		if left <= 0 {
			return false
		}
		s.arm(k, left)
	}
	s.cond.Wait()
	return true
}

// arm sets a clock of s. Where it has rung and nobody has heard it yet, that ring is
// still to come, whatever becomes of the new one: it must not meet another request.
// mu is held.
func (s *stream) arm(k *clock, left time.Duration) {
	if k.timer == nil {
		k.timer = time.AfterFunc(left, func() { s.ring(k) })
	} else if !k.timer.Reset(left) && k.armed {
		s.kept = true
	}
	k.armed = true
}

// ring has those that wait look at the time.
func (s *stream) ring(k *clock) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	k.armed = false
	s.cond.Broadcast()
}

// Deadlines is Front's.
func (s *stream) Deadlines(read, write time.Time) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.readBy, s.writeBy = read, write
	s.cond.Broadcast()
}

// Body is Front's.
func (s *stream) Body(p []byte) (int, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for s.queue.size == 0 || len(p) == 0 {
		switch {
		case len(p) == 0:
			return 0, nil
		case s.lost:
			return 0, s.whyLost()
		case s.received:
			return 0, io.EOF
		}
		if !s.wait(s.readBy, &s.readClock) {
			return 0, errTime
		}
	}
	if s.lost {
		return 0, s.whyLost()
	}
	n := s.queue.get(p, c.mem)
	s.credit(n)
	if !c.client { // else takeData did
		c.repay(n)
	}
	return n, nil
}

// credit notes octets of the stream that were read, and tells the peer when they
// are many. mu is held.
func (s *stream) credit(n int) {
	s.owed += n
	if s.owed >= streamWindow/2 && !s.received && !s.lost {
		s.c.out = appendWindowUpdate(s.c.out, s.id, s.owed)
		s.recvWindow += s.owed
		s.owed = 0
		s.c.hurry()
	}
}

// BodyTrailers is Front's.
func (s *stream) BodyTrailers() *wire.Head {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.trailers
}

// sendHead sends a head or trailers whose block encode appends. mu is held.
func (s *stream) sendHead(h *wire.Head, encode func(b []byte, h *wire.Head) []byte, end bool) error {
	if err := s.room(); err != nil {
		return err
	}
	s.putHead(h, encode, end)
	return nil
}

// putHead puts a head into out. mu is held all the time, so that the streams
// that a client opens are sent in order.
func (s *stream) putHead(h *wire.Head, encode func(b []byte, h *wire.Head) []byte, end bool) {
	c := s.c
	at := len(c.out)
	c.out = appendHeader(c.out, 0, typeHeaders, flagEndHeaders, s.id)
	if !c.began {
		c.began = true
		c.out = append(c.out, noTable)
	}
	c.out = encode(c.out, h)
	c.split(at, s.id)
	s.lastTurn, s.lastFlags = c.turn, at+4
	if c.client {
		s.lastFlags = 0 // a call of gRPC must not end with its head
	}
	if end {
		c.out[at+4] |= flagEndStream
		s.ended = true
	}
}

// split completes the HEADERS frame that began at at, and moves what it cannot
// hold to CONTINUATION frames.
func (c *conn) split(at int, id uint32) {
	n := len(c.out) - at - headerSize
	putLength(c.out[at:], min(n, c.peerFrame))
	if n <= c.peerFrame {
		return
	}
	rest := append([]byte(nil), c.out[at+headerSize+c.peerFrame:]...)
	c.out = c.out[:at+headerSize+c.peerFrame]
	c.out[at+4] &^= flagEndHeaders
	for len(rest) > 0 {
		n := min(len(rest), c.peerFrame)
		flags := byte(0)
		if n == len(rest) {
			flags = flagEndHeaders
		}
		c.out = append(appendHeader(c.out, n, typeContinuation, flags, id), rest[:n]...)
		rest = rest[n:]
	}
}

func putLength(b []byte, n int) { b[0], b[1], b[2] = byte(n>>16), byte(n>>8), byte(n) }

// room waits until there is room in out. mu is held.
func (s *stream) room() error {
	c := s.c
	for {
		switch {
		case s.lost || c.err != nil:
			return s.whyLost()
		case s.ended:
			return errReset
		case len(c.out) < sendFull:
			return nil
		case !c.sending:
			c.send()
			continue
		}
		c.waiting = append(c.waiting, s)
		if !s.wait(s.writeBy, &s.writeClock) {
			return errTime
		}
	}
}

// Write is Front's.
func (s *stream) Write(p []byte) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(p) > 0 {
		if err := s.room(); err != nil {
			return err
		}
		n := min(len(p), c.peerFrame, s.sendWindow, c.sendWindow)
		if n <= 0 {
			if err := s.stall(); err != nil {
				return err
			}
			continue
		}
		s.stalled = time.Time{}
		at := len(c.out)
		c.out = append(appendHeader(c.out, n, typeData, 0, s.id), p[:n]...)
		s.lastTurn, s.lastFlags = c.turn, at+4
		s.sendWindow -= n
		c.sendWindow -= n
		p = p[n:]
		c.guard.good(6) // a PING to measure the path by, and updates of two windows
		if len(c.out) >= sendSoon {
			c.send()
		}
	}
	return nil
}

// stall waits for the peer to open a window. mu is held.
func (s *stream) stall() error {
	c := s.c
	if len(c.out) > 0 && !c.sending {
		c.send()
		return nil // and look again
	}
	if s.stalled.IsZero() {
		s.stalled = time.Now()
	}
	if s.sendWindow > 0 {
		c.waiting = append(c.waiting, s)
	}
	if !s.wait(s.writeBy, &s.writeClock) {
		return errTime
	}
	return nil
}

// Flush is Front's.
func (s *stream) Flush() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.send()
	if s.lost {
		return s.whyLost()
	}
	return nil
}

// End is Front's. Where the last frame of the stream was not sent yet, its
// flags tell that it is the last.
func (s *stream) End(trailers *wire.Head) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.lost {
		return s.whyLost()
	}
	if !s.ended {
		switch {
		case trailers != nil && len(trailers.Fields) > 0:
			if err := s.sendHead(trailers, appendFields, true); err != nil {
				return err
			}
		case s.lastTurn == c.turn && s.lastFlags > 0:
			c.out[s.lastFlags] |= flagEndStream
		default:
			c.out = appendHeader(c.out, 0, typeData, flagEndStream, s.id)
		}
		s.ended = true
	}
	c.send()
	return nil
}

// breakOff resets a stream that this end cannot or need not complete. mu is
// held.
func (s *stream) breakOff(code Code) {
	if s.lost {
		return
	}
	s.lost, s.resetHere, s.code = true, true, code
	s.c.out = appendReset(s.c.out, s.id, code)
	s.c.hurry()
	s.cond.Broadcast()
}
