package server

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
)

// RFC 1996 §4.1: NOTIFY may come over UDP; the answer leaves from the address that was asked.
// RFC 2136 §2.1: so may UPDATE.
func TestSpecialOverUDP(t *testing.T) {
	h := slow{make(chan *Request, 8), make(chan struct{})}
	close(h.goOn)
	s := start(t, func(c *Config) {
		c.Special = h
		c.Listen = []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:0")}
	})
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	notify, update, signed := new(dns.Msg), new(dns.Msg), query("www.demo.test.", dns.TypeA, 3)
	notify.SetNotify("demo.test.")
	update.SetUpdate("demo.test.")
	signed.SetTsig("key.", dns.HmacSHA256, 300, time.Now().Unix())
	for what, m := range map[string]*dns.Msg{"NOTIFY": notify, "UPDATE": update, "IXFR": new(dns.Msg).SetIxfr("demo.test.", 1, "a.", "b."), "TSIG": signed} {
		c, err := net.Dial("udp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.7"), s.Addrs()[0].Port()).String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if what == "TSIG" { // not yet signed: the record alone makes it special
			if b, _, err = dns.TsigGenerate(m, "c2VjcmV0", "", false); err != nil {
				t.Fatal(err)
			}
		}
		c.Write(b)
		answer := make([]byte, 512)
		if _, err := c.Read(answer); err != nil { // a connected socket takes answers from one address alone
			t.Errorf("%s: %v", what, err)
			continue
		}
		if r := <-h.got; r.Transport != UDP || r.Client.String() != c.LocalAddr().String() || string(r.Message) != string(b) {
			t.Errorf("%s: %+v", what, r)
		}
	}
	if n := counter(t, s, "meridian_dns_handed_over_total udp"); n != 4 {
		t.Errorf("%v handed over", n)
	}
}

// stuck is a Handler that answers nothing until the end.
type stuck struct{}

func (stuck) Handle(ctx context.Context, _ *Request) { <-ctx.Done() }

// A flood of special messages fills a queue of fixed size, is counted beyond
// it, and holds up no query.
func TestFloodOfSpecials(t *testing.T) {
	s := start(t, func(c *Config) { c.Special = stuck{}; c.Sockets = 1 })
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("udp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m := new(dns.Msg)
	m.SetNotify("demo.test.")
	b, _ := m.Pack()
	const n = 2 * (specialQueue + specialWorkers)
	for range n {
		c.Write(b)
	}
	for range 20 {
		exchange1(t, "udp", s.Addrs()[0], "www.demo.test.", dns.TypeA)
	}
	if got := counter(t, s, "meridian_dns_dropped_total special udp"); got < n-specialQueue-specialWorkers || got > n-specialQueue {
		t.Errorf("%v of %d dropped", got, n)
	}
}

// changing is a Handler that changes a zone once its client's socket is closed,
// as an update that comes with a new World may.
type changing struct {
	begun chan struct{}
	done  chan struct{}
	s     *Server
	zone  *zone.Zone
}

func (h *changing) Handle(ctx context.Context, _ *Request) {
	close(h.begun)
	<-ctx.Done()
	h.s.SetZone(h.zone)
	close(h.done)
}

// A World that closes a socket does not wait for messages that the Handler has
// of it, which may wait for the World.
func TestApplyWaitsForNoHandler(t *testing.T) {
	h := &changing{begun: make(chan struct{}), done: make(chan struct{}), zone: demoZones(t)[0]}
	s := start(t, func(c *Config) {
		c.Listen, c.DNS.Listen = nil, []string{"127.0.0.1:0"}
		c.Special = h
	})
	h.s = s
	s.SetZones(demoZones(t))
	c := dialTCP(t, s)
	send(t, c, new(dns.Msg).SetNotify("demo.test."))
	<-h.begun
	if err := s.Configure(&fleet.DNS{Listen: []string{"127.0.0.2:0"}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(world(t, strings.Replace(spec, "zones:", "dns: {listen: ['127.0.0.3:0']}\nzones:", 1))); err != nil {
		t.Fatal(err)
	}
	<-h.done
	closed(t, "a socket that is not wanted any more", c)
}
