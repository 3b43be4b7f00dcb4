package l7

import (
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"meridian/edge/l7/wire"
)

// maxAnswerHead bounds the head of an endpoint's answer, in octets.
const maxAnswerHead = 256 << 10

var answerLimit = wire.Limit{Octets: maxAnswerHead, Line: wire.MaxLine, Fields: 2 * wire.MaxFields}

// link is a connection to an endpoint that speaks HTTP/1.1. It is used by one
// exchange at a time; no goroutine watches it when it is idle.
type link struct {
	net.Conn // tcp, or TLS on it
	tcp      *net.TCPConn
	raw      syscall.RawConn
	u        *upstream
	name     string // that it was verified for
	since    moment // that it is idle
	glance   func(fd uintptr)
	turn     func(fd uintptr) bool
	leave    func() // its place among the endpoint's connections
	seen     int
	rested   bool // it was idle, and has not been looked at since
	asked    bool

	x       *exchange
	shard   int
	in      *buffer
	readAt  moment // the deadline of reads
	writing arm
	chunks  wire.Chunks
	framing framing
	left    int64 // octets of the body
	spoke   bool  // something of an answer has come
	closing bool  // the endpoint closes after the answer
	failed  bool
	stopped atomic.Bool // it must not be used again
	out     [64]byte    // sizes of chunks
	r       reader
	w       writer
}

// framing is how an answer's body ends.
type framing uint8

const (
	noHead framing = iota // the head has not come
	byLength
	byChunks
	byClose
	complete
)

func newLink(u *upstream, tcp *net.TCPConn, name string) *link {
	l := &link{Conn: tcp, tcp: tcp, u: u, name: name}
	l.raw, _ = tcp.SyscallConn() // which fails of no *net.TCPConn but a nil one
	l.r.begin(l.raw)
	l.w.begin(l.raw)
	l.glance = func(fd uintptr) { l.seen = peek(int(fd)) }
	l.turn = l.tryAsk
	return l
}

// alive says whether an idle connection may be used: the endpoint has neither
// closed it nor said anything without being asked. At a plain one ask looks.
func (l *link) alive() bool {
	if l.bare() != nil {
		l.rested = true
		return true
	}
	return l.raw.Control(l.glance) == nil && l.seen == 0
}

// Close closes the connection, which counts no more.
func (l *link) Close() error {
	if l.leave != nil {
		defer l.leave()
	}
	return l.Conn.Close()
}

func (l *link) begin(x *exchange) {
	l.x, l.shard = x, x.sess.shard(len(l.u.shards))
	l.framing, l.left, l.spoke, l.closing, l.failed = noHead, 0, false, false, false
	l.writing.set(x.g.time(x.writeEnd()), l.Conn.SetWriteDeadline)
}

// stop implements stopper. It may be called by any goroutine as long as the
// exchange has not released the link.
func (l *link) stop() {
	l.stopped.Store(true)
	l.tcp.SetDeadline(past)
}

func (l *link) send(head, body []byte) error {
	if l.rested {
		l.rested = false
		return l.ask(head, body)
	}
	if len(body) == 0 {
		return l.write1(head)
	}
	return l.writeParts(head, body, nil)
}

func (l *link) write1(p []byte) error {
	if l.Conn == net.Conn(l.tcp) {
		return l.fail(l.w.write(p, nil, nil))
	}
	_, err := l.Conn.Write(p)
	return l.fail(err)
}

// writeParts sends what belongs together in one system call, or in one record
// of TLS where it is small.
func (l *link) writeParts(a, b, c []byte) error {
	if l.Conn != net.Conn(l.tcp) {
		t := takeBuffer()
		defer t.free()
		if len(a)+len(b)+len(c) <= len(t.data) {
			return l.write1(append(append(append(t.data[:0], a...), b...), c...))
		}
		for _, p := range [...][]byte{a, b, c} {
			if err := l.write1(p); err != nil {
				return err
			}
		}
		return nil
	}
	return l.fail(l.w.write(a, b, c))
}

func (l *link) fail(err error) error {
	if err != nil {
		l.failed = true
	}
	return err
}

var crlf = []byte("\r\n")

func (l *link) write(p []byte) error {
	if l.x.h.Length >= 0 || l.x.h.Upgrade != nil || l.x.websock {
		return l.write1(p)
	}
	return l.writeParts(wire.AppendChunk(l.out[:0], len(p)), p, crlf)
}

func (l *link) endUpload(trailers *wire.Head) error {
	if l.x.h.Length >= 0 {
		return nil
	}
	return l.write1(wire.AppendLast(nil, trailers))
}

// fill reads more of the answer. It looks up from time to time: at the clock,
// and whether the client is still there.
func (l *link) fill() error {
	if l.in == nil {
		l.in = takeBuffer()
	}
	if err := l.x.waiting(); err != nil {
		return err
	}
	// The endpoint needs a moment; who has something to do may go first. Else the
	// first read is mostly in vain.
	runtime.Gosched()
	for {
		l.arm()
		n, err := l.receive(l.in.data[l.in.w:])
		if l.in.w += n; n > 0 {
			l.spoke = true
			return nil
		}
		if err == nil {
			continue
		}
		if err := l.woken(err); err != nil {
			return err
		}
	}
}

