package l7

import (
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"testing"
)

// BenchmarkProxy compares a GET straight to an endpoint, through the gateway,
// and through httputil.ReverseProxy, client and endpoint in the same process.
func BenchmarkProxy(b *testing.B) {
	end := backend(b, "b", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	r := newRig(b, httpSpec(noChecks, end))
	u, _ := url.Parse("http://" + end)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	std := &http.Server{Handler: httputil.NewSingleHostReverseProxy(u)}
	go std.Serve(l)
	defer std.Close()
	for _, tc := range []struct{ name, at string }{{"direct", end}, {"gateway", r.addr(webVIP)}, {"reverse_proxy", l.Addr().String()}} {
		b.Run(tc.name, func(b *testing.B) { roundTrips(b, tc.at) })
	}
}

// BenchmarkExchange is what the gateway adds to a round trip: client and
// endpoint allocate nothing and do next to nothing.
func BenchmarkExchange(b *testing.B) {
	end := answers(b, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello")
	r := newRig(b, httpSpec(noChecks, end))
	for _, tc := range []struct{ name, at string }{{"direct", end}, {"gateway", r.addr(webVIP)}} {
		b.Run(tc.name, func(b *testing.B) { roundTrips(b, tc.at) })
	}
}

// roundTrips sends requests on one connection by a client that allocates
// nothing, so that what is counted is the servers'.
func roundTrips(b *testing.B, at string) {
	c, err := net.Dial("tcp", at)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	request := []byte("GET / HTTP/1.1\r\nHost: www.demo.test\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(request); err != nil {
			b.Fatal(err)
		}
		n, err := c.Read(buf)
		if err != nil || n < 5 || string(buf[n-5:n]) != "hello" {
			b.Fatalf("%q, %v", buf[:n], err)
		}
	}
}
