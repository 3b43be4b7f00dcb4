package zone

import (
	"fmt"
	"strings"
	"testing"

	"meridian/fleet"
)

const top = "$ORIGIN example.test.\n$TTL 300\n@ SOA ns1 admin 7 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\n"

func mustLoad(t testing.TB, records string) *Zone {
	t.Helper()
	z, err := Load("example.test.", []byte(top+records), "example.test.zone")
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func name(t testing.TB, s string) []byte {
	t.Helper()
	n, err := fleet.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return Wire(n)
}

// RFC 1034 §4.3.2: a name is found, delegated, redirected, made from a wildcard or missing, as the algorithm's third step says.
// RFC 1034 §4.2.1: what lies at or below a delegation is not the zone's own.
// RFC 2181 §6.1: glue and other data below a delegation is not authoritative.
// RFC 4592 §2.2.2: an empty non-terminal exists, and blocks the wildcard.
// RFC 4592 §2.1.1: an asterisk that is not the leftmost label makes no names.
// RFC 4592 §3.3.1: a wildcard makes names at the closest encloser alone.
// RFC 4592 §2.3: the wildcard's own name may be asked for, and names below it are not made.
// RFC 8020 §2: a name that is missing has no names below it.
// RFC 6672 §2.3: a DNAME redirects what is below its owner, and not the owner.
func TestRFC1034Lookup(t *testing.T) {
	z := mustLoad(t, `
www A 192.0.2.1
a.b.c A 192.0.2.2
* TXT "any"
*.wild TXT "deep"
sub.wild TXT "x"
deep.ent.wild TXT "x"
child NS ns.child
child NS ns.other
ns.child A 192.0.2.3
x.child TXT "occluded"
*.child TXT "occluded"
a.*.wild TXT "no wildcard"
other NS ns.other
ns.other A 192.0.2.4
old DNAME new.example.
`)
	for _, c := range []struct {
		rfc, name string
		kind      Kind
		node      string
	}{
		{"RFC 1034 4.3.2", "example.test", Found, "example.test."},
		{"RFC 1034 4.3.2", "www.example.test", Found, "www.example.test."},
		{"RFC 4592 2.2.2 empty non-terminal", "c.example.test", Found, "c.example.test."},
		{"RFC 4592 2.2.2 empty non-terminal", "b.c.example.test", Found, "b.c.example.test."},
		{"RFC 4592 2.2.1 an empty non-terminal blocks the wildcard", "x.b.c.example.test", Missing, "b.c.example.test."},
		{"RFC 4592 3.3.1 closest encloser", "foo.example.test", Wildcard, "*.example.test."},
		{"RFC 4592 3.3.1 several labels", "foo.bar.example.test", Wildcard, "*.example.test."},
		{"RFC 4592 3.3.1 an existing name blocks the wildcard above", "foo.www.example.test", Missing, "www.example.test."},
		{"RFC 4592 a wildcard below", "foo.wild.example.test", Wildcard, "*.wild.example.test."},
		{"RFC 4592 exact beats wildcard", "sub.wild.example.test", Found, "sub.wild.example.test."},
		{"RFC 4592 no synthesis past an empty non-terminal", "x.ent.wild.example.test", Missing, "ent.wild.example.test."},
		{"RFC 4592 2.3 the wildcard asked literally", "*.wild.example.test", Found, "*.wild.example.test."},
		{"RFC 4592 the asterisk as a label in between", "x.*.wild.example.test", Missing, "*.wild.example.test."},
		{"RFC 4592 2.1.1 an asterisk within makes nothing", "a.b.wild.example.test", Wildcard, "*.wild.example.test."},
		{"RFC 4592 2.1.1 and is found as it is written", "a.*.wild.example.test", Found, "a.*.wild.example.test."},
		{"RFC 4592 a wildcard below a delegation is occluded", "*.child.example.test", Delegation, "child.example.test."},
		{"RFC 1034 4.3.2 delegation", "child.example.test", Delegation, "child.example.test."},
		{"RFC 1034 4.3.2 below a delegation", "foo.child.example.test", Delegation, "child.example.test."},
		{"RFC 2181 6.1 glue is not authoritative", "ns.child.example.test", Delegation, "child.example.test."},
		{"occluded data", "x.child.example.test", Delegation, "child.example.test."},
		{"RFC 6672 2.3 the owner is not redirected", "old.example.test", Found, "old.example.test."},
		{"RFC 6672 2.3 below the owner", "a.old.example.test", Redirect, "old.example.test."},
	} {
		r := z.Lookup(name(t, c.name))
		if got := Text([]byte(r.Node.Name)); r.Kind != c.kind || string(got) != c.node {
			t.Errorf("%s: %s: kind %d at %s, want %d at %s", c.rfc, c.name, r.Kind, got, c.kind, c.node)
		}
	}
	if !z.Lookup(name(t, "child.example.test")).Exact || z.Lookup(name(t, "x.child.example.test")).Exact {
		t.Error("Exact does not tell the delegation from what lies below it")
	}
}

func TestZoneFacts(t *testing.T) {
	z := mustLoad(t, "www 60 A 192.0.2.1\nwww 30 A 192.0.2.2\nwww 60 A 192.0.2.1\n")
	set := z.Node(name(t, "www.example.test")).Get(TypeA)
	if z.Serial != 7 || set.Count != 2 || set.TTL != 30 || z.Records() != 5 {
		t.Errorf("serial %d, %d addresses, TTL %d, %d records", z.Serial, set.Count, set.TTL, z.Records())
	}
	if len(z.Warnings) != 1 || !strings.HasPrefix(z.Warnings[0], "example.test.zone:7: www.example.test. A: TTLs differ") {
		t.Errorf("warnings %q", z.Warnings)
	}
}

// RFC 1035 §5.2: a zone with an error is refused, and each error is told with file and line.
// RFC 1034 §3.6.2: a CNAME stands alone.
// RFC 2181 §10.1: a name has one CNAME.
// RFC 6672 §2.4: a name has one DNAME, and nothing stands below it.
func TestRFC1035BadZones(t *testing.T) {
	for _, c := range []struct{ records, want string }{
		{"x A 192.0.2\n", "f:6: x.example.test. A: \"192.0.2\" is not an IPv4 address"},
		{"x A\n", "f:6: "},
		{"@ SOA ns1 admin 8 3600 600 86400 60\n", "f:6: example.test.: more than one SOA"},
		{"sub SOA ns1 admin 8 3600 600 86400 60\n", "f:6: sub.example.test.: SOA below the apex"},
		{"x CNAME ns1\nx A 192.0.2.1\n", "f:6: x.example.test.: CNAME and other data (A)"},
		{"x A 192.0.2.1\nx CNAME ns1\n", "f:7: x.example.test.: CNAME and other data (A)"},
		{"x CNAME a\nx CNAME b\n", "f:7: x.example.test.: more than one CNAME"},
		{"x DNAME a\nx DNAME b\n", "f:7: x.example.test.: more than one DNAME"},
		{"x DNAME a\n\ny.x TXT b\n", "f:8: y.x.example.test.: data below the DNAME at x.example.test."},
		{"x CH TXT b\n", "f:6: x.example.test.: class CH is not IN"},
		{"$INCLUDE other\n", "f:6: $INCLUDE is not allowed here"},
		{"x TXT (a\n", "f:"},
	} {
		_, err := Load("example.test.", []byte(top+c.records), "f")
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.records, err, c.want)
		}
	}
	for records, want := range map[string]string{
		"":                  "f:1: zone example.test. has no SOA at its apex",
		"@ 60 NS a.test.\n": "f:1: zone example.test. has no SOA",
	} {
		if _, err := Load("example.test.", []byte(records), "f"); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %q", records, err, want)
		}
	}
	_, err := Load("example.test.", []byte(top+strings.Repeat("x A 192.0.2\n", 30)), "f")
	if n := strings.Count(err.Error(), "\n") + 1; n != maxErrors+1 || !strings.Contains(err.Error(), "and 10 more errors") {
		t.Errorf("30 errors are told in %d lines", n)
	}
}

