package h3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"meridian/edge/quiclb"
)

// An id says which gateway, as layer 4 reads it, and which process of it; no
// two are the same.
func TestIDsSayWhoseTheyAre(t *testing.T) {
	c := newCarrier(t)
	seen := map[string]bool{}
	for range 1000 {
		id, err := c.ids.GenerateConnectionID()
		if err != nil || id.Len() != c.ids.ConnectionIDLen() {
			t.Fatal(id, err)
		}
		if server, generation := decoded(t, id.Bytes()); server != 0x01020304 || generation != 7 {
			t.Fatalf("server %x, generation %d", server, generation)
		}
		if seen[id.String()] {
			t.Fatal("the same twice")
		}
		seen[id.String()] = true
	}
	if err := c.Apply(world(t, 9)); err != nil {
		t.Fatal(err)
	}
	id, err := c.ids.GenerateConnectionID()
	if server, _ := decoded(t, id.Bytes()); server != 9 || err != nil {
		t.Errorf("after the Spec gave another: %x, %v", server, err)
	}
	// Without quic_server_id the name decides, for every process alike.
	if err := c.Apply(world(t, 0)); err != nil {
		t.Fatal(err)
	}
	id, err = c.ids.GenerateConnectionID()
	want := quiclb.ServerID(world(t, 0).Snapshot.Node("edge-1"))
	if server, _ := decoded(t, id.Bytes()); err != nil || !bytes.Equal(want[:], []byte{byte(server >> 24), byte(server >> 16), byte(server >> 8), byte(server)}) {
		t.Errorf("by name: %x, %v, expected %x", server, err, want)
	}
}

// Without random octets there are no ids; before Apply, neither.
func TestIDsNeedRandomOctets(t *testing.T) {
	g, err := newIDs(testKey, 1, bytes.NewReader(nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.GenerateConnectionID(); !errors.Is(err, errNoServer) {
		t.Errorf("%v", err)
	}
	if err := g.use([4]byte{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.GenerateConnectionID(); !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}

// watched is a client's socket that notes the ids that its packets go to.
type watched struct {
	*net.UDPConn
	ids chan []byte
}

func (w *watched) WriteTo(b []byte, to net.Addr) (int, error) {
	if b[0]&0x80 == 0 && len(b) > 18 {
		select {
		case w.ids <- bytes.Clone(b[1:18]):
		default:
		}
	}
	return w.UDPConn.WriteTo(b, to)
}

// plainConn hides what quic-go would use in place of WriteTo.
type plainConn struct{ net.PacketConn }

// Packets on the wire bear these ids.
func TestPacketsBearOurIDs(t *testing.T) {
	r := start(t, nil)
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	w := &watched{socket, make(chan []byte, 1000)}
	tr := &quic.Transport{Conn: plainConn{w}}
	defer tr.Close()
	q, err := tr.Dial(t.Context(), r.at, r.clientTLS(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.ask(q)
	q.CloseWithError(0x100, "")
	n := 0
	for len(w.ids) > 0 {
		n++
		id := <-w.ids
		if server, generation := decoded(t, id); server != 0x01020304 || generation != 7 {
			t.Errorf("server %x, generation %d", server, generation)
		}
	}
	if n == 0 {
		t.Error("no packets seen")
	}
}

// ask expects an answer on a connection.
func (r *rig) ask(q *quic.Conn) {
	r.t.Helper()
	s := r.stream(q, request("GET"))
	s.Close()
	if b, err := io.ReadAll(s); err != nil || statusOf(r.t, b) != "200" {
		r.t.Errorf("%q, %v", b, err)
	}
}

// A client that moves to another port, and says so, keeps its connection.
func TestClientsThatMove(t *testing.T) {
	r := start(t, nil)
	first, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	from := &quic.Transport{Conn: first}
	defer from.Close()
	q, err := from.Dial(t.Context(), r.at, r.clientTLS(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.ask(q)
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	tr := &quic.Transport{Conn: socket}
	defer tr.Close()
	path, err := q.AddPath(tr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := path.Probe(ctx); err != nil {
		t.Fatal(err)
	}
	if err := path.Switch(); err != nil {
		t.Fatal(err)
	}
	r.ask(q)
	if got := q.LocalAddr().String(); got != socket.LocalAddr().String() {
		t.Errorf("the client is at %s", got)
	}
	if n := r.connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// nat sends a client's packets on from a port of its own, which it changes.
type nat struct {
	inside  *net.UDPConn
	to      atomic.Pointer[net.UDPAddr]
	outside chan *net.UDPConn
}

// behindNAT connects a client through a nat to the server.
func (r *rig) behindNAT() (*nat, *quic.Conn) {
	t := r.t
	inside, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inside.Close() })
	n := &nat{inside: inside, outside: make(chan *net.UDPConn, 1)}
	n.to.Store(r.at)
	n.rebind(t)
	go n.run()
	q, err := quic.DialAddr(t.Context(), inside.LocalAddr().String(), r.clientTLS(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.CloseWithError(0x100, "") })
	return n, q
}

// A client whose address translator gives it another port keeps its connection,
// though it does not know.
func TestClientsThatAreRebound(t *testing.T) {
	r := start(t, nil)
	n, q := r.behindNAT()
	r.ask(q)
	for range 3 {
		n.rebind(t)
		r.ask(q)
	}
	if n := r.connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// RFC 9000 section 10.3: a process that knows nothing of a connection ends it at
// once where it was with an earlier one of the same node, and has no power over
// other nodes' connections.
func TestStatelessResets(t *testing.T) {
	for _, c := range []struct {
		key  [32]byte
		ends bool
	}{{[32]byte{4}, true}, {[32]byte{9}, false}} {
		r := start(t, nil)
		other := start(t, func(r *rig) { r.resetKey = c.key })
		n, q := r.behindNAT()
		r.ask(q)
		n.to.Store(other.at)
		s := r.stream(q, request("GET"))
		within := 500 * time.Millisecond
		if c.ends {
			within = 10 * time.Second
		}
		_ = s.SetReadDeadline(time.Now().Add(within))
		_, err := s.Read(make([]byte, 1))
		if _, ended := errors.AsType[*quic.StatelessResetError](err); ended != c.ends {
			t.Errorf("key %x: %v", c.key[:1], err)
		}
	}
}

// rebind takes another port outside.
func (n *nat) rebind(t testing.TB) {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	select {
	case <-n.outside:
	default:
	}
	n.outside <- c
}

// run forwards until the socket inside closes.
func (n *nat) run() {
	p := make([]byte, 2048)
	var last *net.UDPConn
	for {
		size, client, err := n.inside.ReadFromUDPAddrPort(p)
		if err != nil {
			return
		}
		select {
		case last = <-n.outside:
			go func(out *net.UDPConn) {
				p := make([]byte, 2048)
				for {
					size, err := out.Read(p)
					if err != nil {
						return
					}
					_, _ = n.inside.WriteToUDPAddrPort(p[:size], client)
				}
			}(last)
		default:
		}
		_, _ = last.WriteToUDP(p[:size], n.to.Load())
	}
}
