package zone

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"meridian/fleet"
)

// nsec3Records is a chain over example.test, ns1, a.b and b, which is an empty
// non-terminal; hashed without salt and iterations. The signatures are none.
var nsec3Records = func() string {
	p := &NSEC3Param{}
	var owners []string
	for _, n := range []string{"", "ns1.", "b.", "a.b."} {
		sum := p.Hash(Wire(fleet.Name(n + "example.test.")))
		owners = append(owners, strings.TrimSuffix(string(Text(NSEC3Owner(sum[:], []byte{0}))), "."))
	}
	sorted := append([]string(nil), owners...)
	for i := range sorted {
		for k := range i {
			if sorted[i] < sorted[k] {
				sorted[i], sorted[k] = sorted[k], sorted[i]
			}
		}
	}
	var b strings.Builder
	b.WriteString("a.b TXT x\n@ NSEC3PARAM 1 0 0 -\n@ DNSKEY 257 3 13 bWVyaWRpYW4=\n@ RRSIG SOA 13 2 300 20300101000000 20260101000000 12345 @ c2ln\n")
	for i, o := range sorted {
		b.WriteString(o + " NSEC3 1 0 0 - " + sorted[(i+1)%len(sorted)] + " A RRSIG\n")
		b.WriteString(o + " RRSIG NSEC3 13 3 300 20300101000000 20260101000000 12345 @ c2ln\n")
	}
	return b.String()
}()

// RFC 5155 §7.1: the NSEC3 records of the chain that NSEC3PARAM names prove absence; the one that matches a hash is found, or else the one that covers it, around the end of the chain too.
// RFC 5155 §7.2.8: the owners of NSEC3 records are no names of the zone.
func TestRFC5155Chain(t *testing.T) {
	z := mustLoad(t, nsec3Records)
	if !z.Signed || z.Denial != DenyNSEC3 || z.Param == nil || z.Param.Iterations != 0 {
		t.Fatalf("signed %v, denial %d, %v", z.Signed, z.Denial, z.Param)
	}
	var owners []*NSEC3
	for n := range z.NSEC3s() {
		owners = append(owners, n)
		if len(n.Set.Sigs) == 0 {
			t.Error("a signature is lost")
		}
		if r := z.Lookup([]byte(n.Name)); r.Kind != Missing || z.Node([]byte(n.Name)) != nil {
			t.Errorf("the owner of an NSEC3 is a name: %d", r.Kind)
		}
	}
	if len(owners) != 4 {
		t.Fatalf("%d owners", len(owners))
	}
	for i, n := range owners {
		if got, match := z.NSEC3([]byte(n.Hash)); got != n || !match {
			t.Error("a hash does not match its own record")
		}
		above := []byte(n.Hash)
		above[19]++
		if got, match := z.NSEC3(above); got != n || match {
			t.Errorf("record %d does not cover what follows it", i)
		}
	}
	if got, match := z.NSEC3(make([]byte, 20)); got != owners[3] || match {
		t.Error("what is before the first hash is not covered by the last")
	}
}

