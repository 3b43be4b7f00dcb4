package h2

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Sizes of a connection's memory, in octets.
const (
	streamWindow = 256 << 10 // what a peer may send on a stream before it is read
	connWindow   = 2 << 20   // and on all of them
	smallRead    = 4 << 10   // read buffer of a quiet connection
	largeRead    = 36 << 10  // and of one with large frames
	sendSoon     = 32 << 10  // what a stream leaves in the buffer before it sends
	sendFull     = 64 << 10  // where streams wait for the buffer to be sent
	sendHeap     = 512 << 10 // answers to a peer that reads none
	idleBuffer   = 64 << 10  // the largest buffer that is kept for the next use
)

// writeLimit is how long one write may take: the peer takes nothing any more.
const writeLimit = 30 * time.Second

// errEnded says that the connection has ended.
var errEnded = errors.New("http2: the connection has ended")

// side is what servers and clients of HTTP/2 do differently.
type side interface {
	// head takes a complete header block; the reader calls it.
	head(f *frame) error
	// drained says that all that was read has been taken.
	drained()
	// settled takes a setting that only one side heeds, with mu held.
	settled(s setting)
	// greeted says that the peer's first settings have been taken, with mu held.
	greeted()
	// goneAway takes a peer's GOAWAY, with mu held.
	goneAway(last uint32, code Code)
	// gone says that the stream has ended before its exchange did, by the peer
	// or with the connection; mu is not held.
	gone(s *stream)
}

// conn is one connection of either side.
type conn struct {
	net    net.Conn
	side   side
	mem    *memory
	client bool

	// The reader's.
	in         []byte
	r, w       int   // unread octets of in
	frame      frame // the one at hand
	decoder    decoder
	block      []byte // header block that CONTINUATION goes on with
	open       frame  // its HEADERS; stream 0: there is none
	blockLimit int    // octets of a block
	fields     int    // frames of the block
	listLimit  int    // octets of a decoded head
	guard      guard
	settings   bool   // the peer's first SETTINGS have come
	progress   uint64 // as shown

	kick chan struct{} // wakes the keeper to send
	done chan struct{} // closed when the reader is through

	mu       sync.Mutex // guards all below
	streams  map[uint32]*stream
	closed   [64]closedStream // the last that ended
	closedAt int
	newest   uint32 // largest id that the peer has opened (server) or that was opened (client)

	out      []byte // to be sent
	spare    []byte // the buffer that is not out
	turn     uint64 // changes when out is taken to be sent
	sending  bool
	urgent   bool      // out holds what the peer may wait for
	deadline time.Time // of writes
	sent     uint64    // writes done
	waiting  []*stream // for the connection's window, or for room in out

	sendWindow   int // of the connection
	firstWindow  int // of new streams
	peerFrame    int
	recvWindow   int // what the peer may still send
	owed         int // octets read that the peer was not told of
	err          error
	began        bool // a block was sent
	settingsAck  bool // the peer has taken our settings
	pingSent     bool
	pingAnswered bool

	activity uint64    // reads
	shown    uint64    // frames, but for those of a block that has not ended
	mid      bool      // a frame, a block or the preface has begun and not ended
	free     sync.Cond // of mu: sending has become false
}

// closedStream remembers a stream that ended.
type closedStream struct {
	id     uint32
	broken bool // by this end, which must bear what was under way to it
}

func newConn(nc net.Conn, mem *memory, client bool) *conn {
	c := &conn{
		net: nc, mem: mem, client: client, decoder: newDecoder(),
		in: make([]byte, smallRead), kick: make(chan struct{}, 1), done: make(chan struct{}),
		streams: map[uint32]*stream{}, sendWindow: defaultWindow, firstWindow: defaultWindow, peerFrame: frameSize,
		recvWindow: connWindow,
	}
	c.free.L = &c.mu
	return c
}

