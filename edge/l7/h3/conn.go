package h3

import (
	"context"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"meridian/edge/l7"
)

const (
	// glance is how often exchanges under way are looked at whose clients may
	// have gone.
	glance = 50 * time.Millisecond

	// credits are given back so many at a time, while the client has as many left:
	// each is a frame that would go out in a packet of its own.
	credits = 16

	// offences is how many requests a client may give up on, less those that it
	// saw through, before it is sent away (RFC 9114 section 10.5).
	offences = 200

	// Clients are told to leave, then given some round trips: for what they sent
	// before they knew, and for what they have not acknowledged yet.
	settleTrips, lingerTrips = 2, 8
	settleLeast, lingerLeast = 20 * time.Millisecond, 100 * time.Millisecond
	tripMost                 = time.Second

	noStream quic.StreamID = 1<<62 - 4 // the highest that a client may open
)

// conn is one client's connection.
type conn struct {
	s       *server
	q       *quic.Conn
	session l7.Session
	control *quic.SendStream
	tasks   sync.WaitGroup // all goroutines but that of serve
	work    chan *exchange // to a goroutine that waits for one: its stack has grown already; nil ends it

	mu       sync.Mutex // guards what follows
	active   []*exchange
	owed     []*quic.Stream // ended, their credit not given back
	next     quic.StreamID  // above all accepted ones
	limit    quic.StreamID  // those from here on are not served
	served   int            // requests
	offences int
	since    time.Time // without a request
	timer    *time.Timer
	glancing bool          // timer is set to glance
	leaving  bool          // and when the last exchange has gone,
	empty    chan struct{} // this is closed
	failed   bool
	uni      [4]bool                    // which of its streams the client has opened
	early    map[quic.StreamID]priority // of requests to come
}

func newConn(s *server, q *quic.Conn, session l7.Session) *conn {
	return &conn{s: s, q: q, session: session, limit: noStream, work: make(chan *exchange), empty: make(chan struct{})}
}

// serve runs the connection until it has ended and no exchange is left.
func (c *conn) serve() {
	defer c.tasks.Wait()
	if !c.open() {
		return
	}
	c.mu.Lock()
	c.since = time.Now()
	c.timer = time.AfterFunc(c.untilIdle(), c.tick)
	c.mu.Unlock()
	c.tasks.Go(c.leave)
	c.tasks.Go(c.acceptControl)
	for {
		s, err := c.q.AcceptStream(context.Background())
		if err != nil {
			break
		}
		c.begin(s)
	}
	c.mu.Lock()
	c.timer.Stop()
	c.failed = true
	close(c.work)
	for _, x := range c.active {
		x.abort.Fire()
	}
	c.mu.Unlock()
}

// open begins the control stream with our settings.
func (c *conn) open() bool {
	var err error
	if c.control, err = c.q.OpenUniStream(); err != nil {
		c.fail(errNoStreams) // RFC 9114 section 6.2: three streams of ours are the least
		return false
	}
	var payload []byte
	for _, v := range []uint64{settingMaxFieldSection, uint64(c.session.Limits().Header), settingConnect, 1} {
		payload = quicvarint.Append(payload, v)
	}
	b := quicvarint.Append(nil, streamControl)
	b = appendFrameHead(b, frameSettings, uint64(len(payload)))
	return c.say(append(b, payload...))
}

// say sends on the control stream, of which a client must take what little
// there is.
func (c *conn) say(b []byte) bool {
	if err := c.control.TryWriteAll(b); err != nil {
		c.fail(errNoStreams)
		return false
	}
	return true
}

// fail ends the connection for what its client did.
func (c *conn) fail(e *broken) {
	c.mu.Lock()
	again := c.failed
	c.failed = true
	c.mu.Unlock()
	if !again {
		c.session.Abuse(e.reason)
		_ = c.q.CloseWithError(e.code.conn(), e.reason)
	}
}

// begin serves a request, or refuses to in such a way that the client may ask
// another server (RFC 9114 section 4.1.1).
func (c *conn) begin(s *quic.Stream) {
	streams := c.session.Limits().Streams
	c.mu.Lock()
	id := s.StreamID()
	if id >= c.limit || len(c.active) >= streams {
		delete(c.early, id)
		c.mu.Unlock()
		s.CancelRead(requestRejected.stream())
		s.CancelWrite(requestRejected.stream())
		s.ReleaseStreamCredit()
		return
	}
	x := exchanges.Get().(*exchange)
	x.c, x.s, x.at = c, s, len(c.active)
	c.active = append(c.active, x)
	c.next = id + 4
	c.applyEarly(x)
	c.served++
	if !c.glancing {
		c.glancing = true
		c.timer.Reset(glance)
	}
	c.mu.Unlock()
	select {
	case c.work <- x:
	default:
		c.tasks.Go(func() { c.run(x) })
	}
}

