package server

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// asker is a client of a server's first address, with room for many answers.
func asker(t testing.TB, s *Server) (c *net.UDPConn, query []byte) {
	t.Helper()
	conn, err := net.Dial("udp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	m := new(dns.Msg)
	m.SetQuestion("www.demo.test.", dns.TypeA)
	if query, err = m.Pack(); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.UDPConn), query
}

// burst asks n times at once, and takes the answers.
func burst(t testing.TB, c *net.UDPConn, query []byte, n int) {
	t.Helper()
	for range n {
		if _, err := c.Write(query); err != nil {
			t.Fatal(err)
		}
	}
	take(t, c, n)
}

func take(t testing.TB, c *net.UDPConn, n int) {
	t.Helper()
	var answer [512]byte
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	for i := range n {
		if _, err := c.Read(answer[:]); err != nil {
			t.Fatalf("after %d of %d answers: %v", i, n, err)
		}
	}
}

// With full batches, at most one system call serves ten queries.
func TestSystemCallsUnderLoad(t *testing.T) {
	s, err := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Logger: quiet, Sockets: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := s.Open(ctx); err != nil {
		t.Fatal(err)
	}
	c, query := asker(t, s)
	const n = 3 * batch // fits into the least buffers that there are
	for range n {
		if _, err := c.Write(query); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	take(t, c, n)
	sum := &s.sums()[UDP] // as of the last batch, before it was sent
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if calls, queries := sum.calls.Load()+1, sum.queries.Load(); queries != n || calls*10 > n {
		t.Errorf("%d system calls for %d queries, more than 0.1 for each", calls, queries)
	}
}

// A socket that was busy is told of what comes when it is not, and the other
// way round.
func TestBusyAndIdleInTurn(t *testing.T) {
	s := start(t, nil)
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	c, query := asker(t, s)
	for i := range 500 {
		burst(t, c, query, 1+i%3*batch)
	}
}
