package l7

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
	"github.com/prometheus/client_golang/prometheus"

	"meridian/fleet"
)

// tlsEndpoint is an endpoint with a certificate for one name, that tells a client
// whom the PROXY protocol has told it of.
func tlsEndpoint(t *testing.T, name string) string {
	t.Helper()
	pem, _ := newCertificate(t, name)
	pair, err := tls.X509KeyPair(pem, pem)
	if err != nil {
		t.Fatal(err)
	}
	return serveRaw(t, func(c net.Conn) {
		p := proxyproto.NewConn(c)
		s := tls.Server(p, &tls.Config{Certificates: []tls.Certificate{pair}})
		if s.Handshake() != nil {
			return
		}
		fmt.Fprintln(s, p.RemoteAddr())
		s.CloseWrite()
		io.Copy(io.Discard, s)
	})
}

// namesSpec is a fleet with two tcp services of hosts at 192.0.2.1:443, and more.
func namesSpec(a, b, more string) string {
	one := func(name, hosts, endpoint string) string {
		return "- service: " + name + "\n  protocol: tcp\n  forwarding: proxy\n  client_ip: proxy_v2\n  ports: [443]\n  hosts: " + hosts + "\n" + pools(endpoint)
	}
	s := httpSpec("", a)
	return s[:strings.Index(s, "- service")] + one("web", "[a.demo.test]", a) + one("wild", `["*.demo.test"]`, b) + more
}

const namesVIP = "192.0.2.1:443"

// counted reads a counter or gauge.
func counted(t *testing.T, c prometheus.Collector) float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil || len(families) != 1 {
		t.Fatal(families, err)
	}
	m := families[0].GetMetric()[0]
	return m.GetCounter().GetValue() + m.GetGauge().GetValue()
}

func names(t *testing.T, r *rig, name string) string {
	t.Helper()
	c, err := tls.Dial("tcp", r.addr(namesVIP), &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return ""
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	said, err := io.ReadAll(c)
	if err != nil || strings.TrimSpace(string(said)) != c.LocalAddr().String() {
		t.Errorf("the endpoint was told of %q, %v; the client is %s", said, err, c.LocalAddr())
	}
	return c.ConnectionState().PeerCertificates[0].DNSNames[0]
}

// TLS connections go, undecrypted, to the service that has their server name; the
// endpoint is told whose they are.
func TestStreamsByServerName(t *testing.T) {
	a, b := tlsEndpoint(t, "cert-a"), tlsEndpoint(t, "cert-b")
	r := newRig(t, namesSpec(a, b, ""))
	r.waitState(a, fleet.Up)
	r.waitState(b, fleet.Up)
	for name, want := range map[string]string{"a.demo.test": "cert-a", "A.Demo.Test": "cert-a", "b.demo.test": "cert-b", "x.y.demo.test": "cert-b", "other.test": "", "192.0.2.9": ""} {
		if got := names(t, r, name); got != want {
			t.Errorf("%s went to %q, expected %q", name, got, want)
		}
	}
	if n := counted(t, r.g.metrics.hellos.WithLabelValues("unknown")); n != 2 {
		t.Errorf("%v connections of unknown names", n)
	}
}

// What has no name, or one that no service has, goes to the service without hosts;
// what is malformed to none.
func TestStreamsWithoutAServerName(t *testing.T) {
	a, b, rest := tlsEndpoint(t, "cert-a"), tlsEndpoint(t, "cert-b"), speaker(t, "rest")
	r := newRig(t, namesSpec(a, b, "- service: rest\n  protocol: tcp\n  forwarding: proxy\n  ports: [443]\n"+pools(rest)))
	r.waitState(rest, fleet.Up)
	for sent, want := range map[string]string{"SSH-2.0-me\r\n": "rest\nSSH-2.0-me\r\n", "\x16\x03\x01\x00\x00": ""} {
		c, err := net.Dial("tcp", r.addr(namesVIP))
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, sent)
		c.(*net.TCPConn).CloseWrite()
		if got, _ := io.ReadAll(bufio.NewReader(c)); string(got) != want {
			t.Errorf("%q was answered by %q, expected %q", sent, got, want)
		}
		c.Close()
	}
	for result, want := range map[string]float64{"default": 1, "malformed": 1} {
		if n := counted(t, r.g.metrics.hellos.WithLabelValues(result)); n != want {
			t.Errorf("%v connections %s", n, result)
		}
	}
}