// RFC 4592 §4.2: NS at a wildcard is warned of.
// RFC 1035 §5.2: what is out of the zone, and a delegation without the glue that it needs, is warned of.
func TestRFC1035Warnings(t *testing.T) {
	for records, want := range map[string]string{
		"x DNAME a.\nx NS b.\n":               "f:6: x.example.test.: DNAME and NS below the apex (RFC 6672 section 2.3); the DNAME is not served",
		"www.other.test. A 192.0.2.1\n":       "f:6: www.other.test. is out of zone example.test. and left out",
		"*.x NS ns1\n":                        "f:6: *.x.example.test.: NS at a wildcard has no defined meaning (RFC 4592 section 4)",
		"a CNAME b\nx MX 1 a\n":               "f:7: x.example.test.: MX names a.example.test., which is an alias (RFC 2181 section 10.3)",
		"@ NS NS9\n":                          "f:4: example.test.: name server ns9.example.test. has no address",
		"child NS ns.child\n":                 "f:6: child.example.test.: name server ns.child.example.test. has no glue",
		"child NS ns.other.\nx.child TXT y\n": "f:7: x.child.example.test. TXT is below the delegation at child.example.test. and not served",
	} {
		z, err := Load("example.test.", []byte(top+records), "f")
		if err != nil || len(z.Warnings) != 1 || z.Warnings[0] != want {
			t.Errorf("%q: %v %q, want %q", records, err, z.Warnings, want)
		}
	}
}

