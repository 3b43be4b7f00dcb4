package l7

import (
	"bufio"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"meridian/edge/l7/wire"
)

// fakeFront is a Front as a carrier of streams has it.
type fakeFront struct {
	body     io.Reader
	out      *io.PipeWriter
	mu       sync.Mutex
	status   int
	fields   []string
	interim  []int
	ended    bool
	broken   bool
	trailers []string
	writeBy  time.Time
}

func (f *fakeFront) Body(p []byte) (int, error) { return f.body.Read(p) }
func (f *fakeFront) BodyTrailers() *wire.Head   { return nil }
func (f *fakeFront) Deadlines(read, write time.Time) {
	f.mu.Lock()
	f.writeBy = write
	f.mu.Unlock()
	if c, ok := f.body.(*io.PipeReader); ok && read == past {
		c.CloseWithError(errors.New("deadline"))
	}
}
func (f *fakeFront) Interim(h *wire.Head) error {
	f.interim = append(f.interim, h.Status)
	return nil
}
func (f *fakeFront) Answer(h *wire.Head, _ bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status = h.Status
	for _, x := range h.Fields {
		f.fields = append(f.fields, string(x.Name)+": "+string(x.Value))
	}
	return nil
}
func (f *fakeFront) Write(p []byte) error { _, err := f.out.Write(p); return err }
func (f *fakeFront) Flush() error         { return nil }
func (f *fakeFront) End(t *wire.Head) error {
	f.mu.Lock()
	f.ended = true
	if t != nil {
		for _, x := range t.Fields {
			f.trailers = append(f.trailers, string(x.Name)+": "+string(x.Value))
		}
	}
	f.mu.Unlock()
	return f.out.Close()
}
func (f *fakeFront) Break() {
	f.mu.Lock()
	f.broken = true
	f.mu.Unlock()
	f.out.CloseWithError(io.ErrUnexpectedEOF)
}

// streamFront gives a Front, and what its client reads.
func streamFront(body io.Reader) (*fakeFront, *bufio.Reader) {
	rd, wr := io.Pipe()
	return &fakeFront{body: body, out: wr}, bufio.NewReader(rd)
}

// serving has a session serve a request; what it gives is closed once that is over,
// which its client may see earlier.
func serving(s Session, f Front, h *wire.Head) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		s.Serve(f, h, nil)
		close(done)
	}()
	return done
}

// session gives one of a client of the rig's first listener.
func (r *rig) session() Session {
	r.g.mu.Lock()
	defer r.g.mu.Unlock()
	for _, l := range r.g.listeners {
		s := &session{s: l.current.Load(), origin: new(origin)}
		s.from(netip.MustParseAddrPort("203.0.113.9:1"), netip.MustParseAddrPort("192.0.2.1:80"))
		return s
	}
	r.t.Fatal("no listener")
	return nil
}

func h2Head(t *testing.T, method, path string, fields ...string) *wire.Head {
	t.Helper()
	h := &wire.Head{Version: wire.HTTP2, Method: []byte(method), Scheme: []byte("https"), Authority: []byte("www.demo.test"), Target: []byte(path)}
	for i := 0; i < len(fields); i += 2 {
		if fields[i] == ":protocol" {
			h.Protocol = []byte(fields[i+1])
		} else {
			h.Add(fields[i], fields[i+1])
		}
	}
	if f := h.Request(); f != wire.NoFault {
		t.Fatal(f)
	}
	return h
}

