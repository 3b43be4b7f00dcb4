package h2

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/http2"

	"meridian/edge/l7"
	"meridian/edge/l7/route"
	"meridian/fleet"
	"meridian/health"
	"meridian/internal/testkit"
	"meridian/probe"
)

// rig is a Gateway with one https service, at a port of loopback.
type rig struct {
	at    string // HOST:PORT
	roots *x509.CertPool
	stop  func() // drains, and waits until it has ended
	apply func(spec string)
	g     *l7.Gateway
}

// gateway starts one on a Spec made by spec or grown from it.
func gateway(t testing.TB, spec string, change ...func(*l7.Config)) *rig {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	checks, err := health.New(health.Config{Node: "n1", Region: "fra", Roles: []fleet.Role{fleet.RoleL7}, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{}
	cfg := l7.Config{Node: "n1", Region: "fra", Health: checks, Prober: probe.New(probe.Config{}), Grace: time.Millisecond, Logger: logger,
		HTTP2: New(), Mux: NewUpstream,
		Listen: func(ctx context.Context, _, _ string) (net.Listener, error) {
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err == nil {
				r.at = l.Addr().String()
			}
			return l, err
		}}
	for _, f := range change {
		f(&cfg)
	}
	g, err := l7.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.g = g
	cert, roots := certificate(t, "www.demo.test")
	r.roots = roots
	key := fleet.ObjectKey{Kind: fleet.ObjectCertificate, ID: "c1"}
	r.apply = func(spec string) {
		t.Helper()
		s, err := fleet.Compile([]byte(spec), 1, route.Check)
		if err != nil {
			t.Fatal(err)
		}
		w := &fleet.World{Snapshot: s, Objects: map[fleet.ObjectKey]fleet.Object{key: {Key: key, Data: cert}}}
		if err := checks.Apply(w); err != nil {
			t.Fatal(err)
		}
		if err := g.Apply(w); err != nil {
			t.Fatal(err)
		}
	}
	r.apply(spec)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		if err := g.Run(ctx); err != nil {
			t.Error(err)
		}
		close(ended)
	}()
	r.stop = func() { cancel(); <-ended }
	t.Cleanup(r.stop)
	return r
}

// spec is a fleet with an https service; more is put below the service, pool
// below its pool main.
func spec(more, pool string, endpoints ...string) string {
	s := `
regions: [{id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.1]}}]
nodes: [{name: n1, region: fra, roles: [l7], addresses: {v4: 10.0.0.1}}]
certificates: [{id: c1, cert: "file:c1.pem", key: "file:c1.key"}]
services:
- service: web
  protocol: https
  redirect_http: false
  ports: [443]
  hosts: [www.demo.test]
  healthcheck: {type: tcp, interval: 1h}
  ` + more + `
  pools:
  - id: main
    ` + pool + `
    endpoints:
`
	for _, e := range endpoints {
		s += "    - {address: \"" + e + "\"}\n"
	}
	return s
}

func certificate(t testing.TB, name string) ([]byte, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...), pool
}

// dialTLS connects with HTTP/2 agreed on.
func (r *rig) dialTLS(t testing.TB) net.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", r.at, &tls.Config{RootCAs: r.roots, ServerName: "www.demo.test", NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (r *rig) client(t testing.TB) *http.Client {
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.roots}, ForceAttemptHTTP2: true, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", r.at)
		}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// plain is an endpoint that speaks HTTP/1.1.
func plain(t testing.TB, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// echo says the request, and gives its body back.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body) // net/http's HTTP/1.1 reads no more once it answers
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Said", fmt.Sprintf("%s %s %s %s %s", r.Proto, r.Method, r.Host, r.URL, r.Header.Get("X-Forwarded-Proto")))
	w.Header().Set("Cookies", strings.Join(r.Header["Cookie"], "|"))
	w.Write(body)
}

