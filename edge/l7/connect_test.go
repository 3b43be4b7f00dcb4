package l7

import (
	"bufio"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"meridian/edge/l7/outlier"
	"meridian/edge/l7/wire"
	"meridian/fleet"
	"meridian/internal/testkit"
)

// forwardProxy is an endpoint that opens tunnels. What it says to a CONNECT is up
// to answer: nothing where that is empty, and after 2xx it goes on with the target.
type forwardProxy struct {
	address string
	asked   atomic.Int64
	heads   chan *http.Request
	leaked  chan string // what came behind a CONNECT that it has refused
}

const opened = "HTTP/1.1 200 Connection established\r\n"

func newForwardProxy(t *testing.T, answer string) *forwardProxy {
	p := &forwardProxy{heads: make(chan *http.Request, 8), leaked: make(chan string, 8)}
	s := httptest.NewServer(p.opens(t, answer))
	t.Cleanup(s.Close)
	p.address = s.Listener.Addr().String()
	return p
}

func (p *forwardProxy) opens(t *testing.T, answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			return
		}
		p.asked.Add(1)
		p.heads <- r
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if answer == "" {
			return
		}
		io.WriteString(c, answer+"\r\n")
		if !strings.HasPrefix(answer, "HTTP/1.1 2") {
			rest, _ := io.ReadAll(rw)
			p.leaked <- string(rest)
			return
		}
		to, err := net.Dial("tcp", r.RequestURI)
		if err != nil {
			t.Error(err)
			return
		}
		defer to.Close()
		go func() {
			io.Copy(to, rw)
			to.(*net.TCPConn).CloseWrite()
		}()
		io.Copy(c, to)
	}
}

// shouter is a server that gives each line back in capitals, and "bye" at the end.
func shouter(t *testing.T) string {
	return testkit.Serve(t, func(c net.Conn) {
		for in := bufio.NewReader(c); ; {
			s, err := in.ReadString('\n')
			if err != nil {
				io.WriteString(c, "bye\n")
				return
			}
			io.WriteString(c, strings.ToUpper(s))
		}
	})
}

// connectSpec lets CONNECT to any host pass to the proxies.
func connectSpec(more string, proxies ...string) string {
	return strings.Replace(httpSpec("routes: [{pool: main, connect: true}]\n"+noChecks+more, proxies...), "  hosts: [www.demo.test]\n", "", 1)
}

func connectHead(target string, fields ...string) string {
	return strings.Join(append([]string{"CONNECT " + target + " HTTP/1.1", "Host: " + target}, fields...), "\r\n") + "\r\n\r\n"
}

// readHead gives an answer's head without its last line.
func readHead(t *testing.T, in *bufio.Reader) string {
	t.Helper()
	var head strings.Builder
	for {
		s, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("%v after %q", err, head.String())
		}
		if s == "\r\n" {
			return head.String()
		}
		head.WriteString(s)
	}
}

// shouts sends lines through a tunnel to a shouter, and ends the client's side.
func shouts(t *testing.T, c net.Conn, in *bufio.Reader) {
	t.Helper()
	for i := range 3 {
		fmt.Fprintf(c, "line %d\n", i)
		if s, err := in.ReadString('\n'); err != nil || s != fmt.Sprintf("LINE %d\n", i) {
			t.Fatalf("%q, %v", s, err)
		}
	}
	c.(interface{ CloseWrite() error }).CloseWrite()
	if s, err := in.ReadString('\n'); err != nil || s != "bye\n" {
		t.Fatalf("after the client's end: %q, %v", s, err)
	}
	if _, err := in.ReadByte(); err != io.EOF {
		t.Errorf("after the target's end: %v", err)
	}
}

func dialConnect(t *testing.T, r *rig, request string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", r.addr(webVIP))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, request)
	return c, bufio.NewReader(c)
}

