package server

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/fleet"
	"meridian/internal/testkit"
)

// startSecure runs a server with TLS and HTTPS beside UDP and TCP.
func startSecure(t testing.TB, change func(*Config)) (*Server, *testkit.Authority) {
	t.Helper()
	ca := testkit.NewAuthority(t)
	s := start(t, func(c *Config) {
		listener := func() *fleet.DNSListener {
			return &fleet.DNSListener{Listen: []string{"127.0.0.1:0"}, Certificate: "ns"}
		}
		c.DNS.TLS, c.DNS.HTTPS = listener(), listener()
		c.Objects = map[fleet.ObjectKey]fleet.Object{}
		put(c.Objects, fleet.ObjectCertificate, "ns", ca.Issue(t, "ns.demo.test", "127.0.0.1"))
		if change != nil {
			change(c)
		}
	})
	s.SetZones(demoZones(t))
	return s, ca
}

func put(objects map[fleet.ObjectKey]fleet.Object, kind fleet.ObjectKind, id string, data []byte) {
	key := fleet.ObjectKey{Kind: kind, ID: id}
	objects[key] = fleet.Object{Key: key, Data: data}
}

func dialTLS(t testing.TB, s *Server, ca *testkit.Authority, change func(*tls.Config)) (*tls.Conn, error) {
	t.Helper()
	cfg := &tls.Config{RootCAs: ca.Pool, ServerName: "ns.demo.test"}
	if change != nil {
		change(cfg)
	}
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", s.AddrsOf(TLS)[0].String(), cfg)
	if err == nil {
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(10 * time.Second))
	}
	return c, err
}

// RFC 7858 §3.3: messages over TLS are framed as over TCP, and many go over one connection.
// RFC 9103 §7.1: the ALPN token dot is taken.
// RFC 8310 §9: TLS 1.2 is the least.
func TestRFC7858(t *testing.T) {
	s, ca := startSecure(t, nil)
	for _, alpn := range [][]string{nil, {"dot"}} {
		c, err := dialTLS(t, s, ca, func(c *tls.Config) { c.NextProtos = alpn })
		if err != nil {
			t.Fatal(err)
		}
		if alpn != nil && c.ConnectionState().NegotiatedProtocol != "dot" {
			t.Errorf("ALPN %q", c.ConnectionState().NegotiatedProtocol)
		}
		send(t, c, query("www.demo.test.", dns.TypeA, 1), query("ns1.demo.test.", dns.TypeA, 2))
		for id := range uint16(2) {
			if m := receive(t, c); m.Id != id+1 || len(m.Answer) != 1 {
				t.Errorf("%v", m)
			}
		}
	}
	for what, change := range map[string]func(*tls.Config){
		"TLS 1.1":    func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
		"other ALPN": func(c *tls.Config) { c.NextProtos = []string{"h2"} },
	} {
		if _, err := dialTLS(t, s, ca, change); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	counted(t, s, "meridian_dns_dropped_total handshake tls", 2)
}

// RFC 9103 §7.1: zones are transferred by TLS 1.3 or better.
// RFC 9103 §9.3.3: the client may be known by its certificate (mutual TLS).
func TestRFC9103TransferOverTLS(t *testing.T) {
	h := slow{make(chan *Request, 8), make(chan struct{})}
	close(h.goOn)
	clients := testkit.NewAuthority(t)
	s, ca := startSecure(t, func(c *Config) {
		c.Special = h
		c.DNS.TLS.ClientCA = "file:clients.pem"
		put(c.Objects, fleet.ObjectCA, "file:clients.pem", clients.PEM)
	})
	pem := clients.Issue(t, "secondary.example")
	pair, err := tls.X509KeyPair(pem, pem)
	if err != nil {
		t.Fatal(err)
	}
	show := func(c *tls.Config) { c.Certificates = []tls.Certificate{pair} }
	c, err := dialTLS(t, s, ca, show)
	if err != nil {
		t.Fatal(err)
	}
	send(t, c, query("demo.test.", dns.TypeAXFR, 1))
	receive(t, c)
	if r := <-h.got; r.PeerName != "secondary.example" || r.Transport != TLS {
		t.Errorf("%+v", r)
	}
	if c, err = dialTLS(t, s, ca, func(c *tls.Config) { show(c); c.MaxVersion = tls.VersionTLS12 }); err != nil {
		t.Fatal(err)
	}
	send(t, c, query("demo.test.", dns.TypeAXFR, 1))
	if m := receive(t, c); m.Rcode != dns.RcodeRefused {
		t.Errorf("a transfer by TLS 1.2: %v", m)
	}
	update := new(dns.Msg).SetUpdate("demo.test.")
	update.Id = 2
	send(t, c, update)
	receive(t, c)
	if r := <-h.got; r.Message[2]>>3&15 != dns.OpcodeUpdate {
		t.Errorf("%+v", r)
	}
	if c, err = dialTLS(t, s, ca, nil); err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	if err == nil {
		t.Error("a client without a certificate is served")
	}
}

// RFC 8467 §4.1: responses are padded to 468 octets for clients that pad.
// RFC 7830 §6: there is no padding without encryption.
func TestRFC8467Padding(t *testing.T) {
	s, ca := startSecure(t, nil)
	q := query("www.demo.test.", dns.TypeA, 1)
	q.SetEdns0(1232, false)
	q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_PADDING{Padding: make([]byte, 20)}}
	c, err := dialTLS(t, s, ca, nil)
	if err != nil {
		t.Fatal(err)
	}
	send(t, c, q)
	if n := len(receiveRaw(t, c)); n != 468 {
		t.Errorf("over TLS %d octets", n)
	}
	plain := dialTCP(t, s)
	send(t, plain, q)
	if n := len(receiveRaw(t, plain)); n >= 468 {
		t.Errorf("over TCP %d octets", n)
	}
}

