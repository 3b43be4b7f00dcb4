package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/fleet"
)

// dialTCP gives a connection with a deadline that no sound test reaches.
func dialTCP(t testing.TB, s *Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func query(name string, qtype, id uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.Id = id
	return m
}

func framed(t testing.TB, list ...*dns.Msg) (out []byte) {
	t.Helper()
	for _, m := range list {
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(b))), b...)
	}
	return out
}

func send(t testing.TB, c io.Writer, list ...*dns.Msg) {
	t.Helper()
	if _, err := c.Write(framed(t, list...)); err != nil {
		t.Fatal(err)
	}
}

func receiveRaw(t testing.TB, c io.Reader) []byte {
	t.Helper()
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func receive(t testing.TB, c io.Reader) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(receiveRaw(t, c)); err != nil {
		t.Fatal(err)
	}
	return m
}

// closed expects the server to close the connection.
func closed(t testing.TB, what string, c net.Conn) {
	t.Helper()
	_, err := c.Read(make([]byte, 1))
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: the connection is still open: %v", what, err)
	}
}

// slow is a Handler that works on each message until it is let go on.
type slow struct {
	got  chan *Request
	goOn chan struct{}
}

func (h slow) Handle(ctx context.Context, r *Request) {
	h.got <- r
	select {
	case <-h.goOn:
	case <-ctx.Done():
		return
	}
	m := new(dns.Msg)
	if m.Unpack(r.Message) != nil {
		return
	}
	for range 3 {
		b, _ := new(dns.Msg).SetReply(m).Pack()
		if r.Reply(b) != nil {
			return
		}
	}
}

// RFC 7766 §6.2.1.1: responses may go out of order: queries behind a transfer on the same connection are answered before it.
// RFC 7766 §7: each query is processed by itself, whatever the others take.
// RFC 5936 §4.1: queries may be interleaved with the messages of a transfer.
func TestRFC7766OutOfOrder(t *testing.T) {
	h := slow{make(chan *Request, 8), make(chan struct{})}
	s := start(t, func(c *Config) { c.Special = h; c.DNS.TCP.Queries = 2 })
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	c := dialTCP(t, s)
	send(t, c, query("demo.test.", dns.TypeAXFR, 1), query("www.demo.test.", dns.TypeA, 2), query("www.demo.test.", dns.TypeA, 3))
	for _, want := range []uint16{2, 3} {
		if m := receive(t, c); m.Id != want || len(m.Answer) != 1 {
			t.Fatalf("message %d, want %d first", m.Id, want)
		}
	}
	r := <-h.got
	if r.Transport != TCP || r.Client.String() != c.LocalAddr().String() || r.PeerName != "" {
		t.Errorf("%+v", r)
	}
	q, _ := query("demo.test.", dns.TypeSOA, 9).Pack()
	var m dns.Msg
	if err := m.Unpack(r.Answer(q)); err != nil || len(m.Answer) != 1 || m.Id != 9 {
		t.Errorf("the plan's answer: %v %v", err, m)
	}
	close(h.goOn)
	for range 3 {
		if m := receive(t, c); m.Id != 1 {
			t.Errorf("message %d, want 1", m.Id)
		}
	}
}

// RFC 7766 §6.2.3: a connection is not idle while a query on it is worked on; it is closed when it is idle too long.
func TestRFC7766Idle(t *testing.T) {
	h := slow{make(chan *Request, 8), make(chan struct{})}
	s := start(t, func(c *Config) {
		c.Special = h
		c.DNS.TCP.Idle = fleet.Duration(100 * time.Millisecond)
	})
	c := dialTCP(t, s)
	send(t, c, query("demo.test.", dns.TypeAXFR, 1))
	<-h.got
	closed(t, "idle", dialTCP(t, s)) // a later one's time is up
	close(h.goOn)
	for range 3 {
		receive(t, c)
	}
	closed(t, "idle", c)
}

