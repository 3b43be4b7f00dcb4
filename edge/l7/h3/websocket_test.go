package h3

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"meridian/edge/l7"
	"meridian/edge/l7/h2"
	"meridian/internal/testkit"
)

// nodeEndpoint is Node's HTTP/2 as an endpoint that takes WebSocket, or not.
func nodeEndpoint(t *testing.T, takes string) string {
	t.Helper()
	c := exec.Command(testkit.Program(t, "node"), "testdata/websocket.js", takes)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = c.Wait()
	})
	port := 0
	if _, err := fmt.Fscanf(out, "port %d\n", &port); err != nil {
		t.Fatalf("node: %v", err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// overHTTP2 has a gateway take HTTP/2 on both sides.
func overHTTP2(w *gateway, c *l7.Config) {
	w.pool = "h2"
	c.HTTP2, c.Mux = h2.New(), h2.NewUpstream
}

// A WebSocket of any client is an extended CONNECT for endpoints of HTTP/2 (RFC
// 8441), here Node's: octets pass both ways, and the end of each direction.
func TestWebSocketToEndpointsOfHTTP2(t *testing.T) {
	w := startGateway(t, nodeEndpoint(t, "takes"), overHTTP2)
	eventually(t, "the endpoint is up", func() bool { return w.g.Ready() == nil })
	for name, open := range webSockets {
		t.Run(name, func(t *testing.T) {
			ws := open(t, w, "chat")
			if ws.status != ws.opened || ws.protocol != "chat" {
				t.Fatalf("status %d, protocol %q", ws.status, ws.protocol)
			}
			in := bufio.NewReader(ws)
			expect := func(want string) {
				t.Helper()
				if got, err := in.ReadString('\n'); got != want || err != nil {
					t.Errorf("%q, %v; expected %q", got, err, want)
				}
			}
			expect("first\n")
			for _, text := range []string{"one\n", "two\n", strings.Repeat("x", 100<<10) + "\n"} {
				said := ws.say(text)
				expect(strings.ToUpper(text))
				<-said
			}
			ws.end()
			expect("last\n")
			if b, err := io.ReadAll(in); len(b) > 0 || err != nil {
				t.Errorf("after the end: %q, %v", b, err)
			}
			if ws := open(t, w, "none"); ws.status != http.StatusForbidden {
				t.Errorf("one that the endpoint refuses: %d", ws.status)
			}
		})
	}
}

// A WebSocket keeps its endpoint when the pool has another.
func TestWebSocketToEndpointsOfHTTP2OutlivesApply(t *testing.T) {
	w := startGateway(t, nodeEndpoint(t, "takes"), overHTTP2)
	eventually(t, "the endpoint is up", func() bool { return w.g.Ready() == nil })
	list := map[string]webSocket{}
	for name, open := range webSockets {
		list[name] = open(t, w, "chat")
	}
	w.apply(nodeEndpoint(t, "takes none"), "")
	for name, ws := range list {
		said := ws.say("still here\n")
		in := bufio.NewReader(ws)
		for _, want := range []string{"first\n", "STILL HERE\n"} {
			if got, err := in.ReadString('\n'); got != want || err != nil {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		<-said
		if next := webSockets[name](t, w, "chat"); next.status != http.StatusNotImplemented {
			t.Errorf("%s: a later one: status %d", name, next.status)
		}
		ws.end()
	}
}

// A gateway that ends keeps no WebSocket beyond the drain timeout.
func TestWebSocketToEndpointsOfHTTP2EndsWithTheGateway(t *testing.T) {
	w := startGateway(t, nodeEndpoint(t, "takes"), overHTTP2)
	w.apply(w.endpoint, "http3: true, timeouts: {drain: 100ms}")
	eventually(t, "the endpoint is up", func() bool { return w.g.Ready() == nil })
	list := map[string]webSocket{}
	for name, open := range webSockets {
		ws := open(t, w, "chat")
		if got, err := bufio.NewReader(io.LimitReader(ws, 6)).ReadString('\n'); got != "first\n" {
			t.Fatalf("%s: %q, %v", name, got, err)
		}
		list[name] = ws
	}
	w.stop()
	for name, ws := range list {
		if _, err := io.Copy(io.Discard, ws); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: it stays open", name)
		}
	}
}

// An endpoint that has not said that it takes an extended CONNECT gets none;
// another one does, where there is one. The client is told, and it is counted.
func TestWebSocketToEndpointsOfHTTP2ThatTakeNone(t *testing.T) {
	w := startGateway(t, nodeEndpoint(t, "takes none"), overHTTP2)
	eventually(t, "the endpoint is up", func() bool { return w.g.Ready() == nil })
	registry := prometheus.NewRegistry()
	w.g.Register(registry)
	for name, open := range webSockets {
		if ws := open(t, w, "chat"); ws.status != http.StatusNotImplemented {
			t.Errorf("%s: status %d", name, ws.status)
		}
	}
	counted := func() (n float64) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == "meridian_l7_failures_total" && strings.Contains(m.String(), `"BR"`) {
					n += m.GetCounter().GetValue()
				}
			}
		}
		return n
	}
	eventually(t, "three are counted", func() bool { return counted() == 3 })

	w.apply(w.endpoint+`"}, {address: "`+nodeEndpoint(t, "takes"), "")
	for name, open := range webSockets {
		for range 4 {
			if ws := open(t, w, "chat"); ws.status != ws.opened {
				t.Errorf("%s, with an endpoint that takes them: status %d", name, ws.status)
			}
		}
	}
}

