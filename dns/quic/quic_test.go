package quic

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"meridian/dns/answer"
	"meridian/dns/server"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/internal/testkit"
)

const demo = "$TTL 300\n@ SOA ns1 admin 1 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\nwww A 192.0.2.1\n"

// start serves DNS over QUIC and over HTTPS on free ports of loopback.
func start(t testing.TB, change func(*server.Config)) (*server.Server, *testkit.Authority) {
	t.Helper()
	ca := testkit.NewAuthority(t)
	key := fleet.ObjectKey{Kind: fleet.ObjectCertificate, ID: "ns"}
	listen := func() *fleet.DNSListener {
		return &fleet.DNSListener{Listen: []string{"127.0.0.1:0"}, Certificate: "ns"}
	}
	cfg := server.Config{
		Identity: answer.Identity{Node: "fra-1"},
		Logger:   slog.New(slog.NewTextHandler(io.Discard, nil)),
		DNS:      fleet.DNS{QUIC: listen(), HTTPS: listen()},
		Objects:  map[fleet.ObjectKey]fleet.Object{key: {Key: key, Data: ca.Issue(t, "ns.demo.test", "127.0.0.1")}},
	}
	cfg.QUIC = New(cfg.Logger)
	if change != nil {
		change(&cfg)
	}
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zone.Load("demo.test.", []byte(demo), "demo.zone")
	if err != nil {
		t.Fatal(err)
	}
	s.SetZone(z)
	ctx, cancel := context.WithCancel(context.Background())
	if err := s.Open(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s, ca
}

func dial(t testing.TB, s *server.Server, ca *testkit.Authority, change func(*tls.Config)) *quic.Conn {
	t.Helper()
	cfg := &tls.Config{RootCAs: ca.Pool, ServerName: "ns.demo.test", NextProtos: []string{"doq"}}
	if change != nil {
		change(cfg)
	}
	c, err := quic.DialAddr(t.Context(), s.AddrsOf(server.QUIC)[0].String(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseWithError(0, "") })
	return c
}

func query(name string, qtype uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.Id = 0
	return m
}

func framed(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

// ask sends octets on a stream of their own and gives all that comes back.
func ask(t testing.TB, c *quic.Conn, b []byte) ([]byte, error) {
	t.Helper()
	s, err := c.OpenStreamSync(t.Context())
	if err != nil {
		return nil, err
	}
	s.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := s.Write(b); err != nil {
		return nil, err
	}
	s.Close()
	return io.ReadAll(s)
}

// messages splits what came on a stream.
func messages(t testing.TB, b []byte) (out []*dns.Msg) {
	t.Helper()
	for len(b) > 0 {
		n := int(binary.BigEndian.Uint16(b))
		m := new(dns.Msg)
		if err := m.Unpack(b[2 : 2+n]); err != nil {
			t.Fatal(err)
		}
		out, b = append(out, m), b[2+n:]
	}
	return out
}

// RFC 9250 §4.2: each query has a client-initiated bidirectional stream of its own, in both directions framed by two octets of length, and the server ends it after the answer.
// RFC 9250 §4.1: the ALPN token is doq.
func TestRFC9250OneQueryAStream(t *testing.T) {
	s, ca := start(t, nil)
	c := dial(t, s, ca, nil)
	for range 150 { // more than may be open at a time
		b, err := ask(t, c, framed(t, query("www.demo.test.", dns.TypeA)))
		if err != nil {
			t.Fatal(err)
		}
		if m := messages(t, b); len(m) != 1 || len(m[0].Answer) != 1 || m[0].Id != 0 {
			t.Fatalf("%v", m)
		}
	}
	if p := c.ConnectionState().TLS.NegotiatedProtocol; p != "doq" {
		t.Errorf("ALPN %q", p)
	}
}

// RFC 9250 §4.3.3: a message ID other than 0, a stream that ends before its message, and a second query on a stream end the connection with DOQ_PROTOCOL_ERROR.
// RFC 9250 §4.2.1: the message ID of a query is 0.
// RFC 9250 §5.5.2: edns-tcp-keepalive over QUIC is a protocol error.
func TestRFC9250ProtocolErrors(t *testing.T) {
	s, ca := start(t, nil)
	good := framed(t, query("www.demo.test.", dns.TypeA))
	id := query("www.demo.test.", dns.TypeA)
	id.Id = 7
	keepalive := query("www.demo.test.", dns.TypeA)
	keepalive.SetEdns0(1232, false)
	keepalive.IsEdns0().Option = append(keepalive.IsEdns0().Option, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE})
	for what, b := range map[string][]byte{
		"ID": framed(t, id), "early end": good[:20], "half a length": good[:1], "two queries": append(good[:len(good):len(good)], good...),
		"keepalive": framed(t, keepalive), "no header": {0, 3, 0, 0, 0}, "nothing": {},
	} {
		c := dial(t, s, ca, nil)
		_, err := ask(t, c, b)
		var e *quic.ApplicationError
		if !errors.As(err, &e) || e.ErrorCode != codeProtocolError {
			t.Errorf("%s: %v, want a protocol error", what, err)
		}
	}
}

// RFC 9250 §4.2: unidirectional streams are not used, and none may be opened.
func TestRFC9250NoUnidirectionalStreams(t *testing.T) {
	s, ca := start(t, nil)
	if _, err := dial(t, s, ca, nil).OpenUniStream(); err == nil {
		t.Error("a unidirectional stream could be opened")
	}
}

// recording notes what it is given, and answers by the plan, three times.
type recording struct{ got chan server.Request }

func (h recording) Handle(_ context.Context, r *server.Request) {
	h.got <- *r
	q := query("demo.test.", dns.TypeSOA)
	b, _ := q.Pack()
	for range 3 {
		if r.Reply(r.Answer(b)) != nil {
			return
		}
	}
}

// RFC 9250 §4.2: a transfer is several responses on one stream.
// RFC 9103 §9.3.3: the client may be known by its certificate.
func TestRFC9250TransferOnAStream(t *testing.T) {
	h := recording{make(chan server.Request, 1)}
	var authority *testkit.Authority
	s, ca := start(t, func(c *server.Config) {
		c.Special = h
		authority = testkit.NewAuthority(t)
		key := fleet.ObjectKey{Kind: fleet.ObjectCA, ID: "file:clients.pem"}
		c.DNS.QUIC.ClientCA = key.ID
		c.Objects[key] = fleet.Object{Key: key, Data: authority.PEM}
	})
	pem := authority.Issue(t, "secondary.example")
	pair, err := tls.X509KeyPair(pem, pem)
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, s, ca, func(c *tls.Config) { c.Certificates = []tls.Certificate{pair} })
	b, err := ask(t, c, framed(t, query("demo.test.", dns.TypeAXFR)))
	if err != nil {
		t.Fatal(err)
	}
	if m := messages(t, b); len(m) != 3 || len(m[2].Answer) != 1 {
		t.Errorf("%v", m)
	}
	if r := <-h.got; r.Transport != server.QUIC || r.PeerName != "secondary.example" || !r.Client.IsValid() {
		t.Errorf("%+v", r)
	}
	// Without a certificate there is no connection.
	cfg := &tls.Config{RootCAs: ca.Pool, ServerName: "ns.demo.test", NextProtos: []string{"doq"}}
	bare, err := quic.DialAddr(t.Context(), s.AddrsOf(server.QUIC)[0].String(), cfg, nil)
	if err == nil {
		_, err = ask(t, bare, framed(t, query("www.demo.test.", dns.TypeA)))
	}
	if err == nil {
		t.Error("a client without a certificate is served")
	}
}

