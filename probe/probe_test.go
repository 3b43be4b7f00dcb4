package probe

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/fleet"
	"meridian/internal/testkit"
)

// listen opens a TCP listener on loopback that hands each connection to serve.
func listen(t *testing.T, serve func(net.Conn)) netip.AddrPort {
	return netip.MustParseAddrPort(testkit.Serve(t, serve))
}

func addrOf(s *httptest.Server) netip.AddrPort {
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

func run(t *testing.T, pr fleet.Probe) fleet.ProbeResult {
	t.Helper()
	if pr.Timeout == 0 {
		pr.Timeout = 5 * time.Second
	}
	return New(Config{}).Probe(t.Context(), pr)
}

func want(t *testing.T, got fleet.ProbeResult, cause fleet.Cause) {
	t.Helper()
	if got.Cause != cause || got.OK != (cause == fleet.CauseNone) {
		t.Errorf("got %v %q, ok %v; want %v", got.Cause, got.Detail, got.OK, cause)
	}
	if got.Latency <= 0 {
		t.Error("no latency")
	}
}

func TestConnect(t *testing.T) {
	ends := make(chan error, 2)
	at := listen(t, func(c net.Conn) {
		_, err := io.ReadAll(c)
		c.Close()
		ends <- err
	})
	want(t, run(t, fleet.Probe{Check: "rtt", Address: at}), fleet.CauseNone)
	if err := <-ends; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("rtt ended the connection with %v, want a reset", err)
	}
	want(t, run(t, fleet.Probe{Check: "tcp", Address: at}), fleet.CauseNone)
	if err := <-ends; err != nil {
		t.Errorf("tcp ended the connection with %v, want an orderly end", err)
	}
}

func TestConnectFailures(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := netip.MustParseAddrPort(l.Addr().String())
	l.Close()
	want(t, run(t, fleet.Probe{Check: "rtt", Address: closed}), fleet.CauseRefused)

	hang := New(Config{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
	}})
	want(t, hang.Probe(t.Context(), fleet.Probe{Check: "rtt", Address: closed, Timeout: time.Millisecond}), fleet.CauseTimeout)

	for errno, cause := range map[syscall.Errno]fleet.Cause{
		syscall.ENETUNREACH: fleet.CauseUnreachable, syscall.EHOSTUNREACH: fleet.CauseUnreachable,
		syscall.ECONNRESET: fleet.CauseReset, syscall.ETIMEDOUT: fleet.CauseTimeout, syscall.EMFILE: fleet.CauseOther,
	} {
		p := New(Config{Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, fmt.Errorf("dial: %w", errno)
		}})
		want(t, p.Probe(t.Context(), fleet.Probe{Check: "tcp", Address: closed, Timeout: time.Second}), cause)
	}
}

func TestIncompleteProbesAreRefused(t *testing.T) {
	at := netip.MustParseAddrPort("127.0.0.1:1")
	for _, pr := range []fleet.Probe{{Check: "tcp", Address: at}, {Check: "tcp", Timeout: 1}, {Check: "smtp", Address: at, Timeout: time.Second}} {
		if got := New(Config{}).Probe(t.Context(), pr); got.OK || got.Cause != fleet.CauseOther {
			t.Errorf("%+v gives %+v", pr, got)
		}
	}
}

func TestHTTP(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Host != "www.example.org" || r.Header.Get("User-Agent") != "meridian-probe":
			w.WriteHeader(400)
		case r.URL.Path == "/moved":
			http.Redirect(w, r, "/health", http.StatusFound)
		case r.URL.Path == "/sick":
			w.WriteHeader(503)
		case r.URL.Path == "/slow":
			<-r.Context().Done()
		case r.URL.Path == "/long":
			fmt.Fprint(w, strings.Repeat("x", maxBody), "all well")
		case r.URL.RawQuery == "deep=1":
			w.WriteHeader(204)
		default:
			fmt.Fprint(w, "all well")
		}
	}))
	defer s.Close()
	for _, c := range []struct {
		path  string
		exp   fleet.Expect
		cause fleet.Cause
	}{
		{"/health", fleet.Expect{}, fleet.CauseNone},
		{"", fleet.Expect{}, fleet.CauseNone},
		{"/health?deep=1", fleet.Expect{Status: []string{"204"}}, fleet.CauseNone},
		{"/health", fleet.Expect{Status: []string{"204", "3xx"}}, fleet.CauseStatus},
		{"/health", fleet.Expect{Body: "all well"}, fleet.CauseNone},
		{"/health", fleet.Expect{Body: "all ill"}, fleet.CauseBody},
		{"/long", fleet.Expect{Body: "all well"}, fleet.CauseBody},
		{"/sick", fleet.Expect{}, fleet.CauseStatus},
		{"/moved", fleet.Expect{}, fleet.CauseStatus},
		{"/moved", fleet.Expect{Status: []string{"302"}}, fleet.CauseNone},
	} {
		t.Run(c.path+fmt.Sprint(c.exp), func(t *testing.T) {
			want(t, run(t, fleet.Probe{Check: "http", Address: addrOf(s), Host: "www.example.org", Path: c.path, Expect: c.exp}), c.cause)
		})
	}
	want(t, run(t, fleet.Probe{Check: "http", Address: addrOf(s), Host: "www.example.org", Path: "/slow", Timeout: 50 * time.Millisecond}), fleet.CauseTimeout)
}

