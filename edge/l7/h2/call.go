package h2

import (
	"time"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
)

// asked is what a client's stream has of its own.
type asked struct {
	link      *link
	bare      bool        // a HEAD request
	interim   []wire.Head // answers 1xx that were not read yet
	final     wire.Head
	malformed wire.Fault
}

// call is a stream as l7.Call.
type call stream

func (k *call) stream() *stream { return (*stream)(k) }

// Write implements l7.Call.
func (k *call) Write(p []byte) error { return k.stream().Write(p) }

// Flush implements l7.Call.
func (k *call) Flush() error { return k.stream().Flush() }

// End implements l7.Call.
func (k *call) End(trailers *wire.Head) error { return k.stream().End(trailers) }

// Body implements l7.Call.
func (k *call) Body(p []byte) (int, error) { return k.stream().Body(p) }

// Ready implements l7.Call.
func (k *call) Ready() bool {
	s := k.stream()
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.queue.size > 0 || s.received || s.lost
}

// BodyTrailers implements l7.Call.
func (k *call) BodyTrailers() *wire.Head { return k.stream().BodyTrailers() }

// Deadlines implements l7.Call.
func (k *call) Deadlines(read, write time.Time) { k.stream().Deadlines(read, write) }

// Head implements l7.Call.
func (k *call) Head(h *wire.Head) error {
	s := k.stream()
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for {
		switch {
		case len(s.interim) > 0:
			*h = s.interim[0]
			s.interim = s.interim[1:]
			return nil
		case s.answered:
			*h, s.final = s.final, *h
			return nil
		case s.malformed != wire.NoFault:
			return s.malformed
		case s.lost:
			return s.whyLost()
		}
		if !s.wait(s.readBy, &s.readClock) {
			return errTime
		}
	}
}

// Stop implements l7.Call.
func (k *call) Stop() {
	s := k.stream()
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if !s.received || !s.ended {
		s.breakOff(Cancel)
	}
}

// Close implements l7.Call.
func (k *call) Close() {
	s := k.stream()
	l := s.link
	l.mu.Lock()
	if !s.received || !s.ended {
		s.breakOff(Cancel)
	} else if !s.lost {
		l.guard.good(25)
	}
	s.close()
	l.mu.Unlock()
	l.up.put(l)
}

// refused says whether an endpoint's reason means that it has not acted on the
// request.
func (s *stream) refused() bool { return s.code == RefusedStream && !s.resetHere }

var (
	_ l7.Call  = (*call)(nil)
	_ l7.Mux   = (*Upstream)(nil)
	_ l7.Front = (*stream)(nil)
)