func world(t testing.TB, records string, steered string) (*fleet.World, error) {
	t.Helper()
	doc := fmt.Sprintf(`
regions: [{id: fra, vips: {v4: [192.0.2.1]}, location: {latitude: 0, longitude: 0}}]
services: [{service: web, protocol: http, ports: [80], pools: [{id: a, endpoints: [{address: "10.0.0.1:80"}]}]}]
zones: [{zone: example.test, records: %q, steered: %s}]
`, top+records, steered)
	s, err := fleet.Compile([]byte(doc), 0, Check)
	if err != nil {
		return nil, err
	}
	return &fleet.World{Snapshot: s}, nil
}

func TestSteeredNames(t *testing.T) {
	w, err := world(t, "x MX 10 ns1\n", `[{name: "@", service: web}, {name: a.b, service: web}, {name: "*.w", service: web}, {name: x, service: web}]`)
	if err != nil {
		t.Fatal(err)
	}
	zones, err := LoadWorld(w, nil)
	if err != nil {
		t.Fatal(err)
	}
	z := zones[0]
	for n, want := range map[string]int{"example.test": 1, "a.b.example.test": 2, "b.example.test": 0, "q.w.example.test": 3, "x.example.test": 4} {
		if r := z.Lookup(name(t, n)); int(r.Node.Steer) != want || r.Kind == Missing {
			t.Errorf("%s: kind %d, steered as %d, want %d", n, r.Kind, r.Node.Steer, want)
		}
	}
	again, err := LoadWorld(w, zones)
	if err != nil || again[0] != z {
		t.Errorf("an unchanged zone was read anew: %v", err)
	}
	for _, c := range []struct{ records, steered, want string }{
		{"x A 192.0.2.9\n", `[{name: x, service: web}]`, "zones[0].steered[0].name: x.example.test. cannot be steered: the zone holds A there"},
		{"x CNAME ns1\n", `[{name: x, service: web}]`, "the zone holds CNAME there"},
		{"c NS ns.elsewhere.\n", `[{name: x.c, service: web}]`, "the zone delegates c.example.test."},
		{"d DNAME elsewhere.\n", `[{name: x.d, service: web}]`, "below the DNAME at d.example.test."},
		{"x A nonsense\n", `[]`, "zones[0].records: records:6: "},
		{"x A 192.0.2.9\n", `[], aliases: [{name: x, target: a.example}]`, "zones[0].aliases[0].name: x.example.test. cannot be an alias: the zone holds A there"},
	} {
		if _, err := world(t, c.records, c.steered); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.records, err, c.want)
		}
	}
}

func TestNames(t *testing.T) {
	for _, n := range []fleet.Name{".", "a.", "www.example.test.", `a\.b.c.`, `\000\255.x.`, `\(\).x.`} {
		w := Wire(n)
		if got := Text(w); got != n {
			t.Errorf("%s comes back as %s", n, got)
		}
		if WireLen(w) != len(w) {
			t.Errorf("%s: length %d, want %d", n, WireLen(w), len(w))
		}
	}
	for _, bad := range [][]byte{{}, {1}, {64}, {0xc0, 12}, []byte(strings.Repeat("\x3f"+strings.Repeat("a", 63), 4) + "\x00")} {
		if WireLen(bad) != 0 {
			t.Errorf("%x passes as a name", bad)
		}
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	z := mustLoad(t, "www A 192.0.2.1\n")
	a, b := name(t, "www.example.test"), name(t, "a.b.c.d.example.test")
	if n := testing.AllocsPerRun(100, func() { z.Lookup(a); z.Lookup(b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLoad(b *testing.B) {
	var s strings.Builder
	s.WriteString(top)
	for i := range 10000 {
		fmt.Fprintf(&s, "h%d A 192.0.2.1\n", i)
	}
	data := []byte(s.String())
	for b.Loop() {
		if _, err := Load("example.test.", data, "f"); err != nil {
			b.Fatal(err)
		}
	}
}
