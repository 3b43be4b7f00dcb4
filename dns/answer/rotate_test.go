package answer

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// several answers with three regions, in each manner of ordering them, and
// with HTTPS records.
const several = `
regions:
- {id: fra, location: {latitude: 50.1, longitude: 8.7}, vips: {v4: [192.0.2.1], v6: ["2001:db8::1"]}}
- {id: tyo, location: {latitude: 35.7, longitude: 139.7}, vips: {v4: [192.0.2.2], v6: ["2001:db8::2"]}}
- {id: gru, location: {latitude: -23.5, longitude: -46.6}, vips: {v4: [192.0.2.3]}}
services:
- {service: none, protocol: http, ports: [80], pools: [{id: p, endpoints: [{address: "10.0.0.1:80"}]}], steering: {records: 3}}
- {service: query, protocol: http, ports: [80], pools: [{id: p, endpoints: [{address: "10.0.0.1:80"}]}], steering: {records: 3, rotate: query}}
- {service: client, protocol: http, ports: [80], pools: [{id: p, endpoints: [{address: "10.0.0.1:80"}]}], steering: {records: 3, rotate: client}}
- {service: one, protocol: http, ports: [80], pools: [{id: p, endpoints: [{address: "10.0.0.1:80"}]}]}
- {service: closed, protocol: http, ports: [80], pools: [{id: p, endpoints: [{address: "10.0.0.1:80"}]}], steering: {all_down: fail_closed}}
zones:
- zone: s.test
  records: "@ 300 SOA ns a 1 1 1 1 60\n@ 300 NS ns\nns 300 A 192.0.2.99\n"
  steered:
  - {name: none, service: none}
  - {name: query, service: query}
  - {name: client, service: client}
  - {name: one, service: one, https: {alpn: [h3, h2], port: 8443}}
  - {name: two, service: one, https: {second: true}}
  - {name: closed, service: closed, https: {}}
`

func addresses(m *dns.Msg) string {
	var out []string
	for _, rr := range m.Answer {
		out = append(out, rr.(*dns.A).A.String())
	}
	return strings.Join(out, " ")
}

// The records of an answer stand best first, or another one stands first each
// time, or by the client's network.
func TestRotation(t *testing.T) {
	p, err := Compile(id, newWorld(t, several), newAtlas(), nil, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	var w Worker
	out := make([]byte, MaxStream)
	get := func(name, subnet string) *dns.Msg {
		n, _ := p.Answer(&w, pack(t, query(name, dns.TypeA, subnetOf(subnet))), Client{Addr: netip.MustParseAddr("10.1.0.1")}, out)
		m := new(dns.Msg)
		if err := m.Unpack(out[:n]); err != nil {
			t.Fatal(err)
		}
		return m
	}
	first := map[string]map[string]int{}
	for _, name := range []string{"none", "query", "client"} {
		first[name] = map[string]int{}
		for i := range 60 {
			m := get(name+".s.test", fmt.Sprintf("10.1.%d.0/24", i))
			a := addresses(m)
			for _, region := range []string{fra, tyo, gru} {
				if !strings.Contains(a, region) {
					t.Fatalf("%s: %s without %s", name, a, region)
				}
			}
			first[name][strings.Fields(a)[0]]++
			if s := ecsOf(m).SourceScope; (s == 24) != (name == "client") {
				t.Fatalf("%s: scope %d", name, s)
			}
			if again := addresses(get(name+".s.test", fmt.Sprintf("10.1.%d.0/24", i))); (again == a) != (name != "query") {
				t.Fatalf("%s: %s, and then %s", name, a, again)
			}
		}
	}
	if first["none"][fra] != 60 {
		t.Errorf("none: first %v", first["none"])
	}
	for _, name := range []string{"query", "client"} {
		for _, region := range []string{fra, tyo, gru} {
			if n := first[name][region]; n < 10 || n > 32 {
				t.Errorf("%s: first %v", name, first[name])
			}
		}
	}
}

// RFC 9460 §7.3: the hints of a steered HTTPS record are the addresses that A and AAAA answer to the same client.
// RFC 9460 §2.4.1: the record of the next-best region has a lower priority, which is a higher number.
// RFC 7871 §7.2.1: an HTTPS record is tailored as its addresses are, with a scope of its own.
func TestRFC9460SteeredHTTPS(t *testing.T) {
	for _, c := range []struct{ what, name, subnet, down, want string }{
		{"hints of the region", "one", "10.1.0.0/16", "", `one.s.test. 30 HTTPS 1 . alpn="h3,h2" port="8443" ipv4hint="192.0.2.1" ipv6hint="2001:db8::1"`},
		{"AAAA goes elsewhere where the region has none", "one", "10.3.0.0/16", "", `one.s.test. 30 HTTPS 1 . alpn="h3,h2" port="8443" ipv4hint="192.0.2.3" ipv6hint="2001:db8::1"`},
		{"the next region takes over", "one", "10.1.0.0/16", "fra", `one.s.test. 30 HTTPS 1 . alpn="h3,h2" port="8443" ipv4hint="192.0.2.2" ipv6hint="2001:db8::2"`},
		{"second best at lower priority", "two", "10.1.0.0/16", "", `two.s.test. 30 HTTPS 1 . alpn="h2" ipv4hint="192.0.2.1" ipv6hint="2001:db8::1"; two.s.test. 30 HTTPS 2 . alpn="h2" ipv4hint="192.0.2.2" ipv6hint="2001:db8::2"`},
		{"a name without", "none", "10.1.0.0/16", "", ``},
		{"no address, no record", "closed", "10.1.0.0/16", "fra tyo gru", ``},
	} {
		view := down("one", strings.Fields(c.down)...)
		for k, v := range down("closed", strings.Fields(c.down)...).Verdicts {
			view.Verdicts[k] = v
		}
		p, err := Compile(id, newWorld(t, several), newAtlas(), view, now, nil)
		if err != nil {
			t.Fatal(err)
		}
		m := ask(t, p, c.name+".s.test", dns.TypeHTTPS, subnetOf(c.subnet))
		if got := text(m.Answer); got != c.want || m.Rcode != 0 {
			t.Errorf("%s: got\n%s\nwant\n%s", c.what, got, c.want)
		}
		if scope := ecsOf(m).SourceScope; (scope > 0) != (c.want != "") {
			t.Errorf("%s: scope %d", c.what, scope)
		}
	}
}

// The hot path of rotation and HTTPS allocates nothing once a worker has run.
func TestRotationAndHTTPSDoNotAllocate(t *testing.T) {
	p, err := Compile(id, newWorld(t, several), newAtlas(), nil, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	var w Worker
	out := make([]byte, MaxStream)
	for _, q := range [][]byte{pack(t, query("query.s.test", dns.TypeA)), pack(t, query("client.s.test", dns.TypeA)), pack(t, query("two.s.test", dns.TypeHTTPS))} {
		if n := testing.AllocsPerRun(100, func() { p.Answer(&w, q, Client{Addr: netip.MustParseAddr("10.1.0.1")}, out) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}
