package h2

import (
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
)

// session is a Session of whose exchanges a test decides.
type session struct {
	serve   func(f l7.Front, h *wire.Head, a *l7.Abort)
	limits  l7.Limits
	leaving chan struct{}

	mu     sync.Mutex
	abuse  []string
	faults []wire.Fault
}

func newSession(serve func(f l7.Front, h *wire.Head, a *l7.Abort)) *session {
	if serve == nil {
		serve = hello
	}
	return &session{serve: serve, leaving: make(chan struct{}),
		limits: l7.Limits{Header: 16 << 10, Streams: 100, HeaderTimeout: 5 * time.Second, Idle: time.Minute}}
}

func (s *session) Serve(f l7.Front, h *wire.Head, a *l7.Abort) { s.serve(f, h, a) }

func (s *session) Refuse(f l7.Front, h *wire.Head, fault wire.Fault) {
	s.mu.Lock()
	s.faults = append(s.faults, fault)
	s.mu.Unlock()
	say(f, fault.Status(), "")
}

func (s *session) Abuse(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abuse = append(s.abuse, reason)
}

func (s *session) Leaving() <-chan struct{} { return s.leaving }
func (s *session) Limits() l7.Limits        { return s.limits }

// abused gives the one reason for which the connection was ended, "" for none.
func (s *session) abused(t *testing.T) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch len(s.abuse) {
	case 0:
		return ""
	case 1:
		return s.abuse[0]
	}
	t.Errorf("abuse was told %d times: %q", len(s.abuse), s.abuse)
	return s.abuse[0]
}

// say answers with a text.
func say(f l7.Front, status int, text string) {
	h := &wire.Head{Status: status}
	h.AddID(wire.ContentLength, strconv.Itoa(len(text)))
	if f.Answer(h, text == "") == nil && text != "" {
		f.Write([]byte(text))
		f.End(nil)
	}
}

// hello reads the body, and answers with its length.
func hello(f l7.Front, h *wire.Head, _ *l7.Abort) {
	total := 0
	buf := make([]byte, 8<<10)
	for {
		n, err := f.Body(buf)
		total += n
		if err == io.EOF {
			break
		}
		if err != nil {
			f.Break()
			return
		}
	}
	if h.Is("HEAD") {
		f.Answer(&wire.Head{Status: 200}, true)
		return
	}
	say(f, 200, "hello "+strconv.Itoa(total))
}

// listen carries what connects to a loopback port until the test ends.
func listen(t testing.TB, s *session, wrap func(net.Conn) net.Conn) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	k := New()
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			conns.Go(func() {
				var carried = c
				if wrap != nil {
					carried = wrap(c)
				}
				k.Carry(carried, s)
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		conns.Wait()
	})
	return l.Addr().String()
}
