package h2

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
	"meridian/internal/testkit"
)

// to makes an Upstream of an address, and ends it with the test.
func to(t testing.TB, address string, dials *atomic.Int64) l7.Mux {
	u := NewUpstream(func(ctx context.Context) (net.Conn, error) {
		if dials != nil {
			dials.Add(1)
		}
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}, false)
	t.Cleanup(u.Close)
	return u
}

func request(method, target string, fields ...string) *wire.Head {
	h := &wire.Head{Version: wire.HTTP2, Method: []byte(method), Target: []byte(target), Authority: []byte("www.demo.test"), Length: -1}
	for i := 0; i < len(fields); i += 2 {
		h.Add(fields[i], fields[i+1])
	}
	return h
}

// fetch makes a whole call.
func fetch(u l7.Mux, h *wire.Head, body string) (status int, got string, err error) {
	c, err := u.Open(context.Background(), time.Time{}, h, body == "")
	if err != nil {
		return 0, "", err
	}
	defer c.Close()
	c.Deadlines(time.Now().Add(20*time.Second), time.Now().Add(20*time.Second))
	if body != "" {
		go func() {
			if c.Write([]byte(body)) == nil {
				c.End(nil)
			}
		}()
	}
	var ans wire.Head
	if err := c.Head(&ans); err != nil {
		return 0, "", err
	}
	b, err := io.ReadAll(callBody{c})
	return ans.Status, string(b), err
}

type callBody struct{ l7.Call }

func (b callBody) Read(p []byte) (int, error) { return b.Body(p) }

// endpoint is net/http's server, with HTTP/2 in plain text.
func endpoint(t testing.TB, h http.HandlerFunc, streams int) string {
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams}
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestCallsShareConnections(t *testing.T) {
	at := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %s %d %s", r.Method, r.URL, n, r.Host)
	}, 50)
	var dials atomic.Int64
	u := to(t, at, &dials)
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			body := strings.Repeat("b", i*20000)
			method := "POST"
			if i == 0 {
				method = "GET"
			}
			status, got, err := fetch(u, request(method, fmt.Sprintf("/%d?q", i)), body)
			if want := fmt.Sprintf("%s /%d?q %d www.demo.test", method, i, len(body)); status != 200 || got != want || err != nil {
				t.Errorf("%d %q %v, want %q", status, got, err, want)
			}
		})
	}
	all.Wait()
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// What an endpoint allows on a connection is respected: more requests take more
// connections.
func TestStreamLimitOfEndpoints(t *testing.T) {
	var now, most atomic.Int64
	at := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		most.Store(max(most.Load(), now.Add(1)))
		<-time.After(5 * time.Millisecond)
		now.Add(-1)
	}, 3)
	var dials atomic.Int64
	u := to(t, at, &dials)
	if _, _, err := fetch(u, request("GET", "/"), ""); err != nil {
		t.Fatal(err) // its settings are known now
	}
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			if status, _, err := fetch(u, request("GET", "/"), ""); status != 200 || err != nil {
				t.Error(status, err)
			}
		})
	}
	all.Wait()
	if n := dials.Load(); n < 2 {
		t.Errorf("%d connections for 12 requests of which 3 share one", n)
	}
}

func TestInterimAnswersAndTrailersOfEndpoints(t *testing.T) {
	at := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a.css>")
		w.WriteHeader(103)
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "Sum")
		w.Write([]byte("body"))
		w.Header().Set("Sum", r.Trailer.Get("Of-Request"))
	}, 10)
	u := to(t, at, nil)
	h := request("POST", "/", "trailer", "of-request")
	c, err := u.Open(context.Background(), time.Time{}, h, false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("in"))
	end := new(wire.Head)
	end.Add("Of-Request", "17")
	c.End(end)
	var ans wire.Head
	if err := c.Head(&ans); err != nil || ans.Status != 103 || ans.Find("link", 0) < 0 {
		t.Fatal(ans.Status, err)
	}
	if err := c.Head(&ans); err != nil || ans.Status != 200 {
		t.Fatal(ans.Status, err)
	}
	if b, err := io.ReadAll(callBody{c}); string(b) != "body" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	if tr := c.BodyTrailers(); tr == nil || len(tr.Fields) != 1 || string(tr.Fields[0].Value) != "17" {
		t.Errorf("%+v", tr)
	}
}