func (l *link) receive(p []byte) (int, error) {
	if l.Conn == net.Conn(l.tcp) {
		return l.r.read(p)
	}
	return l.Conn.Read(p)
}

func (l *link) head(h *wire.Head) error {
	h.Reset()
	for {
		if l.in != nil && l.in.r < l.in.w {
			n, fault := wire.ParseAnswer(l.in.rest(), h, octets(l.method()), answerLimit)
			if fault != wire.NoFault {
				return l.fail(fault)
			}
			if n > 0 {
				l.in.r += n
				l.frame(h)
				return nil
			}
			if !l.in.room(maxAnswerHead + 1) {
				return l.fail(wire.TooLarge)
			}
		}
		if err := l.fill(); err != nil {
			return err
		}
	}
}

func (l *link) method() string {
	if l.x.websock {
		return "GET"
	}
	return l.x.method
}

// frame notes how the answer's body ends.
func (l *link) frame(h *wire.Head) {
	switch {
	case h.Status < 200:
		return
	case h.Chunked:
		l.framing = byChunks
		l.chunks.Reset()
	case h.Length < 0:
		l.framing = byClose
	case h.Length == 0:
		l.framing = complete
	default:
		l.framing, l.left = byLength, h.Length
	}
	l.closing = h.Close
}

func (l *link) piece() ([]byte, error) {
	for {
		switch l.framing {
		case complete:
			return nil, io.EOF
		case byChunks:
			data, n, fault := l.chunks.Next(l.in.rest())
			l.in.r += n
			switch {
			case fault != wire.NoFault:
				return nil, l.fail(fault)
			case l.chunks.Ended():
				l.framing = complete
				return nil, io.EOF
			case len(data) > 0:
				return data, nil
			case !l.in.room(stageLimit):
				return nil, l.fail(wire.BadChunk)
			}
		default:
			if data := l.take(); len(data) > 0 {
				return data, nil
			}
			l.in.room(bufferSize)
		}
		if err := l.fill(); err != nil {
			if err == io.EOF && l.framing == byClose {
				l.framing, l.failed = complete, false
				return nil, io.EOF
			}
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// take gives what is here of a body that is not in chunks.
func (l *link) take() []byte {
	data := l.in.rest()
	if l.framing == byLength {
		data = data[:min(int64(len(data)), l.left)]
		if l.left -= int64(len(data)); l.left == 0 {
			l.framing = complete
		}
	}
	l.in.r += len(data)
	return data
}

func (l *link) trailers() *wire.Head {
	if len(l.chunks.Trailers.Fields) == 0 {
		return nil
	}
	return &l.chunks.Trailers
}

func (l *link) silent() bool { return !l.spoke }

// shortAnswer is how much of a body is read for the sake of its connection.
const shortAnswer = 4 << 10

func (l *link) discard() {
	if l.framing == byLength && l.left <= shortAnswer || l.framing == byChunks {
		for n := 0; n <= shortAnswer; {
			p, err := l.piece()
			if n += len(p); err != nil {
				return
			}
		}
	}
}

func (l *link) bare() *net.TCPConn {
	if l.Conn == net.Conn(l.tcp) {
		return l.tcp
	}
	return nil
}

func (l *link) release(whole bool) {
	sound := whole && l.framing == complete && !l.closing && !l.failed && !l.stopped.Load() && l.in.r == l.in.w
	x := l.x
	if l.in != nil {
		l.in.free()
		l.in = nil
	}
	l.x = nil
	switch {
	case !sound:
		l.Close()
	case l.u.proxy != 0:
		l.since = l.u.g.now()
		x.sess.keepLink(l)
	default:
		l.since = l.u.g.now()
		l.u.keep(l.shard, l)
	}
}

// The times at which an exchange that waits for an endpoint looks up.
const (
	glanceSoon  = 25 * time.Millisecond
	glanceFirst = 100 * time.Millisecond
	glanceLast  = time.Second
)

func (x *exchange) nextGlance() time.Duration { return min(glanceFirst<<x.glances, glanceLast) }

// until is when waiting for the endpoint ends or changes; 0 for never.
func (x *exchange) until() moment { return sooner(sooner(x.deadline, x.perTry), x.expect) }

// lookUp says why an exchange should wait no longer, if it should not.
func (x *exchange) lookUp() error {
	now := x.g.now()
	x.glances = min(x.glances+1, 8)
	switch {
	case x.body.failure() != nil:
		return x.body.failure()
	case x.abort.Gone():
		return errGone
	case x.deadline.passed(now):
		return errDeadline
	case x.perTry.passed(now):
		return errPerTry
	case x.expect.passed(now):
		x.goOn()
	case x.h1 != nil && x.bodyIsIn() && x.h1.cl.c.peek() < 0:
		return errGone
	case x.answered && x.f.Flush() != nil:
		return errGone
	}
	return nil
}
