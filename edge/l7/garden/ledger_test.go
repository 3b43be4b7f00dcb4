package garden_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// record is one request as an origin has seen it, complete with its body.
type record struct {
	Method, Target string
	Fields         [][2]string
	Digest         string // of the body
}

func digest(body string) string {
	sum := sha256.Sum256([]byte(body))
	return strconv.Itoa(len(body)) + "-" + hex.EncodeToString(sum[:8])
}

// marked finds what tells a request from all others in a target.
var marked = regexp.MustCompile(`(one|two|three|smuggled|canary)-(\d{6})`)

func (r record) mark() (mark, id string) {
	if m := marked.FindStringSubmatch(r.Target); m != nil {
		return m[1], m[2]
	}
	return "", ""
}

// ledger holds what one origin has seen. It is safe for concurrent use.
type ledger struct {
	mu   sync.Mutex
	seen map[string][]record // by id
	odd  []string            // what no request accounts for
	no   []string            // what the origin refused, by its own log
}

func newLedger() *ledger { return &ledger{seen: map[string][]record{}} }

func (l *ledger) add(r record) {
	_, id := r.mark()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case id != "":
		l.seen[id] = append(l.seen[id], r)
	case r.Target != "/health" && r.Method+" "+r.Target != "OPTIONS *" && r.Method+" "+r.Target != "OPTIONS /":
		l.odd = append(l.odd, fmt.Sprintf("%s %.200q", r.Method, r.Target))
	}
}

func (l *ledger) strange(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.odd = append(l.odd, fmt.Sprintf(format, args...))
}

func (l *ledger) refused(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.no = append(l.no, what)
}

func (l *ledger) of(id string) []record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen[id]
}

// recorder stands behind an origin that is a proxy itself, and writes down what
// that passes on. It reads simply: a head, and a body by its length or in chunks.
func recorder(t *testing.T, l *ledger) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(2 * time.Minute))
				serveOne(c, l)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		conns.Wait()
	})
	return ln.Addr().String()
}

// serveOne takes one request of a connection. What an origin gives up halfway is
// none.
func serveOne(c net.Conn, l *ledger) {
	r, err := readRecord(bufio.NewReader(c))
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return
	}
	if err != nil {
		if _, gone := err.(net.Error); !gone {
			l.strange("not understood behind the origin: %v", err)
		}
		return
	}
	l.add(r)
	body := ""
	if r.Method != "HEAD" {
		body = r.Digest + "\n"
	}
	mark, id := r.mark()
	fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Seen: %s-%s\r\nX-Digest: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", mark, id, r.Digest, len(r.Digest)+1, body)
}

func readRecord(b *bufio.Reader) (r record, err error) {
	line := func() (string, error) {
		s, err := b.ReadString('\n')
		return strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r"), err
	}
	first, err := line()
	if err != nil {
		return r, err
	}
	words := strings.Split(first, " ")
	if len(words) != 3 {
		return r, fmt.Errorf("request line %.200q", first)
	}
	r.Method, r.Target = words[0], words[1]
	length, chunked := int64(0), false
	for {
		s, err := line()
		if err != nil {
			return r, io.ErrUnexpectedEOF
		}
		if s == "" {
			break
		}
		name, value, ok := strings.Cut(s, ":")
		if !ok {
			return r, fmt.Errorf("field %.200q of %s", s, r.Target)
		}
		value = strings.Trim(value, " \t")
		r.Fields = append(r.Fields, [2]string{name, value})
		switch strings.ToLower(name) {
		case "content-length":
			if length, err = strconv.ParseInt(value, 10, 64); err != nil {
				return r, fmt.Errorf("length %.200q of %s", value, r.Target)
			}
		case "transfer-encoding":
			chunked = true
		}
	}
	var body []byte
	if chunked {
		var whole strings.Builder
		for {
			s, err := line()
			if err != nil {
				return r, io.ErrUnexpectedEOF
			}
			n, err := strconv.ParseInt(s, 16, 32)
			if err != nil {
				return r, fmt.Errorf("chunk size %.200q of %s", s, r.Target)
			}
			if n == 0 {
				break
			}
			if _, err := io.CopyN(&whole, b, n); err != nil {
				return r, io.ErrUnexpectedEOF
			}
			if _, err := line(); err != nil {
				return r, io.ErrUnexpectedEOF
			}
		}
		body = []byte(whole.String())
	} else {
		body = make([]byte, length)
		if _, err := io.ReadFull(b, body); err != nil {
			return r, io.ErrUnexpectedEOF
		}
	}
	r.Digest = digest(string(body))
	return r, nil
}

// goOrigin is net/http, which writes down what it hands to a handler.
func goOrigin(t *testing.T, l *ledger) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			return
		}
		r := record{Method: q.Method, Target: q.RequestURI, Digest: digest(string(body)), Fields: [][2]string{{"Host", q.Host}}}
		for name, values := range q.Header {
			for _, v := range values {
				r.Fields = append(r.Fields, [2]string{name, v})
			}
		}
		l.add(r)
		mark, id := r.mark()
		w.Header()["X-Seen"] = []string{mark + "-" + id}
		w.Header()["X-Digest"] = []string{r.Digest}
		io.WriteString(w, r.Digest+"\n")
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(refusals{ln, l})
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
	return ln.Addr().String()
}

// refusals sees when net/http refuses a request, which no handler is told.
type refusals struct {
	net.Listener
	l *ledger
}

func (r refusals) Accept() (net.Conn, error) {
	c, err := r.Listener.Accept()
	return &refusalConn{Conn: c, l: r.l}, err
}

type refusalConn struct {
	net.Conn
	l    *ledger
	last []byte
}

func (c *refusalConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 1 { // one octet is what net/http reads ahead
		c.last = append(c.last[:0], p[:min(n, 300)]...)
	}
	return n, err
}

func (c *refusalConn) Write(p []byte) (int, error) {
	if s := string(p[:min(len(p), 12)]); strings.HasPrefix(s, "HTTP/1.1 4") || strings.HasPrefix(s, "HTTP/1.1 5") {
		c.l.refused(fmt.Sprintf("%s: %q", s, c.last))
	}
	return c.Conn.Write(p)
}
