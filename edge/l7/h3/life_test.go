package h3

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
	"meridian/edge/quiclb"
	"meridian/fleet"
)

// Connections leave while requests come without a pause: all of these are
// answered, by the connection or, where it says that it has not served them,
// by the next.
func TestLeavingLosesNoRequest(t *testing.T) {
	var mu sync.Mutex
	leave := make(chan struct{})
	r := start(t, func(r *rig) {
		r.serve = func(f l7.Front, h *wire.Head, a *l7.Abort) {
			time.Sleep(time.Millisecond)
			echo(f, h, a)
		}
		r.leaving = func() <-chan struct{} {
			mu.Lock()
			defer mu.Unlock()
			return leave
		}
	})
	c := r.client()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				if code, body := get(t, c, "https://demo.test/x"); code != 200 || body != "GET /x at demo.test" {
					t.Errorf("%d %s", code, body)
				}
			}
		})
	}
	eventually(t, "a client has come", func() bool { return r.connections() > 0 })
	for range 3 {
		time.Sleep(30 * time.Millisecond)
		mu.Lock()
		close(leave)
		leave = make(chan struct{})
		mu.Unlock()
	}
	all.Wait()
	if n := r.connections(); n < 2 {
		t.Errorf("no connection left: %d in all", n)
	}
	r.faultless()
}

// RFC 9114 section 5.2: a client hears that it shall leave, then which of its
// requests were served; those are answered, what it asks later is refused in
// such a way that it may ask elsewhere.
func TestGoaway(t *testing.T) {
	answer := make(chan struct{})
	r := start(t, func(r *rig) {
		r.serve = func(f l7.Front, h *wire.Head, a *l7.Abort) {
			<-answer
			echo(f, h, a)
		}
	})
	q := r.dial(true)
	s := r.stream(q, request("GET"))
	s.Close()
	control, err := q.AcceptUniStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(control)
	if kind, err := in.ReadByte(); kind != streamControl || err != nil {
		t.Fatal(kind, err)
	}
	next := func(want uint64) []byte {
		kind, payload, err := readFrame(in)
		if err != nil || kind != want {
			t.Fatalf("frame %d, %v", kind, err)
		}
		return payload
	}
	if b := next(frameSettings); !bytes.Contains(b, []byte{settingConnect, 1}) || b[0] != settingMaxFieldSection {
		t.Errorf("settings %x", b)
	}
	eventually(t, "the request is served", func() bool { return r.active() == 1 })
	close(r.leave)
	for _, want := range []uint64{uint64(noStream), 4} {
		if id, _, err := quicvarint.Parse(next(frameGoaway)); id != want || err != nil {
			t.Errorf("GOAWAY from %d on, %v, expected %d", id, err, want)
		}
	}
	late := r.stream(q, request("GET"))
	if _, err := late.Read(make([]byte, 1)); codeOf(err) != requestRejected {
		t.Errorf("a late request: %v", err)
	}
	close(answer)
	b, err := io.ReadAll(s)
	if err != nil || statusOf(t, b) != "200" {
		t.Errorf("%q, %v", b, err)
	}
	if got := waitFor(t, q); got != noError {
		t.Errorf("code 0x%x", got)
	}
}

func codeOf(err error) code {
	if e, ok := errors.AsType[*quic.StreamError](err); ok {
		return code(e.ErrorCode)
	}
	return 0
}

// active says how many exchanges there are.
func (r *rig) active() (n int) {
	s := r.server.(*server)
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.mu.Lock()
		n += len(c.active)
		c.mu.Unlock()
	}
	return n
}

// Shutdown waits for the requests under way, and for no longer than it may.
func TestShutdown(t *testing.T) {
	answer := make(chan struct{})
	r := start(t, func(r *rig) {
		r.serve = func(f l7.Front, h *wire.Head, a *l7.Abort) {
			<-answer
			echo(f, h, a)
		}
	})
	c := r.client()
	got := make(chan string)
	go func() {
		_, body := get(t, c, "https://demo.test/x")
		got <- body
	}()
	eventually(t, "the request is served", func() bool { return r.active() == 1 })
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := r.server.Shutdown(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown with a request under way: %v", err)
	}
	close(answer)
	if err := r.server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if body := <-got; body != "GET /x at demo.test" {
		t.Errorf("%q", body)
	}
}