// webSocket is a client's, which the gateway has answered.
type webSocket struct {
	io.Reader
	io.Writer
	end            func() // of the client's direction
	status, opened int    // what came, and what says that it is open
	protocol       string
}

// say sends a text, which may wait for the answers to be read.
func (ws *webSocket) say(text string) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.WriteString(ws, text) // which would not be answered
	}()
	return done
}

// webSockets open one by each version of HTTP.
var webSockets = map[string]func(t *testing.T, w *gateway, protocol string) webSocket{
	"HTTP/1.1": webSocketByHTTP1,
	"HTTP/2":   webSocketByHTTP2,
	"HTTP/3":   webSocketByHTTP3,
}

func webSocketByHTTP1(t *testing.T, w *gateway, protocol string) webSocket {
	c, err := tls.Dial("tcp", w.tcp, &tls.Config{RootCAs: w.ca.Pool, ServerName: "demo.test", NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	fmt.Fprintf(c, "GET /chat HTTP/1.1\r\nHost: demo.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: %s\r\n\r\n", key, protocol)
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := res.Header
	if res.StatusCode == 101 && (h.Get("Upgrade") != "websocket" || h.Get("Connection") != "Upgrade" || h.Get("Sec-WebSocket-Accept") != acceptOf(key)) {
		t.Errorf("the handshake: %v", h)
	}
	return webSocket{in, c, func() { c.CloseWrite() }, res.StatusCode, 101, h.Get("Sec-WebSocket-Protocol")}
}

func webSocketByHTTP2(t *testing.T, w *gateway, protocol string) webSocket {
	c, err := tls.Dial("tcp", w.tcp, &tls.Config{RootCAs: w.ca.Pool, ServerName: "demo.test", NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, http2.ClientPreface)
	s := &stream2{fr: http2.NewFramer(c, c)}
	s.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	s.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	s.fr.WriteWindowUpdate(0, 1<<20)
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "https"}, {":authority", "demo.test"}, {":path", "/chat"}, {"sec-websocket-version", "13"}, {"sec-websocket-protocol", protocol}} {
		enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	s.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	ws := webSocket{s, s, func() { s.fr.WriteData(1, true, nil) }, 0, 200, ""}
	for ws.status == 0 {
		f, err := s.fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if h, ok := f.(*http2.MetaHeadersFrame); ok {
			fmt.Sscan(h.PseudoValue("status"), &ws.status)
			for _, f := range h.RegularFields() {
				if f.Name == "sec-websocket-protocol" {
					ws.protocol = f.Value
				}
			}
		}
	}
	return ws
}

// stream2 reads and writes what DATA frames of HTTP/2 hold.
type stream2 struct {
	fr   *http2.Framer
	left []byte
	end  bool
}

func (s *stream2) Read(p []byte) (int, error) {
	for len(s.left) == 0 {
		if s.end {
			return 0, io.EOF
		}
		f, err := s.fr.ReadFrame()
		if err != nil {
			return 0, err
		}
		if d, ok := f.(*http2.DataFrame); ok {
			s.left, s.end = bytes.Clone(d.Data()), d.StreamEnded()
		}
	}
	n := copy(p, s.left)
	s.left = s.left[n:]
	return n, nil
}

func (s *stream2) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), 16<<10)
		if err := s.fr.WriteData(1, false, rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

func webSocketByHTTP3(t *testing.T, w *gateway, protocol string) webSocket {
	q, err := quic.DialAddr(t.Context(), w.udp, w.tls(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.CloseWithError(0x100, "") })
	r := &rig{t: t}
	r.uni(q, []byte{streamControl, frameSettings, 0})
	s := r.stream(q, headers(":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "demo.test", ":path", "/chat", "sec-websocket-version", "13", "sec-websocket-protocol", protocol))
	in := bufio.NewReader(s)
	_, b, err := readAny(in)
	if err != nil {
		t.Fatal(err)
	}
	fields, err := elsewhere(b)
	if err != nil {
		t.Fatal(err)
	}
	ws := webSocket{&dataReader{r: in}, dataWriter{s}, func() { s.Close() }, 0, 200, ""}
	for _, f := range fields {
		switch f[0] {
		case ":status":
			fmt.Sscan(f[1], &ws.status)
		case "sec-websocket-protocol":
			ws.protocol = f[1]
		}
	}
	return ws
}

// dataReader reads what DATA frames hold.
type dataReader struct {
	r    *bufio.Reader
	left []byte
}

func (d *dataReader) Read(p []byte) (int, error) {
	for len(d.left) == 0 {
		kind, b, err := readAny(d.r)
		if err != nil {
			return 0, err
		}
		if kind == frameData {
			d.left = b
		}
	}
	n := copy(p, d.left)
	d.left = d.left[n:]
	return n, nil
}

type dataWriter struct{ s *quic.Stream }

func (d dataWriter) Write(p []byte) (int, error) {
	if _, err := d.s.Write(frame(frameData, p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}
