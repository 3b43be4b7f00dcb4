package l7

import (
	"bytes"
	"io"
	"math"
	"net"
	"runtime"
	"testing"
	"time"

	"meridian/internal/testkit"
)

// answers is an endpoint that says the same to every request without a body,
// and allocates nothing over it.
func answers(t testing.TB, answer string) string {
	t.Helper()
	return serveRaw(t, func(c net.Conn) {
		buf := make([]byte, 8192)
		out := []byte(answer)
		n := 0
		for {
			m, err := c.Read(buf[n:])
			if err != nil {
				return
			}
			n += m
			for {
				i := bytes.Index(buf[:n], []byte("\r\n\r\n"))
				if i < 0 {
					break
				}
				n = copy(buf, buf[i+4:n])
				if _, err := c.Write(out); err != nil {
					return
				}
			}
		}
	})
}

// serveRaw is an endpoint whose every connection is in the hands of f.
func serveRaw(t testing.TB, f func(net.Conn)) string { return testkit.Serve(t, f) }

// rawClient sends requests on one connection and allocates nothing over it.
type rawClient struct {
	t testing.TB
	net.Conn
	buf []byte
}

func (r *rig) rawClient(address string) *rawClient {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr(address))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return &rawClient{r.t, c, make([]byte, 64<<10)}
}

// do sends a request and reads until the answer ends with the text.
func (c *rawClient) do(request, end []byte) []byte {
	if _, err := c.Write(request); err != nil {
		c.t.Fatal(err)
	}
	for n := 0; ; {
		m, err := c.Read(c.buf[n:])
		if n += m; err != nil {
			c.t.Fatalf("%q, %v", c.buf[:n], err)
		}
		if bytes.HasSuffix(c.buf[:n], end) {
			return c.buf[:n]
		}
	}
}

// rest reads to the connection's end.
func (c *rawClient) rest() string {
	b, _ := io.ReadAll(c)
	return string(b)
}

const plainGET = "GET /assets/app.js?v=1 HTTP/1.1\r\nHost: www.demo.test\r\nUser-Agent: bench\r\nAccept: */*\r\nCookie: a=b\r\n\r\n"

// allocations is how many the process makes over so many requests, the least of
// five times.
func (c *rawClient) allocations(requests int, request, end []byte) uint64 {
	best := uint64(math.MaxUint64)
	for range 5 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range requests {
			c.do(request, end)
		}
		runtime.ReadMemStats(&after)
		best = min(best, after.Mallocs-before.Mallocs)
	}
	return best
}