// RFC 9250 §4.5: queries in 0-RTT data are answered.
func TestRFC9250ZeroRTT(t *testing.T) {
	s, ca := start(t, nil)
	cfg := &tls.Config{RootCAs: ca.Pool, ServerName: "ns.demo.test", NextProtos: []string{"doq"}, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for i := range 2 {
		c, err := quic.DialAddrEarly(t.Context(), s.AddrsOf(server.QUIC)[0].String(), cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := ask(t, c, framed(t, query("www.demo.test.", dns.TypeA)))
		if err != nil {
			t.Fatal(err)
		}
		if m := messages(t, b); len(m) != 1 || len(m[0].Answer) != 1 {
			t.Errorf("%v", m)
		}
		if i == 1 && !c.ConnectionState().Used0RTT {
			t.Error("the second connection did not use 0-RTT")
		}
		c.CloseWithError(0, "")
	}
}

// RFC 9250 §4.4: a connection without a query is closed after the idle time.
func TestRFC9250Idle(t *testing.T) {
	s, ca := start(t, func(c *server.Config) {
		c.DNS.TCP = fleet.DNSTCP{Idle: fleet.Duration(2 * time.Second), Connections: 8, PerClient: 2}
	})
	a, b := dial(t, s, ca, nil), dial(t, s, ca, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if c, err := quic.DialAddr(ctx, s.AddrsOf(server.QUIC)[0].String(), &tls.Config{RootCAs: ca.Pool, ServerName: "ns.demo.test", NextProtos: []string{"doq"}}, nil); err == nil {
		t.Error("a third connection of one client", c.RemoteAddr())
	}
	for _, c := range []*quic.Conn{a, b} {
		select {
		case <-c.Context().Done():
		case <-time.After(10 * time.Second):
			t.Fatal("an idle connection stays open")
		}
	}
}

// RFC 8484 §5.2: DNS over HTTPS is served by HTTP/3 as well, and told of by Alt-Svc.
func TestRFC8484HTTP3(t *testing.T) {
	s, ca := start(t, nil)
	b, _ := query("www.demo.test.", dns.TypeA).Pack()
	url := "https://" + s.AddrsOf(server.HTTPS)[0].String() + "/dns-query"
	for what, rt := range map[string]http.RoundTripper{
		"HTTP/3.0": &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool}},
		"HTTP/2.0": &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool}, ForceAttemptHTTP2: true},
	} {
		client := &http.Client{Transport: rt, Timeout: 10 * time.Second}
		for _, get := range []bool{true, false} {
			var r *http.Response
			var err error
			if get {
				r, err = client.Get(url + "?dns=" + base64.RawURLEncoding.EncodeToString(b))
			} else {
				r, err = client.Post(url, "application/dns-message", strings.NewReader(string(b)))
			}
			if err != nil {
				t.Fatal(what, err)
			}
			body, _ := io.ReadAll(r.Body)
			r.Body.Close()
			m := new(dns.Msg)
			if err := m.Unpack(body); err != nil || len(m.Answer) != 1 || r.Proto != what || r.Header.Get("Cache-Control") != "private, max-age=300" {
				t.Errorf("%s: %v %v %v %v", what, r, err, m, r.Proto)
			}
			if what == "HTTP/2.0" && !strings.HasPrefix(r.Header.Get("Alt-Svc"), `h3=":`) {
				t.Errorf("Alt-Svc: %q", r.Header.Get("Alt-Svc"))
			}
		}
		if c, ok := rt.(io.Closer); ok {
			c.Close()
		}
	}
}

