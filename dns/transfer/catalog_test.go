package transfer

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/internal/testkit"
)

func small(name string, serial int) string {
	return fmt.Sprintf("$ORIGIN %s\n$TTL 300\n@ SOA ns1.example.test. admin %d 3600 2 86400 60\n@ NS ns1.example.test.\nwww A 192.0.2.1\n", name, serial)
}

// RFC 9432 §4: BIND and Knot take the zones that our catalog lists, and drop those that it lists no longer.
func TestRFC9432PeersFollowOurCatalog(t *testing.T) {
	for name, start := range map[string]func(t *testing.T, p *peerServer, us netip.AddrPort){
		"bind": func(t *testing.T, p *peerServer, us netip.AddrPort) {
			bind(t, p, fmt.Sprintf(`allow-transfer { any; }; catalog-zones { zone "catalog.test" default-primaries { 127.0.0.1 port %d key %s; } in-memory yes min-update-interval 1; };`, us.Port(), keyName),
				fmt.Sprintf(`zone "catalog.test" { type secondary; file "catalog"; primaries { 127.0.0.1 port %d key %s; }; };`, us.Port(), keyName))
		},
		"knot": func(t *testing.T, p *peerServer, us netip.AddrPort) {
			knot(t, p, fmt.Sprintf(`
remote:
- id: us
  address: 127.0.0.1@%d
  key: %[2]s
acl:
- id: news
  key: %[2]s
  action: notify
template:
- id: default
  storage: %[3]s
- id: member
  storage: %[3]s
  master: us
  acl: news
zone:
- domain: catalog.test
  master: us
  acl: news
  catalog-role: interpret
  catalog-template: member
`, us.Port(), keyName, p.dir))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, maker := newPeer(t), newMaker(t)
			world := func(zones ...string) *fleet.World {
				doc, objects := fmt.Sprintf(`
dns:
  keys: [{name: %[1]s, secret: "env:KEY"}]
  templates: [{template: out, transfer: ["key:%[1]s"], notify: [{address: "%[2]s", key: %[1]s}]}]
zones:
- {zone: catalog.test, template: out}
`, keyName, p.addr), map[fleet.ObjectKey]string{}
				for _, z := range zones {
					doc += fmt.Sprintf("- {zone: %s, template: out, file: f, member_of: catalog.test, group: web}\n", z)
					objects[fleet.ObjectKey{Kind: fleet.ObjectZone, ID: z + "."}] = small(z+".", 1)
				}
				return maker.derive(t, makeWorld(t, doc, objects))
			}
			n := serve(t, t.TempDir(), 0, world("a.test", "b.test"))
			start(t, p, n.addr)
			eventually(t, "the peer serves a and b", func() bool { return serialAt(p.addr, "a.test.") == 1 && serialAt(p.addr, "b.test.") == 1 })
			before := n.srv.Zone("catalog.test.").Serial
			n.apply(t, world("a.test", "c.test"))
			eventually(t, "the peer serves c and not b", func() bool { return serialAt(p.addr, "c.test.") == 1 && serialAt(p.addr, "b.test.") == 0 })
			if serialAt(p.addr, "a.test.") != 1 {
				t.Error("a is gone")
			}
			if after := n.srv.Zone("catalog.test.").Serial; !newer(after, before) {
				t.Errorf("the catalog's serial went from %d to %d", before, after)
			}
			n.apply(t, world("a.test", "c.test"))
			if again := n.srv.Zone("catalog.test.").Serial; again != serialAt(n.addr, "catalog.test.") {
				t.Error("the catalog changed without a change")
			}
		})
	}
}

