package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"testing"

	"github.com/miekg/dns"

	"meridian/dns/zone"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// demoZones gives the plain zone of the spec that the tests serve.
func demoZones(t testing.TB) []*zone.Zone {
	t.Helper()
	z, err := zone.Load("demo.test.", []byte("$TTL 300\n@ SOA ns1 admin 7 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\nwww A 192.0.2.1\n$GENERATE 1-200 many A 192.0.3.$\n"), "")
	if err != nil {
		t.Fatal(err)
	}
	return []*zone.Zone{z}
}

// recorder is a http.ResponseWriter.
type recorder struct {
	header http.Header
	status int
	body   []byte
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *recorder) Write(b []byte) (int, error) {
	w.WriteHeader(200)
	w.body = append(w.body, b...)
	return len(b), nil
}

func fuzzRequest(method, rawQuery, contentType string, body []byte) *http.Request {
	return &http.Request{Method: method, URL: &url.URL{Path: "/dns-query", RawQuery: rawQuery}, RemoteAddr: "192.0.2.9:4444",
		Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body))}
}

// FuzzStream: what clients write on a connection. Each whole message gets one
// response with its ID, in order, until one that gets none ends the connection.
func FuzzStream(f *testing.F) {
	f.Add(framed(f, query("www.demo.test.", dns.TypeA, 1), query("many.demo.test.", dns.TypeA, 2)))
	f.Add([]byte{0, 0})
	f.Add([]byte{0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	f.Add(proxyHeader("203.0.113.9:4444", proxyStream))
	s, err := New(Config{Logger: quiet})
	if err != nil {
		f.Fatal(err)
	}
	s.SetZones(demoZones(f))
	p := Peer{Client: netip.MustParseAddrPort("192.0.2.9:4444"), Transport: TCP}
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = ours.Write(b)
			// The end of what is written is the end of the connection, once
			// the answers are read.
		}()
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.converse(context.Background(), theirs, p, new(stats))
		}()
		for rest := b; len(rest) >= 2; {
			n := int(binary.BigEndian.Uint16(rest))
			if len(rest) < 2+n || startsProxy(b) {
				break
			}
			msg := rest[2 : 2+n]
			rest = rest[2+n:]
			var size [2]byte
			if _, err := io.ReadFull(ours, size[:]); err != nil {
				if n >= headerLen && msg[2]&0x80 == 0 {
					t.Errorf("%x is not answered: %v", msg, err)
				}
				break
			}
			answer := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(ours, answer); err != nil || !bytes.Equal(answer[:2], msg[:2]) {
				t.Fatalf("%x is answered %x: %v", msg, answer, err)
			}
		}
		ours.Close()
		<-done
	})
}

// FuzzTruncate: what is made of a response leaves it a response, and is no
// longer; messages are walked to their end at most.
func FuzzTruncate(f *testing.F) {
	m := query("www.demo.test.", dns.TypeA, 1)
	m.SetEdns0(1232, true)
	rr, _ := dns.NewRR("www.demo.test. 300 IN A 192.0.2.1")
	m.Answer = append(m.Answer, rr)
	b, _ := m.Pack()
	f.Add(b)
	f.Add(b[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		freshness(b)
		whole := bytes.Clone(b)
		n := truncate(b)
		if n > len(whole) {
			t.Fatalf("%x grows to %d", whole, n)
		}
		if n > 0 && (b[2]&2 == 0 || !bytes.Equal(b[:2], whole[:2]) || endOfQuestion(b[:n]) == 0) {
			t.Errorf("%x becomes %x", whole, b[:n])
		}
	})
}
