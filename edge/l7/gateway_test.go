package l7

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"meridian/fleet"
)

const tlsVIP = "192.0.2.1:443"

func TestApplyIsAllOrNothing(t *testing.T) {
	b := backend(t, "old", nil)
	r := newRig(t, httpSpec("", b))
	c := r.client(webVIP, nil)
	for name, tc := range map[string]struct {
		spec string
		want string
	}{
		"a socket that cannot be opened": {strings.Replace(httpSpec("", backend(t, "new", nil)), "ports: [80]", "ports: [80, 81, 82]", 1), "listen on 192.0.2.1:82"},
		"a certificate that is missing":  {httpsSpec("", b), `certificates[0]: certificate "c1" is not among the objects`},
		"authorities that are missing":   {strings.Replace(httpSpec("", b), "- id: main", "- id: main\n    tls: {ca: \"file:ca.pem\"}", 1), `pool "main": the authorities "file:ca.pem" are not among the objects`},
	} {
		r.fail["192.0.2.1:82"] = true
		err := r.apply(tc.spec)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
		if status, body := get(t, c, "http://www.demo.test/"); status != 200 || body != "old" {
			t.Errorf("%s: then got %d %q", name, status, body)
		}
		if len(r.g.listeners) != 1 {
			t.Errorf("%s: %d listeners stay open", name, len(r.g.listeners))
		}
	}
}

func TestListenersComeAndGoWithApply(t *testing.T) {
	b := backend(t, "b", nil)
	r := newRig(t, httpSpec("", b))
	first := r.addr(webVIP)
	more := strings.Replace(httpSpec("", b), "192.0.2.1", "192.0.2.1, 192.0.2.2", 1)
	if err := r.apply(more); err != nil {
		t.Fatal(err)
	}
	if status, _ := get(t, r.client("192.0.2.2:80", nil), "http://www.demo.test/"); status != 200 {
		t.Errorf("the new address answers %d", status)
	}
	if r.addr(webVIP) != first {
		t.Error("the socket that stays was opened again")
	}
	if err := r.apply(httpSpec("", b)); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", r.addr("192.0.2.2:80")); err == nil {
		c.Close()
		t.Error("the old address still accepts")
	}
	if status, _ := get(t, r.client(webVIP, nil), "http://www.demo.test/"); status != 200 {
		t.Errorf("the address that stays answers %d", status)
	}
}

// A port may turn from http to https: the socket stays.
func TestProfileChangesOnTheSameSocket(t *testing.T) {
	b := backend(t, "b", nil)
	r := newRig(t, strings.Replace(httpSpec("", b), "[80]", "[443]", 1))
	if status, _ := get(t, r.client(tlsVIP, nil), "http://www.demo.test/"); status != 200 {
		t.Fatal(status)
	}
	socket := r.addr(tlsVIP)
	pool := r.certificate("c1", "www.demo.test")
	if err := r.apply(httpsSpec("timeouts: {idle: 10s}\n", b)); err != nil {
		t.Fatal(err)
	}
	if status, body := get(t, r.client(tlsVIP, pool), "https://www.demo.test/"); status != 200 || body != "b" || r.addr(tlsVIP) != socket {
		t.Errorf("%d %q at %s, before at %s", status, body, r.addr(tlsVIP), socket)
	}
}

// Another idle limit is for new connections; those that are there stay, and
// none is cut under a request that its client is just sending.
func TestChangedIdleLimitCutsNoConnection(t *testing.T) {
	b := backend(t, "b", nil)
	r := newRig(t, httpSpec("", b))
	client := r.client(webVIP, nil)
	reused := false
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})
	for i, idle := range []string{"", "timeouts: {idle: 10s}\n", "timeouts: {idle: 20s}\n"} {
		if err := r.apply(httpSpec(idle, b)); err != nil {
			t.Fatal(err)
		}
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://www.demo.test/", nil)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || reused != (i > 0) {
			t.Errorf("idle %q: status %d, connection used again: %v", idle, resp.StatusCode, reused)
		}
	}
}