// RFC 7766 §6.2.3: under pressure idle connections are closed sooner, those too that have been idle before.
func TestRFC7766IdleUnderPressure(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	t.Parallel()
	s := start(t, func(c *Config) { c.DNS.TCP = fleet.DNSTCP{Connections: 4, Idle: fleet.Duration(10 * time.Second)} })
	begun, ended := time.Now(), make(chan struct{}, 3)
	for range cap(ended) { // as many as press; when one of them is closed, none does any more
		c := dialTCP(t, s)
		go func() { _, _ = c.Read(make([]byte, 1)); ended <- struct{}{} }()
	}
	<-ended
	if d := time.Since(begun); d < hurry-time.Second || d > 8*time.Second {
		t.Errorf("after %v", d)
	}
}

// RFC 7766 §6.2.2: the server limits the connections of one client.
func TestRFC7766LimitPerClient(t *testing.T) {
	s := start(t, func(c *Config) { c.DNS.TCP = fleet.DNSTCP{PerClient: 2} })
	if err := s.Apply(world(t, strings.Replace(spec, "zones:", "dns: {listen: ['127.0.0.1:0'], tcp: {per_client: 2}}\nzones:", 1))); err != nil {
		t.Fatal(err)
	}
	a, b := dialTCP(t, s), dialTCP(t, s)
	for _, c := range []net.Conn{a, b} {
		send(t, c, query("www.demo.test.", dns.TypeA, 1))
		receive(t, c)
	}
	closed(t, "a third", dialTCP(t, s))
	counted(t, s, "meridian_dns_dropped_total client-connections tcp", 1)
	a.Close()
	for deadline := time.Now().Add(10 * time.Second); ; { // until the server has noticed
		c := dialTCP(t, s)
		if _, err := c.Write(framed(t, query("www.demo.test.", dns.TypeA, 1))); err == nil {
			if _, err := c.Read(make([]byte, 1)); err == nil {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("a place that came free is not given to another")
		}
	}
}

// RFC 9210 §4.5: clients that send or take nothing cannot hold resources: a message that does not come whole in time ends its connection.
func TestRFC9210Slowloris(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the time that a message may take")
	}
	t.Parallel()
	s := start(t, func(c *Config) { c.DNS.TCP.Idle = fleet.Duration(time.Minute) })
	c := dialTCP(t, s)
	b := framed(t, query("www.demo.test.", dns.TypeA, 1))
	begun := time.Now()
	for i := range b[:len(b)-1] {
		if _, err := c.Write(b[i : i+1]); err != nil {
			break
		}
	}
	closed(t, "half a message", c)
	if d := time.Since(begun); d < messageLimit-time.Second || d > 2*messageLimit {
		t.Errorf("after %v", d)
	}
	counted(t, s, "meridian_dns_dropped_total slow tcp", 1)
}

// RFC 7828 §3.3.2: the server tells a client that asks by edns-tcp-keepalive how long it may be idle, over TCP alone.
// RFC 7828 §3.3.2: the time told is the one by which the server closes.
func TestRFC7828Keepalive(t *testing.T) {
	s := start(t, func(c *Config) { c.DNS.TCP.Idle = fleet.Duration(7 * time.Second) })
	if err := s.Apply(world(t, strings.Replace(spec, "zones:", "dns: {tcp: {idle: 7s}}\nzones:", 1))); err != nil {
		t.Fatal(err)
	}
	for _, network := range []string{"tcp", "udp"} {
		m := query("www.demo.test.", dns.TypeA, 1)
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE}}
		r, _, err := (&dns.Client{Net: network, Timeout: 5 * time.Second}).Exchange(m, s.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		var told *dns.EDNS0_TCP_KEEPALIVE
		for _, o := range r.IsEdns0().Option {
			told, _ = o.(*dns.EDNS0_TCP_KEEPALIVE)
		}
		switch {
		case network == "udp" && told != nil:
			t.Errorf("over UDP: %v", told)
		case network == "tcp" && (told == nil || told.Timeout != 70):
			t.Errorf("over TCP: %v", told)
		}
	}
}

