package h2

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
)

// answerLimit is how large an endpoint's head may be, in octets as RFC 9113
// section 10.5.1 counts.
const answerLimit = 256 << 10

// idleLink is how long a connection without requests stays.
const idleLink = time.Minute

// Upstream is one endpoint's connections: l7.Mux. It has as many as the
// requests under way need, by what the endpoint allows on each.
type Upstream struct {
	mem    memory
	dial   func(ctx context.Context) (net.Conn, error)
	secure bool
	tasks  sync.WaitGroup

	allowed atomic.Int32 // streams that the endpoint allows, once that is known

	mu      sync.Mutex
	links   []*link
	dialing chan struct{} // closed when the dial under way has ended; nil: there is none
	failed  error         // how the last dial ended
	retired bool
	closed  bool
}

// NewUpstream is an l7.MuxMaker.
func NewUpstream(dial func(ctx context.Context) (net.Conn, error), secure bool) l7.Mux {
	return &Upstream{dial: dial, secure: secure}
}

// link is one connection to an endpoint.
type link struct {
	*conn
	up      *Upstream
	limit   atomic.Int32  // streams that the endpoint allows
	tunnels atomic.Bool   // it takes extended CONNECT (RFC 8441 section 3)
	known   chan struct{} // closed when its first settings have come
	going   atomic.Bool   // no new streams: GOAWAY, or the end
	inUse   int           // guarded by up.mu
	scratch wire.Head     // the reader's
}

// Open implements l7.Mux.
func (u *Upstream) Open(ctx context.Context, by time.Time, h *wire.Head, end bool) (l7.Call, error) {
	for range 3 {
		l, err := u.take(ctx, by)
		if err != nil {
			return nil, err
		}
		var s *stream
		if h.Protocol != nil {
			err = l.takesTunnels(ctx, by)
		}
		if err == nil {
			s, err = l.begin(h, end)
		}
		if err == nil {
			return (*call)(s), nil
		}
		u.put(l)
		if err != l7.ErrRefused {
			return nil, err
		}
	}
	return nil, l7.ErrRefused
}

