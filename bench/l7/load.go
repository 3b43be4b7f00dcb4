//go:build ignore

// Load asks a gateway for what no other generator of bench/l7.sh does, and prints
// what came of it as name=value:
//
//	load open -rate N        requests at their intended times, whatever the answers do;
//	                         with 0 the next as soon as the last is answered
//	load handshake           a new TLS 1.3 connection for each request, no resumption
//	load h3                  HTTP/3
//	load idle -conns N       one request on each connection; then it says "idle" and
//	                         keeps them until standard input ends
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go/http3"
)

var (
	addr    = flag.String("addr", "127.0.0.1:80", "`ADDR:PORT`")
	conns   = flag.Int("conns", 64, "`N` connections at a time")
	streams = flag.Int("streams", 20, "`N` requests at a time on each, for h3")
	rate    = flag.Float64("rate", 0, "`N` requests a second, for open; 0 for as many as come through")
	length  = flag.Duration("for", 5*time.Second, "how long")
	path    = flag.String("path", "/1k", "what to ask for")
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: load open|handshake|h3|idle [flags]; --help for them")
		os.Exit(2)
	}
	flag.CommandLine.Parse(os.Args[2:])
	run := map[string]func() error{"open": open, "handshake": handshakes, "h3": h3, "idle": idle}[os.Args[1]]
	if run == nil {
		fmt.Fprintf(os.Stderr, "load: %q is unknown\n", os.Args[1])
		os.Exit(2)
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// conn asks over HTTP/1.1.
type conn struct {
	net.Conn
	in  *bufio.Reader
	ask []byte
}

func newConn(c net.Conn) *conn {
	return &conn{c, bufio.NewReaderSize(c, 4096), []byte("GET " + *path + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")}
}

var lengthField = []byte("content-length:")

// get asks once and reads the answer.
func (c *conn) get() error {
	if _, err := c.Write(c.ask); err != nil {
		return err
	}
	first, n := true, 0
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		switch {
		case first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")):
			return fmt.Errorf("answer %q", line)
		case len(line) > 15 && bytes.EqualFold(line[:15], lengthField):
			n, _ = strconv.Atoi(string(bytes.TrimSpace(line[15:])))
		case len(line) == 2:
			if n == 0 {
				return errors.New("an answer without a length")
			}
			_, err := c.in.Discard(n)
			return err
		}
		first = false
	}
}

// tally counts what came of requests. It is safe for concurrent use.
type tally struct {
	done, failed atomic.Int64
	mu           sync.Mutex
	latency      []time.Duration
	why          error
}

func (t *tally) add(err error) bool {
	if err != nil {
		t.failed.Add(1)
		t.mu.Lock()
		t.why = err
		t.mu.Unlock()
		return false
	}
	t.done.Add(1)
	return true
}

func (t *tally) late(list []time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.latency = append(t.latency, list...)
}

func (t *tally) print(took time.Duration) error {
	slices.Sort(t.latency)
	at := func(q float64) int64 {
		if len(t.latency) == 0 {
			return 0
		}
		return t.latency[int(q*float64(len(t.latency)-1))].Microseconds()
	}
	fmt.Printf("requests=%d failed=%d seconds=%.2f p50_us=%d p99_us=%d p999_us=%d\n", t.done.Load(), t.failed.Load(), took.Seconds(), at(0.5), at(0.99), at(0.999))
	if t.why != nil {
		fmt.Fprintln(os.Stderr, "load:", t.why)
	}
	return nil
}

// open sends request i at begin+i/rate, or as soon after as a connection is free;
// its latency counts from when it should have been sent.
func open() error {
	var t tally
	var turn atomic.Int64
	var all sync.WaitGroup
	list := make([]*conn, *conns)
	for i := range list {
		c, err := net.Dial("tcp", *addr)
		if err != nil {
			return err
		}
		list[i] = newConn(c)
		if err := list[i].get(); err != nil {
			return err
		}
	}
	begin := time.Now()
	for _, c := range list {
		all.Go(func() {
			var took []time.Duration
			for {
				due := time.Now()
				if *rate > 0 {
					due = begin.Add(time.Duration(float64(turn.Add(1)) / *rate * 1e9))
				}
				if due.Sub(begin) > *length {
					break
				}
				time.Sleep(time.Until(due))
				if !t.add(c.get()) {
					break
				}
				took = append(took, time.Since(due))
			}
			t.late(took)
		})
	}
	all.Wait()
	return t.print(time.Since(begin))
}

// handshakes makes a connection for each request.
func handshakes() error {
	var t tally
	var all sync.WaitGroup
	begin := time.Now()
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}, NextProtos: []string{"http/1.1"}}
	for range *conns {
		all.Go(func() {
			for time.Since(begin) < *length {
				c, err := tls.Dial("tcp", *addr, config)
				if !t.add(err) {
					continue
				}
				if err := newConn(c).get(); err != nil {
					t.done.Add(-1)
					t.add(err)
				}
				c.NetConn().(*net.TCPConn).SetLinger(0) // no port waits
				c.NetConn().Close()
			}
		})
	}
	all.Wait()
	return t.print(time.Since(begin))
}

// h3 asks over HTTP/3.
func h3() error {
	var t tally
	var all sync.WaitGroup
	begin := time.Now()
	ctx, stop := context.WithDeadline(context.Background(), begin.Add(*length+10*time.Second))
	defer stop()
	for range *conns {
		tr := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}}
		defer tr.Close()
		for range *streams {
			all.Go(func() {
				for time.Since(begin) < *length {
					q, _ := http.NewRequestWithContext(ctx, "GET", "https://"+*addr+*path, nil)
					t.add(fetch(tr, q))
				}
			})
		}
	}
	all.Wait()
	return t.print(time.Since(begin))
}

func fetch(tr http.RoundTripper, q *http.Request) error {
	res, err := tr.RoundTrip(q)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != 200 {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	_, err = io.Copy(io.Discard, res.Body)
	return err
}

// idle makes many connections, by as many source addresses as ports need.
func idle() error {
	list := make([]net.Conn, 0, *conns)
	for i := range *conns {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, byte(1+os.Getpid()%200), 0, byte(1+i/4000))}, Timeout: 10 * time.Second}
		c, err := d.Dial("tcp", *addr)
		if err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		k := newConn(c)
		if err := k.get(); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		list = append(list, c)
	}
	fmt.Printf("idle=%d\n", len(list))
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}