// RFC 9432 §4: nodes of the fleet give one catalog, with one serial: a secondary that asks now this one and now that one goes back to no older list.
func TestRFC9432NodesGiveOneCatalog(t *testing.T) {
	p, maker := newPeer(t), newMaker(t)
	world := func(zones ...string) *fleet.World {
		doc, objects := "zones:\n- {zone: catalog.test, transfer: [127.0.0.1]}\n", map[fleet.ObjectKey]string{}
		for _, z := range zones {
			doc += fmt.Sprintf("- {zone: %s, transfer: [127.0.0.1], file: f, member_of: catalog.test}\n", z)
			objects[fleet.ObjectKey{Kind: fleet.ObjectZone, ID: z + "."}] = small(z+".", 1)
		}
		return maker.derive(t, makeWorld(t, doc, objects))
	}
	first := world("a.test")
	one, two := serve(t, t.TempDir(), 0, first), serve(t, t.TempDir(), 0, first)
	bind(t, p, fmt.Sprintf(`allow-transfer { any; }; catalog-zones { zone "catalog.test" default-primaries { 127.0.0.1 port %d; 127.0.0.1 port %d; } in-memory yes min-update-interval 1; };`, one.addr.Port(), two.addr.Port()),
		fmt.Sprintf(`zone "catalog.test" { type secondary; file "catalog"; primaries { 127.0.0.1 port %d; 127.0.0.1 port %d; }; };`, one.addr.Port(), two.addr.Port()))
	eventually(t, "the peer serves a", func() bool { return serialAt(p.addr, "a.test.") == 1 })
	again := serve(t, t.TempDir(), 0, first) // a node without memory
	for _, list := range [][]string{{"a.test", "b.test"}, {"b.test"}, {"b.test", "c.test"}} {
		w := world(list...)
		one.apply(t, w)
		if serialAt(one.addr, "catalog.test.") <= serialAt(two.addr, "catalog.test.") {
			t.Error("the node that has the change is not ahead")
		}
		two.apply(t, w)
		again.apply(t, w)
		want := axfr(t, one.addr, "catalog.test.", "")
		compare(t, want, axfr(t, two.addr, "catalog.test.", ""))
		compare(t, want, axfr(t, again.addr, "catalog.test.", ""))
		if n := len(want) - 3; n != len(list) {
			t.Errorf("%d members of %d", n, len(list))
		}
	}
}

// RFC 9432 §5.1: we serve the members of catalogs by Knot and BIND, with the settings of their group's template.
// RFC 9432 §5.3: a member that the catalog lists no longer is removed, with its data.
func TestRFC9432WeFollowPeersCatalogs(t *testing.T) {
	t.Run("knot", func(t *testing.T) {
		t.Parallel()
		p, port := newPeer(t), testkit.FreePort(t, "127.0.0.1")
		conf := func(zones ...string) string {
			s := fmt.Sprintf(`
remote:
- id: us
  address: 127.0.0.1@%d
  key: %[2]s
acl:
- id: xfer
  key: %[2]s
  action: transfer
template:
- id: default
  storage: %[3]s
  notify: us
  acl: xfer
zone:
- domain: catalog.test
  catalog-role: generate
`, port, keyName, p.dir)
			for _, z := range zones {
				s += fmt.Sprintf("- domain: %s\n  file: %s.zone\n  catalog-role: member\n  catalog-zone: catalog.test\n  catalog-group: web\n", z, z)
				p.write(t, z+".zone", small(z+".", 1))
			}
			return s
		}
		knot(t, p, conf("a.test", "b.test"))
		followCatalog(t, p, port, func() {
			p.stop(t)
			knot(t, p, conf("a.test", "c.test"))
		})
	})
	t.Run("bind", func(t *testing.T) {
		t.Parallel()
		p, port := newPeer(t), testkit.FreePort(t, "127.0.0.1")
		catalog := func(serial int, zones ...string) string {
			s := fmt.Sprintf("$ORIGIN catalog.test.\n$TTL 0\n@ SOA invalid. invalid. %d 3600 2 86400 0\n@ NS invalid.\nversion TXT \"2\"\n", serial)
			for _, z := range zones {
				s += fmt.Sprintf("id%s.zones PTR %s.\ngroup.id%[1]s.zones TXT web\n", strings.TrimSuffix(z, ".test"), z)
			}
			return s
		}
		p.write(t, "catalog.zone", catalog(1, "a.test", "b.test"))
		conf := fmt.Sprintf(`zone "catalog.test" { type primary; file "catalog.zone"; also-notify { 127.0.0.1 port %[1]d; }; allow-transfer { key %[2]s; }; };`, port, keyName)
		for _, z := range []string{"a.test", "b.test", "c.test"} {
			p.write(t, z+".zone", small(z+".", 1))
			conf += fmt.Sprintf("zone %q { type primary; file %q; allow-transfer { key %s; }; };\n", z, z+".zone", keyName)
		}
		bind(t, p, "", conf)
		followCatalog(t, p, port, func() {
			p.stop(t)
			p.write(t, "catalog.zone", catalog(2, "a.test", "c.test"))
			bind(t, p, "", conf)
		})
	})
}

