package h3

import (
	"bytes"
	"crypto/rand"
	"net"
	"net/netip"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
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
		if sent, err := w.forward(&m); !sent || err != nil {
			t.Fatal(sent, err)
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
	for sent := true; sent; {
		if sent, err = w.forward(&m); err != nil {
			t.Fatal(err)
		}
	}
	in.Close()
	if _, err := w.forward(&m); err == nil {
		t.Error("nobody reads, and it is no error")
	}
	out.Close()
}

// Packets of a former process's connections go to it, are counted, and leave the
// others as they were.
func TestPacketsOfFormerProcessesAreCounted(t *testing.T) {
	c := newCarrier(t)
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s := c.share(udp)
	defer s.Close()
	in, out, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	former, err := newWay(6, out)
	if err != nil {
		t.Fatal(err)
	}
	s.former.Store(&[]*way{former})
	packet := func(generation uint32) ipv4.Message {
		g, err := newIDs(testKey, generation, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.use([4]byte{1, 2, 3, 4}); err != nil {
			t.Fatal(err)
		}
		id, err := g.GenerateConnectionID()
		if err != nil {
			t.Fatal(err)
		}
		m := message(1500)
		m.Addr = net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:1234"))
		m.N = copy(m.Buffers[0], append(append(append([]byte{0x40}, id.Bytes()...), make([]byte, 20)...), byte(generation)))
		return m
	}
	list := []ipv4.Message{packet(6), packet(7), packet(6), packet(5)}
	if n := s.sort(*s.former.Load(), list); n != 2 || list[0].Buffers[0][list[0].N-1] != 7 || list[1].Buffers[0][list[1].N-1] != 5 {
		t.Errorf("%d are left", n)
	}
	in.Close() // the former process ends
	s.sort(*s.former.Load(), []ipv4.Message{packet(6)})
	if s.former.Load() != nil {
		t.Error("its way stays")
	}
	for result, want := range map[string]float64{"forwarded": 2, "lost": 1} {
		if got := testutil.ToFloat64(c.packets.WithLabelValues(result)); got != want {
			t.Errorf("%s: %v, expected %v", result, got, want)
		}
	}
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
