package h2

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
)

// Fields may come on a stream while its exchange ends. The reader has found the
// stream by then, which serves another request at once: that one, of whichever
// client, must not be touched.
func TestLateFieldsTouchNoOtherStream(t *testing.T) {
	served := make(chan *stream, 1)
	p := dial(t, listen(t, newSession(func(f l7.Front, _ *wire.Head, _ *l7.Abort) {
		served <- f.(*stream)
		say(f, 200, "hello")
	}), nil))
	p.ask(1, true)
	p.ended(1)
	st := <-served
	c := st.c
	ended := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.streams[1] == nil
	}
	if !eventually(ended) {
		t.Fatal("the exchange does not end")
	}
	late := &frame{kind: typeHeaders, flags: flagEndHeaders | flagEndStream, stream: 1, payload: p.block("after", "all")}
	var f *fault
	if err := c.trailing(late, st); !errors.As(err, &f) || f.code != StreamClosed {
		t.Errorf("got %v, expected that the connection ends", err)
	}
	if st.lost || st.kept || st.received || st.trailers != nil {
		t.Errorf("the next to be served is lost %v, kept %v, received %v, trailers %v", st.lost, st.kept, st.received, st.trailers)
	}
}

// A stream serves again once its clock has rung, but never while a ring may still
// come: that would meet another request.
func TestALateRingMeetsNoOtherStream(t *testing.T) {
	c := &conn{}
	s := &stream{c: c}
	s.cond.L = &c.mu
	c.mu.Lock()
	defer c.mu.Unlock()
	for by := time.Now().Add(time.Millisecond); s.wait(by, &s.readClock); {
	}
	if !s.readClock.stop() || s.kept {
		t.Error("a clock that has rung keeps its stream")
	}
	for !s.kept { // the ring waits for the lock by then
		s.arm(&s.readClock, 0)
		runtime.Gosched()
	}
}