// A client that gives up, or goes away, ends the exchange.
func TestClientsThatGiveUp(t *testing.T) {
	for name, how := range map[string]func(*quic.Conn, *quic.Stream){
		"stops the answer": func(_ *quic.Conn, s *quic.Stream) { s.CancelRead(0x10c) },
		"resets":           func(_ *quic.Conn, s *quic.Stream) { s.CancelRead(0x10c); s.CancelWrite(0x10c) },
		"closes":           func(q *quic.Conn, _ *quic.Stream) { q.CloseWithError(0x100, "") },
	} {
		t.Run(name, func(t *testing.T) {
			gone := make(chan struct{})
			r := start(t, func(r *rig) {
				r.serve = func(f l7.Front, h *wire.Head, a *l7.Abort) {
					for end := time.Now().Add(20 * time.Second); !a.Gone() && time.Now().Before(end); {
						time.Sleep(time.Millisecond)
					}
					if a.Gone() {
						close(gone)
					}
					f.Break()
				}
			})
			q := r.dial(true)
			s := r.stream(q, request("GET"))
			s.Close()
			eventually(t, "the request is served", func() bool { return r.active() == 1 })
			how(q, s)
			select {
			case <-gone:
			case <-time.After(20 * time.Second):
				t.Error("the exchange does not know")
			}
		})
	}
}

// Requests that are reset as fast as they come (rapid reset, CVE-2023-44487)
// never run more at a time than streams are allowed, and the client is sent away.
func TestFloodOfResets(t *testing.T) {
	var now, most atomic.Int64
	r := start(t, func(r *rig) {
		r.serve = func(f l7.Front, h *wire.Head, a *l7.Abort) {
			most.Store(max(most.Load(), now.Add(1)))
			for end := time.Now().Add(time.Second); !a.Gone() && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			now.Add(-1)
			f.Break()
		}
	})
	q := r.dial(true)
	for range 5000 {
		s, err := q.OpenStreamSync(t.Context())
		if err != nil {
			break
		}
		_, _ = s.Write(request("POST"))
		s.CancelRead(0x10c)
		s.CancelWrite(0x10c)
	}
	if got := waitFor(t, q); got != excessiveLoad {
		t.Errorf("code 0x%x", got)
	}
	if a := r.abused(); len(a) != 1 || a[0] != "resets" {
		t.Errorf("abuse: %v", a)
	}
	if most.Load() > usualStreams {
		t.Errorf("%d exchanges at a time", most.Load())
	}
}

// Deadlines bound waits for a client that sends no body, or takes no answer.
func TestDeadlines(t *testing.T) {
	result := make(chan error, 2)
	r := start(t, func(r *rig) {
		r.serve = func(f l7.Front, h *wire.Head, _ *l7.Abort) {
			soon := time.Now().Add(30 * time.Millisecond)
			f.Deadlines(soon, soon)
			_, err := f.Body(make([]byte, 10))
			result <- err
			f.Deadlines(time.Time{}, time.Now().Add(100*time.Millisecond))
			_ = f.Answer(&wire.Head{Status: 200}, false)
			for err = nil; err == nil; {
				err = f.Write(make([]byte, 1<<20))
			}
			result <- err
			f.Break()
		}
	})
	q := r.dial(true)
	s := r.stream(q, request("POST"))
	for range 2 {
		if err := <-result; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v", err)
		}
	}
	if _, err := io.ReadAll(s); codeOf(err) != internalError {
		t.Errorf("the client sees %v", err)
	}
}

// An answer that cannot be completed is seen to be broken.
func TestBrokenAnswers(t *testing.T) {
	r := start(t, func(r *rig) {
		r.serve = func(f l7.Front, h *wire.Head, _ *l7.Abort) {
			_ = errors.Join(f.Answer(&wire.Head{Status: 200}, false), f.Write([]byte("some")), f.Flush())
			f.Break()
		}
	})
	a, err := r.client().Get("https://demo.test/")
	if err == nil {
		defer a.Body.Close()
		_, err = io.ReadAll(a.Body)
	}
	if err == nil {
		t.Error("the client took it for whole")
	}
}

// An answer may come before the request has ended: the client is told to stop
// sending, and that nothing is wrong (RFC 9114 section 4.1).
func TestEarlyAnswers(t *testing.T) {
	r := start(t, func(r *rig) {
		r.serve = func(f l7.Front, h *wire.Head, _ *l7.Abort) { _ = f.Answer(&wire.Head{Status: 413}, true) }
	})
	q := r.dial(true)
	s := r.stream(q, request("POST"))
	b, err := io.ReadAll(s)
	if err != nil || statusOf(t, b) != "413" {
		t.Errorf("%q, %v", b, err)
	}
	for err == nil {
		_, err = s.Write(make([]byte, 1<<10))
	}
	if codeOf(err) != noError {
		t.Errorf("%v", err)
	}
}