// A CONNECT that its route allows is a CONNECT to an endpoint, whose 2xx opens a
// tunnel, whatever its fields say of a body.
func TestConnectOpensATunnel(t *testing.T) {
	target := shouter(t)
	for _, answer := range []string{opened, opened + "Content-Length: 5\r\n", opened + "Transfer-Encoding: chunked\r\n", "HTTP/1.1 204 No Content\r\nConnection: close\r\n"} {
		p := newForwardProxy(t, answer)
		r := newRig(t, connectSpec("timeouts: {request: 10s}\n", p.address))
		c, in := dialConnect(t, r, connectHead(target, "Proxy-Authorization: Basic eDp5", "Proxy-Connection: keep-alive", "Connection: Upgrade", "Upgrade: websocket")+"first\n")
		head := readHead(t, in)
		if !strings.HasPrefix(head, "HTTP/1.1 200 ") || strings.Contains(head, "Content-Length") || strings.Contains(head, "Transfer-Encoding") || strings.Contains(head, "Connection:") {
			t.Errorf("%q: %q", answer, head)
		}
		if s, err := in.ReadString('\n'); err != nil || s != "FIRST\n" {
			t.Fatalf("%q: what came behind the head: %q, %v", answer, s, err)
		}
		if err := r.apply(connectSpec("", backend(t, "other", nil))); err != nil {
			t.Fatal(err)
		}
		shouts(t, c, in)
		got := <-p.heads
		if got.RequestURI != target || got.Host != target || got.ContentLength != 0 || got.Header.Get("Proxy-Authorization") != "Basic eDp5" || got.Header.Get("Proxy-Connection")+got.Header.Get("Upgrade") != "" {
			t.Errorf("%s %s %d %v", got.RequestURI, got.Host, got.ContentLength, got.Header)
		}
	}
}

// A refusal is an ordinary answer and ends the connection. What the client has
// sent behind its CONNECT reaches nobody.
func TestConnectThatTheProxyRefuses(t *testing.T) {
	p := newForwardProxy(t, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"p\"\r\nContent-Length: 4\r\nConnection: close\r\n\r\nno!")
	r := newRig(t, connectSpec("", p.address))
	out := r.raw(webVIP, connectHead("db.test:5432")+"GET /leak HTTP/1.1\r\nHost: db.test\r\n\r\n")
	if !strings.HasPrefix(out, "HTTP/1.1 407 ") || !strings.Contains(out, "Proxy-Authenticate: Basic realm=\"p\"\r\n") || !strings.Contains(out, "Connection: close\r\n") ||
		!strings.HasSuffix(out, "\r\n\r\nno!\r") || strings.Count(out, "HTTP/1.1") != 1 {
		t.Errorf("%q", out)
	}
	if s := <-p.leaked; s != "" {
		t.Errorf("the proxy got %q", s)
	}
	if n := p.asked.Load(); n != 1 {
		t.Errorf("the proxy was asked %d times", n)
	}
}

// Without a route that allows it CONNECT gets 405, and the connection ends.
func TestConnectIsRefusedUnlessAllowed(t *testing.T) {
	p := newForwardProxy(t, opened)
	spec := strings.Replace(httpSpec(`
healthcheck: {type: tcp, interval: 1h, timeout: 1s}
routes:
- {pool: main}
- {pool: main, hosts: [both.demo.test], methods: [CONNECT], connect: true}
- {pool: main, hosts: [beta.demo.test], headers: [{name: X-Beta}], connect: true}
`, p.address), "[www.demo.test]", "[\"*.demo.test\"]", 1)
	r := newRig(t, spec)
	for request, want := range map[string]string{
		connectHead("www.demo.test:443"):                                         "405",
		connectHead("elsewhere.test:443"):                                        "405",
		connectHead("beta.demo.test:443"):                                        "405",
		connectHead("both.demo.test:0"):                                          "400",
		connectHead("both.demo.test:65536"):                                      "400",
		connectHead("both.demo.test:443", "Content-Length: 3"):                   "400",
		connectHead("u@both.demo.test:443"):                                      "400",
		"CONNECT both.demo.test:443 HTTP/1.1\r\nHost: www.demo.test:443\r\n\r\n": "400",
	} {
		out := r.raw(webVIP, request+"GET /leak HTTP/1.1\r\nHost: www.demo.test\r\n\r\n")
		if !strings.HasPrefix(out, "HTTP/1.1 "+want) || !strings.Contains(out, "Connection: close\r\n") || strings.Count(out, "HTTP/1.1") != 1 {
			t.Errorf("%q: %q", request, out)
		}
	}
	if n := p.asked.Load(); n != 0 {
		t.Errorf("the proxy was asked %d times", n)
	}
	refuses := newForwardProxy(t, "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n")
	if err := r.apply(strings.Replace(spec, p.address, refuses.address, 1)); err != nil {
		t.Fatal(err)
	}
	for _, request := range []string{connectHead("both.demo.test:443"), connectHead("beta.demo.test:443", "X-Beta: 1")} {
		if out := r.raw(webVIP, request); !strings.HasPrefix(out, "HTTP/1.1 403 ") {
			t.Errorf("%q: %q", request, out)
		}
	}
}