// Listeners and certificates come and go with the Spec.
func TestSpecSwitchesQUIC(t *testing.T) {
	s, ca := start(t, every)
	doc := `
regions: [{id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.1]}}]
services: [{service: web, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}]}]
zones: [{zone: demo.test, records: "$TTL 300\n@ SOA a b 1 2 3 4 5\n@ NS ns1\nns1 A 192.0.2.53\nwww A 192.0.2.1\n"}]
`
	apply := func(more string) error {
		snapshot, err := fleet.Compile([]byte(doc+more), 1, zone.Check)
		if err != nil {
			t.Fatal(err)
		}
		key := fleet.ObjectKey{Kind: fleet.ObjectCertificate, ID: "ns"}
		return s.Apply(&fleet.World{Snapshot: snapshot, Objects: map[fleet.ObjectKey]fleet.Object{key: {Key: key, Data: ca.Issue(t, "ns.demo.test")}}})
	}
	if err := apply("dns: {cookies: {off: true}}\n"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); len(s.AddrsOf(server.QUIC)) > 0; runtime.Gosched() { // Run may only be beginning
		if time.Now().After(deadline) {
			t.Fatal("switched off, and still listening")
		}
	}
	if err := apply("certificates: [{id: ns, cert: 'file:a', key: 'file:b'}]\ndns: {quic: {listen: ['127.0.0.1:0'], certificate: ns}}\n"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b, err := ask(t, dial(t, s, ca, nil), framed(t, query("www.demo.test.", dns.TypeA)))
		if err != nil || len(messages(t, b)) != 1 {
			t.Errorf("%x %v", b, err)
		}
		if err := apply("certificates: [{id: ns, cert: 'file:a', key: 'file:b'}]\ndns: {quic: {listen: ['127.0.0.1:0'], certificate: ns}}\n"); err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzStream: what clients write on a stream.
func FuzzStream(f *testing.F) {
	f.Add(framed(f, query("www.demo.test.", dns.TypeA)))
	f.Add([]byte{0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := readQuery(strings.NewReader(string(b)))
		if err == nil && (len(q) < 12 || len(q)+2 != len(b) || q[0]|q[1] != 0) {
			t.Errorf("%x is taken as %x", b, q)
		}
	})
}

// Behind a proxy: the header on each datagram, the answers to the proxy.
func TestQUICBehindProxy(t *testing.T) {
	h := recording{make(chan server.Request, 1)}
	s, ca := start(t, func(c *server.Config) {
		c.Special = h
		c.DNS.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	conn, err := newProxyingConn(netip.MustParseAddrPort("203.0.113.9:4444"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cfg := &tls.Config{RootCAs: ca.Pool, ServerName: "ns.demo.test", NextProtos: []string{"doq"}}
	a := s.AddrsOf(server.QUIC)[0]
	c, err := quic.Dial(t.Context(), conn, udpAddr(a), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseWithError(0, "")
	if _, err := ask(t, c, framed(t, query("demo.test.", dns.TypeAXFR))); err != nil {
		t.Fatal(err)
	}
	if r := <-h.got; r.Client.String() != "203.0.113.9:4444" {
		t.Errorf("the client is %s", r.Client)
	}
}
