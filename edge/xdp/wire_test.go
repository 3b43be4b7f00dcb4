package xdp

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"meridian/internal/testkit"
)

// Endpoints that hang take no ports from gateways, nor IPv4 from IPv6; and the
// program takes replies to the ports in use alone, from whom they have asked.
func TestPortsOfTheChecks(t *testing.T) {
	testkit.Root(t)
	k, err := load(Key{7}, 1<<10, "")
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	const loopback = 1
	w, err := newWire(k, loopback, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	four := question{own: netip.MustParseAddr("10.0.0.1"), vip: netip.MustParseAddrPort("198.51.100.1:53"), order: order{7, 8}}
	six := question{own: netip.MustParseAddr("fd00::1"), vip: netip.MustParseAddrPort("[2001:db8:a::1]:53"), order: order{9, 10}}
	var conns []net.Conn
	for range checkPorts - gatewayPorts {
		c, err := w.dialUDP(t.Context(), four)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	if _, err := w.dialUDP(t.Context(), four); !errors.Is(err, errNoPort) {
		t.Errorf("one check more: %v", err)
	}
	gateway := four
	gateway.gateway = true
	for _, q := range []question{gateway, six} {
		c, err := w.dialUDP(t.Context(), q)
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		conns = append(conns, c)
	}
	if n4, n6 := w.waiting(t, four), w.waiting(t, six); n4 != checkPorts-gatewayPorts+1 || n6 != 1 {
		t.Errorf("%d ports wait for IPv4, and %d for IPv6", n4, n6)
	}
	for _, c := range conns {
		c.Close()
		c.Close()
	}
	if n4, n6 := w.waiting(t, four), w.waiting(t, six); n4 != 0 || n6 != 0 {
		t.Errorf("%d and %d ports wait though all checks are over", n4, n6)
	}
	if c, err := w.dialUDP(t.Context(), four); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
}

// waiting counts the ports that wait for whom a question asks, with its order.
func (w *wire) waiting(t *testing.T, q question) (n int) {
	t.Helper()
	want := edgeAsked{Vip: toAddress(q.vip.Addr()), Port: swap16(q.vip.Port()), Waits: 1}
	for i := range uint32(4 * checkPorts) {
		var a edgeAsked
		if err := w.kernel.Questions.Lookup(i, &a); err != nil {
			t.Fatal(err)
		}
		if a == want && w.orders[i].Load() == uint32(q.order.endpoint)<<16|uint32(q.order.generation) {
			n++
		}
	}
	return n
}
