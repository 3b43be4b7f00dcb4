package l7

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"

	"meridian/internal/testkit"
)

const trustLoopback = "gateway: {proxies: [127.0.0.0/8]}\n"

// forwardedFor is an endpoint that says whom the gateway names as its client.
func forwardedFor(t *testing.T) string {
	return backend(t, "b", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("X-Forwarded-For")) })
}

func TestBalancersBeforeTheGatewayAreBelieved(t *testing.T) {
	r := newRig(t, httpSpec("", forwardedFor(t))+trustLoopback)
	src, dst := &net.TCPAddr{IP: net.IPv4(203, 0, 113, 9), Port: 1}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80}
	for name, tc := range map[string]struct {
		header []byte
		want   string
	}{
		"version 1": {proxyHeader(t, 1, src, dst), "203.0.113.9"},
		"version 2": {proxyHeader(t, 2, src, dst), "203.0.113.9"},
		"itself":    {[]byte("PROXY UNKNOWN\r\n"), "127.0.0.1"},
		"none":      {nil, "127.0.0.1"},
	} {
		out := r.raw(webVIP, string(tc.header)+"GET / HTTP/1.1\r\nHost: www.demo.test\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(out, "HTTP/1.1 200") || !strings.HasSuffix(out, "\r\n"+tc.want) {
			t.Errorf("%s: %q", name, out)
		}
	}
	if out := r.raw(webVIP, "PROXY TCP4 nobody\r\nGET / HTTP/1.1\r\nHost: www.demo.test\r\n\r\n"); out != "" {
		t.Errorf("a malformed header got %q", out)
	}
}

func proxyHeader(t *testing.T, version byte, src, dst net.Addr) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := proxyproto.HeaderProxyFromAddrs(version, src, dst).WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestStrangersAreNotBelieved(t *testing.T) {
	r := newRig(t, httpSpec("", forwardedFor(t))+strings.Replace(trustLoopback, "127.0.0.0/8", "10.0.0.0/8", 1))
	src, dst := &net.TCPAddr{IP: net.IPv4(203, 0, 113, 9), Port: 1}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80}
	for _, version := range []byte{1, 2} {
		out := r.raw(webVIP, string(proxyHeader(t, version, src, dst))+"GET / HTTP/1.1\r\nHost: www.demo.test\r\n\r\n")
		if !strings.HasPrefix(out, "HTTP/1.1 400") {
			t.Errorf("version %d: %q", version, out)
		}
	}
}

// Endpoints that are told of clients by the PROXY protocol have connections
// that carry the requests of one client alone.
func TestEndpointsAreToldByPROXY(t *testing.T) {
	for mode, version := range map[string]byte{"proxy_v1": 1, "proxy_v2": 2} {
		mux := http.NewServeMux()
		mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })
		s := httptest.NewUnstartedServer(mux)
		s.Listener = &proxyproto.Listener{Listener: s.Listener, ConnPolicy: func(proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) { return proxyproto.USE, nil }}
		s.Start()
		t.Cleanup(s.Close)
		r := newRig(t, httpSpec(noChecks+"client_ip: "+mode+"\n", s.Listener.Addr().String()))
		for range 3 {
			c := r.rawClient(webVIP)
			for range 3 {
				out := c.do([]byte(plainGET), []byte(c.LocalAddr().String()))
				if !bytes.HasPrefix(out, []byte("HTTP/1.1 200")) {
					t.Errorf("version %d: %q", version, out)
				}
			}
		}
	}
}

// HAProxy on either side: before the gateway and behind it.
func TestHAProxyOnEitherSide(t *testing.T) {
	haproxy := testkit.Program(t, "haproxy")
	for _, version := range []string{"v1", "v2"} {
		send := map[string]string{"v1": "send-proxy", "v2": "send-proxy-v2"}[version]
		behind, before := fmt.Sprint("127.0.0.1:", testkit.FreePort(t, "127.0.0.1")), fmt.Sprint("127.0.0.1:", testkit.FreePort(t, "127.0.0.1"))
		end := backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.Header.Get("X-Forwarded-For")+" "+r.Header.Get("X-Seen"))
		})
		r := newRig(t, httpSpec(noChecks+"client_ip: proxy_"+version+"\n", behind)+trustLoopback)
		startHAProxy(t, haproxy, fmt.Sprintf(`
global
  maxconn 100
defaults
  mode tcp
  timeout connect 2s
  timeout client 10s
  timeout server 10s
frontend before
  bind %s
  default_backend gateway
backend gateway
  server g %s %s
frontend behind
  mode http
  bind %s accept-proxy
  http-request set-header X-Seen %%[src]
  default_backend end
backend end
  mode http
  server e %s
`, before, r.addr(webVIP), send, behind, end), before, behind)
		for range 3 {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 5)}}
			c, err := d.Dial("tcp", before)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: www.demo.test\r\nConnection: close\r\n\r\n")
			b, _ := io.ReadAll(c)
			if !bytes.HasPrefix(b, []byte("HTTP/1.1 200")) || !bytes.HasSuffix(b, []byte("\r\n127.0.0.5 127.0.0.5")) {
				t.Errorf("%s: %q", version, b)
			}
		}
	}
}

// startHAProxy runs it until the test ends, and waits until it listens.
func startHAProxy(t *testing.T, program, config string, listens ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-db", "-f", file)
	var said lockedBuffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	for _, at := range listens {
		for range 500 {
			c, err := net.Dial("tcp", at)
			if err == nil {
				c.Close()
				break
			}
			<-time.After(10 * time.Millisecond)
		}
	}
}
