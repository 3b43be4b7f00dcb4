package h3

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
)

// A head that does not come to its end is given up, the connection goes on.
func TestSlowHeads(t *testing.T) {
	r := start(t, func(r *rig) { r.limits.HeaderTimeout = 500 * time.Millisecond })
	q := r.dial(true)
	s := r.stream(q, request("GET")[:9])
	if _, err := s.Read(make([]byte, 1)); codeOf(err) != requestIncomplete {
		t.Errorf("%v", err)
	}
	s = r.stream(q, request("GET"))
	s.Close()
	if b, err := io.ReadAll(s); err != nil || statusOf(t, b) != "200" {
		t.Errorf("%q, %v", b, err)
	}
}

// A connection without requests ends; packets do not keep it.
func TestIdleConnections(t *testing.T) {
	r := start(t, func(r *rig) { r.limits.Idle = time.Second })
	q := r.dial(true)
	s := r.stream(q, request("GET"))
	s.Close()
	if b, err := io.ReadAll(s); err != nil || statusOf(t, b) != "200" {
		t.Errorf("%q, %v", b, err)
	}
	if got := waitFor(t, q); got != noError {
		t.Errorf("code 0x%x", got)
	}
}

// Streams that have ended make room for others, though many more stay.
func TestStreamsBesideLongOnes(t *testing.T) {
	answer := make(chan struct{})
	r := start(t, func(r *rig) {
		r.serve = func(f l7.Front, h *wire.Head, a *l7.Abort) {
			if h.Is("POST") {
				<-answer
			}
			echo(f, h, a)
		}
	})
	defer close(answer)
	q := r.dial(true)
	const long = usualStreams - 2
	for range long {
		r.stream(q, request("POST"))
	}
	eventually(t, "the long ones are served", func() bool { return r.active() == long })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 5 {
		s, err := q.OpenStreamSync(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.Write(request("GET"))
		s.Close()
		if b, err := io.ReadAll(s); err != nil || statusOf(t, b) != "200" {
			t.Fatalf("%q, %v", b, err)
		}
	}
}

// Without a limit a connection stays, though nobody asks for anything.
func TestNoIdleLimit(t *testing.T) {
	r := start(t, func(r *rig) { r.limits.Idle = 0 })
	q := r.dial(true)
	for range 2 {
		s := r.stream(q, request("GET"))
		s.Close()
		if b, err := io.ReadAll(s); err != nil || statusOf(t, b) != "200" {
			t.Fatalf("%q, %v", b, err)
		}
		eventually(t, "the connection was found idle", func() bool { return r.idle() })
	}
	if err := q.Context().Err(); err != nil {
		t.Error(context.Cause(q.Context()))
	}
}

// idle says whether the only connection has been looked at without requests.
func (r *rig) idle() bool {
	s := r.server.(*server)
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.mu.Lock()
		idle := c.served > 0 && len(c.active) == 0 && !c.glancing
		c.mu.Unlock()
		if idle {
			return true
		}
	}
	return len(s.conns) == 0
}

// More requests at a time than the session allows are refused, to be tried elsewhere.
func TestLimitOnStreams(t *testing.T) {
	answer := make(chan struct{})
	r := start(t, func(r *rig) {
		r.limits.Streams = 2
		r.serve = func(f l7.Front, h *wire.Head, a *l7.Abort) {
			<-answer
			echo(f, h, a)
		}
	})
	q := r.dial(true)
	first, second := r.stream(q, request("POST")), r.stream(q, request("POST"))
	eventually(t, "both are served", func() bool { return r.active() == 2 })
	third := r.stream(q, request("GET"))
	if _, err := third.Read(make([]byte, 1)); codeOf(err) != requestRejected {
		t.Errorf("%v", err)
	}
	close(answer)
	for _, s := range []*quic.Stream{first, second} {
		s.Close()
		if b, err := io.ReadAll(s); err != nil || statusOf(t, b) != "200" {
			t.Errorf("%q, %v", b, err)
		}
	}
}
