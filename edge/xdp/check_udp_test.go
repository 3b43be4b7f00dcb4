package xdp

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/fleet"
	"meridian/internal/testkit/netns"
)

// What a check by datagrams reports of the answers that it gets.
func TestWhatACheckByDatagramsReports(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	var respond atomic.Pointer[func(query []byte) []byte]
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			server.WriteTo((*respond.Load())(buf[:n]), from)
		}
	}()
	dial := func(ctx context.Context, _ checkWay) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}
	reply := func(rcode int, id uint16) func([]byte) []byte {
		return func(query []byte) []byte {
			var q dns.Msg
			if err := q.Unpack(query); err != nil || q.Question[0].Name != "example.com." || q.Question[0].Qtype != dns.TypeSOA {
				t.Errorf("query %v, %v", q, err)
			}
			m := new(dns.Msg).SetRcode(&q, rcode)
			m.Id += id
			b, err := m.Pack()
			if err != nil {
				t.Error(err)
			}
			return b
		}
	}
	echo := func(b []byte) []byte { return append([]byte("you said "), b...) }
	query := checkPlan{kind: fleet.CheckDNS, name: "example.com"}
	word := checkPlan{kind: fleet.CheckUDP, send: "hello"}
	expecting := word
	expecting.expect.Body = "goodbye"
	for _, c := range []struct {
		name    string
		plan    checkPlan
		respond func([]byte) []byte
		want    string
	}{
		{"an answer", query, reply(dns.RcodeSuccess, 0), "dns ok"},
		{"an error", query, reply(dns.RcodeServerFailure, 0), "dns rcode (the query for example.com is answered SERVFAIL)"},
		{"an answer to another query", query, reply(dns.RcodeSuccess, 1), "dns protocol (the datagram is no answer to the query)"},
		{"no DNS", query, func([]byte) []byte { return []byte("?") }, "dns protocol (the datagram is no answer to the query\n"},
		{"any answer", word, echo, "udp ok"},
		{"another answer than expected", expecting, echo, "udp body (the body holds not the expected text)"},
	} {
		respond.Store(&c.respond)
		if got := observe(t, c.plan, dial); got != c.want && !(strings.HasSuffix(c.want, "\n") && strings.HasPrefix(got, c.want)) {
			t.Errorf("%s: %q, expected %q", c.name, got, c.want)
		}
	}
}

// Endpoints of a udp service are checked through the VIP; one that does not
// answer leaves the ring, and is back when it does.
func TestUDPEndpointsAreCheckedThroughTheVIP(t *testing.T) {
	spec := strings.Replace(regionSpec, "protocol: udp\n", "protocol: udp\n    healthcheck: {type: udp, send: ping, expect: {body: gw}, interval: 100ms, timeout: 100ms}\n", 1)
	r := newRegion(t, spec, 1600)
	lb := r.start(Native)
	members := func(n int) func() bool {
		return func() bool { return lb.ringMembers("echo/7/v4") == n && lb.ringMembers("echo/7/v6") == n }
	}
	up := func(n int) func() bool { return func() bool { return lb.known(fleet.Up) == 2+n && members(n)() } }
	eventually(t, "both endpoints up", up(2))
	r.must(r.gw1.Down("eth0"))
	eventually(t, "gw2 alone in the ring", members(1))
	r.must(r.gw1.Up("eth0"))
	r.must(r.gw1.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.7.2.1")))
	r.must(r.gw1.AddRoute(netip.MustParsePrefix("::/0"), netip.MustParseAddr("fd07:2::1")))
	eventually(t, "both back", members(2))
}

// A service at a network of VIPs, of all ports, in namespaces: endpoints that
// hold the network answer at each address and port.
func TestNetworksOfVIPs(t *testing.T) {
	spec := strings.NewReplacer(
		`v6: ["2001:db8::10"]}`, `v6: ["2001:db8::10"], prefixes: [203.0.113.0/28, "2001:db8:b::/64"]}`,
		"  - service: echo\n    protocol: udp\n    ports: [7]", "  - service: echo\n    protocol: udp\n    ports: [7]\n    all_ports: true\n    healthcheck: {type: udp, send: ping, interval: 100ms, timeout: 100ms}",
	).Replace(regionSpec)
	r := newRegion(t, spec, 1600)
	for _, p := range []struct{ net, via string }{{"203.0.113.0/28", "10.7.1.2"}, {"2001:db8:b::/64", "fd07:1::2"}} {
		r.must(r.router.AddRoute(netip.MustParsePrefix(p.net), netip.MustParseAddr(p.via)))
	}
	lb := r.start(Native)
	eventually(t, "both endpoints up", func() bool { return lb.known(fleet.Up) == 4 })
	for _, at := range []string{"203.0.113.5:5353", "203.0.113.0:1", "[2001:db8:b::aaaa]:9999"} {
		for _, ns := range []*netns.NS{r.gw1, r.gw2} {
			u, err := ns.ListenPacket("udp", at)
			r.must(err)
			t.Cleanup(func() { u.Close() })
			go count(u, ns.Name)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		c, err := r.client.Dial(ctx, "udp", at)
		r.must(err)
		defer c.Close()
		c.SetDeadline(time.Now().Add(3 * time.Second))
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		n, err := c.Read(buf)
		if err != nil || !strings.HasSuffix(string(buf[:n]), " 5") {
			t.Errorf("%s: %q, %v", at, buf[:n], err)
		}
	}
}