// No answer of the gateway's own to a CONNECT may pass for a tunnel.
func TestOwnAnswersToConnectAreNoTunnels(t *testing.T) {
	p := newForwardProxy(t, opened)
	r := newRig(t, connectSpec("filters: {maintenance: {on: true, status: 200}}\n", p.address))
	if out := r.raw(webVIP, connectHead("db.test:5432")); !strings.HasPrefix(out, "HTTP/1.1 503 ") {
		t.Errorf("under maintenance: %q", out)
	}
	r.apply(httpSpec(noChecks, p.address))
	f, out := streamFront(strings.NewReader(""))
	go r.session().Serve(f, h2Connect(t, "www.demo.test:443", "content-type", "application/grpc"), nil)
	if io.ReadAll(out); f.status != 405 {
		t.Errorf("to one that looks like a call of gRPC: %d", f.status)
	}
}

// CONNECT by HTTP/2 and HTTP/3 has neither scheme nor path (RFC 9113 section 8.5,
// RFC 9114 section 4.4), and for the endpoint it is one of HTTP/1.1.
func TestConnectByStreams(t *testing.T) {
	target := shouter(t)
	p := newForwardProxy(t, opened+"Content-Length: 5\r\n")
	r := newRig(t, connectSpec("", p.address))
	body, client := io.Pipe()
	f, out := streamFront(body)
	done := serving(r.session(), f, h2Connect(t, target))
	io.WriteString(client, "hello\n")
	if s, err := out.ReadString('\n'); err != nil || s != "HELLO\n" {
		t.Fatalf("%q, %v", s, err)
	}
	client.Close()
	if s, err := io.ReadAll(out); string(s) != "bye\n" || err != nil {
		t.Errorf("the end: %q, %v", s, err)
	}
	<-done
	if f.status != 200 || strings.Contains(fmt.Sprint(f.fields), "Content-Length") {
		t.Errorf("%d %q", f.status, f.fields)
	}
	for _, authority := range []string{"db.test", "db.test:", "db.test:0", "[::1]"} {
		f, out := streamFront(strings.NewReader(""))
		go r.session().Serve(f, h2Connect(t, authority), nil)
		if io.ReadAll(out); f.status != 400 {
			t.Errorf("%s: %d", authority, f.status)
		}
	}
}

// Another's client speaks TLS with a server through the gateway and a proxy.
func TestClientsOfProxiesConnect(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
	t.Cleanup(s.Close)
	p := newForwardProxy(t, opened)
	r := newRig(t, connectSpec("", p.address))
	c := s.Client()
	tr := c.Transport.(*http.Transport)
	tr.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: r.addr(webVIP), User: url.UserPassword("u", "p")})
	if status, body := get(t, c, s.URL); status != 200 || body != "HTTP/1.1" {
		t.Errorf("%d %q", status, body)
	}
	if got := <-p.heads; got.Header.Get("Proxy-Authorization") != "Basic dTpw" {
		t.Errorf("the proxy got %v", got.Header)
	}
	tr.CloseIdleConnections()
}

// A route's hosts say where tunnels may lead; the proxy's name in TLS is another.
func TestConnectThroughTLS(t *testing.T) {
	_, port, _ := net.SplitHostPort(shouter(t))
	p := newForwardProxy(t, opened)
	spec := strings.Replace(httpsSpec("routes: [{pool: main, hosts: [localhost], connect: true}]\n"+noChecks, p.address), "  hosts: [www.demo.test]\n", "", 1)
	r := newRig(t, spec)
	roots := r.certificate("c1", "proxy.demo.test")
	if err := r.apply(spec); err != nil {
		t.Fatal(err)
	}
	c, err := tls.Dial("tcp", r.addr(tlsVIP), &tls.Config{RootCAs: roots, ServerName: "proxy.demo.test"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, connectHead("localhost:"+port))
	in := bufio.NewReader(c)
	if head := readHead(t, in); !strings.HasPrefix(head, "HTTP/1.1 200 ") {
		t.Fatal(head)
	}
	shouts(t, c, in)
}

// A proxy with TLS is known by its own name, not by that of the client's target.
func TestConnectToAProxyWithTLS(t *testing.T) {
	p := &forwardProxy{heads: make(chan *http.Request, 8)}
	s := httptest.NewTLSServer(p.opens(t, opened))
	t.Cleanup(s.Close)
	r := newRig(t, connectSpec("", s.Listener.Addr().String()))
	key := fleet.ObjectKey{Kind: fleet.ObjectCA, ID: "file:ca.pem"}
	r.objects = map[fleet.ObjectKey]fleet.Object{key: {Key: key, Data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})}}
	if err := r.apply(strings.Replace(connectSpec("", s.Listener.Addr().String()), "- id: main", "- id: main\n    tls: {ca: \"file:ca.pem\"}", 1)); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(shouter(t))
	c, in := dialConnect(t, r, connectHead("localhost:"+port))
	if head := readHead(t, in); !strings.HasPrefix(head, "HTTP/1.1 200 ") {
		t.Fatal(head)
	}
	shouts(t, c, in)
}

