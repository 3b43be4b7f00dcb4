package l7

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What others' fast proxies got wrong and the tests of answers and bodies do
// not show.

// An endpoint that answers before the body's end must not leave the gateway
// reading an upload that never ends.
func TestEndlessUploadEndsWithItsAnswer(t *testing.T) {
	b := backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		io.WriteString(w, "enough")
	})
	r := newRig(t, httpSpec(noChecks, b))
	c := r.rawClient(webVIP)
	io.WriteString(c, request("POST /", "Transfer-Encoding: chunked"))
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := io.WriteString(c, "400\r\n"+strings.Repeat("x", 1024)+"\r\n"); err != nil {
				ended <- err
				return
			}
		}
	}()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); res.StatusCode != 413 || string(body) != "enough" || err != nil {
		t.Errorf("got %s %q, %v", res.Status, body, err)
	}
	if err := <-ended; err == nil {
		t.Error("the upload goes on")
	}
}

// Over HTTP/1.1 too both directions flow at once.
func TestBothDirectionsAtOnceOverHTTP1(t *testing.T) {
	b := backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.(http.Flusher).Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			w.Write(buf[:n])
			w.(http.Flusher).Flush()
			if err != nil {
				return
			}
		}
	})
	r := newRig(t, httpSpec(noChecks, b))
	c := r.rawClient(webVIP)
	io.WriteString(c, request("POST /", "Transfer-Encoding: chunked"))
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	for _, s := range []string{"ping", "pong", "last"} {
		fmt.Fprintf(c, "4\r\n%s\r\n", s)
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != s {
			t.Fatalf("%q, %v", got, err)
		}
	}
	io.WriteString(c, "0\r\n\r\n")
	if rest, err := io.ReadAll(res.Body); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
}

// A broken upload is broken for the endpoint as well, whatever its framing.
func TestBrokenUploadIsNotPassedAsWhole(t *testing.T) {
	for name, tc := range map[string]struct{ request, want string }{
		"short of its length": {request("POST /", "Content-Length: 100000") + "begin", "HTTP/1.1 400"},
		"chunks without end":  {request("POST /", "Transfer-Encoding: chunked") + "5\r\nbegin\r\n", "HTTP/1.1 400"},
		"chunk that lies":     {request("POST /", "Transfer-Encoding: chunked") + "5\r\nbegin\r\n-1\r\nx\r\n0\r\n\r\n", "HTTP/1.1 400"},
		"bare LF in a chunk":  {request("POST /", "Transfer-Encoding: chunked") + "5\r\nbegin\r\n5\nbegin\r\n0\r\n\r\n", "HTTP/1.1 400"},
		"length in a trailer": {request("POST /", "Transfer-Encoding: chunked") + "5\r\nbegin\r\n0\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 400"},
	} {
		whole := make(chan error, 1)
		b := backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			whole <- err
		})
		r := newRig(t, httpSpec(noChecks, b))
		c := r.rawClient(webVIP)
		io.WriteString(c, tc.request)
		c.Conn.(*net.TCPConn).CloseWrite()
		if out := c.rest(); !strings.HasPrefix(out, tc.want) && out != "" {
			t.Errorf("%s: the client got %.100q", name, out)
		}
		if err := <-whole; err == nil {
			t.Errorf("%s: the endpoint took it for whole", name)
		}
	}
}

// Clients of HTTP/2 spell the fields of WebSocket in lower case, and there are
// endpoints that look for RFC 6455's spelling; and the other way round.
func TestSpellingOfWebSocketFields(t *testing.T) {
	seen := make(chan string, 1)
	end := serveRaw(t, func(c net.Conn) {
		rd := bufio.NewReader(c)
		var head strings.Builder
		for {
			s, err := rd.ReadString('\n')
			if err != nil || strings.HasPrefix(s, "GET /health") {
				return
			}
			if head.WriteString(s); s == "\r\n" {
				break
			}
		}
		seen <- head.String()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: WebSocket\r\nsec-websocket-accept: x\r\n\r\nhi")
	})
	r := newRig(t, httpSpec(noChecks, end))
	c := r.rawClient(webVIP)
	io.WriteString(c, request("GET /", "connection: upgrade", "upgrade: websocket", "sec-websocket-key: k", "sec-websocket-version: 13"))
	out := c.rest()
	for _, want := range []string{"Sec-WebSocket-Key: k\r\n", "Sec-WebSocket-Version: 13\r\n", "Connection: Upgrade\r\n", "Upgrade: websocket\r\n"} {
		if got := <-seen; !strings.Contains(got, want) {
			t.Errorf("the endpoint got %q, without %q", got, want)
		} else {
			seen <- got
		}
	}
	if !strings.HasPrefix(out, "HTTP/1.1 101") || !strings.Contains(out, "Sec-WebSocket-Accept: x\r\n") || !strings.HasSuffix(out, "\r\n\r\nhi") {
		t.Errorf("the client got %q", out)
	}
}

// An endpoint that does not know expectations gets the body after a while.
func TestExpectationThatNobodyMeets(t *testing.T) {
	end := serveRaw(t, (&script{answers: []string{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"}}).serve)
	r := newRig(t, httpSpec(noChecks, end))
	c := r.rawClient(webVIP)
	io.WriteString(c, request("PUT /", "Content-Length: 5", "Expect: 100-continue"))
	lines := bufio.NewReader(c)
	if s, err := lines.ReadString('\n'); err != nil || s != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q, %v", s, err)
	}
	lines.ReadString('\n')
	io.WriteString(c, "hello")
	res, err := http.ReadResponse(lines, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(res.Body); string(body) != "ok" {
		t.Errorf("%q", body)
	}
}

// A head that comes too slowly is given up, and its client counted.
func TestSlowHeadsAreGivenUp(t *testing.T) {
	r := newRig(t, httpSpec(noChecks, backend(t, "b", nil)), func(c *Config) { c.header = 100 * time.Millisecond })
	c := r.rawClient(webVIP)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: www.demo")
	if out := c.rest(); !strings.HasPrefix(out, "HTTP/1.1 408") {
		t.Errorf("got %q", out)
	}
}
