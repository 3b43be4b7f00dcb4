//go:build !race

package h2

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
)

// loop sends the same request over and over, and allocates nothing itself.
type loop struct {
	c     net.Conn
	frame []byte
	id    uint32
	buf   []byte
	t     testing.TB
}

func newLoop(t testing.TB, c net.Conn) *loop {
	p := greeted(t, c)
	fields := []string{":method", "GET", ":scheme", "https", ":path", "/a/path?of=some&length=1", ":authority", "www.demo.test",
		"user-agent", "Mozilla/5.0 (X11; Linux x86_64)", "accept", "text/html,*/*;q=0.8", "accept-language", "en-US,en;q=0.5", "cookie", "session=0123456789abcdef"}
	p.head(1, true, fields...)
	p.until(func(f http2.Frame) bool { d, ok := f.(*http2.DataFrame); return ok && d.StreamEnded() })
	p.c.SetDeadline(time.Time{})
	p.WriteWindowUpdate(0, 1<<30)
	block := p.block(fields...) // now all from the table
	l := &loop{c: p.c, id: 1, buf: make([]byte, 4096), t: t}
	l.frame = append(appendHeader(nil, len(block), typeHeaders, flagEndHeaders|flagEndStream, 0), block...)
	return l
}

func connect(t testing.TB, address string) net.Conn {
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// run makes one request and waits for the end of its answer.
func (l *loop) run() {
	l.id += 2
	binary.BigEndian.PutUint32(l.frame[5:], l.id)
	if _, err := l.c.Write(l.frame); err != nil {
		l.t.Fatal(err)
	}
	for ended := false; !ended; {
		if _, err := io.ReadFull(l.c, l.buf[:headerSize]); err != nil {
			l.t.Fatal(err)
		}
		n := int(l.buf[1])<<8 | int(l.buf[2])
		ended = l.buf[3] <= typeHeaders && l.buf[4]&flagEndStream != 0
		if _, err := io.ReadFull(l.c, l.buf[:n]); err != nil {
			l.t.Fatal(err)
		}
	}
}

// answering gives a session whose answers cost nothing.
func answering() *session {
	head := &wire.Head{Status: 200}
	head.AddID(wire.ContentType, "text/plain")
	head.AddID(wire.ContentLength, "1024")
	head.Add("X-Request-ID", "0123456789abcdef")
	body := make([]byte, 1024)
	return newSession(func(f l7.Front, h *wire.Head, _ *l7.Abort) {
		f.Deadlines(time.Time{}, time.Time{})
		f.Answer(head, false)
		f.Write(body)
		f.End(nil)
	})
}

// A request whose fields the connection has seen costs no allocation.
func TestRequestsAllocateNothing(t *testing.T) {
	l := newLoop(t, connect(t, listen(t, answering(), nil)))
	for range 3000 {
		l.run()
	}
	if n := testing.AllocsPerRun(2000, l.run); n >= 1 {
		t.Errorf("%v allocations for a request", n)
	}
}

func BenchmarkRequest(b *testing.B) {
	l := newLoop(b, connect(b, listen(b, answering(), nil)))
	b.ReportAllocs()
	for b.Loop() {
		l.run()
	}
}

// frugal is an endpoint of HTTP/1.1 that allocates nothing for a request.
func frugal(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 16<<10)
				for at := 0; ; {
					n, err := c.Read(buf[at:])
					if err != nil {
						return
					}
					if at += n; bytes.HasSuffix(buf[:at], []byte("\r\n\r\n")) {
						at = 0
						if _, err := c.Write(answer); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// Nor does one that goes through TLS and the whole gateway; crypto/tls makes an
// allocation when it waits for a record, on either side.
func TestGatewaysRequestsAllocateNothing(t *testing.T) {
	r := gateway(t, spec("", "", frugal(t)))
	l := newLoop(t, r.dialTLS(t))
	for range 1000 {
		l.run()
	}
	if n := testing.AllocsPerRun(2000, l.run); n > 2 {
		t.Errorf("%v allocations for a request, of which two are crypto/tls's", n)
	}
}
