package h3

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"meridian/edge/l7"
	"meridian/edge/l7/route"
	"meridian/fleet"
	"meridian/health"
	"meridian/internal/testkit"
	"meridian/probe"
)

// gateway is a real one, with HTTP/3, in front of an endpoint.
type gateway struct {
	t     testing.TB
	g     *l7.Gateway
	c     *Carrier
	h     *health.Health
	ca    *testkit.Authority
	cert  fleet.Object
	stop  context.CancelFunc
	ended chan error

	endpoint, pool string // address, and the version of HTTP to it

	mu       sync.Mutex
	udp, tcp string
}

const gatewaySpec = `
regions: [{id: fra, location: {latitude: 50, longitude: 8}}]
nodes: [{name: edge-1, region: fra, roles: [l7], addresses: {v4: 10.0.0.1}, quic_server_id: 16909060}]
certificates: [{id: c1, cert: "file:c.pem", key: "file:k.pem"}]
services:
  - {service: web, protocol: https, http3: true, redirect_http: false, ports: [443], hosts: [demo.test],
     pools: [{id: main, protocol: %s, endpoints: [{address: "%s"}]}]}
`

func startGateway(t testing.TB, endpoint string, change ...func(*gateway, *l7.Config)) *gateway {
	t.Helper()
	w := &gateway{t: t, endpoint: endpoint, pool: "http1", c: newCarrier(t), ca: testkit.NewAuthority(t), ended: make(chan error, 1)}
	key := fleet.ObjectKey{Kind: fleet.ObjectCertificate, ID: "c1"}
	w.cert = fleet.Object{Key: key, Data: w.ca.Issue(t, "demo.test")}
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	var err error
	if w.h, err = health.New(health.Config{Node: "edge-1", Region: "fra", Roles: []fleet.Role{fleet.RoleL7}, Logger: logger}); err != nil {
		t.Fatal(err)
	}
	cfg := l7.Config{Node: "edge-1", Region: "fra", Health: w.h, Prober: probe.New(probe.Config{}), Grace: time.Millisecond, Logger: logger,
		Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, HTTP3: w.c,
		Listen: func(context.Context, string, string) (net.Listener, error) {
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			w.note(&w.tcp, err, func() string { return l.Addr().String() })
			return l, err
		},
		ListenPacket: func(context.Context, string, string) (net.PacketConn, error) {
			l, err := net.ListenPacket("udp4", "127.0.0.1:0")
			w.note(&w.udp, err, func() string { return l.LocalAddr().String() })
			return l, err
		}}
	for _, f := range change {
		f(w, &cfg)
	}
	if w.g, err = l7.New(cfg); err != nil {
		t.Fatal(err)
	}
	w.apply(endpoint, "")
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	go func() { w.ended <- w.g.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-w.ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return w
}

func (w *gateway) note(to *string, err error, at func() string) {
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		*to = at()
	}
}

