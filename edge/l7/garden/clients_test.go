package garden_test

import (
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A client that has said all it will say, and closes its half, gets its answer.
func TestClientThatHalfClosesIsAnswered(t *testing.T) {
	o := goServer(t)
	gw := startGateway(t, []*origin{o})
	for _, request := range []string{
		"GET /one-000001 HTTP/1.1\r\nHost: go.garden.test\r\n\r\n",
		"POST /one-000001 HTTP/1.1\r\nHost: go.garden.test\r\nContent-Length: 5\r\n\r\nhello",
	} {
		c, err := net.Dial("tcp", gw.plain)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, request)
		c.(*net.TCPConn).CloseWrite()
		b, _ := io.ReadAll(c)
		c.Close()
		if !strings.HasPrefix(string(b), "HTTP/1.1 200") || !strings.Contains(string(b), "one-000001") {
			t.Errorf("%.20q: got %.200q", request, b)
		}
	}
}

// Two thousand clients that never end their heads cost little each, and others
// are served meanwhile.
func TestClientsThatNeverEndTheirHeadsAreCheap(t *testing.T) {
	o := goServer(t)
	gw := startGateway(t, []*origin{o})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const clients = 2000
	var list []net.Conn
	defer func() {
		for _, c := range list {
			c.Close()
		}
	}()
	for range clients {
		c, err := net.Dial("tcp", gw.plain)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
		io.WriteString(c, "GET /one-000002 HTTP/1.1\r\nHost: go.garden.test\r\nX: ")
	}
	c := canaries(gw)
	defer c.CloseIdleConnections()
	res, err := c.Get("http://go.garden.test/canary-000003")
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("others are not served: %v", err)
	}
	res.Body.Close()
	runtime.GC()
	runtime.ReadMemStats(&after)
	// Both ends are in this process; no client may cost more than the largest head.
	if each := (int64(after.HeapInuse+after.StackInuse) - int64(before.HeapInuse+before.StackInuse)) / clients; each > 64<<10 {
		t.Errorf("%d octets a client", each)
	}
	if n := len(o.ledger.of("000002")); n > 0 {
		t.Errorf("the origin sees %d heads that never ended", n)
	}
}