// An extended CONNECT becomes a tunnel: what goes in comes out, at once, both
// ways, until each side ends its own (RFC 9220, RFC 8441).
func TestTunnel(t *testing.T) {
	r := start(t, func(r *rig) {
		r.serve = func(f l7.Front, h *wire.Head, _ *l7.Abort) {
			if string(h.Protocol) != "websocket" || !h.Is("CONNECT") || string(h.Target) != "/" {
				t.Errorf("%+v", h)
			}
			if err := errors.Join(f.Answer(&wire.Head{Status: 200}, false), f.Flush()); err != nil {
				t.Error(err)
			}
			p := make([]byte, 100)
			for {
				n, err := f.Body(p)
				if err != nil {
					if err != io.EOF {
						t.Error(err)
					}
					break
				}
				if err := errors.Join(f.Write(p[:n]), f.Flush()); err != nil {
					t.Error(err)
				}
			}
			if err := f.End(nil); err != nil {
				t.Error(err)
			}
		}
	})
	q := r.dial(true)
	s := r.stream(q, request("CONNECT", ":protocol", "websocket"))
	in := bufio.NewReader(s)
	if kind, _, err := readAny(in); kind != frameHeaders || err != nil {
		t.Fatal(kind, err)
	}
	for _, text := range []string{"one", "two", "three"} {
		if _, err := s.Write(frame(frameData, []byte(text)...)); err != nil {
			t.Fatal(err)
		}
		if kind, b, err := readAny(in); kind != frameData || string(b) != text || err != nil {
			t.Fatal(kind, b, err)
		}
	}
	s.Close()
	if b, err := io.ReadAll(in); len(b) > 0 || err != nil {
		t.Errorf("%x, %v", b, err)
	}
}

func readAny(r *bufio.Reader) (kind uint64, b []byte, err error) {
	kind, err = quicvarint.Read(r)
	if err != nil {
		return 0, nil, err
	}
	n, err := quicvarint.Read(r)
	if err != nil {
		return 0, nil, err
	}
	b = make([]byte, n)
	_, err = io.ReadFull(r, b)
	return kind, b, err
}

// A connection that is not wanted is closed, one that its session refuses
// streams to as well.
func TestUnwantedConnections(t *testing.T) {
	r := start(t, func(r *rig) { r.unwanted = true })
	q := r.dial(false)
	if got := waitFor(t, q); got != excessiveLoad {
		t.Errorf("code 0x%x", got)
	}
}

// Listen before Apply is an error; a node that is not in the Snapshot has ids all the same.
func TestCarrierNeedsItsNode(t *testing.T) {
	c, err := New(Config{Node: "other", Random: bytes.NewReader(nil)})
	if err != nil {
		t.Fatal(err)
	}
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if _, err := c.Listen(socket, nil, nil); !errors.Is(err, errNoServer) {
		t.Errorf("%v", err)
	}
	if err := c.Apply(world(t, 1)); err != nil || c.ids.of.Load().server != quiclb.ServerID(&fleet.Node{Name: "other"}) {
		t.Errorf("a node that is not in the Snapshot: %v", err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("an empty Config")
	}
}

// What a request allocates is quic-go's own: no more than a few dozen objects,
// whatever its head.
func TestAllocationsOfARequest(t *testing.T) {
	if raced {
		t.Skip("under the race detector pools forget at random")
	}
	r := start(t, func(r *rig) {
		answer, body := &wire.Head{Status: 200}, make([]byte, 1024)
		answer.Add("Content-Length", "1024")
		r.serve = func(f l7.Front, h *wire.Head, _ *l7.Abort) {
			_ = errors.Join(f.Answer(answer, false), f.Write(body), f.End(nil))
		}
	})
	q := r.dial(true)
	b, p := request("GET", "user-agent", "x", "accept", "*/*", "x-some-field", "of some length"), make([]byte, 4096)
	n := testing.AllocsPerRun(500, func() {
		s, err := q.OpenStreamSync(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.Write(b)
		_ = s.Close()
		for err == nil {
			_, err = s.Read(p)
		}
		if err != io.EOF {
			t.Fatal(err)
		}
	})
	if n > allocationsMost {
		t.Errorf("%v allocations, client's and gateway's", n)
	}
	t.Logf("%v allocations, client's and gateway's", n)
}

const allocationsMost = 70
