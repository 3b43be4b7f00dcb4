package fleet

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"meridian/internal/testkit"
)

const minimal = `
regions:
- id: fra
  location: {latitude: 50, longitude: 8}
  vips: {v4: [192.0.2.1]}
`

// A Spec that breaks a rule is refused with the exact message: each file in
// testdata/invalid begins with the errors expected, as comments.
func TestInvalidSpecsSayWhatIsWrong(t *testing.T) {
	testkit.Invalid(t, func(doc []byte) error { _, err := Compile(doc, 0); return err })
}

func TestExamplesCompile(t *testing.T) {
	files, _ := filepath.Glob("../examples/*.yaml")
	if len(files) < 2 {
		t.Fatal("examples are missing")
	}
	for _, f := range files {
		doc, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Compile(doc, 0); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
}

// The canonical form is a Spec itself and compiles to the same Snapshot, so
// that the hash names the content wherever it is computed.
func TestCanonicalFormCompilesToTheSameSnapshot(t *testing.T) {
	for _, f := range []string{"../examples/three-regions.yaml", "../examples/single-site.yaml"} {
		doc, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		first, err := Compile(doc, 1)
		if err != nil {
			t.Fatal(err)
		}
		second, err := Compile(first.Canonical(), 2)
		if err != nil {
			t.Fatalf("canonical form of %s: %v", f, err)
		}
		if first.Hash != second.Hash || !bytes.Equal(first.Canonical(), second.Canonical()) {
			t.Errorf("%s: canonical form changed:\n%s\n%s", f, first.Canonical(), second.Canonical())
		}
	}
}

// What JSON lets stand and YAML does not survives as well.
func TestCanonicalFormOfControlCharacters(t *testing.T) {
	first, err := Compile([]byte(strings.Replace(minimal, "id: fra", "id: fra\n  "+`name: "a\u007f\u0085\u009f\ufeff\uffff\U0001F600"`, 1)), 0)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Compile(first.Canonical(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if second.Spec.Regions[0].Name != first.Spec.Regions[0].Name || second.Hash != first.Hash {
		t.Errorf("%q became %q", first.Spec.Regions[0].Name, second.Spec.Regions[0].Name)
	}
}

func TestCommentsAndOrderOfKeysDoNotChangeTheHash(t *testing.T) {
	a, err := Compile([]byte(minimal), 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Compile([]byte(`{"regions": [{"vips": {"v4": ["192.0.2.1"]}, "location": {"longitude": 8, "latitude": 50}, "id": "fra"}]}`), 0)
	if err != nil {
		t.Fatal(err)
	}
	if a.Hash != b.Hash {
		t.Errorf("hashes differ: %s, %s", a.Hash, b.Hash)
	}
}

// A check of another room is called with the complete Spec, and its errors
// are located in the document.
func TestChecksOfOtherRoomsJoin(t *testing.T) {
	_, err := Compile([]byte(minimal), 0, func(spec *Spec, errs *Errors) {
		if spec.Regions[0].Capacity != 100 {
			t.Error("check saw a Spec without defaults")
		}
		errs.Addf("regions[0].vips.v4[0]", "is not liked")
	})
	if err == nil || err.Error() != "line 5: regions[0].vips.v4[0]: is not liked" {
		t.Errorf("got %v", err)
	}
}

func TestGeneratedDocumentsAreCurrent(t *testing.T) {
	for file, want := range map[string][]byte{
		"../docs/spec.schema.json": Schema(),
		"../docs/configuration.md": Reference(),
	} {
		got, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not current: run go generate ./fleet", file)
		}
	}
}

// Every key of the Spec is documented; the reference would have holes else.
func TestEveryKeyIsDocumented(t *testing.T) {
	for line := range strings.Lines(string(Reference())) {
		if strings.HasPrefix(line, "| `") && strings.HasSuffix(strings.TrimSpace(line), "|  |") {
			t.Errorf("no meaning: %s", line)
		}
	}
}

func TestNames(t *testing.T) {
	for in, want := range map[string]Name{
		".": ".", "WWW.Example.COM": "www.example.com.", "example.com.": "example.com.",
		`a\.b.c`: `a\.b.c.`, `a\046b.c`: `a\.b.c.`, `\065.c`: "a.c.", `\000.c`: `\000.c.`, "_dmarc.x": "_dmarc.x.",
		strings.Repeat("a", 63) + ".c": Name(strings.Repeat("a", 63) + ".c."),
	} {
		got, err := ParseName(in)
		if err != nil || got != want {
			t.Errorf("ParseName(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	long := strings.Repeat("a.", 127)
	if _, err := ParseName(long); err != nil {
		t.Errorf("a name of 255 octets is refused: %v", err)
	}
	for _, in := range []string{"", "..", "a..b", ".a", strings.Repeat("a", 64), "a." + long, `a\`, `\25`, `\256.c`, "a b", "ü"} {
		if n, err := ParseName(in); err == nil {
			t.Errorf("ParseName(%q) = %q; want an error", in, n)
		}
	}
}

func TestNameIn(t *testing.T) {
	for _, c := range []struct {
		name, zone Name
		want       bool
	}{
		{"a.b.", "b.", true}, {"b.", "b.", true}, {"ab.", "b.", false}, {"a.", ".", true},
		{`a\.b.`, "b.", false}, {`a\\.b.`, "b.", true},
	} {
		if got := c.name.In(c.zone); got != c.want {
			t.Errorf("%s in %s: %v", c.name, c.zone, got)
		}
	}
}

// A secret is a reference, and what is wrong with one is said without it.
func TestSecretsAreNeverShown(t *testing.T) {
	doc := strings.Replace(minimal, "vips:", "bgp: {asn: 1, neighbors: [{address: 10.0.0.1, asn: 2, password: hunter2}]}\n  vips:", 1)
	_, err := Compile([]byte(doc), 0)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestStatus(t *testing.T) {
	if lo, hi, err := ParseStatus("2xx"); lo != 200 || hi != 299 || err != nil {
		t.Errorf("2xx: %d %d %v", lo, hi, err)
	}
	if lo, hi, err := ParseStatus("204"); lo != 204 || hi != 204 || err != nil {
		t.Errorf("204: %d %d %v", lo, hi, err)
	}
	for _, s := range []string{"", "2x", "600", "2xxx", "xx2", "2x4"} {
		if _, _, err := ParseStatus(s); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}

// What a client sends as a server name may be anything; certificates are issued on
// demand for host names alone.
func TestCertificatesAreIssuedOnDemandForHostNamesAlone(t *testing.T) {
	o := &OnDemand{Hosts: []string{"*.shops.example.com", "One.example.com"}, Zones: []Name{"customers.example."}}
	for host, want := range map[string]bool{
		"a.shops.example.com": true, "one.example.com": true, "x_1.y-2.customers.example": true, "customers.example": true,
		"a.b.shops.example.com": false, "shops.example.com": false, "example.com": false, "": false, ".": false, "com": false,
		"*.shops.example.com": false, "a/b.shops.example.com": false, `a\046b.shops.example.com`: false, "a b.customers.example": false,
		"a..customers.example": false, "\xff.customers.example": false, "a\n.shops.example.com": false, "ü.shops.example.com": false, "A.shops.example.com": false,
	} {
		if got := o.Allows(host); got != want {
			t.Errorf("%q: %t", host, got)
		}
	}
}