// Requests under way end where they began, whatever is applied meanwhile.
func TestOldGenerationFinishesItsRequests(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	old := backend(t, "old", func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		io.WriteString(w, "old")
	})
	r := newRig(t, httpSpec("", old))
	got := make(chan string, 1)
	go func() {
		_, body := get(t, r.client(webVIP, nil), "http://www.demo.test/")
		got <- body
	}()
	<-arrived
	if err := r.apply(httpSpec("", backend(t, "new", nil))); err != nil {
		t.Fatal(err)
	}
	if _, body := get(t, r.client(webVIP, nil), "http://www.demo.test/"); body != "new" {
		t.Errorf("a new request got %q", body)
	}
	// Even where nothing is served any more at the address it came in by.
	none := httpSpec("", backend(t, "new", nil))
	none = none[:strings.Index(none, "services:")]
	if err := r.apply(none); err != nil {
		t.Fatal(err)
	}
	close(release)
	if body := <-got; body != "old" {
		t.Errorf("the old request got %q", body)
	}
}

func TestCertificateIsChosenByServerName(t *testing.T) {
	b := backend(t, "b", nil)
	r := newRig(t, httpsSpec("", b))
	r.certificate("c2", "other.test")
	spec := strings.Replace(httpsSpec("", b), "c1.key\"}]", "c1.key\"}, {id: c2, cert: \"file:c2.pem\", key: \"file:c2.key\"}]", 1)
	spec = strings.Replace(spec, "www.demo.test]", "www.demo.test, other.test]", 1)
	if err := r.apply(spec); err != nil {
		t.Fatal(err)
	}
	shown := func(name string) string {
		c, err := tls.Dial("tcp", r.addr(tlsVIP), &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].DNSNames[0]
	}
	for name, want := range map[string]string{
		"www.demo.test": "*.demo.test", "WWW.demo.TEST": "*.demo.test", "demo.test": "*.demo.test", "other.test": "other.test",
		"": "*.demo.test", fleet.GatewayHost: "*.demo.test",
		"a.b.demo.test": "remote error: tls: unrecognized name", "unknown.test": "remote error: tls: unrecognized name",
	} {
		if got := shown(name); got != want {
			t.Errorf("server name %q: got %s, want %s", name, got, want)
		}
	}
	// A service of any host wants every client, so there is a certificate to show.
	if err := r.apply(strings.Replace(spec, "  hosts: [www.demo.test, other.test]\n", "", 1)); err != nil {
		t.Fatal(err)
	}
	if got := shown("unknown.test"); got != "*.demo.test" {
		t.Errorf("any host: got %s", got)
	}
	if _, err := tls.Dial("tcp", r.addr(tlsVIP), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
}

// A new certificate serves at once; no request is lost over it.
func TestCertificateSwapUnderLoad(t *testing.T) {
	r := newRig(t, httpsSpec("", backend(t, "b", nil)))
	b := r.g.gen.Load().world.Snapshot.Spec.Services[0].Pools[0].Endpoints[0].Address.String()
	ctx, cancel := context.WithCancel(t.Context())
	var requests atomic.Int64
	var wg sync.WaitGroup
	for i := range 4 {
		c := r.client(tlsVIP, x509.NewCertPool())
		c.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true
		c.Transport.(*http.Transport).DisableKeepAlives = i%2 == 0
		wg.Go(func() {
			for ctx.Err() == nil {
				if status, body := get(t, c, "https://www.demo.test/"); status != 200 || body != "b" {
					t.Errorf("%d %q", status, body)
				}
				requests.Add(1)
			}
		})
	}
	for range 10 {
		pool := r.certificate("c1", "*.demo.test")
		if err := r.apply(httpsSpec("", b)); err != nil {
			t.Fatal(err)
		}
		seen := requests.Load()
		get(t, r.client(tlsVIP, pool), "https://www.demo.test/")
		for requests.Load() < seen+8 {
			<-time.After(time.Millisecond)
		}
	}
	cancel()
	wg.Wait()
}

func echo(t *testing.T) string {
	return backend(t, "echo", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" {
			w.WriteHeader(http.StatusUpgradeRequired)
			return
		}
		c, rw, _ := http.NewResponseController(w).Hijack()
		defer c.Close()
		rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")
		rw.Flush()
		for {
			s, err := rw.ReadString('\n')
			if err != nil {
				rw.WriteString("bye\n")
				rw.Flush()
				return
			}
			rw.WriteString(strings.ToUpper(s))
			rw.Flush()
		}
	})
}

