//go:build ignore

// Asks by HTTP/3 as fast as answers come (closed loop), and tells how many came
// in a second and what CPU time of the server each cost. It speaks HTTP/3 by
// itself, just as much as it needs, so that it costs less than what it measures.
//
//	go run h3load.go -a ADDR:PORT -h HOST -p PATH [-c CONNECTIONS] [-m STREAMS] [-t SECONDS] [-P PID,...] [-n OCTETS]
//
// The server's certificate is not verified. Answers of fewer octets than -n
// count as failed; what fails ends the run.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

var (
	addr    = flag.String("a", "127.0.0.1:443", "`ADDR:PORT` to ask")
	host    = flag.String("h", "demo.test", "`HOST`")
	path    = flag.String("p", "/", "`PATH`")
	conns   = flag.Int("c", 16, "`CONNECTIONS`")
	streams = flag.Int("m", 20, "`STREAMS` at a time on each")
	seconds = flag.Int("t", 5, "`SECONDS`, after one to warm up")
	pids    = flag.String("P", "", "`PID,...` whose CPU time counts")
	least   = flag.Int("n", 1, "`OCTETS` of an answer, at least")

	answered atomic.Int64
	stop     atomic.Bool
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	request := head()
	var all sync.WaitGroup
	for range *conns {
		q, err := quic.DialAddr(context.Background(), *addr,
			&tls.Config{InsecureSkipVerify: true, ServerName: *host, NextProtos: []string{"h3"}}, nil)
		if err != nil {
			log.Fatal(err)
		}
		control, err := q.OpenUniStream()
		if err != nil {
			log.Fatal(err)
		}
		if _, err := control.Write([]byte{0x0, 0x4, 0}); err != nil { // its type, and no settings
			log.Fatal(err)
		}
		for range *streams {
			all.Go(func() { ask(q, request) })
		}
	}
	time.Sleep(time.Second)
	n, used, since := answered.Load(), cpu(), time.Now()
	time.Sleep(time.Duration(*seconds) * time.Second)
	n, used = answered.Load()-n, cpu()-used
	took := time.Since(since).Seconds()
	stop.Store(true)
	all.Wait()
	fmt.Printf("{\"per_second\": %.0f, \"cpu\": %.2f, \"cpu_us\": %.1f}\n", float64(n)/took, used/took, used/float64(n)*1e6)
}

// head is the request's HEADERS frame.
func head() []byte {
	var section bytes.Buffer
	e := qpack.NewEncoder(&section)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", *host}, {":path", *path}, {"user-agent", "h3load"}, {"accept", "*/*"}} {
		if err := e.WriteField(qpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			log.Fatal(err)
		}
	}
	return append(quicvarint.Append([]byte{0x1}, uint64(section.Len())), section.Bytes()...)
}

// ask sends one request after another.
func ask(q *quic.Conn, request []byte) {
	p := make([]byte, 8<<10)
	for !stop.Load() {
		s, err := q.OpenStreamSync(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		if _, err := s.Write(request); err != nil {
			log.Fatal(err)
		}
		s.Close()
		got := 0
		for err == nil {
			var n int
			n, err = s.Read(p)
			got += n
		}
		if !errors.Is(err, io.EOF) || got < *least {
			log.Fatalf("an answer of %d octets: %v", got, err)
		}
		answered.Add(1)
	}
}

// cpu is what the processes have used, seconds.
func cpu() float64 {
	var ticks int
	for pid := range strings.SplitSeq(*pids, ",") {
		if pid == "" {
			continue
		}
		b, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			log.Fatal(err)
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		user, _ := strconv.Atoi(f[11])
		system, _ := strconv.Atoi(f[12])
		ticks += user + system
	}
	return float64(ticks) / 100
}
