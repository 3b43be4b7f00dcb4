package l7

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// script is an endpoint that notes what it is sent, octet for octet, and
// answers each request with the next of its answers.
type script struct {
	mu      sync.Mutex
	got     bytes.Buffer
	answers []string // one a request; the last one serves all others
	turn    int
	close   bool // the connection ends after an answer
}

func (s *script) serve(c net.Conn) {
	var in bytes.Buffer
	buf := make([]byte, 64<<10)
	for {
		var n int
		for n = requestLength(in.Bytes()); n < 0; n = requestLength(in.Bytes()) {
			m, err := c.Read(buf)
			in.Write(buf[:m])
			if err != nil {
				return
			}
		}
		s.mu.Lock()
		got := in.Next(n)
		if bytes.HasPrefix(got, []byte("GET /health ")) {
			s.mu.Unlock()
			return
		}
		s.got.Write(got)
		answer := s.answers[min(s.turn, len(s.answers)-1)]
		s.turn++
		s.mu.Unlock()
		io.WriteString(c, answer)
		if s.close {
			return
		}
	}
}

func (s *script) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.got.Reset()
	s.turn = 0
	return s.got.String()
}

var lengthField = regexp.MustCompile(`(?i)\r\ncontent-length: (\d+)\r\n`)

// requestLength gives the octets of the first request in b, -1 where it is not
// complete.
func requestLength(b []byte) int {
	i := bytes.Index(b, []byte("\r\n\r\n"))
	if i < 0 {
		return -1
	}
	head, n := b[:i+2], i+4
	if m := lengthField.FindSubmatch(head); m != nil {
		length, _ := strconv.Atoi(string(m[1]))
		n += length
	} else if bytes.Contains(head, []byte("Transfer-Encoding: chunked")) {
		end := bytes.Index(b[n:], []byte("0\r\n"))
		if end < 0 {
			return -1
		}
		after := bytes.Index(b[n+end:], []byte("\r\n\r\n"))
		if after < 0 {
			return -1
		}
		n += end + after + 4
	}
	if len(b) < n {
		return -1
	}
	return n
}

// request makes the head of one.
func request(line string, fields ...string) string {
	s := line + " HTTP/1.1\r\nHost: www.demo.test\r\nX-Request-ID: one\r\n"
	for _, f := range fields {
		s += f + "\r\n"
	}
	return s + "\r\n"
}

// lanes are exchanges that may take short cuts: with and without them they must
// look the same, octet for octet, from both sides.
var lanes = []struct {
	name, request string
	answers       []string
	close         bool
}{
	{"small", request("GET /"), []string{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"}, false},
	{"no length", request("GET /"), []string{"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nuntil the end"}, true},
	{"empty", request("GET /"), []string{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}, false},
	{"large", request("GET /"), []string{"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + strings.Repeat("x", 300000)}, false},
	{"chunked", request("GET /"), []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"}, false},
	{"large chunks", request("GET /"), []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("2710\r\n"+strings.Repeat("y", 10000)+"\r\n", 20) + "0\r\n\r\n"}, false},
	{"HEAD", request("HEAD /"), []string{"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"}, false},
	{"not modified", request("GET /"), []string{"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 77\r\n\r\n"}, false},
	{"no content", request("DELETE /"), []string{"HTTP/1.1 204 No Content\r\n\r\n"}, false},
	{"hints", request("GET /"), []string{"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"}, false},
	{"small upload", request("POST /", "Content-Length: 5") + "hello", []string{"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"}, false},
	{"large upload", request("POST /", "Content-Length: 500000") + strings.Repeat("z", 500000), []string{"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"}, false},
	{"chunked upload", request("POST /", "Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\nX-Sum: 2\r\n\r\n", []string{"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"}, false},
	{"empty upload", request("POST /"), []string{"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"}, false},
	{"pipelined", request("GET /1") + request("GET /2") + request("POST /3", "Content-Length: 3") + "abc" + request("GET /4"),
		[]string{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n", "HTTP/1.1 404 Gone Fishing\r\nContent-Length: 5\r\n\r\nthree", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfour"}, false},
	{"refused", request("GET /a/../b"), []string{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}, false},
	{"malformed", "GET / HTTP/1.1\r\nHost : www.demo.test\r\n\r\n", []string{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}, false},
	{"HTTP/1.0", "GET / HTTP/1.0\r\nHost: www.demo.test\r\nX-Request-ID: one\r\n\r\n", []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nold\r\n0\r\n\r\n"}, false},
	{"HTTP/1.0 that stays", "GET / HTTP/1.0\r\nHost: www.demo.test\r\nX-Request-ID: one\r\nConnection: keep-alive\r\n\r\n", []string{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold"}, false},
	{"untyped, with a server", request("GET /"), []string{"HTTP/1.1 200 Fine\r\nserver: a\r\ndate: b\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 0\r\n\r\n"}, false},
}

var dates = regexp.MustCompile(`Date: .*\r\n|X-Request-ID: [0-9a-f]{32}\r\n`)

// lane runs one exchange and gives what client and endpoint have seen.
func lane(r *rig, s *script, request string) (client, endpoint string) {
	c := r.rawClient(webVIP)
	go io.WriteString(c, request)
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	// A last request ends the connection.
	last := "GET /last HTTP/1.1\r\nHost: unknown.test\r\nX-Request-ID: one\r\nConnection: close\r\n\r\n"
	done := make(chan string)
	go func() { done <- c.rest() }()
	select {
	case client = <-done:
	case <-time.After(150 * time.Millisecond):
		io.WriteString(c, last)
		client = <-done
	}
	return together(dates.ReplaceAllString(client, "")), s.take()
}

func TestBothLanesLookTheSame(t *testing.T) {
	for _, tc := range lanes {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := &script{answers: tc.answers, close: tc.close}
			end := serveRaw(t, s.serve)
			var seen [2][2]string
			for i, slow := range []bool{false, true} {
				r := newRig(t, httpSpec(noChecks, end), func(c *Config) { c.slow = slow })
				seen[i][0], seen[i][1] = lane(r, s, tc.request)
				seen[i][1] = strings.ReplaceAll(seen[i][1], strings.TrimPrefix(r.addr(webVIP), "127.0.0.1:"), "PORT")
			}
			for i, who := range []string{"client", "endpoint"} {
				if seen[0][i] != seen[1][i] {
					t.Errorf("the %s saw in the fast lane\n%s\nand in the slow one\n%s", who, shorten(seen[0][i]), shorten(seen[1][i]))
				}
			}
			if !strings.HasPrefix(seen[0][0], "HTTP/1.1 ") {
				t.Errorf("the client saw %q", shorten(seen[0][0]))
			}
		})
	}
}

// together joins the chunks of answers: where one ends and the next begins
// says nothing.
func together(s string) string {
	head, body, _ := strings.Cut(s, "\r\n\r\n")
	if !strings.Contains(head, "Transfer-Encoding: chunked") {
		if next := strings.Index(body, "HTTP/1.1 "); next >= 0 {
			return s[:len(head)+4+next] + together(body[next:])
		}
		return s
	}
	rd := bufio.NewReader(strings.NewReader(body))
	whole, err := io.ReadAll(httputil.NewChunkedReader(rd))
	rest, _ := io.ReadAll(rd)
	return fmt.Sprintf("%s\r\n\r\n%s\r\n%v\r\n%s", head, whole, err, rest)
}

func shorten(s string) string {
	if len(s) > 900 {
		return fmt.Sprintf("%s … %d octets … %s", s[:600], len(s), s[len(s)-200:])
	}
	return s
}