// RFC 5155 §5: the hash of appendix A.
func TestRFC5155Hash(t *testing.T) {
	p := &NSEC3Param{Iterations: 12, Salt: []byte{0xaa, 0xbb, 0xcc, 0xdd}}
	for n, want := range map[string]string{
		"example": "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom", "a.example": "35mthgpgcu1qg68fab165klnsnk3dpvl",
		"x.w.example": "b4um86eghhds6nea196smvmlo4ors995", "*.w.example": "r53bq7cc2uvmubfu5ocmm6pers9tk9en",
	} {
		sum := p.Hash(name(t, n))
		if got := strings.TrimSuffix(string(Text(NSEC3Owner(sum[:], []byte{0}))), "."); got != want {
			t.Errorf("%s: %s, want %s", n, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { p.Hash([]byte("\x07example\x00")) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// RFC 4034 §6.1: names are in canonical order.
func TestRFC4034CanonicalOrderOfNames(t *testing.T) {
	want := []string{"example.", "a.example.", "yljkjljk.a.example.", "Z.a.example.", "zABC.a.EXAMPLE.", "z.example.", `\001.z.example.`, "*.z.example.", `\200.z.example.`}
	var names [][]byte
	for _, n := range want {
		names = append(names, name(t, n))
	}
	for i := range names {
		for k := range names {
			order := 0
			if i < k {
				order = -1
			} else if i > k {
				order = 1
			}
			if got := Compare(names[i], names[k]); got != order {
				t.Errorf("%s, %s: %d", want[i], want[k], got)
			}
			a, b := appendOrderKey(nil, names[i], 9), appendOrderKey(nil, names[k], 9)
			if got := bytes.Compare(a, b); got != order {
				t.Errorf("keys of %s, %s: %d", want[i], want[k], got)
			}
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	random := func() []byte {
		var out []byte
		for range r.IntN(4) {
			n := 1 + r.IntN(3)
			out = append(out, byte(n))
			for range n {
				out = append(out, byte(r.IntN(4)))
			}
		}
		return append(out, 0)
	}
	for range 10000 {
		a, b := random(), random()
		if Compare(a, b) != bytes.Compare(appendOrderKey(nil, a, 1), appendOrderKey(nil, b, 1)) {
			t.Fatalf("%x and %x: name and key order differently", a, b)
		}
	}
}

// RFC 4034 §6.2: names in the RDATA of the types listed there are folded in canonical form.
// RFC 6840 §5.1: those of NSEC and of later types are not.
// RFC 4034 §6.3: the records of a set are in order of canonical RDATA.
func TestRFC4034CanonicalRecords(t *testing.T) {
	z := mustLoad(t, "m MX 10 B\nm MX 10 a\nm MX 2 Z\ns SRV 1 2 3 X.Y\nn NSEC N2 A\nh HTTPS 1 H.Example.\nt TXT b\nt TXT aa\nt TXT B\n")
	texts := func(n string, rtype uint16, canonical bool) (out []string) {
		for rdata := range each(z.Node(name(t, n+".example.test")).Get(rtype).Data) {
			if canonical {
				rdata = Canonical(rtype, rdata)
			}
			out = append(out, RDATAText(rtype, rdata))
		}
		return out
	}
	for _, c := range []struct {
		got  []string
		want string
	}{
		{texts("m", TypeMX, false), "2 Z.example.test.,10 a.example.test.,10 B.example.test."},
		{texts("m", TypeMX, true), "2 z.example.test.,10 a.example.test.,10 b.example.test."},
		{texts("s", TypeSRV, true), "1 2 3 x.y.example.test."},
		{texts("n", TypeNSEC, true), "N2.example.test. A"},
		{texts("h", TypeHTTPS, true), "1 H.Example."},
		{texts("t", TypeTXT, true), `"B","b","aa"`},
	} {
		if got := strings.Join(c.got, ","); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

// RFC 4034 §4.1.1: the NSEC that matches a name or covers it is found, the apex's own and the last one among them; names without NSEC, as glue, are passed over.
func TestRFC4034Covering(t *testing.T) {
	z := mustLoad(t, `
@ NSEC b.example.test. SOA NS
b NSEC d.example.test. A
b A 192.0.2.1
d NS ns.d
ns.d A 192.0.2.2
d NSEC x.y.example.test. NS
x.y NSEC example.test. A
@ RRSIG SOA 13 2 300 20300101000000 20260101000000 12345 @ c2ln
`)
	if z.Denial != DenyNSEC {
		t.Fatalf("denial %d", z.Denial)
	}
	for n, want := range map[string]string{
		"example.test": "example.test.", "a.example.test": "example.test.", "b.example.test": "b.example.test.", "c.example.test": "b.example.test.",
		"a.b.example.test": "b.example.test.", "ns.d.example.test": "d.example.test.", "e.example.test": "d.example.test.",
		"y.example.test": "d.example.test.", "x.y.example.test": "x.y.example.test.", "z.example.test": "x.y.example.test.",
	} {
		if got := Text([]byte(z.Covering(name(t, n)).Name)); string(got) != want {
			t.Errorf("%s is covered by %s, want %s", n, got, want)
		}
	}
	q := name(t, "e.example.test")
	if n := testing.AllocsPerRun(100, func() { z.Covering(q) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// RFC 4034 §4.1.2: a type bitmap has its blocks in order, none of them empty or with octets of zeros at its end; another is refused.
func TestRFC4034Bitmaps(t *testing.T) {
	for bits, ok := range map[string]bool{
		"\x00\x01\x40":             true,
		"\x00\x01\x40\x01\x01\x80": true,
		"":                         true,
		"\x00\x00":                 false, // no octet
		"\x00\x01\x00":             false, // an empty block
		"\x00\x02\x40\x00":         false, // an octet too many
		"\x00\x02\x40":             false, // cut short
		"\x01\x01\x40\x00\x01\x40": false, // out of order
		"\x00\x01\x40\x00\x01\x20": false, // a block twice
	} {
		if err := CheckRDATA(TypeNSEC, []byte("\x00"+bits)); (err == nil) != ok {
			t.Errorf("%x: %v", bits, err)
		}
	}
}

// RFC 4034 §3: RRSIGs are kept with the set that they cover and are no set themselves.
func TestRFC4034Signatures(t *testing.T) {
	sig := " 13 3 300 20300101000000 20260101000000 12345 @ c2ln\n"
	z := mustLoad(t, "x RRSIG TXT"+sig+"x RRSIG A"+sig+"x A 192.0.2.1\nx TXT y\nx RRSIG A 8"+sig[3:]+"y RRSIG A"+sig)
	n := z.Node(name(t, "x.example.test"))
	if len(n.Sets) != 2 || n.Get(TypeRRSIG) != nil {
		t.Fatalf("%d sets", len(n.Sets))
	}
	count := func(data []byte) (n int) {
		for range each(data) {
			n++
		}
		return n
	}
	if a, b := count(n.Get(TypeA).Sigs), count(n.Get(TypeTXT).Sigs); a != 2 || b != 1 {
		t.Errorf("%d and %d signatures", a, b)
	}
	if z.Records() != 8 || z.Signed || z.Node(name(t, "y.example.test")) != nil {
		t.Errorf("%d records, signed %v", z.Records(), z.Signed)
	}
	if len(z.Warnings) != 1 || !strings.Contains(z.Warnings[0], "y.example.test. RRSIG covers A, which is not there") {
		t.Errorf("%q", z.Warnings)
	}
}