// take reserves a stream on a connection.
func (u *Upstream) take(ctx context.Context, by time.Time) (*link, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if l := u.free(); l != nil {
		return l, nil
	}
	if !by.IsZero() {
		c, cancel := context.WithDeadline(ctx, by)
		defer cancel()
		ctx = c
	}
	for {
		if l := u.free(); l != nil {
			return l, nil
		}
		switch {
		case u.closed:
			return nil, net.ErrClosed
		case u.dialing == nil:
			if err := u.connect(ctx); err != nil {
				return nil, err
			}
			continue
		}
		wait := u.dialing
		u.mu.Unlock()
		var err error
		select {
		case <-wait:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		u.mu.Lock()
		if err == nil && u.dialing == nil && u.failed != nil {
			err = u.failed // theirs was ours
		}
		if err != nil {
			return nil, err
		}
	}
}

// free gives a connection with room for one more stream, nil where there is
// none. mu is held.
func (u *Upstream) free() *link {
	for _, l := range u.links {
		if l.inUse < int(l.limit.Load()) && !l.going.Load() {
			l.inUse++
			return l
		}
	}
	return nil
}

// connect makes a connection. mu is held, but not while it dials.
func (u *Upstream) connect(ctx context.Context) error {
	done := make(chan struct{})
	u.dialing = done
	u.mu.Unlock()
	nc, err := u.dial(ctx)
	u.mu.Lock()
	u.dialing, u.failed = nil, err
	if err != nil && ctx.Err() != nil {
		u.failed = nil // the end of this request, and of no other
	}
	close(done)
	if err != nil {
		return err
	}
	if u.closed {
		nc.Close()
		return net.ErrClosed
	}
	l := &link{conn: newConn(nc, &u.mem, true), up: u, known: make(chan struct{})}
	l.side = l
	l.limit.Store(defaultStreams)
	if known := u.allowed.Load(); known > 0 {
		l.limit.Store(known) // what the endpoint allowed on another connection
	}
	l.listLimit, l.blockLimit = answerLimit, answerLimit+frameSize
	l.out = append(l.out, preface...)
	l.out = appendSettings(l.out, setting{setPush, 0}, setting{setWindow, streamWindow}, setting{setListSize, answerLimit})
	l.out = appendWindowUpdate(l.out, 0, connWindow-defaultWindow)
	u.links = append(u.links, l)
	u.tasks.Go(l.run)
	return nil
}

// takesTunnels waits for the endpoint's word on extended CONNECT, which must not
// be sent without it.
func (l *link) takesTunnels(ctx context.Context, by time.Time) error {
	if !by.IsZero() {
		c, cancel := context.WithDeadline(ctx, by)
		defer cancel()
		ctx = c
	}
	select {
	case <-l.known:
	case <-l.done:
		return l7.ErrRefused
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if !l.tunnels.Load() {
		return l7.ErrNoWebSocket
	}
	return nil
}

// put gives a reserved stream back.
func (u *Upstream) put(l *link) {
	u.mu.Lock()
	l.inUse--
	last := l.inUse == 0 && (u.retired || l.going.Load())
	u.mu.Unlock()
	if last {
		l.retire()
	}
}

// Retire implements l7.Mux.
func (u *Upstream) Retire() bool {
	u.mu.Lock()
	u.retired = true
	var idle []*link
	for _, l := range u.links {
		if l.inUse == 0 {
			idle = append(idle, l)
		}
	}
	gone := len(u.links) == 0
	u.mu.Unlock()
	for _, l := range idle {
		l.retire()
	}
	return gone
}

// Close implements l7.Mux.
func (u *Upstream) Close() {
	u.mu.Lock()
	u.closed = true
	links := slices.Clone(u.links)
	u.mu.Unlock()
	for _, l := range links {
		l.retire()
	}
	u.tasks.Wait()
}

// retire ends a connection.
func (l *link) retire() {
	l.going.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail(errLeft)
}

// run serves a connection to its end.
func (l *link) run() {
	var keeper sync.WaitGroup
	keeper.Go(l.keep)
	l.hurryNow()
	err := l.read()
	l.going.Store(true)
	l.end(err)
	close(l.done)
	l.up.mu.Lock()
	l.up.links = slices.DeleteFunc(l.up.links, func(x *link) bool { return x == l })
	l.up.mu.Unlock()
	code := NoError
	if f, ok := err.(*fault); ok {
		code = f.code
	}
	l.lastWords(appendGoAway(nil, 0, code))
	l.net.Close()
	keeper.Wait()
}

// keep is the keeper of a connection to an endpoint.
func (l *link) keep() {
	timer := time.NewTimer(longTick)
	defer timer.Stop()
	now := time.Now()
	w := watch{active: now, asked: now, requested: now}
	for {
		select {
		case <-l.done:
			return
		case <-l.kick:
		case <-timer.C:
			l.look(&w)
			timer.Reset(longTick)
		}
		l.mu.Lock()
		l.send()
		l.mu.Unlock()
	}
}

// look finds an endpoint that has gone without a word, and a connection that
// nobody needs.
func (l *link) look(w *watch) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.activity != w.activity {
		w.activity, w.active = l.activity, now
	}
	if len(l.streams) > 0 || l.newest != w.newest {
		w.newest, w.requested = l.newest, now
	}
	if len(l.streams) == 0 {
		l.shrink()
	}
	quiet := now.Sub(w.active)
	switch {
	case l.pingSent && quiet >= quietLimit+pingLimit && now.Sub(w.asked) >= pingLimit:
		l.fail(errDead)
	case len(l.streams) > 0 && !l.pingSent && quiet >= quietLimit:
		l.out = appendPing(l.out, 0, [8]byte{'a', 'l', 'i', 'v', 'e'})
		l.pingSent, w.asked = true, now
	case now.Sub(w.requested) >= idleLink:
		l.going.Store(true)
		if len(l.streams) == 0 {
			l.fail(errLeft)
		}
	}
}

// begin sends a request's head on a new stream.
func (l *link) begin(h *wire.Head, end bool) (*stream, error) {
	s, _ := l.mem.streams.Get().(*stream)
	if s == nil {
		s = new(stream)
	}
	s.link, s.bare = l, h.Is("HEAD")
	s.c, s.cond.L = l.conn, &l.mu
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := s.room(); err != nil || l.going.Load() || l.newest >= largestWindow-2 {
		l.going.Store(true)
		return nil, l7.ErrRefused // nothing was sent
	}
	if l.newest == 0 {
		l.newest = 1
	} else {
		l.newest += 2
	}
	s.open(l.conn, l.newest)
	encode := appendPlain
	if l.up.secure {
		encode = appendSecure
	}
	s.putHead(h, encode, end)
	if end {
		l.send()
	}
	return s, nil
}

// head takes an answer's head, or trailers.
func (l *link) head(f *frame) error {
	l.mu.Lock()
	if l.idle(f.stream) {
		l.mu.Unlock()
		return broken(ProtocolError, "stream_id")
	}
	s := l.streams[f.stream]
	late := s != nil && s.answered
	bare := s != nil && s.bare
	l.mu.Unlock()
	switch {
	case s == nil:
		_, err := l.decode(f.payload, nil, 0)
		return err
	case late:
		return l.trailing(f, s)
	}
	h := &l.scratch
	h.Reset()
	bad, err := l.decodeAnswer(f, h, bare)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.streams[f.stream] != s || s.lost: // its call has ended meanwhile, and s may be another's already
		return nil
	case bad != wire.NoFault:
		s.malformed = bad
		return l.resetStream(s, ProtocolError)
	case h.Status < 200:
		if len(s.interim) < 8 {
			s.interim = append(s.interim, l.scratch)
			l.scratch = wire.Head{}
		}
	default:
		s.final, l.scratch = l.scratch, s.final
		s.answered, s.want = true, s.final.Length
		s.received = f.has(flagEndStream)
		if bare {
			s.want = 0
		}
	}
	s.cond.Broadcast()
	return nil
}