func TestHTTPToSomethingElse(t *testing.T) {
	answer := func(s string) netip.AddrPort {
		return listen(t, func(c net.Conn) {
			buf := make([]byte, 4096)
			_, _ = c.Read(buf)
			fmt.Fprint(c, s)
			c.Close()
		})
	}
	want(t, run(t, fleet.Probe{Check: "http", Address: answer("220 mail ready\r\n\r\n"), Host: "a"}), fleet.CauseProtocol)
	want(t, run(t, fleet.Probe{Check: "http", Address: answer(""), Host: "a"}), fleet.CauseReset)
	want(t, run(t, fleet.Probe{Check: "https", Address: answer("HTTP/1.1 200 OK\r\n\r\n"), Host: "a", Insecure: true}), fleet.CauseTLS)
}

// authority is a certificate authority of one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue makes a certificate for name that ends at notAfter.
func (a *authority) issue(t *testing.T, name string, notAfter time.Time) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name},
		NotBefore: time.Now().Add(-47 * time.Hour), NotAfter: notAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serve starts an HTTPS server with a certificate for name that ends at notAfter.
func (a *authority) serve(t *testing.T, name string, notAfter time.Time) netip.AddrPort {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			w.WriteHeader(505)
		}
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{*a.issue(t, name, notAfter)}}
	s.EnableHTTP2 = true
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	return addrOf(s)
}

func TestCertificates(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	tomorrow, yesterday := time.Now().Add(24*time.Hour).Truncate(time.Second), time.Now().Add(-24*time.Hour)
	good := a.serve(t, "www.example.org", tomorrow)
	expired := a.serve(t, "www.example.org", yesterday)

	probe := func(at netip.AddrPort, host string, ca []byte) fleet.Probe {
		return fleet.Probe{Check: "https", Address: at, Host: host, Path: "/", CA: ca}
	}
	ok := run(t, probe(good, "www.example.org", a.pem))
	want(t, ok, fleet.CauseNone)
	if !ok.Expiry.Equal(tomorrow) {
		t.Errorf("expiry %v, want %v", ok.Expiry, tomorrow)
	}
	want(t, run(t, probe(good, "www.example.org:443", a.pem)), fleet.CauseNone)
	want(t, run(t, probe(good, "www.example.com", a.pem)), fleet.CauseCertName)
	want(t, run(t, probe(good, "www.example.org", other.pem)), fleet.CauseTLS)
	want(t, run(t, probe(good, "www.example.org", nil)), fleet.CauseTLS)
	want(t, run(t, probe(good, "www.example.org", []byte("not PEM"))), fleet.CauseTLS)
	want(t, run(t, probe(good, "", a.pem)), fleet.CauseNone) // without a name: chain and dates alone
	want(t, run(t, probe(expired, "", a.pem)), fleet.CauseCertExpired)

	old := run(t, probe(expired, "www.example.org", a.pem))
	want(t, old, fleet.CauseCertExpired)
	if old.Expiry.IsZero() {
		t.Error("the expiry of an expired certificate is not told")
	}
	named := probe(good, "other.example.net", a.pem)
	named.TLSName = "www.example.org"
	want(t, run(t, named), fleet.CauseNone)
	blind := probe(expired, "www.example.com", nil)
	blind.Insecure = true
	want(t, run(t, blind), fleet.CauseNone)
}

// nameserver answers each query by reply on a UDP socket.
func nameserver(t *testing.T, reply func(q *dns.Msg) [][]byte) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if q.Unpack(buf[:n]) != nil {
				continue
			}
			for _, b := range reply(q) {
				_, _ = c.WriteTo(b, from)
			}
		}
	}()
	return netip.MustParseAddrPort(c.LocalAddr().String())
}