// followCatalog has us follow a peer's catalog of a and b, which change makes
// one of a and c.
func followCatalog(t *testing.T, p *peerServer, port uint16, change func()) {
	t.Helper()
	doc := fmt.Sprintf(`
dns:
  keys: [{name: %[1]s, secret: "env:KEY"}]
  templates:
  - {template: in, primaries: [{address: "%[2]s", key: %[1]s}]}
  - {template: web, primaries: [{address: "%[2]s", key: %[1]s}], transfer: [127.0.0.1]}
zones: [{zone: catalog.test, template: in, catalog: {template: in, groups: {web: web}}}]
`, keyName, p.addr)
	dir := t.TempDir()
	w := makeWorld(t, doc, nil)
	n := serve(t, dir, port, w)
	eventually(t, "we serve a and b", func() bool { return serialAt(n.addr, "a.test.") == 1 && serialAt(n.addr, "b.test.") == 1 })
	if got := axfr(t, n.addr, "a.test.", ""); len(got) != 3 {
		t.Errorf("the group's template lets transfer %d records", len(got))
	}
	n.stop()
	if again := serve(t, dir, port, w); again.srv.Zone("a.test.") == nil || again.srv.Zone("b.test.") == nil {
		t.Error("members are not served from disk after a restart")
	} else {
		n = again
	}
	change()
	eventually(t, "the peer serves c", func() bool { return serialAt(p.addr, "c.test.") == 1 })
	if err := n.Refresh("catalog.test."); err != nil {
		t.Fatal(err)
	}
	eventually(t, "we serve c and not b", func() bool { return serialAt(n.addr, "c.test.") == 1 && n.srv.Zone("b.test.") == nil })
	if serialAt(n.addr, "a.test.") != 1 {
		t.Error("a is gone")
	}
}

// RFC 9432 §5.1: a catalog that breaks takes no member away, also where the nameserver starts with it; it is taken again when it is whole.
func TestRFC9432BrokenCatalog(t *testing.T) {
	const doc = `zones: [{zone: cat.test, primaries: [{address: "192.0.2.1:53"}], catalog: {}}]`
	version := func(serial int, rest string) *zone.Zone {
		z, err := zone.Load("cat.test.", fmt.Appendf(nil, "@ 0 SOA invalid. invalid. %d 1 1 1 1\n@ 0 NS invalid.\n%s", serial, rest), "f")
		if err != nil {
			t.Fatal(err)
		}
		return z
	}
	const v = "version 0 TXT \"2\"\n"
	dir := t.TempDir()
	tr, zones := directIn(t, dir, doc)
	look := func(tr *Transfer, zones fixed, z *zone.Zone, want int) {
		t.Helper()
		zones.SetZone(z)
		tr.observe(z.Name)
		if len(tr.members) != want {
			t.Errorf("serial %d: %d members, want %d", z.Serial, len(tr.members), want)
		}
	}
	look(tr, zones, version(1, "a.zones 0 PTR a.test.\n"), 0)
	look(tr, zones, version(2, v+"a.zones 0 PTR a.test.\nb.zones 0 PTR b.test.\n"), 2)
	broken := version(3, v+"a.zones 0 PTR a.test.\nb.zones 0 PTR a.test.\n")
	look(tr, zones, broken, 2)
	again, zones2 := directIn(t, dir, doc)
	look(again, zones2, broken, 2)
	if again.secondaries["b.test."] == nil || len(again.secondaries["b.test."].policy.primaries) != 1 {
		t.Error("a member does not have the catalog's primaries")
	}
	look(again, zones2, version(4, v+"a.zones 0 PTR a.test.\n"), 1)
	if got := counter(t, &node{Transfer: again}, "meridian_dns_catalog_errors_total", "cat.test."); got != 1 {
		t.Errorf("%v broken versions counted", got)
	}
}