// The same requests through the gateway, to endpoints with either version.
func TestThroughTheGateway(t *testing.T) {
	for _, tc := range []struct{ name, pool, at, proto string }{
		{"HTTP/1.1 behind", "", plain(t, echo), "HTTP/1.1"},
		{"HTTP/2 behind", "protocol: h2", endpoint(t, echo, 100), "HTTP/2.0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := gateway(t, spec("", tc.pool, tc.at))
			c := r.client(t)
			var all sync.WaitGroup
			for i := range 30 {
				all.Go(func() {
					body := strings.Repeat("b", i*10000)
					req, _ := http.NewRequest("POST", fmt.Sprintf("https://www.demo.test/%d", i), strings.NewReader(body))
					if i%2 == 0 {
						req.ContentLength = -1
					}
					req.Header["Cookie"] = []string{"a=1", "b=2"}
					res, err := c.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					defer res.Body.Close()
					got, err := io.ReadAll(res.Body)
					if err != nil || string(got) != body || res.StatusCode != 200 || res.Proto != "HTTP/2.0" {
						t.Errorf("%d: %d %s, %d octets of %d, %v", i, res.StatusCode, res.Proto, len(got), len(body), err)
					}
					if want := fmt.Sprintf("%s POST www.demo.test /%d https", tc.proto, i); res.Header.Get("Said") != want || res.Header.Get("Cookies") != "a=1; b=2" {
						t.Errorf("%q %q", res.Header.Get("Said"), res.Header.Get("Cookies"))
					}
				})
			}
			all.Wait()
			for _, method := range []string{"HEAD", "GET"} {
				req, _ := http.NewRequest(method, "https://www.demo.test/", nil)
				res, err := c.Do(req)
				if err != nil || res.StatusCode != 200 {
					t.Fatal(res, err)
				}
				res.Body.Close()
			}
		})
	}
}

// h2spec again, through TLS and the gateway's own engine.
func TestH2specThroughTheGateway(t *testing.T) {
	path, err := exec.LookPath("h2spec")
	testkit.Need(t, err == nil, "h2spec")
	at := plain(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "hello, h2spec")
	})
	s := strings.Replace(spec("", "", at), "hosts: [www.demo.test]", "hosts: []", 1)
	host, port, _ := net.SplitHostPort(gateway(t, s).at)
	out, err := exec.Command(path, "-S", "-t", "-k", "-h", host, "-p", port, "-o", "2", "--max-header-length", "4000").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "0 failed") {
		t.Errorf("%v\n%s", err, out)
	}
}

// WebSocket by extended CONNECT (RFC 8441) reaches an endpoint of HTTP/1.1 as
// RFC 6455 has it.
func TestWebSocketThroughTheGateway(t *testing.T) {
	at := plain(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.Method != "GET" {
			w.WriteHeader(400)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n", acceptKey(r.Header.Get("Sec-WebSocket-Key")))
		rw.Flush()
		for in := bufio.NewReader(rw); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			io.WriteString(c, "<"+line)
		}
	})
	p := greeted(t, gateway(t, spec("", "", at)).dialTLS(t))
	p.head(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", "/chat", ":authority", "www.demo.test", "sec-websocket-version", "13")
	if h := p.answer(1); h.PseudoValue("status") != "200" {
		t.Fatal(h)
	}
	for _, word := range []string{"one\n", "two\n"} {
		p.WriteData(1, false, []byte(word))
		d := p.until(func(f http2.Frame) bool { _, ok := f.(*http2.DataFrame); return ok }).(*http2.DataFrame)
		if string(d.Data()) != "<"+word {
			t.Errorf("%q", d.Data())
		}
	}
	p.WriteData(1, true, nil)
	p.ended(1)
	p.head(3, true, ":method", "CONNECT", ":authority", "www.demo.test:22")
	if h := p.answer(3); h.PseudoValue("status") != "405" {
		t.Errorf("a plain CONNECT: %v", h)
	}
}

// A plain CONNECT (RFC 9113 section 8.5) that a route allows is a tunnel, of which
// each way ends alone.
func TestConnectThroughTheGateway(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "CONNECT" {
			return
		}
		if r.RequestURI != "www.demo.test:5432" || r.Host != r.RequestURI || r.ContentLength != 0 {
			t.Errorf("%s of %s, %d", r.RequestURI, r.Host, r.ContentLength)
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
		io.Copy(c, rw)
		io.WriteString(c, "bye")
	}))
	t.Cleanup(s.Close)
	allowed := spec("routes: [{pool: main, connect: true}]", "", s.Listener.Addr().String())
	p := greeted(t, gateway(t, allowed).dialTLS(t))
	p.head(1, false, ":method", "CONNECT", ":authority", "www.demo.test:5432")
	p.WriteData(1, false, []byte("early"))
	if h := p.answer(1); h.PseudoValue("status") != "200" || len(h.RegularFields()) > 0 && strings.Contains(fmt.Sprint(h.RegularFields()), "content-length") {
		t.Fatal(h)
	}
	for _, word := range []string{"early", "one"} {
		if word != "early" {
			p.WriteData(1, false, []byte(word))
		}
		d := p.until(func(f http2.Frame) bool { _, ok := f.(*http2.DataFrame); return ok }).(*http2.DataFrame)
		if string(d.Data()) != word || d.StreamEnded() {
			t.Errorf("%q", d.Data())
		}
	}
	p.WriteData(1, true, nil)
	if got := p.ended(1); got != "bye" {
		t.Errorf("%q", got)
	}
	p.head(3, true, ":method", "CONNECT", ":authority", "www.demo.test")
	if h := p.answer(3); h.PseudoValue("status") != "400" {
		t.Errorf("one without a port: %v", h)
	}
}