// apply installs the Spec, with a change.
func (w *gateway) apply(endpoint, change string) {
	w.t.Helper()
	doc := fmt.Sprintf(gatewaySpec, w.pool, endpoint)
	if change != "" {
		doc = strings.Replace(doc, "http3: true", change, 1)
	}
	s, err := fleet.Compile([]byte(doc), 1, route.Check)
	if err != nil {
		w.t.Fatal(err)
	}
	world := &fleet.World{Snapshot: s, Objects: map[fleet.ObjectKey]fleet.Object{w.cert.Key: w.cert}}
	if err := errors.Join(w.h.Apply(world), w.c.Apply(world), w.g.Apply(world)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *gateway) tls() *tls.Config {
	return &tls.Config{RootCAs: w.ca.Pool, ServerName: "demo.test", NextProtos: []string{Protocol}}
}

func (w *gateway) client() *http.Client {
	t := &http3.Transport{TLSClientConfig: w.tls(), Dial: func(ctx context.Context, _ string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
		return quic.DialAddr(ctx, w.udp, c, q)
	}}
	w.t.Cleanup(func() { t.Close() })
	return &http.Client{Transport: t, Timeout: 30 * time.Second}
}

// The whole way: Alt-Svc over TCP, then HTTP/3 to the endpoint and back, bodies
// of 20 MB both ways; the endpoint learns of the client as from any other.
func TestGatewayServesHTTP3(t *testing.T) {
	var seen atomic.Pointer[http.Request]
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" { // no check
			seen.Store(r)
		}
		if _, err := io.Copy(w, r.Body); err != nil {
			t.Error(err)
		}
	}))
	defer endpoint.Close()
	w := startGateway(t, endpoint.Listener.Addr().String())
	tcp := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.ca.Pool, ServerName: "demo.test"},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", w.tcp)
		}}}
	defer tcp.CloseIdleConnections()
	eventually(t, "the endpoint is up", func() bool { return w.g.Ready() == nil })
	a, err := tcp.Get("https://demo.test/")
	if err != nil {
		t.Fatal(err)
	}
	a.Body.Close()
	if got := a.Header.Values("Alt-Svc"); len(got) != 1 || got[0] != `h3=":443"; ma=86400` {
		t.Errorf("Alt-Svc %q", got)
	}
	body := make([]byte, 20<<20)
	rand.NewChaCha8([32]byte{}).Read(body)
	q, _ := http.NewRequest("POST", "https://demo.test/up?a=b", bytes.NewReader(body))
	q.Header["Cookie"] = []string{"a=1", "b=2"}
	if a, err = w.client().Do(q); err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, a.Body)
	if want := sha256.Sum256(body); err != nil || n != int64(len(body)) || !bytes.Equal(sum.Sum(nil), want[:]) {
		t.Errorf("%d octets of %d, %v", n, len(body), err)
	}
	r := seen.Load()
	if r.Header.Get("X-Forwarded-Proto") != "https" || r.Header.Get("X-Forwarded-For") != "127.0.0.1" || r.Header.Get("Cookie") != "a=1; b=2" || r.Host != "demo.test" || r.URL.String() != "/up?a=b" {
		t.Errorf("the endpoint saw %s %s, %v", r.Host, r.URL, r.Header)
	}
	if code, _ := get(t, w.client(), "https://other.test/"); code < 400 {
		t.Errorf("a host that is not served: %d", code)
	}
}

// Under requests without a pause, the Spec is applied over and over: none
// fails. Then the service has HTTP/3 no more, and clients are let go.
func TestGatewayAppliesUnderHTTP3(t *testing.T) {
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "here") }))
	defer endpoint.Close()
	at := endpoint.Listener.Addr().String()
	w := startGateway(t, at)
	eventually(t, "the endpoint is up", func() bool { return w.g.Ready() == nil })
	c := w.client()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 100 {
				if code, body := get(t, c, "https://demo.test/"); code != 200 || body != "here" {
					t.Errorf("%d %s", code, body)
				}
			}
		})
	}
	for i := range 20 {
		w.apply(at, fmt.Sprintf("http3: true, timeouts: {idle: %ds}", 30+i))
	}
	all.Wait()
	q, err := quic.DialAddr(t.Context(), w.udp, w.tls(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t}
	r.uni(q, []byte{streamControl, frameSettings, 0})
	s := r.stream(q, request("GET"))
	s.Close()
	if _, err := io.ReadAll(s); err != nil { // a handshake that has not ended there would be refused
		t.Fatal(err)
	}
	w.apply(at, "http3: false")
	if got := waitFor(t, q); got != noError {
		t.Errorf("code 0x%x", got)
	}
}

// A gateway that stops answers what it has begun.
func TestGatewayDrainsHTTP3(t *testing.T) {
	begun, answer := make(chan struct{}), make(chan struct{})
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(begun)
			<-answer
		}
		io.WriteString(w, "whole")
	}))
	defer endpoint.Close()
	w := startGateway(t, endpoint.Listener.Addr().String())
	eventually(t, "the endpoint is up", func() bool { return w.g.Ready() == nil })
	got := make(chan string)
	c := w.client()
	go func() {
		_, body := get(t, c, "https://demo.test/slow")
		got <- body
	}()
	<-begun
	w.stop()
	eventually(t, "it drains", func() bool { return w.g.Ready() != nil })
	close(answer)
	if body := <-got; body != "whole" {
		t.Errorf("%q", body)
	}
}

