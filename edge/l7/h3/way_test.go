package h3

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/ipv4"
)

func message(size int) ipv4.Message {
	return ipv4.Message{Buffers: [][]byte{make([]byte, size)}, OOB: make([]byte, 64)}
}

// What is sent on arrives with whom it is from and its control messages.
func TestWayCarriesPackets(t *testing.T) {
	in, out, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	w, err := newWay(7, out)
	if err != nil {
		t.Fatal(err)
	}
	h := &heir{in: in}
	for _, from := range []string{"192.0.2.1:1234", "[2001:db8::1]:65535"} {
		m := message(1500)
		m.Addr = net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from))
		m.N, m.NN = copy(m.Buffers[0], "a packet"), copy(m.OOB, "control")
		if err := w.forward(&m); err != nil {
			t.Fatal(err)
		}
		got := []ipv4.Message{message(1500)}
		if n, err := h.read(got); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if g := got[0]; g.Addr.String() != from || string(g.Buffers[0][:g.N]) != "a packet" || string(g.OOB[:g.NN]) != "control" {
			t.Errorf("from %s: %v %q %q", from, g.Addr, g.Buffers[0][:g.N], g.OOB[:g.NN])
		}
	}
	// A full way loses packets, and waits for nobody.
	m := message(1500)
	m.N, m.Addr = 1500, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:1"))
	for range 10000 {
		if err := w.forward(&m); err != nil {
			t.Fatal(err)
		}
	}
	in.Close()
	if err := w.forward(&m); err == nil {
		t.Error("nobody reads, and it is no error")
	}
	out.Close()
}

// What is no message is refused, whatever it is cut to.
func TestWayRefusesWhatIsNoMessage(t *testing.T) {
	whole := append([]byte{4, 192, 0, 2, 1, 0, 80, 2, 'o', 'b'}, "packet"...)
	m := message(100)
	if !receive(whole, &m) {
		t.Fatal("a whole one is refused")
	}
	for n := range 11 {
		if receive(whole[:n], &m) {
			t.Errorf("%d octets are taken", n)
		}
	}
	for _, b := range [][]byte{append([]byte{5}, whole[1:]...), append(whole, make([]byte, 100)...), bytes.Repeat([]byte{255}, 400)} {
		if receive(b, &m) {
			t.Errorf("%x is taken", b)
		}
	}
	for _, name := range []string{"", "7", "x 1.2.3.4:5", "4294967296 1.2.3.4:5"} {
		in, out, err := pair()
		if err != nil {
			t.Fatal(err)
		}
		f, err := in.File()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := wayOf(name, f); err == nil {
			t.Errorf("a way is called %q", name)
		}
		in.Close()
		out.Close()
	}
}