func openTunnel(t *testing.T, r *rig) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", r.addr(webVIP))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	io.WriteString(c, "GET /chat HTTP/1.1\r\nHost: www.demo.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\nfirst\n")
	lines := bufio.NewReader(c)
	var head strings.Builder
	for {
		s, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%v after %q", err, head.String())
		}
		if s == "\r\n" {
			break
		}
		head.WriteString(s)
	}
	if h := head.String(); !strings.HasPrefix(h, "HTTP/1.1 101 ") || !strings.Contains(h, "Sec-WebSocket-Accept: x\r\n") || !strings.Contains(h, "Connection: Upgrade\r\n") {
		t.Fatalf("got %q", h)
	}
	if s, err := lines.ReadString('\n'); err != nil || s != "FIRST\n" {
		t.Fatalf("%q, %v", s, err)
	}
	return c, lines
}

func TestTunnel(t *testing.T) {
	b := echo(t)
	// The tunnel outlives the limits of requests and idle connections, and Apply.
	const limit = 500 * time.Millisecond
	r := newRig(t, httpSpec(fmt.Sprintf("timeouts: {request: %s, idle: 1s}\n", limit), b))
	began := time.Now()
	c, lines := openTunnel(t, r)
	if err := r.apply(httpSpec("", backend(t, "other", nil))); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 3 || time.Since(began) < 1500*time.Millisecond; i++ {
		fmt.Fprintf(c, "line %d\n", i)
		if s, err := lines.ReadString('\n'); err != nil || s != fmt.Sprintf("LINE %d\n", i) {
			t.Fatalf("%q, %v", s, err)
		}
	}
	c.(*net.TCPConn).CloseWrite()
	if s, err := lines.ReadString('\n'); err != nil || s != "bye\n" {
		t.Fatalf("after the client's end: %q, %v", s, err)
	}
	if _, err := lines.ReadByte(); err != io.EOF {
		t.Errorf("after the endpoint's end: %v", err)
	}
}

func TestTunnelMayGoOnWhileDraining(t *testing.T) {
	r := newRig(t, httpSpec("timeouts: {drain: 1s}\n", echo(t)))
	c, lines := openTunnel(t, r)
	r.stop()
	until(t, "draining", r.g.draining.Load)
	io.WriteString(c, "still\n")
	if s, err := lines.ReadString('\n'); err != nil || s != "STILL\n" {
		t.Fatalf("%q, %v", s, err)
	}
	if _, err := lines.ReadByte(); err == nil {
		t.Error("the tunnel is still open")
	}
}

func TestAnswerWithoutUpgradeIsAnAnswer(t *testing.T) {
	r := newRig(t, httpSpec("", echo(t)))
	out := r.raw(webVIP, "GET / HTTP/1.1\r\nHost: www.demo.test\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n")
	if !strings.HasPrefix(out, "HTTP/1.1 426") {
		t.Errorf("%.100q", out)
	}
}

// A client that was refused and sends no body does not hold its connection.
func TestRefusedUploadEndsSoon(t *testing.T) {
	r := newRig(t, httpSpec("", backend(t, "b", nil)))
	began := time.Now()
	out := r.raw(webVIP, "POST / HTTP/1.1\r\nHost: unknown.test\r\nContent-Length: 1000\r\n\r\n")
	if !strings.HasPrefix(out, "HTTP/1.1 404") || time.Since(began) > 5*time.Second {
		t.Errorf("%.100q after %v", out, time.Since(began))
	}
}

