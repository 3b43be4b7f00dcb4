package h2

import (
	"net"
	"sync"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
)

// Carrier carries HTTP/2 from clients. It is safe for concurrent use.
type Carrier struct{ mem memory }

// New makes a Carrier.
func New() *Carrier { return &Carrier{} }

// served is what a server's stream has of its own.
type served struct {
	request wire.Head
	abort   l7.Abort
	fault   wire.Fault
}

// server is a client's connection.
type server struct {
	*conn
	session l7.Session
	work    chan *stream   // to workers that wait
	begun   []*stream      // the reader's: see begin
	workers sync.WaitGroup // and the keeper

	// Guarded by mu.
	running int    // exchanges
	resting int    // workers that wait
	leaving stage  // how far the farewell has come
	last    uint32 // largest id that is served, once leaving is final
	stalls  int    // streams cut for a window that did not open
}

// Carry is l7.Carrier's: it serves one connection to its end.
func (k *Carrier) Carry(nc net.Conn, session l7.Session) {
	s := &server{conn: newConn(nc, &k.mem, false), session: session, work: make(chan *stream)}
	s.side = s
	limits := session.Limits()
	s.limit(limits)
	s.out = appendSettings(s.out,
		setting{setStreams, uint32(limits.Streams)},
		setting{setWindow, streamWindow},
		setting{setListSize, uint32(limits.Header)},
		setting{setConnect, 1})
	s.out = appendWindowUpdate(s.out, 0, connWindow-defaultWindow)
	s.workers.Go(s.keep)
	s.hurryNow()
	err := s.greet()
	if err == nil {
		err = s.read()
	}
	s.farewell(err)
}

func (s *server) limit(l l7.Limits) {
	s.listLimit = l.Header
	s.blockLimit = l.Header + frameSize
}

func (c *conn) hurryNow() {
	c.mu.Lock()
	c.hurry()
	c.mu.Unlock()
}

// greet reads the client's preface (RFC 9113 section 3.4).
func (s *server) greet() error {
	for s.w-s.r < len(preface) {
		have := string(s.in[s.r:s.w])
		if have != preface[:len(have)] {
			return broken(ProtocolError, "preface")
		}
		if err := s.fill(); err != nil {
			return err
		}
	}
	if string(s.in[s.r:s.r+len(preface)]) != preface {
		return broken(ProtocolError, "preface")
	}
	s.r += len(preface)
	return nil
}

// head takes the head of a request, or its trailers.
func (s *server) head(f *frame) error {
	s.mu.Lock()
	if f.stream%2 == 0 {
		s.mu.Unlock()
		return broken(ProtocolError, "stream_id")
	}
	if f.stream <= s.newest {
		st := s.streams[f.stream]
		found, brokenHere := s.wasClosed(f.stream)
		s.mu.Unlock()
		return s.lateHead(f, st, found, brokenHere)
	}
	s.newest = f.stream
	refused := s.leaving >= goingFinal && f.stream > s.last
	full := len(s.streams) >= s.session.Limits().Streams
	s.mu.Unlock()
	if refused {
		_, err := s.decode(f.payload, nil, 0)
		return err
	}
	st, _ := s.mem.streams.Get().(*stream)
	if st == nil {
		st = new(stream)
	}
	st.request.Reset()
	st.abort.Reset()
	fault, err := s.decodeRequest(f, &st.request)
	switch {
	case err != nil:
		return err
	case full:
		return s.breakStreamUnlocked(f.stream, RefusedStream)
	case f.flags&flagSelf != 0:
		return s.breakStreamUnlocked(f.stream, ProtocolError)
	}
	st.fault = fault
	s.begin(st, f)
	return nil
}

// begin opens the stream. Where a body follows it is served after what was read
// together with the head: a short body has then arrived as a whole.
func (s *server) begin(st *stream, f *frame) {
	s.mu.Lock()
	st.open(s.conn, f.stream)
	s.running++
	if f.has(flagEndStream) {
		st.received = true
	} else {
		st.want = st.request.Length
	}
	s.mu.Unlock()
	if !f.has(flagEndStream) {
		s.begun = append(s.begun, st)
		return
	}
	s.start(st)
}

