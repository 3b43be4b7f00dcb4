package quic

import (
	"crypto/tls"
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
// but those of Initial and 0-RTT packets, so that no handshake ends.
type gate struct {
	net.PacketConn
	mu   sync.Mutex
	shut bool
	held []func()
}

func (g *gate) WriteTo(b []byte, to net.Addr) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.shut || early(b) {
		return g.PacketConn.WriteTo(b, to)
	}
	b = append([]byte(nil), b...)
	g.held = append(g.held, func() { _, _ = g.PacketConn.WriteTo(b, to) })
	return len(b), nil
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
	for _, send := range g.held {
		send()
	}
}

// early says whether a datagram holds Initial and 0-RTT packets alone (RFC 9000
// section 17.2).
func early(b []byte) bool {
	for len(b) > 0 && b[0] != 0 { // zeros are padding
		kind := b[0] >> 4 & 3
		if b[0]&0x80 == 0 || kind > 1 {
			return false
		}
		at := 5
		at += 1 + int(b[at]) // destination
		at += 1 + int(b[at]) // source
		if kind == 0 {
			token, n, err := quicvarint.Parse(b[at:])
			if err != nil {
				return false
			}
			at += n + int(token)
		}
		length, n, err := quicvarint.Parse(b[at:])
		if err != nil {
			return false
		}
		b = b[at+n+int(length):]
	}
	return true
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
	t.Cleanup(func() { tr.Close(); socket.Close() })
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

	g.mu.Lock()
	g.shut = true
	g.mu.Unlock()
	c := dial()
	defer c.CloseWithError(0, "")
	update := new(dns.Msg)
	update.SetUpdate("demo.test.")
	update.Id = 0
	answered := make(chan error, 1)
	go func() {
		_, err := ask(t, c, framed(t, update))
		answered <- err
	}()
	b, err := ask(t, c, framed(t, query("www.demo.test.", dns.TypeA)))
	if err != nil || len(messages(t, b)) != 1 {
		t.Fatalf("the query waits: %v", err)
	}
	if len(h.got) > 0 {
		t.Fatal("an update is worked on before the handshake ends")
	}
	g.open()
	select {
	case err := <-answered:
		if err != nil || len(h.got) != 1 || !c.ConnectionState().Used0RTT {
			t.Errorf("after the handshake: %v, %d updates, %v", err, len(h.got), c.ConnectionState().Used0RTT)
		}
	case <-time.After(10 * time.Second):
		t.Error("the update is not answered after the handshake")
	}
}
