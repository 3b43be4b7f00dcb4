package answer

import (
	"iter"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/geo"
	"meridian/steer"
)

var id = Identity{Node: "fra-1", Version: "meridian test"}

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

const spec = `
regions:
- {id: fra, location: {latitude: 50.1, longitude: 8.7}, vips: {v4: [192.0.2.1], v6: ["2001:db8::1"]}}
- {id: tyo, location: {latitude: 35.7, longitude: 139.7}, vips: {v4: [192.0.2.2], v6: ["2001:db8::2"]}}
- {id: gru, location: {latitude: -23.5, longitude: -46.6}, vips: {v4: [192.0.2.3]}}
anycast: {v4: [198.51.100.1], v6: ["2001:db8:f::1"]}
services:
- {service: web, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}]}
- {service: any, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}], steering: {answer: anycast}}
- {service: split, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}],
   steering: {policy: weighted, weights: {fra: 50, tyo: 50}}}
- {service: order, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}],
   steering: {policy: failover, regions: [gru, fra], all_down: fail_closed}}
zones:
- zone: demo.test
  records: |
    $TTL 300
    @ SOA ns1 admin 7 3600 600 86400 60
    @ NS ns1
    @ NS ns2
    ns1 A 192.0.2.53
    ns1 AAAA 2001:db8::53
    ns2 A 192.0.2.54
    mail MX 10 mx1
    mail MX 20 mx2.other.example.
    mx1 A 192.0.2.25
    alias CNAME www
    far CNAME www.elsewhere.example.
    cross CNAME x.other.test.
    gone CNAME nothing.here.missing.
    dead CNAME nope
    loop1 CNAME loop2
    loop2 CNAME loop1
    *.self CNAME a.self
    *.wild A 192.0.2.99
    a.ent TXT "x"
    child NS ns.child
    child NS ns.sibling
    child DS 1 13 2 00
    ns.child A 192.0.2.60
    sibling NS ns.sibling
    ns.sibling A 192.0.2.61
    incut CNAME x.child
    old DNAME new.demo.test.
    x.new TXT "moved"
    down DNAME aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.long.
    svc SRV 0 0 443 mx1
    web HTTPS 1 . alpn=h2
    web A 192.0.2.70
    toweb HTTPS 1 web alpn=h2
    www HTTPS 1 . alpn=h2
    ptr PTR mx1
    caa CAA 0 issue "ca.example"
    raw TYPE65280 \# 3 abcdef
    big TXT "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
    $GENERATE 1-60 many A 192.0.3.$
  steered:
  - {name: www, service: web}
  - {name: "@", service: web, ttl: 60s}
  - {name: "*.geo", service: web}
  - {name: any, service: any}
  - {name: split, service: split}
  - {name: order, service: order}
- zone: other.test
  records: |
    $TTL 300
    @ SOA ns1.demo.test. admin 7 3600 600 86400 3600
    @ NS ns1.demo.test.
    x A 192.0.2.80
- zone: sub.demo.test
  records: |
    $TTL 300
    @ SOA ns1.demo.test. admin 7 3600 600 86400 3600
    @ NS ns1.demo.test.
    www A 192.0.2.81
`

// atlas is a small geo database.
type atlas []struct {
	prefix netip.Prefix
	place  geo.Place
}

func (a atlas) Networks() iter.Seq2[netip.Prefix, geo.Place] {
	return func(yield func(netip.Prefix, geo.Place) bool) {
		for _, n := range a {
			if !yield(n.prefix, n.place) {
				return
			}
		}
	}
}

func (a atlas) Lookup(addr netip.Addr) (geo.Place, bool) {
	for _, n := range a {
		if n.prefix.Contains(addr) {
			return n.place, true
		}
	}
	return geo.Place{}, false
}

func (atlas) String() string { return "test atlas" }

func country(code string) geo.Place {
	c, _ := geo.FindCountry(code)
	return c.Place()
}

func newAtlas() geo.Source {
	var a atlas
	for _, n := range []struct{ prefix, country string }{
		{"10.1.0.0/16", "DE"}, {"10.2.0.0/16", "JP"}, {"10.3.0.0/17", "BR"}, {"10.3.128.0/17", "BR"}, {"10.4.1.0/24", "DE"}, {"10.4.2.128/25", "JP"},
		{"2001:db8:100::/40", "DE"}, {"2001:db8:200::/40", "JP"},
	} {
		a = append(a, struct {
			prefix netip.Prefix
			place  geo.Place
		}{netip.MustParsePrefix(n.prefix), country(n.country)})
	}
	return &a
}

