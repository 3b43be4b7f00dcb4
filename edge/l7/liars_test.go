package l7

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// lies are answers of endpoints that do not keep to the protocol, or barely
// do. want is what the client may get: a status and a whole body, a broken one
// ("broken"), or the gateway's own 502.
var lies = map[string]struct {
	answer string
	close  bool // the endpoint closes after it
	want   string
}{
	"nothing, then gone":           {"", true, "502"},
	"garbage":                      {"\x00\x01\x02garbage\r\n\r\n", false, "502"},
	"another protocol":             {"SSH-2.0-OpenSSH_9.2\r\n", true, "502"},
	"half a status line":           {"HTTP/1.1 20", true, "502"},
	"half a head":                  {"HTTP/1.1 200 OK\r\nContent-", true, "502"},
	"bare LFs":                     {"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", false, "502"},
	"two lengths":                  {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!", false, "502"},
	"the same length twice":        {"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", false, "502"},
	"negative length":              {"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", false, "502"},
	"length and coding":            {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false, "502"},
	"unknown coding":               {"HTTP/1.1 200 OK\r\nTransfer-Encoding: br\r\n\r\nok", true, "502"},
	"folded field":                 {"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", false, "502"},
	"NUL in a field":               {"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok", false, "502"},
	"a CR that splits":             {"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b=c\r\nContent-Length: 2\r\n\r\nok", false, "502"},
	"status 99":                    {"HTTP/1.1 099 Low\r\nContent-Length: 2\r\n\r\nok", false, "502"},
	"status 999":                   {"HTTP/1.1 999 High\r\nContent-Length: 2\r\n\r\nok", false, "502"},
	"switches without being asked": {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", false, "502"},
	"a body after 204":             {"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", false, "502"},
	"too many interim answers":     {strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100) + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false, "502"},
	"a head without end":           {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("a", 1000)+"\r\n", 400), false, "502"},
	"a line without end":           {"HTTP/1.1 200 " + strings.Repeat("a", 100_000), false, "502"},
	"too many fields":              {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: a\r\n", 1000) + "Content-Length: 2\r\n\r\nok", false, "502"},
	"short of its length":          {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", true, "broken"},
	"chunks without end":           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", true, "broken"},
	"half a chunk":                 {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nshort", true, "broken"},
	"chunk of an odd size":         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n0x5\r\nshort\r\n0\r\n\r\n", false, "broken"},
	"huge chunk":                   {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\nffffffffffffffff\r\nx", false, "broken"},
	"a length among the trailers":  {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n0\r\nContent-Length: 7\r\n\r\n", false, "broken"},
	"more than its length":         {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore", false, "200 ok"},
	"two answers":                  {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", false, "200 ok"},
	"two answers, chunked":         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", false, "200 ok"},
	"an answer after 304":          {"HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", false, "304 "},
	"says it stays and goes":       {"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", true, "200 ok"},
	"no reason":                    {"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", false, "200 ok"},
}

func TestEndpointsThatLie(t *testing.T) {
	for name, tc := range lies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			end := serveRaw(t, func(c net.Conn) {
				rd := bufio.NewReader(c)
				for {
					req, err := http.ReadRequest(rd)
					if err != nil {
						return
					}
					if req.URL.Path == "/health" {
						return
					}
					io.WriteString(c, tc.answer)
					if tc.close {
						return
					}
				}
			})
			r := newRig(t, httpSpec(noChecks+"retries: {attempts: 0}\n", end))
			client := r.client(webVIP, nil)
			for range 3 {
				if got := answerOf(t, client); got != tc.want && !(tc.want == "502" && strings.HasPrefix(got, "502 502 ")) {
					t.Errorf("the client got %q, want %q", got, tc.want)
				}
			}
		})
	}
}

// answerOf gives status and body, or "broken" where the body is not whole.
func answerOf(t *testing.T, c *http.Client) string {
	t.Helper()
	res, err := c.Get("http://www.demo.test/")
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	switch {
	case err != nil && (errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "reset")):
		return "broken"
	case err != nil:
		return err.Error()
	}
	return res.Status[:3] + " " + string(b)
}

// What an endpoint says on a connection that nobody uses is for nobody.
func TestWordsOnAnIdleConnectionAreForNobody(t *testing.T) {
	first := make(chan net.Conn, 16)
	end := serveRaw(t, func(c net.Conn) {
		rd := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(rd)
			if err != nil || req.URL.Path == "/health" {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			first <- c
		}
	})
	r := newRig(t, httpSpec(noChecks, end))
	client := r.client(webVIP, nil)
	for range 5 {
		if got := answerOf(t, client); got != "200 ok" {
			t.Fatalf("got %q", got)
		}
		c := <-first
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
		// Until it is there, which loopback does at once.
		<-time.After(20 * time.Millisecond)
	}
}

// A connection that the endpoint closes when it is used again costs neither a
// failure nor the budget: the request goes by another one.
func TestStaleConnectionsAreReplaced(t *testing.T) {
	end := serveRaw(t, func(c net.Conn) {
		rd := bufio.NewReader(c)
		if req, err := http.ReadRequest(rd); err != nil || req.URL.Path == "/health" {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		http.ReadRequest(rd) // and hangs up over the second request
	})
	r := newRig(t, httpSpec(noChecks+"retries: {attempts: 0}\n", end))
	client := r.client(webVIP, nil)
	for range 10 {
		if got := answerOf(t, client); got != "200 ok" {
			t.Fatalf("got %q", got)
		}
	}
	if n := r.metric("meridian_l7_retries_total"); n != 0 {
		t.Errorf("%v retries", n)
	}
	// A POST may have been acted on: its client is told.
	res, err := client.Post("http://www.demo.test/", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusBadGateway {
		t.Errorf("a POST by a stale connection got %d", res.StatusCode)
	}
}