// drained is side's.
func (s *server) drained() {
	for i, st := range s.begun {
		s.start(st)
		s.begun[i] = nil
	}
	s.begun = s.begun[:0]
}

// start has a worker serve the stream.
func (s *server) start(st *stream) {
	s.mu.Lock()
	rest := s.resting > 0
	if rest {
		s.resting--
	}
	s.mu.Unlock()
	if rest {
		s.work <- st
		return
	}
	s.workers.Go(func() { s.serve(st) })
}

// lateHead takes a head on a stream that was opened before: trailers, or what
// has no place there.
func (s *server) lateHead(f *frame, st *stream, found, brokenHere bool) error {
	switch {
	case st == nil && !found:
		return broken(ProtocolError, "stream_id")
	case st == nil && !brokenHere:
		return broken(StreamClosed, "stream_closed")
	case st == nil:
		_, err := s.decode(f.payload, nil, 0)
		return err
	}
	return s.trailing(f, st)
}

// trailing takes the fields after a body.
func (c *conn) trailing(f *frame, st *stream) error {
	trailers := &wire.Head{Version: wire.HTTP2}
	bad, err := c.decode(f.payload, trailers, 0)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[f.stream] != st { // its exchange has ended meanwhile, and st may be another's already
		if _, brokenHere := c.wasClosed(f.stream); c.client || brokenHere {
			return nil
		}
		return broken(StreamClosed, "stream_closed")
	}
	switch {
	case st.received && st.ended:
		return broken(StreamClosed, "stream_closed")
	case st.lost && st.resetHere:
		return c.guard.add(costUnknown) // it was under way
	case st.lost:
		return c.breakStream(f.stream, StreamClosed)
	case st.received:
		return c.resetStream(st, StreamClosed)
	case !f.has(flagEndStream), bad != wire.NoFault, trailers.After() != wire.NoFault, st.want > 0:
		return c.resetStream(st, ProtocolError)
	}
	st.trailers, st.received = trailers, true
	st.cond.Broadcast()
	return nil
}

// serve is a worker: it serves one stream after another.
func (s *server) serve(st *stream) {
	for st != nil {
		s.exchange(st)
		s.mu.Lock()
		if s.err != nil || s.leaving >= goingFinal || s.resting >= restLimit {
			s.mu.Unlock()
			return
		}
		s.resting++
		s.mu.Unlock()
		st = <-s.work
	}
}

// restLimit is how many workers a connection keeps waiting.
const restLimit = 64

// exchange serves one stream.
func (s *server) exchange(st *stream) {
	switch st.fault {
	case wire.NoFault:
		s.session.Serve(st, &st.request, &st.abort)
	case wire.TooLarge, wire.TargetTooLong, wire.BadExpect:
		s.session.Refuse(st, &st.request, st.fault)
	default:
		// What is malformed gets no answer but a reset (RFC 9113 section 8.1.1).
		s.session.Refuse(silent{}, &st.request, st.fault)
		s.mu.Lock()
		st.breakOff(ProtocolError)
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !st.ended:
		st.breakOff(InternalError)
	case !st.received:
		st.breakOff(NoError) // RFC 9113 section 8.1: what follows is not wanted
	case !st.lost:
		s.guard.good(25)
	}
	s.running--
	st.close()
	if s.leaving >= goingFinal && s.running == 0 {
		s.wakeKeeper()
	}
}

// gone is side's: the client has reset the stream, or is gone itself.
func (s *server) gone(st *stream) { st.abort.Fire() }

// settled, greeted and goneAway are side's; clients' limits are for pushes, and a
// client that leaves says so by closing.
func (s *server) settled(setting)       {}
func (s *server) greeted()              {}
func (s *server) goneAway(uint32, Code) {}
