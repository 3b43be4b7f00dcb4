package xdp

import (
	"errors"
	"iter"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"meridian/dns/answer"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/geo"
	"meridian/internal/testkit"
	"meridian/steer"
)

var id = answer.Identity{Node: "fra-1", Version: "meridian test", Cookie: func(day int64) [16]byte { return [16]byte{byte(day), 7} }}

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
    @ SOA ns1 admin.staff 7 3600 600 86400 60
    @ NS ns1
    @ NS ns2
    @ MX 10 mail.absent
    ns1 A 192.0.2.53
    ns1 AAAA 2001:db8::53
    ns2 A 192.0.2.54
    mail MX 10 mx1
    mail MX 20 mx2.other.example.
    mx1 A 192.0.2.25
    alias CNAME www
    plain CNAME mx1
    far CNAME www.elsewhere.example.
    cross CNAME x.other.test.
    gone CNAME nothing.here.missing.
    dead CNAME nope
    loop1 CNAME loop2
    loop2 CNAME loop1
    *.self CNAME a.self
    *.wild A 192.0.2.99
    *.wild MX 10 relay.wild
    *.wildalias CNAME mx1
    *.wilddead CNAME a.wilddead.no
    a.ent TXT "x"
    child NS ns.child
    child NS ns.sibling
    child DS 1 13 2 00
    ns.child A 192.0.2.60
    sibling NS ns.sibling
    ns.sibling A 192.0.2.61
    lost NS ns.not.lost
    incut CNAME x.child
    old DNAME new.demo.test.
    x.new TXT "moved"
    svc SRV 0 0 443 mx1
    web HTTPS 1 . alpn=h2
    web A 192.0.2.70
    toweb HTTPS 1 web alpn=h2
    www HTTPS 1 . alpn=h2
    ptr PTR mx1
    caa CAA 0 issue "ca.example"
    raw TYPE65280 \# 3 abcdef
    big TXT "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
    $GENERATE 1-30 some A 192.0.3.$
    $GENERATE 1-60 many A 192.0.3.$
    $GENERATE 1-100 toomany A 192.0.3.$
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

func (a *atlas) Networks() iter.Seq2[netip.Prefix, geo.Place] {
	return func(yield func(netip.Prefix, geo.Place) bool) {
		for _, n := range *a {
			if !yield(n.prefix, n.place) {
				return
			}
		}
	}
}

func (a *atlas) Lookup(addr netip.Addr) (geo.Place, bool) {
	for _, n := range *a {
		if n.prefix.Contains(addr) {
			return n.place, true
		}
	}
	return geo.Place{}, false
}

func (*atlas) String() string { return "test atlas" }

func newAtlas() geo.Source {
	var a atlas
	for _, n := range []struct{ prefix, country string }{
		{"10.1.0.0/16", "DE"}, {"10.2.0.0/16", "JP"}, {"10.3.0.0/17", "BR"}, {"10.3.128.0/17", "BR"}, {"10.4.1.0/24", "DE"}, {"10.4.2.128/25", "JP"},
		{"2001:db8:100::/40", "DE"}, {"2001:db8:200::/40", "JP"}, {"2001:db8:400::/64", "BR"},
	} {
		c, _ := geo.FindCountry(n.country)
		a = append(a, struct {
			prefix netip.Prefix
			place  geo.Place
		}{netip.MustParsePrefix(n.prefix), c.Place()})
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

func newPlan(t testing.TB, doc string, v *fleet.View, shifts ...fleet.Shift) *answer.Plan {
	t.Helper()
	p, err := answer.Compile(id, newWorld(t, doc, shifts...), newAtlas(), v, now, nil)
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

// machine is a loaded program with the answers of a plan.
type machine struct {
	*kernel
	image *image
	plan  *answer.Plan
	work  answer.Worker
}

func newMachine(t testing.TB, p *answer.Plan) *machine { return newSmallMachine(t, p, 1<<15) }

// newSmallMachine has room for so many blocks.
func newSmallMachine(t testing.TB, p *answer.Plan, room int) *machine {
	t.Helper()
	testkit.Root(t)
	im, err := compile(p, 0x1234567, newZoneNumbers(), room)
	if err != nil {
		t.Fatal(err)
	}
	k, err := load(im, now, nil)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { k.Close() })
	if err := errors.Join(k.setDays(p.Fast(), now), k.tick(now), k.listen([]netip.AddrPort{server4, server6})); err != nil {
		t.Fatal(err)
	}
	return &machine{kernel: k, image: im, plan: p}
}

// run gives a frame to the program. It gives the verdict and what came out.
func (m *machine) run(t testing.TB, in []byte) (verdict uint32, out []byte) {
	t.Helper()
	o := ebpf.RunOptions{Data: in, DataOut: make([]byte, 2048)}
	verdict, err := m.Dns.Run(&o)
	if err != nil {
		t.Fatal(err)
	}
	return verdict, o.DataOut
}

const (
	xdpDrop = 1
	xdpPass = 2
	xdpTX   = 3
)

// sockets gives what the sockets would answer; nil for nothing.
func (m *machine) sockets(query []byte, client netip.AddrPort) []byte {
	out := make([]byte, answer.MaxStream)
	n, o := m.plan.Answer(&m.work, query, answer.Client{Addr: client.Addr(), Port: client.Port(), Now: uint32(now.Unix())}, out)
	if n == 0 || o.Special {
		return nil
	}
	return out[:n]
}

var nobodyPort = netip.MustParseAddrPort("10.1.2.3:5353")

// clientOf makes a client of either family out of a number.
func clientOf(n uint32) netip.AddrPort {
	port := uint16(1024 + n%60000)
	if n&1 == 0 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(1 + n>>8%4), byte(n >> 16), byte(n >> 24)}), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(n >> 8 & 3), byte(n >> 16 & 3), 15: byte(n >> 24)}), port)
}