// What comes by streams goes to endpoints as HTTP/1.1: a body without a length
// in chunks, cookies in one field, the authority as Host.
func TestStreamsOfACarrierBecomeHTTP1(t *testing.T) {
	seen := make(chan *http.Request, 1)
	b := backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen <- r
		w.Header().Set("Trailer", "X-Sum")
		fmt.Fprintf(w, "%s %q", body, r.TransferEncoding)
		w.Header().Set("X-Sum", "7")
	})
	r := newRig(t, httpSpec(noChecks, b))
	f, out := streamFront(strings.NewReader("hello"))
	h := h2Head(t, "POST", "/x?y", "cookie", "a=1", "x-one", "1", "cookie", "b=2", "te", "trailers")
	done := serving(r.session(), f, h)
	body, err := io.ReadAll(out)
	<-done
	if err != nil || string(body) != `hello ["chunked"]` || f.status != 200 {
		t.Errorf("%d %q, %v", f.status, body, err)
	}
	got := <-seen
	if got.Host != "www.demo.test" || got.Header.Get("Cookie") != "a=1; b=2" || got.RequestURI != "/x?y" || got.Header.Get("Te") != "trailers" {
		t.Errorf("the endpoint got %s %s %v", got.Host, got.RequestURI, got.Header)
	}
	if n := len(got.Header.Values("Cookie")); n != 1 {
		t.Errorf("cookies are in %d fields", n)
	}
	if fmt.Sprint(f.trailers) != "[X-Sum: 7]" {
		t.Errorf("trailers %q", f.trailers)
	}
	for _, field := range f.fields {
		if strings.HasPrefix(field, "Transfer-Encoding") || strings.HasPrefix(field, "Connection") {
			t.Errorf("%s passes", field)
		}
	}
}

// A WebSocket by extended CONNECT (RFC 8441, RFC 9220) is an Upgrade for the
// endpoint.
func TestWebSocketByExtendedCONNECT(t *testing.T) {
	b := backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
		key := r.Header.Get("Sec-WebSocket-Key")
		if r.Method != "GET" || r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" || len(key) != 24 || r.Header.Get("Sec-WebSocket-Version") != "13" {
			w.WriteHeader(400)
			return
		}
		sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		if r.URL.Path == "/liar" {
			sum[0]++
		}
		c, rw, _ := http.NewResponseController(w).Hijack()
		defer c.Close()
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: chat\r\n\r\nfirst\n", base64.StdEncoding.EncodeToString(sum[:]))
		rw.Flush()
		for {
			s, err := rw.ReadString('\n')
			if err != nil {
				return
			}
			rw.WriteString(strings.ToUpper(s))
			rw.Flush()
		}
	})
	r := newRig(t, httpSpec(noChecks, b))
	body, client := io.Pipe()
	f, out := streamFront(body)
	done := serving(r.session(), f, h2Head(t, "CONNECT", "/chat", ":protocol", "websocket", "sec-websocket-protocol", "chat"))
	for _, want := range []string{"first\n", "HELLO\n", "AGAIN\n"} {
		if s, err := out.ReadString('\n'); err != nil || s != want {
			t.Fatalf("%q, %v", s, err)
		}
		if want != "AGAIN\n" {
			io.WriteString(client, map[string]string{"first\n": "hello\n", "HELLO\n": "again\n"}[want])
		}
	}
	client.Close()
	if _, err := out.ReadByte(); err != io.EOF {
		t.Errorf("the end: %v", err)
	}
	<-done
	if f.status != 200 || !strings.Contains(fmt.Sprint(f.fields), "Sec-WebSocket-Protocol: chat") || strings.Contains(fmt.Sprint(f.fields), "Accept") {
		t.Errorf("%d %q", f.status, f.fields)
	}
	f, out = streamFront(strings.NewReader(""))
	done = serving(r.session(), f, h2Head(t, "CONNECT", "/liar", ":protocol", "websocket"))
	if io.ReadAll(out); f.status != 502 {
		t.Errorf("an endpoint that does not know the key: %d", f.status)
	}
	<-done
	f, out = streamFront(strings.NewReader(""))
	go r.session().Serve(f, h2Head(t, "CONNECT", "/chat", ":protocol", "connect-udp"), nil)
	if io.ReadAll(out); f.status != 405 {
		t.Errorf("another protocol: %d", f.status)
	}
}

// A client that goes ends its exchange at once.
func TestAbortEndsAnExchange(t *testing.T) {
	arrived, gone := make(chan struct{}), make(chan struct{})
	b := backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(gone)
	})
	r := newRig(t, httpSpec(noChecks, b))
	f, _ := streamFront(strings.NewReader(""))
	h := h2Head(t, "GET", "/")
	h.Length = 0
	var a Abort
	done := make(chan struct{})
	go func() {
		r.session().Serve(f, h, &a)
		close(done)
	}()
	<-arrived
	a.Fire()
	<-gone
	<-done
	if !f.broken || f.status != 0 || !r.flagged(flagClientGone, 1) {
		t.Errorf("status %d, broken %t", f.status, f.broken)
	}
}