// run serves one exchange after another.
func (c *conn) run(x *exchange) {
	for x != nil {
		x.run()
		x = <-c.work
	}
}

// rest ends the goroutines that wait for work.
func (c *conn) rest() {
	for {
		select {
		case c.work <- nil:
		default:
			return
		}
	}
}

// finish takes an exchange away that has ended.
func (c *conn) finish(x *exchange) {
	c.mu.Lock()
	last := len(c.active) - 1
	c.active[x.at] = c.active[last]
	c.active[x.at].at = x.at
	c.active[last] = nil
	c.active = c.active[:last]
	if x.reset || x.abort.Gone() {
		c.offences++
	} else if c.offences > 0 {
		c.offences--
	}
	tooMany := c.offences > offences
	var give []*quic.Stream
	c.owed = append(c.owed, x.s)
	if used := len(c.owed) + len(c.active); len(c.owed) >= credits || int64(used+credits) > c.s.quic.MaxIncomingStreams {
		give, c.owed = c.owed, nil
	}
	if last == 0 {
		c.since = time.Now()
		if c.leaving {
			close(c.empty)
			c.leaving = false
		}
	}
	c.mu.Unlock()
	release(give)
	if tooMany {
		c.fail(errResets)
	}
	x.release()
}

func release(streams []*quic.Stream) {
	for _, s := range streams {
		s.ReleaseStreamCredit()
	}
}

// tick looks for clients that gave up, and ends a connection that has had no
// request for too long.
func (c *conn) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed {
		return
	}
	for _, x := range c.active {
		if x.s.Context().Err() != nil {
			x.abort.Fire()
		}
	}
	if len(c.active) > 0 {
		c.timer.Reset(glance)
		return
	}
	release(c.owed)
	c.owed = nil
	c.glancing = false
	c.rest()
	if left := c.untilIdle(); left > 0 {
		c.timer.Reset(left)
		return
	}
	c.failed = true
	_ = c.q.CloseWithError(noError.conn(), "idle")
}

// lookAgain is how long a connection without requests is left alone: what limits
// it may change.
const lookAgain = time.Minute

// untilIdle is how long to wait with the next look; 0: the connection has had no
// request for too long. mu is held.
func (c *conn) untilIdle() time.Duration {
	idle := c.session.Limits().Idle
	if idle == 0 {
		return lookAgain
	}
	return max(0, min(lookAgain, idle-time.Since(c.since)))
}

// leave ends the connection in good order, once that is wanted (RFC 9114
// section 5.2): what the client sends before it knows is served.
func (c *conn) leave() {
	select {
	case <-c.q.Context().Done():
		return
	case <-c.session.Leaving():
		c.awaitFirst()
	case <-c.s.leaving:
	}
	if !c.goaway(noStream) || !c.pause(settleTrips, settleLeast) {
		return
	}
	c.mu.Lock()
	c.limit = c.next
	if c.leaving = len(c.active) > 0; !c.leaving {
		close(c.empty)
	}
	c.mu.Unlock()
	if !c.goaway(c.limit) {
		return
	}
	select {
	case <-c.q.Context().Done():
		return
	case <-c.empty:
	}
	if c.pause(lingerTrips, lingerLeast) {
		_ = c.q.CloseWithError(noError.conn(), "")
	}
}

// firstRequest is how long a client that has asked for nothing yet may take to,
// before it hears that the gateway leaves: some take that for a failure.
const firstRequest = time.Second

func (c *conn) awaitFirst() {
	end := time.NewTimer(firstRequest)
	defer end.Stop()
	look := time.NewTicker(firstRequest / 100)
	defer look.Stop()
	for {
		c.mu.Lock()
		asked := c.next > 0
		c.mu.Unlock()
		if asked {
			return
		}
		select {
		case <-look.C:
		case <-end.C:
			return
		case <-c.s.leaving:
			return
		case <-c.q.Context().Done():
			return
		}
	}
}

// pause waits for some round trips. false: the connection has ended.
func (c *conn) pause(trips int, least time.Duration) bool {
	wait := max(least, min(tripMost, time.Duration(trips)*c.q.ConnectionStats().SmoothedRTT))
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.q.Context().Done():
		return false
	}
}

// goaway says that no request from that stream on will be served.
func (c *conn) goaway(from quic.StreamID) bool {
	b := appendFrameHead(nil, frameGoaway, uint64(quicvarint.Len(uint64(from))))
	return c.say(quicvarint.Append(b, uint64(from)))
}