// A WebSocket over HTTP/3 (RFC 9220) is an Upgrade to the endpoint, which
// echoes frames.
func TestGatewayWebSocketOverHTTP3(t *testing.T) {
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" { // a health check
			return
		}
		if r.Method != "GET" || r.Header.Get("Sec-WebSocket-Version") != "13" {
			t.Errorf("%s %v", r.Method, r.Header)
		}
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
			acceptOf(r.Header.Get("Sec-WebSocket-Key")))
		_, _ = io.Copy(c, rw)
	}))
	defer endpoint.Close()
	w := startGateway(t, endpoint.Listener.Addr().String())
	eventually(t, "the endpoint is up", func() bool { return w.g.Ready() == nil })
	q, err := quic.DialAddr(t.Context(), w.udp, w.tls(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer q.CloseWithError(0x100, "")
	r := &rig{t: t}
	r.uni(q, []byte{streamControl, frameSettings, 0})
	s := r.stream(q, request("CONNECT", ":protocol", "websocket", "sec-websocket-version", "13"))
	in := bufio.NewReader(s)
	kind, head, err := readAny(in)
	if fields, e := elsewhere(head); kind != frameHeaders || err != nil || e != nil || fields[0] != [2]string{":status", "200"} {
		t.Fatalf("%d %q, %v, %v", kind, fields, err, e)
	}
	for _, text := range []string{"one", "two"} {
		if _, err := s.Write(frame(frameData, []byte(text)...)); err != nil {
			t.Fatal(err)
		}
		if kind, b, err := readAny(in); kind != frameData || string(b) != text || err != nil {
			t.Fatal(kind, string(b), err)
		}
	}
	s.Close()
	if b, err := io.ReadAll(in); len(b) > 0 || err != nil {
		t.Errorf("%x, %v", b, err)
	}
}

// A plain CONNECT over HTTP/3 (RFC 9114 section 4.4) that a route allows is a
// tunnel, of which each way ends alone.
func TestGatewayConnectOverHTTP3(t *testing.T) {
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "CONNECT" { // a health check
			return
		}
		if r.RequestURI != "demo.test:5432" || r.Host != r.RequestURI {
			t.Errorf("%s of %s", r.RequestURI, r.Host)
		}
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
		_, _ = io.Copy(c, rw)
		fmt.Fprint(c, "bye")
	}))
	defer endpoint.Close()
	w := startGateway(t, endpoint.Listener.Addr().String())
	w.apply(w.endpoint, "http3: true, routes: [{pool: main, connect: true}]")
	eventually(t, "the endpoint is up", func() bool { return w.g.Ready() == nil })
	q, err := quic.DialAddr(t.Context(), w.udp, w.tls(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer q.CloseWithError(0x100, "")
	r := &rig{t: t}
	r.uni(q, []byte{streamControl, frameSettings, 0})
	s := r.stream(q, join(headers(":method", "CONNECT", ":authority", "demo.test:5432"), frame(frameData, []byte("early")...)))
	in := bufio.NewReader(s)
	kind, head, err := readAny(in)
	if fields, e := elsewhere(head); kind != frameHeaders || err != nil || e != nil || fields[0] != [2]string{":status", "200"} || strings.Contains(fmt.Sprint(fields), "content-length") {
		t.Fatalf("%d %q, %v, %v", kind, fields, err, e)
	}
	for _, text := range []string{"early", "one"} {
		if text != "early" {
			if _, err := s.Write(frame(frameData, []byte(text)...)); err != nil {
				t.Fatal(err)
			}
		}
		if kind, b, err := readAny(in); kind != frameData || string(b) != text || err != nil {
			t.Fatal(kind, string(b), err)
		}
	}
	s.Close()
	if kind, b, err := readAny(in); kind != frameData || string(b) != "bye" || err != nil {
		t.Error(kind, string(b), err)
	}
	if b, err := io.ReadAll(in); len(b) > 0 || err != nil {
		t.Errorf("%x, %v", b, err)
	}
}