// fake is an endpoint whose frames a test writes.
func fake(t *testing.T, play func(p *peer)) string {
	return testkit.Serve(t, func(c net.Conn) {
		c.SetDeadline(time.Now().Add(20 * time.Second))
		io.ReadFull(c, make([]byte, len(preface)))
		p := &peer{Framer: http2.NewFramer(c, c), t: t, c: c}
		p.enc = newEncoder(&p.buf)
		p.AllowIllegalWrites = true
		p.ReadMetaHeaders = newHPACK()
		p.WriteSettings()
		play(p)
	})
}

// asked reads up to the next request.
func (p *peer) asked() uint32 {
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return 0
		}
		if h, ok := f.(*http2.MetaHeadersFrame); ok {
			return h.StreamID
		}
	}
}

// A request that the endpoint says it has not acted on may be sent again.
func TestRefusedRequests(t *testing.T) {
	for name, play := range map[string]func(p *peer){
		"REFUSED_STREAM": func(p *peer) {
			p.WriteRSTStream(p.asked(), http2.ErrCodeRefusedStream)
			p.asked()
		},
		"GOAWAY": func(p *peer) {
			p.asked()
			p.WriteGoAway(0, http2.ErrCodeNo, nil)
			p.asked()
		},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := fetch(to(t, fake(t, play), nil), request("POST", "/"), "body"); err != l7.ErrRefused {
				t.Error(err)
			}
		})
	}
}

// RFC 8441 section 3: no extended CONNECT goes before the endpoint's word that it
// takes them, however late that comes; and none where it does not come.
func TestExtendedCONNECTWaitsForSettings(t *testing.T) {
	for name, c := range map[string]struct {
		settings []http2.Setting
		want     error
	}{
		"taken":     {[]http2.Setting{{ID: http2.SettingEnableConnectProtocol, Val: 1}}, nil},
		"not taken": {nil, l7.ErrNoWebSocket},
		"refused":   {[]http2.Setting{{ID: http2.SettingEnableConnectProtocol, Val: 0}}, l7.ErrNoWebSocket},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			h := request("CONNECT", "/chat")
			h.Protocol = []byte("websocket")
			opened := make(chan error, 1)
			u := to(t, l.Addr().String(), nil)
			go func() {
				c, err := u.Open(context.Background(), time.Now().Add(20*time.Second), h, false)
				if err == nil {
					err = c.Flush()
					c.Close()
				}
				opened <- err
			}()
			nc, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			nc.SetDeadline(time.Now().Add(20 * time.Second))
			io.ReadFull(nc, make([]byte, len(preface)))
			p := &peer{Framer: http2.NewFramer(nc, nc), t: t, c: nc}
			p.ReadMetaHeaders = newHPACK()
			for range 2 { // settings, and the connection's window
				if f, err := p.ReadFrame(); err != nil || f.Header().Type == http2.FrameHeaders {
					t.Fatalf("before the settings: %v, %v", f, err)
				}
			}
			select {
			case err := <-opened:
				t.Fatalf("opened before the settings: %v", err)
			default:
			}
			p.WriteSettings(c.settings...)
			if c.want == nil {
				head := p.until(func(f http2.Frame) bool { _, ok := f.(*http2.MetaHeadersFrame); return ok }).(*http2.MetaHeadersFrame)
				if head.PseudoValue("protocol") != "websocket" || head.PseudoValue("path") != "/chat" || head.StreamEnded() {
					t.Errorf("%v", head)
				}
			}
			if err := <-opened; err != c.want {
				t.Errorf("%v, expected %v", err, c.want)
			}
		})
	}
}

// GOAWAY ends nothing that is under way; later requests take another connection.
func TestGoAwayOfEndpoints(t *testing.T) {
	var dials atomic.Int64
	at := fake(t, func(p *peer) {
		id := p.asked()
		p.WriteGoAway(id, http2.ErrCodeNo, nil)
		p.head(id, false, ":status", "200")
		p.WriteData(id, true, []byte("whole"))
		p.asked()
	})
	u := to(t, at, &dials)
	for range 3 {
		if status, got, err := fetch(u, request("GET", "/"), ""); status != 200 || got != "whole" || err != nil {
			t.Error(status, got, err)
		}
	}
	if dials.Load() != 3 {
		t.Errorf("%d connections", dials.Load())
	}
}

