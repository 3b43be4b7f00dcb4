package xdp

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// Of connections that are picked a gateway knows when they last brought data, and
// of no others.
func TestArrivals(t *testing.T) {
	r := newRegion(t, regionSpec+"layer4: {latency_of: 1}\n", 1600)
	r.start(Native)
	for _, vip := range []netip.Addr{vip4, vip6} {
		c := r.connectTo(vip)
		client, at := c.LocalAddr().(*net.TCPAddr).AddrPort(), netip.AddrPortFrom(vip, 80)
		for _, g := range []string{"gw1", "gw2"} {
			if ago, ok := r.nodes[g].Arrived(client, at); ok {
				t.Errorf("%s: data came %s ago, and none was sent", g, ago)
			}
		}
		before := time.Now()
		name, err := c.ask()
		r.must(err)
		if ago, ok := r.nodes[name].Arrived(client, at); !ok || ago <= 0 || ago > time.Since(before) {
			t.Errorf("%s: data came %s ago, %v; the question was asked %s ago", name, ago, ok, time.Since(before))
		}
	}
	r.world = worldOf(t, regionSpec)
	r.must(r.nodes["gw1"].Apply(r.world))
	eventually(t, "no connection is picked", func() bool { return r.nodes["gw1"].stamped.Load() == 0 })
}

// A balancer that is the gateway too knows them of those that its ring leaves to itself.
func TestArrivalsAtABalancerItself(t *testing.T) {
	for _, every := range []string{"", "layer4: {latency_of: 1}\n"} {
		m := newMachine(t, programSpec+every, "lb", Roles{L4: true})
		m.send(t, fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(1024, 22, ack, 1, 2, 3))))
		key := edgeArrivalKey{Client: toAddress(netip.MustParseAddr(client4)), Vip: toAddress(netip.MustParseAddr(any4)), Sport: swap16(1024), Dport: swap16(22)}
		var at uint64
		if noted := m.Arrivals.Lookup(&key, &at) == nil; noted != (every != "") {
			t.Errorf("with %q: noted %v", every, noted)
		}
	}
}

// The program picks the connections that Go takes for picked.
func TestStampedAsInGo(t *testing.T) {
	m := newMachine(t, programSpec+"layer4: {latency_of: 7}\n", "gw", Roles{L7: true})
	picked := 0
	for port := range 500 {
		client := netip.MustParseAddrPort(fmt.Sprintf("203.0.113.5:%d", 1024+port))
		inner := ipHeader{src: "203.0.113.5", dst: any4, proto: protoTCP}.packet(segment(1024+port, 443, ack, 1, 2, 3))
		m.send(t, fromRouter(ipHeader{src: "10.0.0.1", dst: "10.0.0.2", proto: protoIPIP}.packet(inner)))
		key := edgeArrivalKey{Client: toAddress(client.Addr()), Vip: toAddress(netip.MustParseAddr(any4)), Sport: swap16(client.Port()), Dport: swap16(443)}
		var at uint64
		got, want := m.Arrivals.Lookup(&key, &at) == nil, stamped(client, 443, 7)
		if got != want {
			t.Errorf("port %d: noted %v, expected %v", 1024+port, got, want)
		}
		if got {
			picked++
		}
	}
	if picked < 30 || picked > 150 {
		t.Errorf("%d of 500 connections were picked, expected one in 7", picked)
	}
}
