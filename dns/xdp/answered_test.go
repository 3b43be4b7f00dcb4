package xdp

import (
	"encoding/binary"
	"testing"

	"meridian/dns/answer"
	"meridian/dns/zone"
	"meridian/fleet"
)

// withOptions makes a query with EDNS options.
func withOptions(name string, rtype uint16, do bool, options ...byte) []byte {
	q := question(zone.Wire(fleet.Name(name+".")), rtype, do)
	return append(binary.BigEndian.AppendUint16(q[:len(q)-2], uint16(len(options))), options...)
}

// ecs4 is a Client Subnet option of a /24.
func ecs4(a, b, c byte) []byte { return []byte{0, 8, 0, 7, 0, 1, 24, 0, a, b, c} }

// All common shapes are answered in the kernel, and steering, absence and
// referrals are among them.
func TestAnsweredInTheKernel(t *testing.T) {
	m := newMachine(t, newPlan(t, spec, down("web", "fra")))
	cookie := []byte{0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8}
	for _, c := range []struct {
		what    string
		name    string
		rtype   uint16
		options []byte
	}{
		{"address", "mx1.demo.test", zone.TypeA, nil},
		{"address, cookie", "mx1.demo.test", zone.TypeA, cookie},
		{"address, NSID", "mx1.demo.test", zone.TypeA, []byte{0, 3, 0, 0}},
		{"address, all", "mx1.demo.test", zone.TypeA, cat([]byte{0, 3, 0, 0}, cookie, ecs4(10, 1, 2))},
		{"address, subnet", "mx1.demo.test", zone.TypeA, ecs4(10, 1, 2)},
		{"other type", "mx1.demo.test", zone.TypeTXT, nil},
		{"no such name", "nothing.demo.test", zone.TypeA, nil},
		{"no such name, deeper", "a.b.c.nothing.demo.test", zone.TypeA, nil},
		{"below a name", "x.mx1.demo.test", zone.TypeA, nil},
		{"name that the SOA mentions", "admin.staff.demo.test", zone.TypeA, nil},
		{"parent of it", "staff.demo.test", zone.TypeA, nil},
		{"below it", "x.admin.staff.demo.test", zone.TypeA, nil},
		{"empty non-terminal", "ent.demo.test", zone.TypeA, nil},
		{"apex", "demo.test", zone.TypeNS, nil},
		{"SOA", "demo.test", zone.TypeSOA, nil},
		{"DS of a zone within", "sub.demo.test", zone.TypeDS, nil},
		{"zone within", "www.sub.demo.test", zone.TypeA, nil},
		{"mail", "mail.demo.test", zone.TypeMX, nil},
		{"service", "svc.demo.test", zone.TypeSRV, nil},
		{"HTTPS", "toweb.demo.test", zone.TypeHTTPS, nil},
		{"wildcard", "x.wild.demo.test", zone.TypeA, nil},
		{"wildcard, deeper", "x.y.wild.demo.test", zone.TypeMX, nil},
		{"wildcard, other type", "x.wild.demo.test", zone.TypeAAAA, nil},
		{"wildcard alias", "x.wildalias.demo.test", zone.TypeA, nil},
		{"alias", "plain.demo.test", zone.TypeA, nil},
		{"alias away", "far.demo.test", zone.TypeA, nil},
		{"alias to another zone", "cross.demo.test", zone.TypeA, nil},
		{"referral", "x.child.demo.test", zone.TypeA, nil},
		{"referral of the cut", "child.demo.test", zone.TypeA, nil},
		{"DS of the cut", "child.demo.test", zone.TypeDS, nil},
		{"glue", "ns.child.demo.test", zone.TypeA, nil},
		{"steered", "www.demo.test", zone.TypeA, nil},
		{"steered, subnet", "www.demo.test", zone.TypeA, ecs4(10, 1, 2)},
		{"steered, cookie and subnet", "www.demo.test", zone.TypeA, cat(cookie, ecs4(10, 1, 2))},
		{"steered AAAA", "www.demo.test", zone.TypeAAAA, ecs4(10, 3, 2)},
		{"steered apex", "demo.test", zone.TypeA, ecs4(10, 3, 2)},
		{"steered wildcard", "x.geo.demo.test", zone.TypeA, ecs4(10, 2, 2)},
		{"alias to steered", "alias.demo.test", zone.TypeA, ecs4(10, 2, 2)},
		{"anycast", "any.demo.test", zone.TypeA, ecs4(10, 2, 2)},
		{"shares", "split.demo.test", zone.TypeA, ecs4(10, 2, 2)},
		{"failover", "order.demo.test", zone.TypeA, ecs4(10, 2, 2)},
	} {
		for _, do := range []bool{false, true} {
			if !m.compare(t, withOptions(c.name, c.rtype, do, c.options...), nobodyPort) {
				t.Errorf("%s (%s %d, DO %v): passed to the sockets", c.what, c.name, c.rtype, do)
			}
		}
	}
}

// A zone that has no room is left to the sockets as a whole; the others are
// answered in the kernel.
func TestZonesWithoutRoom(t *testing.T) {
	small, err := zone.Load("small.test.", []byte("$TTL 300\n@ SOA ns1 admin 1 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\n"), "")
	if err != nil {
		t.Fatal(err)
	}
	within, err := zone.Load("within.example.test.", []byte("$TTL 300\n@ SOA ns1 admin 1 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\n"), "")
	if err != nil {
		t.Fatal(err)
	}
	m := newSmallMachine(t, answer.Zones(id, []*zone.Zone{benchZone(t, 5000), small, within}), 2)
	if left := m.image.left(); len(left) != 1 || left[0] != "example.test." {
		t.Fatalf("left out: %v", left)
	}
	for name, kernel := range map[string]bool{"ns1.small.test": true, "no.small.test": true, "ns1.within.example.test": true, "no.within.example.test": true,
		"host1.example.test": false, "no.example.test": false, "example.test": false} {
		if got := m.compare(t, withOptions(name, zone.TypeA, false), nobodyPort); got != kernel {
			t.Errorf("%s: answered in the kernel: %v", name, got)
		}
	}
	for a, n := newAsker(m.plan, 7), 0; n < 2000; n++ {
		m.compare(t, a.query(), a.client())
	}
}