// read reads frames until the connection ends, and says why.
func (c *conn) read() error {
	for {
		ok, err := c.next()
		if err != nil {
			return err
		}
		if ok {
			if err := c.take(&c.frame); err != nil {
				return err
			}
			if c.open.stream == 0 {
				c.progress++
			}
			continue
		}
		c.side.drained()
		c.sendUrgent()
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// next cuts one frame from what was read.
func (c *conn) next() (ok bool, err error) {
	b := c.in[c.r:c.w]
	if len(b) < headerSize {
		return false, nil
	}
	n := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	if n > frameSize {
		return false, broken(FrameSizeError, "frame_size")
	}
	if len(b) < headerSize+n {
		return false, nil
	}
	c.frame = frame{kind: b[3], flags: b[4], stream: binary.BigEndian.Uint32(b[5:]) & largestWindow, payload: b[headerSize : headerSize+n : headerSize+n]}
	c.r += headerSize + n
	return true, nil
}

// fill reads more. A connection without streams has a small buffer.
func (c *conn) fill() error {
	left := c.w - c.r
	switch {
	case left == 0:
		c.r, c.w = 0, 0
		if len(c.in) > smallRead && c.quiet() {
			c.in = make([]byte, smallRead)
		}
	case c.r > 0:
		copy(c.in, c.in[c.r:c.w])
		c.r, c.w = 0, left
	}
	if c.w == len(c.in) {
		large := make([]byte, largeRead)
		copy(large, c.in[:c.w])
		c.in = large
	}
	c.mu.Lock()
	c.activity++
	c.shown, c.mid = c.progress, left > 0 || c.open.stream != 0 || !c.settings
	c.mu.Unlock()
	n, err := c.net.Read(c.in[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

func (c *conn) quiet() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams) == 0
}

// sendUrgent has the keeper send what the peer waits for; the reader must not
// wait for the peer.
func (c *conn) sendUrgent() {
	c.mu.Lock()
	if c.urgent && !c.sending {
		c.wakeKeeper()
	}
	c.mu.Unlock()
}

// send sends what is in out, unless another goroutine is at it. The first write
// is the caller's; what streams have added by then is left to the keeper. mu is
// held, but not during the write.
func (c *conn) send() {
	if c.sending || len(c.out) == 0 || c.err != nil {
		return
	}
	c.sending = true
	// Answers that are ready at the same time share one write.
	c.mu.Unlock()
	runtime.Gosched()
	c.mu.Lock()
	c.writeOut()
	c.sending = false
	c.free.Broadcast()
	if len(c.out) > 0 {
		c.wakeKeeper()
	}
}

func (c *conn) wakeKeeper() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// writeOut writes what is in out, with mu held but during the write.
func (c *conn) writeOut() {
	if len(c.out) == 0 || c.err != nil {
		return
	}
	buf := c.out
	c.out, c.spare = c.spare[:0], nil
	c.turn++
	c.urgent = false
	now := time.Now()
	renew := c.deadline.Sub(now) < writeLimit*2/3
	if renew {
		c.deadline = now.Add(writeLimit)
	}
	c.mu.Unlock()
	if renew {
		c.net.SetWriteDeadline(now.Add(writeLimit))
	}
	_, err := c.net.Write(buf)
	c.mu.Lock()
	c.sent++
	if cap(buf) <= idleBuffer*2 {
		c.spare = buf[:0]
	}
	if err != nil {
		c.fail(err)
	}
	c.wakeWaiting()
}

// wakeWaiting wakes the streams that wait for the connection.
func (c *conn) wakeWaiting() {
	for i, s := range c.waiting {
		s.cond.Broadcast()
		c.waiting[i] = nil
	}
	c.waiting = c.waiting[:0]
}

// fail ends the connection for its streams; an answer that has come as a whole
// stays one. The reader finds the socket closed. mu is held.
func (c *conn) fail(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	c.wakeWaiting()
	for _, s := range c.streams {
		if c.client && s.received {
			s.ended = true // nothing more of the request can be sent
		} else {
			s.lost = true
		}
		s.cond.Broadcast()
	}
	c.net.SetReadDeadline(time.Unix(1, 0))
}

// end tells every stream's exchange that the connection is gone.
func (c *conn) end(err error) {
	c.mu.Lock()
	c.fail(err)
	left := make([]*stream, 0, len(c.streams))
	for _, s := range c.streams {
		s.kept = true
		left = append(left, s)
	}
	c.mu.Unlock()
	for _, s := range left {
		c.side.gone(s)
	}
}

// forget takes a stream that has ended from the table. mu is held.
func (c *conn) forget(s *stream, brokenHere bool) {
	delete(c.streams, s.id)
	c.closed[c.closedAt] = closedStream{s.id, brokenHere}
	c.closedAt = (c.closedAt + 1) % len(c.closed)
}

// wasClosed finds a stream among those that ended lately. mu is held.
func (c *conn) wasClosed(id uint32) (found, brokenHere bool) {
	i := slices.IndexFunc(c.closed[:], func(s closedStream) bool { return s.id == id })
	return i >= 0, i >= 0 && c.closed[i].broken
}

// idle says whether nobody has opened the stream yet: nobody pushes, so even
// ids are never in use. mu is held.
func (c *conn) idle(id uint32) bool { return id%2 == 0 || id > c.newest }

// repay notes octets that were read, and tells the peer when they are many.
// mu is held.
func (c *conn) repay(n int) {
	c.owed += n
	if c.owed >= connWindow/2 && c.err == nil {
		c.out = appendWindowUpdate(c.out, 0, c.owed)
		c.recvWindow += c.owed
		c.owed = 0
		c.hurry()
	}
}

// shrink gives back the buffers of a connection that has no streams. mu is held.
func (c *conn) shrink() {
	if len(c.out) == 0 && !c.sending {
		c.out, c.spare = nil, nil
	}
}

// hurry has what was put into out sent soon. mu is held.
func (c *conn) hurry() {
	c.urgent = true
	if !c.sending {
		c.wakeKeeper()
	}
}