// answering is an endpoint that answers without reading the body, and counts
// the requests for /stray.
func answering(t *testing.T, stray *atomic.Int64) string {
	return serveRaw(t, func(c net.Conn) {
		if req, err := http.ReadRequest(bufio.NewReader(c)); err == nil && req.URL.Path == "/stray" {
			stray.Add(1)
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
		<-t.Context().Done()
	})
}

// What follows a body that was not read is not taken for a request.
func TestRestOfABodyIsNoRequest(t *testing.T) {
	var stray atomic.Int64
	r := newRig(t, httpSpec(noChecks, answering(t, &stray)))
	for _, length := range []int{100, 200_000, 10_000_000} {
		c, err := net.Dial("tcp", r.addr(webVIP))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: www.demo.test\r\nContent-Length: %d\r\n\r\nbegin", length)
		lines := bufio.NewReader(c)
		res, err := http.ReadResponse(lines, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); string(body) != "early" || err != nil {
			t.Fatalf("%q, %v", body, err)
		}
		// The gateway has waited for the rest as long as it does when it closes.
		if rest, err := io.ReadAll(lines); len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("length %d: then got %q, %v", length, rest, err)
		}
		io.WriteString(c, "GET /stray HTTP/1.1\r\nHost: www.demo.test\r\n\r\n")
		if _, err := io.ReadAll(lines); errors.Is(err, os.ErrDeadlineExceeded) || stray.Load() > 0 {
			t.Errorf("length %d: what comes late is taken for a request, %v", length, err)
		}
	}
}

// A body that ends after its answer leaves a good connection.
func TestLateEndOfABodyKeepsTheConnection(t *testing.T) {
	var stray atomic.Int64
	r := newRig(t, httpSpec(noChecks, answering(t, &stray)))
	c, err := net.Dial("tcp", r.addr(webVIP))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	lines := bufio.NewReader(c)
	for range 3 {
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: www.demo.test\r\nContent-Length: 10\r\n\r\nbegin")
		res, err := http.ReadResponse(lines, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.ReadAll(res.Body)
		io.WriteString(c, "  end")
	}
}

// The default way to listen: at an address that the node does not have (yet),
// with the clamp on segments.
func TestListenBeforeTheAddressIsThere(t *testing.T) {
	m := MaxSegment{V4: 1400, V6: 1380}
	for network, tc := range map[string]struct {
		address string
		segment int
	}{"tcp4": {"192.0.2.77:0", 1400}, "tcp6": {"[2001:db8::77]:0", 1380}} {
		l, err := m.Listen(t.Context(), network, tc.address)
		if err != nil {
			t.Errorf("%s: %v", tc.address, err)
			continue
		}
		raw, _ := l.(*net.TCPListener).SyscallConn()
		raw.Control(func(fd uintptr) {
			if got, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG); got != tc.segment && err == nil {
				// Linux reports the effective size; the clamp shows on connections.
				t.Logf("%s: TCP_MAXSEG reads %d", network, got)
			}
			if got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || got != unix.IPPROTO_TCP {
				t.Errorf("%s: protocol %d, want TCP and not MPTCP", network, got)
			}
		})
		l.Close()
	}
}

func TestSegmentsAreClamped(t *testing.T) {
	l, err := MaxSegment{V4: 1000}.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, _ := c.(*net.TCPConn).SyscallConn()
	raw.Control(func(fd uintptr) {
		if got, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG); err != nil || got > 1000 {
			t.Errorf("the client sends segments of %d octets, %v", got, err)
		}
	})
}

func TestAddressesInPlaceOfVIPs(t *testing.T) {
	r := newRig(t, httpSpec("", backend(t, "b", nil)), func(c *Config) { c.Addresses = []netip.Addr{netip.MustParseAddr("127.0.0.7")} })
	if status, _ := get(t, r.client("127.0.0.7:80", nil), "http://www.demo.test/"); status != 200 {
		t.Error(status)
	}
}