// decodeAnswer decodes an answer's head and settles it.
func (c *conn) decodeAnswer(f *frame, h *wire.Head, bare bool) (wire.Fault, error) {
	h.Version = wire.HTTP2
	bad, err := c.decode(f.payload, h, ofAnswers)
	if err != nil || bad != wire.NoFault {
		return bad, err
	}
	method := ""
	if bare {
		method = "HEAD"
	}
	if bad := h.Answer([]byte(method)); bad != wire.NoFault {
		return bad, nil
	}
	if f.has(flagEndStream) {
		if h.Length > 0 || h.Status < 200 {
			return wire.BadLength, nil
		}
		h.Length = 0
	}
	return wire.NoFault, nil
}

// settled is side's.
func (l *link) settled(s setting) {
	switch s.id {
	case setStreams:
		n := int32(min(s.value, 1<<20))
		l.limit.Store(n)
		l.up.allowed.Store(n)
	case setConnect:
		l.tunnels.Store(s.value == 1)
	}
}

// greeted is side's.
func (l *link) greeted() { close(l.known) }

// goneAway is side's: the endpoint acts on no stream above last (RFC 9113
// section 6.8).
func (l *link) goneAway(last uint32, _ Code) {
	l.going.Store(true)
	for id, s := range l.streams {
		if id > last {
			s.lost, s.code = true, RefusedStream
			s.cond.Broadcast()
		}
	}
	if len(l.streams) == 0 {
		l.fail(errLeft)
	}
}

// drained is side's.
func (l *link) drained() {}

// gone is side's: exchanges with endpoints wait at the stream itself.
func (l *link) gone(*stream) {}