// A gateway that ends serves what is under way, after GOAWAY.
func TestDrainOfTheGateway(t *testing.T) {
	begun, goOn := make(chan bool, 1), make(chan bool)
	at := plain(t, func(w http.ResponseWriter, r *http.Request) {
		begun <- true
		<-goOn
		io.WriteString(w, "whole")
	})
	r := gateway(t, spec("", "", at))
	p := greeted(t, r.dialTLS(t))
	p.ask(1, true)
	<-begun
	done := make(chan bool)
	go func() { r.stop(); close(done) }()
	p.away()
	close(goOn)
	if got := p.ended(1); got != "whole" {
		t.Errorf("%q", got)
	}
	<-done
}

// Endpoints that turn a request away without acting on it, and those that break,
// are replaced by others as the retry rules say.
func TestRetriesOverHTTP2(t *testing.T) {
	refusing := fake(t, func(p *peer) {
		for id := p.asked(); id != 0; id = p.asked() {
			p.WriteRSTStream(id, http2.ErrCodeRefusedStream)
		}
	})
	good := endpoint(t, echo, 100)
	c := gateway(t, spec("retries: {attempts: 2}", "protocol: h2", refusing, good)).client(t)
	for i := range 10 {
		req, _ := http.NewRequest("PATCH", "https://www.demo.test/", nil) // which is not idempotent
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 200 {
			t.Errorf("%d: %d", i, res.StatusCode)
		}
	}
}

// Each try's endpoint is told of that try's span, all of one trace.
func TestEachTryOverHTTP2HasItsSpan(t *testing.T) {
	told := make(chan string, 10)
	fails := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		told <- r.Header.Get("Traceparent")
		w.WriteHeader(503)
	}, 100)
	r := gateway(t, spec("retries: {attempts: 2, retry_on: [\"503\"]}", "protocol: h2", fails)+"gateway: {tracing: {endpoint: \"127.0.0.1:4317\", sample: 1}}\n")
	res, err := r.client(t).Get("https://www.demo.test/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	parents := map[string]bool{}
	trace := ""
	for range len(told) {
		p := <-told
		if len(p) != 55 || trace != "" && p[:35] != trace {
			t.Errorf("told %q, before of trace %q", p, trace)
			continue
		}
		trace = p[:35]
		parents[p[36:52]] = true
	}
	if len(parents) != 3 {
		t.Errorf("%d spans of 3 tries", len(parents))
	}
}

// A pool that changes lets requests under way end; no connection of the old one
// stays.
func TestApplyKeepsCallsUnderWay(t *testing.T) {
	begun, goOn := make(chan bool, 1), make(chan bool)
	var states sync.Map
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun <- true
		<-goOn
		io.WriteString(w, "old")
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.ConnState = func(c net.Conn, st http.ConnState) { states.Store(c, st) }
	s.Start()
	defer s.Close()
	r := gateway(t, spec("", "protocol: h2", s.Listener.Addr().String()))
	got := make(chan string, 1)
	go func() {
		res, err := r.client(t).Get("https://www.demo.test/")
		if err != nil {
			got <- err.Error()
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		got <- string(b)
	}()
	<-begun
	r.apply(spec("", "protocol: h2", endpoint(t, echo, 10)))
	close(goOn)
	if b := <-got; b != "old" {
		t.Errorf("%q", b)
	}
	if !eventually(func() bool {
		open := false
		states.Range(func(_, st any) bool { open = open || st != http.StateClosed; return true })
		return !open
	}) {
		t.Error("a connection to the old endpoint stays")
	}
}

// The metrics tell of floods.
func TestAbuseIsCounted(t *testing.T) {
	r := gateway(t, spec("", "", plain(t, echo)))
	p := greeted(t, r.dialTLS(t))
	go func() {
		w := http2.NewFramer(p.c, nil)
		for range 5000 {
			w.WriteSettings()
		}
	}()
	p.away()
	reg := prometheus.NewPedanticRegistry()
	r.g.Register(reg)
	if !eventually(func() bool {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if l.GetValue() == "settings_flood" && m.GetCounter().GetValue() == 1 {
						return true
					}
				}
			}
		}
		return false
	}) {
		t.Error("no metric tells of the flood")
	}
}