func TestConnectMayGoOnWhileDraining(t *testing.T) {
	p := newForwardProxy(t, opened)
	r := newRig(t, connectSpec("timeouts: {drain: 1s}\n", p.address))
	c, in := dialConnect(t, r, connectHead(shouter(t)))
	readHead(t, in)
	r.stop()
	until(t, "draining", r.g.draining.Load)
	io.WriteString(c, "still\n")
	if s, err := in.ReadString('\n'); err != nil || s != "STILL\n" {
		t.Fatalf("%q, %v", s, err)
	}
	if _, err := in.ReadByte(); err == nil {
		t.Error("the tunnel is still open")
	}
}

// A CONNECT that an endpoint has got is sent to no other, whatever came of it and
// whatever key it has, and no mirror gets a copy. One that none has got may be.
func TestConnectIsSentOnce(t *testing.T) {
	const retries = "retries: {attempts: 3, budget_percent: 100, retry_on: [connect_failure, reset, timeout, \"503\"]}\n"
	for answer, want := range map[string]string{"": "502", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n": "502", "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n": "503"} {
		a, b, copies := newForwardProxy(t, answer), newForwardProxy(t, answer), newForwardProxy(t, opened)
		spec := strings.Replace(connectSpec(retries, a.address, b.address), "connect: true", "connect: true, mirror: {pool: other}", 1)
		r := newRig(t, twoPools(spec, copies.address))
		if out := r.raw(webVIP, connectHead("db.test:5432", "Idempotency-Key: 1")); !strings.HasPrefix(out, "HTTP/1.1 "+want) || !strings.Contains(out, "Connection: close\r\n") {
			t.Errorf("%q: %q", answer, out)
		}
		r.stop()
		if err := <-r.ended; err != nil {
			t.Error(err)
		}
		r.ended <- nil
		if n := a.asked.Load() + b.asked.Load(); n != 1 || copies.asked.Load() > 0 {
			t.Errorf("%q: asked %d times, %d copies", answer, n, copies.asked.Load())
		}
	}
	target, p := shouter(t), newForwardProxy(t, opened)
	r := newRig(t, connectSpec(retries+"routing_policy: round_robin\n", dead(t), p.address))
	for range 2 {
		c, in := dialConnect(t, r, connectHead(target))
		if head := readHead(t, in); !strings.HasPrefix(head, "HTTP/1.1 200 ") {
			t.Fatal(head)
		}
		shouts(t, c, in)
	}
}

// The next region's gateways are not asked to open tunnels.
func TestConnectStaysInItsRegion(t *testing.T) {
	p := newForwardProxy(t, opened)
	spec := twoRegions(false, "routes: [{pool: main, connect: true}]\n"+noChecks, dead(t), p.address)
	fra, _ := pair(t, false, spec)
	if out := fra.raw(webVIP, connectHead("www.demo.test:443")); !strings.HasPrefix(out, "HTTP/1.1 503 ") || p.asked.Load() > 0 {
		t.Errorf("asked %d times: %q", p.asked.Load(), out)
	}
}

// What a proxy says of the targets that clients choose is no failure of its own.
func TestTargetsOfConnectEjectNoProxy(t *testing.T) {
	p := newForwardProxy(t, "HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: 0\r\n")
	r := newRig(t, connectSpec("", p.address))
	for range 3 {
		if out := r.raw(webVIP, connectHead("db.test:5432")); !strings.HasPrefix(out, "HTTP/1.1 502 ") {
			t.Fatal(out)
		}
	}
	v := r.g.gen.Load().services[0].pools[0].endpoints[0].vital
	if row, _ := v.outlier.Record(outlier.Failure, 0); row != 1 {
		t.Errorf("%d failures in a row", row-1)
	}
}

// h2Connect is a plain CONNECT as a carrier of streams gives it.
func h2Connect(t *testing.T, authority string, fields ...string) *wire.Head {
	t.Helper()
	h := &wire.Head{Version: wire.HTTP2, Method: []byte("CONNECT"), Authority: []byte(authority)}
	for i := 0; i < len(fields); i += 2 {
		h.Add(fields[i], fields[i+1])
	}
	if f := h.Request(); f != wire.NoFault {
		t.Fatal(f)
	}
	return h
}