// RFC 7766 §8: a message and its length leave together, in one segment where they fit.
// RFC 1035 §4.2.2: a message over TCP has two octets of its length before it.
func TestRFC7766OneWrite(t *testing.T) {
	s := start(t, nil)
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	c := dialTCP(t, s)
	send(t, c, query("www.demo.test.", dns.TypeA, 1))
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if err != nil || n < 2 || n != 2+int(binary.BigEndian.Uint16(b)) {
		t.Errorf("the first segment has %d octets: %v", n, err)
	}
}

// RFC 7766 §6.2.4: a client that closes its half of the connection still gets its answers.
func TestRFC7766HalfClosed(t *testing.T) {
	s := start(t, nil)
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	c := dialTCP(t, s)
	send(t, c, query("many.demo.test.", dns.TypeA, 1), query("www.demo.test.", dns.TypeA, 2))
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	for id := range uint16(2) {
		if m := receive(t, c); m.Id != id+1 || len(m.Answer) == 0 {
			t.Errorf("%v", m)
		}
	}
	closed(t, "after the answers", c)
}

// A client that takes no answers loses its connection, and holds up no other.
func TestClientThatTakesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the time that a client has")
	}
	t.Parallel()
	s := start(t, nil)
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	c := dialTCP(t, s)
	many := bytes.Repeat(framed(t, query("many.demo.test.", dns.TypeA, 1)), 1000)
	for range 2000 { // until nothing is taken any more
		c.SetWriteDeadline(time.Now().Add(messageLimit + 5*time.Second))
		if _, err := c.Write(many); err != nil {
			break
		}
	}
	if n := counter(t, s, "meridian_dns_dropped_total send tcp"); n == 0 {
		t.Error("the connection was not given up")
	}
	exchange1(t, "tcp", s.Addrs()[0], "www.demo.test.", dns.TypeA)
}

// Many clients at a time, some of which go in the middle of it, leave nothing
// behind.
func TestNoConnectionIsLeftBehind(t *testing.T) {
	s := start(t, nil)
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			c, err := net.Dial("tcp", s.Addrs()[0].String())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			b := framed(t, query("many.demo.test.", dns.TypeA, 1), query("many.demo.test.", dns.TypeA, 2))
			c.Write(b[:len(b)-i%20])
			if i%3 == 0 {
				io.ReadFull(c, make([]byte, 100))
			}
		})
	}
	all.Wait()
	for deadline := time.Now().Add(10 * time.Second); s.clients.all.Load() > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are counted as open", s.clients.all.Load())
		}
	}
	if len(s.clients.open) != 0 {
		t.Errorf("clients: %v", s.clients.open)
	}
}

// RFC 7766 §8: a message may be as long as its length can tell, and come in pieces.
func TestRFC7766LongMessages(t *testing.T) {
	s := start(t, nil)
	s.SetZones(demoZones(t))
	c := dialTCP(t, s)
	for i, padding := range []int{100, 1990, 2500, 9000, 60000} {
		m := query("www.demo.test.", dns.TypeA, uint16(i))
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_PADDING{Padding: make([]byte, padding)})
		b := framed(t, m)
		b = append(b, framed(t, query("ns1.demo.test.", dns.TypeA, 7))...)
		for len(b) > 0 {
			n, err := c.Write(b[:min(len(b), 1500)])
			if err != nil {
				t.Fatal(err)
			}
			b = b[n:]
		}
		if m := receive(t, c); m.Id != uint16(i) || len(m.Answer) != 1 {
			t.Errorf("%d octets of padding: %v", padding, m)
		}
		if m := receive(t, c); m.Id != 7 || len(m.Answer) != 1 {
			t.Errorf("what follows %d octets of padding: %v", padding, m)
		}
	}
}