func newWorld(t testing.TB, doc string, shifts ...fleet.Shift) *fleet.World {
	t.Helper()
	s, err := fleet.Compile([]byte(doc), 3, zone.Check, steer.Check)
	if err != nil {
		t.Fatal(err)
	}
	return &fleet.World{Snapshot: s, Shifts: shifts}
}

func newPlan(t testing.TB, v *fleet.View, shifts ...fleet.Shift) *Plan {
	t.Helper()
	p, err := Compile(id, newWorld(t, spec, shifts...), newAtlas(), v, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// down is a View in which a service is down in some regions.
func down(service string, regions ...string) *fleet.View {
	v := &fleet.View{Revision: 9, Verdicts: map[fleet.Target]fleet.Verdict{}}
	for _, r := range regions {
		v.Verdicts[fleet.Target{Kind: fleet.TargetService, Region: r, Service: service}] = fleet.Verdict{State: fleet.Down, Cause: fleet.CauseTimeout}
	}
	return v
}

// query makes a query; each change may alter it.
func query(name string, qtype uint16, changes ...func(*dns.Msg)) *dns.Msg {
	m := new(dns.Msg)
	m.Id, m.RecursionDesired = 0x1234, true
	m.Question = []dns.Question{{Name: dns.Fqdn(name), Qtype: qtype, Qclass: dns.ClassINET}}
	for _, c := range changes {
		c(m)
	}
	return m
}

func edns(m *dns.Msg) { m.SetEdns0(4096, false) }

// subnetOf adds a Client Subnet option.
func subnetOf(prefix string) func(*dns.Msg) {
	return func(m *dns.Msg) {
		p := netip.MustParsePrefix(prefix)
		o := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(p.Bits()), Address: p.Masked().Addr().AsSlice()}
		if p.Addr().Is6() {
			o.Family = 2
		}
		if m.IsEdns0() == nil {
			edns(m)
		}
		m.IsEdns0().Option = append(m.IsEdns0().Option, o)
	}
}

func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var resolver = netip.MustParseAddr("10.2.0.1") // in Japan

// send asks with raw bytes; nil where there is no answer.
func send(t testing.TB, p *Plan, q []byte, stream bool) *dns.Msg {
	t.Helper()
	var w Worker
	out := make([]byte, MaxStream)
	n, outcome := p.Answer(&w, q, Client{Addr: resolver, Stream: stream}, out)
	if n == 0 {
		return nil
	}
	m := new(dns.Msg)
	if err := m.Unpack(out[:n]); err != nil {
		t.Fatalf("the answer to %x does not parse: %v\n%x", q, err, out[:n])
	}
	if int(outcome.Rcode) != m.Rcode {
		t.Errorf("outcome says rcode %d, the message %d", outcome.Rcode, m.Rcode)
	}
	return m
}

func ask(t testing.TB, p *Plan, name string, qtype uint16, changes ...func(*dns.Msg)) *dns.Msg {
	t.Helper()
	m := send(t, p, pack(t, query(name, qtype, changes...)), false)
	if m == nil {
		t.Fatalf("%s: no answer", name)
	}
	return m
}

// text renders a section in one line, without class and tabs.
func text(rrs []dns.RR) string {
	var out []string
	for _, rr := range rrs {
		if rr.Header().Rrtype != dns.TypeOPT {
			out = append(out, strings.ReplaceAll(strings.ReplaceAll(rr.String(), "\tIN\t", " "), "\t", " "))
		}
	}
	return strings.Join(out, "; ")
}

// scope gives the Client Subnet of a response as family/source/scope/address.
func ecsOf(m *dns.Msg) *dns.EDNS0_SUBNET {
	if o := m.IsEdns0(); o != nil {
		for _, opt := range o.Option {
			if s, ok := opt.(*dns.EDNS0_SUBNET); ok {
				return s
			}
		}
	}
	return nil
}

func ipOf(m *dns.Msg) string {
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			return rr.A.String()
		case *dns.AAAA:
			return net.IP(rr.AAAA).String()
		}
	}
	return ""
}

// countries is a database with one network for each country.
func countries() geo.Source {
	var a atlas
	for i, c := range geo.Countries() {
		a = append(a, struct {
			prefix netip.Prefix
			place  geo.Place
		}{netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i)}), 16), c.Place()})
	}
	return &a
}
