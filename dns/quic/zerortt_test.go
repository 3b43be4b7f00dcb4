package quic

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"meridian/dns/server"
)

// gate is a client's socket that keeps back, once it is shut, all datagrams
// but those of Initial and 0-RTT packets, so that no handshake ends. It hears
// nothing until so many octets of 0-RTT packets have left.
type gate struct {
	net.PacketConn
	mu    sync.Mutex
	shut  bool
	left  int           // octets of 0-RTT packets that are awaited
	heard chan struct{} // closed when they have left
	held  []func()
}

// close shuts the gate until n octets have left in 0-RTT packets.
func (g *gate) close(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut, g.left, g.heard = true, n, make(chan struct{})
}

func (g *gate) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := g.PacketConn.ReadFrom(b)
	g.mu.Lock()
	heard := g.heard
	g.mu.Unlock()
	if heard != nil && err == nil {
		<-heard
	}
	return n, from, err
}

func (g *gate) WriteTo(b []byte, to net.Addr) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, ok := early(b)
	if g.left > 0 {
		if g.left -= n; g.left <= 0 {
			close(g.heard)
		}
	}
	if !g.shut || ok {
		return g.PacketConn.WriteTo(b, to)
	}
	b = append([]byte(nil), b...)
	g.held = append(g.held, func() { _, _ = g.PacketConn.WriteTo(b, to) })
	return len(b), nil
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut = false; g.left > 0 {
		g.left = 0
		close(g.heard)
	}
	for _, send := range g.held {
		send()
	}
	g.held = nil
}

// early counts the octets of 0-RTT packets in a datagram, and says whether it
// holds no others but Initial packets (RFC 9000 section 17.2).
func early(b []byte) (octets int, ok bool) {
	for len(b) > 0 && b[0] != 0 { // zeros are padding
		kind := b[0] >> 4 & 3
		if b[0]&0x80 == 0 || kind > 1 {
			return octets, false
		}
		at := 5
		at += 1 + int(b[at]) // destination
		at += 1 + int(b[at]) // source
		if kind == 0 {
			token, n, err := quicvarint.Parse(b[at:])
			if err != nil {
				return octets, false
			}
			at += n + int(token)
		}
		length, n, err := quicvarint.Parse(b[at:])
		if err != nil {
			return octets, false
		}
		if kind == 1 {
			octets += int(length)
		}
		b = b[at+n+int(length):]
	}
	return octets, true
}

// RFC 9250 §4.5: what might do harm when it is replayed, as an update or a transfer, waits for the end of the handshake; a query does not.
func TestRFC9250ZeroRTTHoldsBackUpdates(t *testing.T) {
	h := recording{make(chan server.Request, 1)}
	s, ca := start(t, func(c *server.Config) { c.Special = h })
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{PacketConn: socket}
	tr := &quic.Transport{Conn: g}
	t.Cleanup(func() { g.open(); tr.Close(); socket.Close() })
	cfg := &tls.Config{RootCAs: ca.Pool, ServerName: "ns.demo.test", NextProtos: []string{"doq"}, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	to := net.UDPAddrFromAddrPort(s.AddrsOf(server.QUIC)[0])
	dial := func() *quic.Conn {
		c, err := tr.DialEarly(t.Context(), to, cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := dial()
	if _, err := ask(t, first, framed(t, query("www.demo.test.", dns.TypeA))); err != nil {
		t.Fatal(err)
	}
	first.CloseWithError(0, "")

	long := func(m *dns.Msg) []byte { // so long that what stands around it does not count
		m.Id = 0
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_PADDING{Padding: make([]byte, 250)}}
		return framed(t, m)
	}
	update, plain := long(new(dns.Msg).SetUpdate("demo.test.")), long(query("www.demo.test.", dns.TypeA))
	g.close(len(update) + len(plain))
	c := dial()
	defer c.CloseWithError(0, "")
	send := func(b []byte) *quic.Stream {
		stream, err := c.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		stream.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := stream.Write(b); err != nil {
			t.Fatal(err)
		}
		stream.Close()
		return stream
	}
	held, asked := send(update), send(plain)
	if b, err := io.ReadAll(asked); err != nil || len(messages(t, b)) != 1 {
		t.Fatalf("the query waits: %v", err)
	}
	if len(h.got) > 0 {
		t.Error("an update is worked on before the handshake ends")
	}
	g.open()
	if _, err := io.ReadAll(held); err != nil || len(h.got) != 1 || !c.ConnectionState().Used0RTT {
		t.Errorf("after the handshake: %v, %d updates, %v", err, len(h.got), c.ConnectionState().Used0RTT)
	}
}