func answer(q *dns.Msg, aa bool, rcode int, rrs ...string) []byte {
	m := new(dns.Msg)
	m.SetRcode(q, rcode)
	m.Authoritative = aa
	for _, s := range rrs {
		rr, err := dns.NewRR(s)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

const soa = "example.org. 300 IN SOA ns1 host 1 2 3 4 5"

func TestDNS(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, c := range []struct {
		name  string
		want  []netip.Addr
		reply func(q *dns.Msg) [][]byte
		cause fleet.Cause
	}{
		{"SOA", nil, func(q *dns.Msg) [][]byte { return [][]byte{answer(q, true, 0, soa)} }, fleet.CauseNone},
		{"not authoritative", nil, func(q *dns.Msg) [][]byte { return [][]byte{answer(q, false, 0, soa)} }, fleet.CauseAnswer},
		{"no SOA", nil, func(q *dns.Msg) [][]byte { return [][]byte{answer(q, true, 0)} }, fleet.CauseAnswer},
		{"refused", nil, func(q *dns.Msg) [][]byte { return [][]byte{answer(q, false, dns.RcodeRefused)} }, fleet.CauseRcode},
		{"A", []netip.Addr{v4}, func(q *dns.Msg) [][]byte {
			return [][]byte{answer(q, true, 0, "example.org. 30 IN A 192.0.2.9", "example.org. 30 IN A 192.0.2.1")}
		}, fleet.CauseNone},
		{"another A", []netip.Addr{v4}, func(q *dns.Msg) [][]byte { return [][]byte{answer(q, true, 0, "example.org. 30 IN A 192.0.2.9")} }, fleet.CauseAnswer},
		{"AAAA", []netip.Addr{v6}, func(q *dns.Msg) [][]byte {
			if q.Question[0].Qtype != dns.TypeAAAA {
				return nil
			}
			return [][]byte{answer(q, true, 0, "example.org. 30 IN AAAA 2001:db8::1")}
		}, fleet.CauseNone},
		{"forged answers first", nil, func(q *dns.Msg) [][]byte {
			id, name := q.Copy(), q.Copy()
			id.Id++
			name.Question[0].Name = "example.net."
			return [][]byte{answer(id, true, dns.RcodeServerFailure), answer(name, true, 0), {1, 2, 3}, answer(q, true, 0, soa)}
		}, fleet.CauseNone},
		{"garbage", nil, func(q *dns.Msg) [][]byte { return [][]byte{answer(q, true, 0, soa)[:20]} }, fleet.CauseProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := nameserver(t, c.reply)
			want(t, run(t, fleet.Probe{Check: "dns", Address: at, Name: "example.org.", Want: c.want}), c.cause)
		})
	}
	silent := nameserver(t, func(*dns.Msg) [][]byte { return nil })
	want(t, run(t, fleet.Probe{Check: "dns", Address: silent, Name: "example.org.", Timeout: 50 * time.Millisecond}), fleet.CauseTimeout)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	got := New(Config{}).Probe(ctx, fleet.Probe{Check: "dns", Address: silent, Name: "example.org.", Timeout: time.Hour})
	if got.OK || got.Cause != fleet.CauseOther {
		t.Errorf("cancelled: got %+v", got)
	}
}

func FuzzAnswer(f *testing.F) {
	q := new(dns.Msg)
	q.SetQuestion("example.org.", dns.TypeSOA)
	q.Id = 7
	f.Add(answer(q, true, 0, soa))
	f.Add(answer(q, true, dns.RcodeRefused))
	f.Add([]byte{0, 7, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		done, err := consider(b, q, &fleet.Probe{Name: "example.org."})
		if !done && err != nil {
			t.Errorf("passed over with %v", err)
		}
	})
}

func TestDetailIsOnePrintableLine(t *testing.T) {
	_, d := classify(errors.New("bad\r\n\x00thing " + strings.Repeat("é", 300)))
	if strings.ContainsAny(d, "\r\n\x00") || len(d) > 204 {
		t.Errorf("got %q", d)
	}
}

func BenchmarkProbe(b *testing.B) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	p := New(Config{})
	for _, check := range []string{"rtt", "https"} {
		b.Run(check, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := p.Probe(b.Context(), fleet.Probe{Check: check, Address: addrOf(s), Host: "a", Insecure: true, Timeout: 5 * time.Second})
				if !r.OK {
					b.Fatal(r.Detail)
				}
			}
		})
	}
}
