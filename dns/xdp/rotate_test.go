package xdp

import (
	"strings"
	"testing"

	"meridian/dns/zone"
)

const rotateSpec = `
regions:
- {id: fra, location: {latitude: 50.1, longitude: 8.7}, vips: {v4: [192.0.2.1, 192.0.2.11, 192.0.2.21], v6: ["2001:db8::1"]}}
- {id: tyo, location: {latitude: 35.7, longitude: 139.7}, vips: {v4: [192.0.2.2, 192.0.2.12], v6: ["2001:db8::2"]}}
services:
- {service: web, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}], steering: {records: 2, rotate: ROTATE}}
zones:
- zone: demo.test
  records: |
    $TTL 300
    @ SOA ns1 admin 7 3600 600 86400 60
    @ NS ns1
    ns1 A 192.0.2.53
    alias CNAME www
  steered:
  - {name: www, service: web, https: {}}
  - {name: "*.geo", service: web}
`

// Records that rotate by the client do so alike, with the client's own scope,
// and through a change of health.
func TestRotateByClient(t *testing.T) {
	m := newMachine(t, newPlan(t, strings.Replace(rotateSpec, "ROTATE", "client", 1), nil))
	m.agree(t, 21, many()/2)
	for _, name := range []string{"www.demo.test", "alias.demo.test", "x.geo.demo.test"} {
		for a, n := newAsker(m.plan, 22), 0; n < 100; n++ {
			if !m.compare(t, withOptions(name, zone.TypeA, n%2 == 0, ecs4(10, byte(a.IntN(5)), byte(a.IntN(256)))...), a.client()) {
				t.Fatalf("%s: passed to the sockets", name)
			}
		}
	}
	p := m.plan.WithView(down("web", "fra"), now).Settle()
	if ok, err := m.steer(m.image, p); err != nil || !ok {
		t.Fatal(ok, err)
	}
	m.plan = p
	m.agree(t, 23, many()/2)
}

// Those that rotate by query come in every order that the sockets know.
func TestRotateByQuery(t *testing.T) {
	m := newMachine(t, newPlan(t, strings.Replace(rotateSpec, "ROTATE", "query", 1), nil))
	q := withOptions("www.demo.test", zone.TypeA, false, ecs4(10, 1, 2)...)
	orders := map[string]bool{}
	for range 20 {
		orders[string(m.sockets(q, nobodyPort))] = true
	}
	seen := map[string]bool{}
	for range 40 {
		verdict, out := m.run(t, frame(nobodyPort, server4, q))
		if verdict != xdpTX {
			t.Fatalf("verdict %d", verdict)
		}
		got := unframe(t, out, nobodyPort, server4)
		if !orders[string(got)] {
			t.Fatalf("an order that the sockets do not give:\n%s", text(got))
		}
		seen[string(got)] = true
	}
	if len(seen) != len(orders) || len(seen) < 2 {
		t.Errorf("%d orders, the sockets have %d", len(seen), len(orders))
	}
}