func client(ca *testkit.Authority) *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool}, ForceAttemptHTTP2: true}}
}

// doh asks once and gives the response, its body read.
func doh(t testing.TB, ca *testkit.Authority, method, url, contentType, body string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	h := client(ca)
	defer h.CloseIdleConnections()
	resp, err := h.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// RFC 8484 §4.1: queries come by GET, in base64url as dns, and by POST as application/dns-message.
// RFC 8484 §4.2.1: every DNS response, an error too, has the status 200; what has no DNS message has another.
// RFC 8484 §5.1: a response is fresh no longer than its records; for a negative one, than its SOA says.
// RFC 8484 §5.2: HTTP/2 is spoken.
func TestRFC8484(t *testing.T) {
	s, ca := startSecure(t, nil)
	base := "https://" + s.AddrsOf(HTTPS)[0].String()
	wire := func(name string, qtype uint16) string {
		b, _ := query(name, qtype, 0).Pack()
		return string(b)
	}
	get := func(b string) string { return "/dns-query?dns=" + base64.RawURLEncoding.EncodeToString([]byte(b)) }
	good := wire("ns1.demo.test.", dns.TypeA)
	for _, c := range []struct {
		what, method, path, contentType, body string
		status                                int
		cache                                 string
		rcode                                 int
	}{
		{"GET", "GET", get(good), "", "", 200, "private, max-age=300", dns.RcodeSuccess},
		{"GET with padding", "GET", get(good) + "%3D%3D", "", "", 200, "private, max-age=300", dns.RcodeSuccess},
		{"POST", "POST", "/dns-query", dnsMessage, good, 200, "private, max-age=300", dns.RcodeSuccess},
		{"no such name", "GET", get(wire("none.demo.test.", dns.TypeA)), "", "", 200, "private, max-age=60", dns.RcodeNameError},
		{"no such data", "GET", get(wire("ns1.demo.test.", dns.TypeMX)), "", "", 200, "private, max-age=60", dns.RcodeSuccess},
		{"not ours", "GET", get(wire("elsewhere.example.", dns.TypeA)), "", "", 200, "no-store", dns.RcodeRefused},
		{"malformed message", "POST", "/dns-query", dnsMessage, good[:20], 200, "no-store", dns.RcodeFormatError},
		{"transfer", "POST", "/dns-query", dnsMessage, wire("demo.test.", dns.TypeAXFR), 200, "no-store", dns.RcodeRefused},
		{"no message", "GET", "/dns-query", "", "", 400, "", -1},
		{"not base64url", "GET", "/dns-query?dns=%2B%2B%2B", "", "", 400, "", -1},
		{"too short", "POST", "/dns-query", dnsMessage, "abc", 400, "", -1},
		{"a response", "POST", "/dns-query", dnsMessage, good[:2] + "\x80" + good[3:], 400, "", -1},
		{"content type", "POST", "/dns-query", "application/json", good, 415, "", -1},
		{"too long", "POST", "/dns-query", dnsMessage, strings.Repeat("x", 65536), 413, "", -1},
		{"method", "PUT", "/dns-query", dnsMessage, good, 405, "", -1},
		{"path", "GET", "/", "", "", 404, "", -1},
	} {
		r, body := doh(t, ca, c.method, base+c.path, c.contentType, c.body)
		if r.StatusCode != c.status || r.ProtoMajor != 2 {
			t.Errorf("%s: %s %s, want %d", c.what, r.Proto, r.Status, c.status)
		}
		if c.status == 405 && r.Header.Get("Allow") != "GET, POST" {
			t.Errorf("Allow: %q", r.Header.Get("Allow"))
		}
		if c.rcode < 0 {
			continue
		}
		var m dns.Msg
		if err := m.Unpack([]byte(body)); err != nil || m.Rcode != c.rcode || m.Id != 0 {
			t.Errorf("%s: %v %v", c.what, err, m)
		}
		if got := r.Header.Get("Cache-Control"); got != c.cache || r.Header.Get("Content-Type") != dnsMessage {
			t.Errorf("%s: %v", c.what, r.Header)
		}
	}
}

// RFC 8484 §4.2: a response has one DNS message: NOTIFY and UPDATE are answered, zones are not transferred.
func TestRFC8484OneMessage(t *testing.T) {
	h := slow{make(chan *Request, 8), make(chan struct{})}
	close(h.goOn)
	s, ca := startSecure(t, func(c *Config) { c.Special = h })
	url := "https://" + s.AddrsOf(HTTPS)[0].String() + "/dns-query"
	for qtype, rcode := range map[uint16]int{dns.TypeAXFR: dns.RcodeRefused, dns.TypeSOA: dns.RcodeSuccess} {
		q := query("demo.test.", qtype, 0)
		if qtype == dns.TypeSOA {
			q.Opcode = dns.OpcodeNotify
		}
		b, _ := q.Pack()
		r, body := doh(t, ca, "POST", url, dnsMessage, string(b))
		var m dns.Msg
		if err := m.Unpack([]byte(body)); err != nil || r.StatusCode != 200 || m.Rcode != rcode {
			t.Errorf("%v %v %v", r, err, &m)
		}
	}
	if r := <-h.got; r.Transport != HTTPS || len(h.got) > 0 {
		t.Errorf("%+v", r)
	}
}

// HTTP/1.1, many requests of one HTTP/2 connection at a time, and a client
// behind a proxy.
func TestHTTPS(t *testing.T) {
	s, ca := startSecure(t, nil)
	url := "https://" + s.AddrsOf(HTTPS)[0].String() + "/dns-query"
	b, _ := query("www.demo.test.", dns.TypeA, 0).Pack()
	h1 := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool, NextProtos: []string{"http/1.1"}}}}
	defer h1.CloseIdleConnections()
	if r, err := h1.Post(url, dnsMessage, strings.NewReader(string(b))); err != nil || r.StatusCode != 200 || r.ProtoMajor != 1 {
		t.Errorf("%v %v", r, err)
	} else {
		r.Body.Close()
	}
	h2 := client(ca)
	defer h2.CloseIdleConnections()
	errs := make(chan error, 100)
	for range cap(errs) {
		go func() {
			r, err := h2.Post(url, dnsMessage, strings.NewReader(string(b)))
			if err == nil {
				r.Body.Close()
				if r.StatusCode != 200 {
					err = fmt.Errorf("%s", r.Status)
				}
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// FuzzHTTPS: requests as strangers may write them.
func FuzzHTTPS(f *testing.F) {
	s, err := New(Config{Logger: quiet})
	if err != nil {
		f.Fatal(err)
	}
	s.SetZones(demoZones(f))
	set := *s.settings.Load()
	set.path = "/dns-query"
	s.settings.Store(&set)
	h := &web{Endpoint: &Endpoint{Transport: HTTPS, server: s, stats: new(stats)}}
	b, _ := query("www.demo.test.", dns.TypeA, 0).Pack()
	f.Add("GET", "dns="+base64.RawURLEncoding.EncodeToString(b), "", []byte{})
	f.Add("POST", "", dnsMessage, b)
	f.Add("POST", "", dnsMessage, []byte{})
	f.Fuzz(func(t *testing.T, method, rawQuery, contentType string, body []byte) {
		r := fuzzRequest(method, rawQuery, contentType, body)
		w := &recorder{header: http.Header{}}
		h.ServeHTTP(w, r)
		if w.status == 0 || w.status == 200 && len(w.body) < headerLen || w.status >= 500 {
			t.Errorf("%s ?%q %q %x: %d %x", method, rawQuery, contentType, body, w.status, w.body)
		}
	})
}