// fakeCarrier notes the connections that it is handed.
type fakeCarrier struct{ leaving chan (<-chan struct{}) }

func (f *fakeCarrier) Carry(c net.Conn, s Session) {
	defer c.Close()
	f.leaving <- s.Leaving()
	<-s.Leaving()
}

func TestConnectionsWithH2AreCarried(t *testing.T) {
	f := &fakeCarrier{make(chan (<-chan struct{}), 1)}
	r := newRig(t, httpsSpec(noChecks, backend(t, "b", nil)), func(c *Config) { c.HTTP2 = f })
	for protocol, want := range map[string]string{"h2": "h2", "http/1.1": "http/1.1"} {
		c, err := tls.Dial("tcp", r.addr(tlsVIP), &tls.Config{InsecureSkipVerify: true, ServerName: "www.demo.test", NextProtos: []string{protocol}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := c.ConnectionState().NegotiatedProtocol; got != want {
			t.Errorf("speaks %q", got)
		}
	}
	leaving := <-f.leaving
	select {
	case <-leaving:
		t.Error("told to leave before the gateway does")
	default:
	}
	r.stop()
	<-leaving
}

// fakePackets is a PacketCarrier that serves nobody.
type fakePackets struct {
	socket net.PacketConn
	admit  Admit
	done   chan struct{}
	once   sync.Once
	shut   bool
}

func (f *fakePackets) Listen(socket net.PacketConn, config *tls.Config, admit Admit) (PacketServer, error) {
	f.socket, f.admit = socket, admit
	if len(config.NextProtos) != 1 || config.NextProtos[0] != "h3" {
		return nil, errors.New("other protocols are offered")
	}
	return f, nil
}
func (f *fakePackets) Serve() error { <-f.done; return nil }
func (f *fakePackets) Shutdown(context.Context) error {
	f.shut = true
	return f.Close()
}
func (f *fakePackets) Close() error {
	f.once.Do(func() { f.socket.Close(); close(f.done) })
	return nil
}

// Where HTTP/3 is on, a UDP socket stands beside the port, and answers say so.
func TestHTTP3StandsBesideHTTPS(t *testing.T) {
	b := backend(t, "b", nil)
	f := &fakePackets{done: make(chan struct{})}
	var bound []string
	r := newRig(t, httpsSpec(noChecks, b), func(c *Config) {
		c.HTTP3 = f
		c.ListenPacket = func(ctx context.Context, network, address string) (net.PacketConn, error) {
			bound = append(bound, network+" "+address)
			return net.ListenPacket("udp4", "127.0.0.1:0")
		}
	})
	if len(bound) > 0 {
		t.Errorf("bound %q though HTTP/3 is off", bound)
	}
	pool := r.certificate("c1", "www.demo.test")
	if err := r.apply(httpsSpec(noChecks+"http3: true\n", b)); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(bound) != "[udp4 192.0.2.1:443]" {
		t.Errorf("bound %q", bound)
	}
	alt := func() string {
		res, err := r.client(tlsVIP, pool).Get("https://www.demo.test/")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.Header.Get("Alt-Svc")
	}
	if got := alt(); got != `h3=":443"; ma=86400` {
		t.Errorf("Alt-Svc is %q", got)
	}
	front, out := streamFront(strings.NewReader(""))
	h := h2Head(t, "GET", "/")
	h.Version, h.Length = wire.HTTP3, 0
	s, gone := f.admit(netip.MustParseAddrPort("203.0.113.9:1"), netip.MustParseAddrPort("192.0.2.1:443"), nil)
	done := serving(s, front, h)
	if body, _ := io.ReadAll(out); string(body) != "b" || front.status != 200 {
		t.Errorf("%d %q", front.status, body)
	}
	<-done
	gone()
	if err := r.apply(httpsSpec(noChecks, b)); err != nil {
		t.Fatal(err)
	}
	<-f.done
	if got := alt(); got != "" || !f.shut {
		t.Errorf("HTTP/3 is off: Alt-Svc is %q, shut down: %t", got, f.shut)
	}
}
