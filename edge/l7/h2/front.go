package h2

import (
	"io"
	"time"

	"meridian/edge/l7/wire"
)

// Interim is Front's.
func (s *stream) Interim(h *wire.Head) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if err := s.sendHead(h, appendAnswer, false); err != nil {
		return err
	}
	s.lastFlags = 0
	s.c.send()
	return nil
}

// Answer is Front's. It keeps the head for what follows it, unless there is
// nothing.
func (s *stream) Answer(h *wire.Head, end bool) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if err := s.sendHead(h, appendAnswer, end); err != nil {
		return err
	}
	s.answered = true
	if end {
		s.c.send()
	}
	return nil
}

// Arrived says whether the whole body has arrived, ahead of being read, and its
// length. It does not where trailers follow.
func (s *stream) Arrived() (n int, whole bool) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.queue.size, s.received && s.trailers == nil && !s.lost
}

// Break is Front's.
func (s *stream) Break() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if !s.ended {
		s.breakOff(InternalError)
	}
}

// silent is the Front of a request that gets no answer but a reset.
type silent struct{}

func (silent) Body([]byte) (int, error)        { return 0, io.EOF }
func (silent) BodyTrailers() *wire.Head        { return nil }
func (silent) Interim(*wire.Head) error        { return nil }
func (silent) Answer(*wire.Head, bool) error   { return nil }
func (silent) Write([]byte) error              { return nil }
func (silent) Flush() error                    { return nil }
func (silent) End(*wire.Head) error            { return nil }
func (silent) Break()                          {}
func (silent) Deadlines(read, write time.Time) {}