// Answers that nobody reads for now hold up no others on the connection, and have
// the endpoint wait.
func TestUnreadAnswersHoldUpNoOthers(t *testing.T) {
	var sent atomic.Int64
	at := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			io.WriteString(w, "small")
			return
		}
		p := make([]byte, 64<<10)
		for range 4 * streamWindow / len(p) {
			n, err := w.Write(p)
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}, 50)
	var dials atomic.Int64
	u := to(t, at, &dials)
	const unread = 2*connWindow/streamWindow + 1
	var calls []l7.Call
	for range unread {
		c, err := u.Open(context.Background(), time.Time{}, request("GET", "/large"), true)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		calls = append(calls, c)
	}
	for _, c := range calls {
		c.Deadlines(time.Now().Add(20*time.Second), time.Time{})
		if err := c.Head(new(wire.Head)); err != nil {
			t.Fatal(err)
		}
	}
	full := func(c l7.Call) bool {
		s := c.(*call).stream()
		s.c.mu.Lock()
		defer s.c.mu.Unlock()
		return s.recvWindow == 0 && s.queue.size == streamWindow
	}
	for i, c := range calls {
		if !eventually(func() bool { return full(c) }) {
			t.Fatalf("answer %d does not come up to its window", i)
		}
	}
	if status, got, err := fetch(u, request("GET", "/"), ""); status != 200 || got != "small" || err != nil {
		t.Errorf("beside %d unread answers: %d %q, %v", unread, status, got, err)
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	for i, c := range calls {
		if n, err := io.Copy(io.Discard, callBody{c}); n != 4*streamWindow || err != nil {
			t.Errorf("answer %d: %d octets, %v", i, n, err)
		}
	}
}

// An answer that came as a whole is one, though its connection has ended before
// anybody has read it.
func TestWholeAnswerOutlivesItsConnection(t *testing.T) {
	for name, bye := range map[string]func(p *peer){
		"closed": func(p *peer) {},
		"GOAWAY": func(p *peer) { p.WriteGoAway(1, http2.ErrCodeNo, nil) },
		"broken": func(p *peer) { p.WriteData(0, false, []byte("x")) },
	} {
		t.Run(name, func(t *testing.T) {
			u := to(t, fake(t, func(p *peer) {
				id := p.asked()
				p.head(id, false, ":status", "200", "content-length", "5")
				p.WriteData(id, true, []byte("whole"))
				bye(p)
			}), nil).(*Upstream)
			c, err := u.Open(context.Background(), time.Time{}, request("GET", "/"), true)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if !eventually(func() bool {
				u.mu.Lock()
				defer u.mu.Unlock()
				return len(u.links) == 0
			}) {
				t.Fatal("the connection stays")
			}
			var ans wire.Head
			if err := c.Head(&ans); err != nil || ans.Status != 200 {
				t.Fatal(ans.Status, err)
			}
			if b, err := io.ReadAll(callBody{c}); string(b) != "whole" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}

// Stop ends a wait at once, and tells the endpoint.
func TestStopEndsACall(t *testing.T) {
	reset := make(chan http2.ErrCode, 1)
	at := fake(t, func(p *peer) { reset <- p.reset(p.asked()) })
	c, err := to(t, at, nil).Open(context.Background(), time.Time{}, request("GET", "/"), true)
	if err != nil {
		t.Fatal(err)
	}
	go c.Stop()
	if err := c.Head(new(wire.Head)); err == nil {
		t.Error("an answer came")
	}
	c.Close()
	if code := <-reset; code != http2.ErrCodeCancel {
		t.Error(code)
	}
}

// A request that the endpoint answers before its body ends gets its answer.
func TestEarlyAnswerOfEndpoints(t *testing.T) {
	at := fake(t, func(p *peer) {
		id := p.asked()
		p.head(id, false, ":status", "413")
		p.WriteData(id, true, []byte("too much"))
		p.WriteRSTStream(id, http2.ErrCodeNo)
		p.asked()
	})
	status, got, err := fetch(to(t, at, nil), request("POST", "/"), strings.Repeat("b", 1<<20))
	if status != 413 || got != "too much" || err != nil {
		t.Error(status, got, err)
	}
}

func TestRetireEndsIdleConnections(t *testing.T) {
	ended := make(chan bool, 1)
	at := fake(t, func(p *peer) {
		id := p.asked()
		p.head(id, true, ":status", "204")
		ended <- p.asked() == 0
	})
	u := to(t, at, nil)
	if status, _, err := fetch(u, request("GET", "/"), ""); status != 204 || err != nil {
		t.Fatal(status, err)
	}
	u.Retire()
	if !<-ended {
		t.Error("another request came")
	}
}
