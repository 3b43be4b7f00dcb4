package rules

import (
	"encoding/json"
	"strings"
	"testing"

	"meridian/dns/zone"
)

const patched = `$ORIGIN example.test.
$TTL 300
@ SOA ns1 admin 7 3600 600 86400 60
@ NS ns1
ns1 A 192.0.2.53
www 60 A 192.0.2.1
www 60 A 192.0.2.2
alias CNAME www
`

func patchZone(t testing.TB) *zone.Zone {
	t.Helper()
	z, err := zone.Load("example.test.", []byte(patched), "f")
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func textOf(t testing.TB, z *zone.Zone) string {
	t.Helper()
	var b strings.Builder
	if err := z.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPatchReplacesWholeRRsets(t *testing.T) {
	for _, c := range []struct{ what, sets, want, gone string }{
		{"another address", `[{"name":"www","type":"A","records":["192.0.2.9"]}]`, "60\tIN\tA\t192.0.2.9", "192.0.2.1\n"},
		{"another TTL", `[{"name":"www","type":"a","ttl":5,"records":["192.0.2.1"]}]`, "5\tIN\tA\t192.0.2.1", "192.0.2.2"},
		{"a new name", `[{"name":"new.sub","type":"TXT","records":["\"a b\" c"]}]`, "new.sub.example.test.\t3600\tIN\tTXT\t\"a b\" \"c\"", ""},
		{"an absolute name", `[{"name":"MX.Example.TEST.","type":"MX","ttl":1,"records":["10 ns1","20 other.test."]}]`, "20 other.test.", ""},
		{"the apex", `[{"name":"@","type":"CAA","records":["0 issue \"ca.test\""]}]`, "example.test.\t3600\tIN\tCAA", ""},
		{"an unknown type", `[{"name":"x","type":"TYPE65280","records":["\\# 2 abcd"]}]`, "TYPE65280", ""},
		{"a deletion", `[{"name":"www","type":"A","delete":true}]`, "ns1", "www.example.test.\t60"},
		{"a CNAME for addresses", `[{"name":"www","type":"A","delete":true},{"name":"www","type":"CNAME","records":["ns1"]}]`, "www.example.test.\t3600\tIN\tCNAME\tns1.example.test.", "60\tIN\tA"},
		{"what is not there", `[{"name":"nothing","type":"A","delete":true}]`, "www", ""},
	} {
		var sets []RRset
		if err := json.Unmarshal([]byte(c.sets), &sets); err != nil {
			t.Fatal(err)
		}
		old := patchZone(t)
		z, err := Patch(old, sets)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if text := textOf(t, z); !strings.Contains(text, c.want) || c.gone != "" && strings.Contains(text, c.gone) {
			t.Errorf("%s: want %q and not %q in\n%s", c.what, c.want, c.gone, text)
		}
		if textOf(t, old) != textOf(t, patchZone(t)) {
			t.Errorf("%s: the old zone has changed", c.what)
		}
	}
}

func TestPatchTellsAllThatIsWrong(t *testing.T) {
	ttl := uint32(1 << 31)
	_, err := Patch(patchZone(t), []RRset{
		{Name: "a", Type: "A", Records: []string{"192.0.2.1", "300.0.0.1", "192.0.2.1\nevil A 192.0.2.2"}},
		{Name: "b.other.", Type: "A", Records: []string{"192.0.2.1"}},
		{Name: "c", Type: "ANY", Records: []string{"x"}},
		{Name: "d", Type: "A"},
		{Name: "a", Type: "A", Delete: true},
		{Name: "e", Type: "TXT", TTL: &ttl, Records: []string{"x"}},
		{Name: "f..g", Type: "A", Records: []string{"192.0.2.1"}},
	})
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{"[0].records[1]", "[0].records[2]", "[1].name", "[2].type", "[3]", "[4]", "[5].ttl", "[6].name"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in: %v", want, err)
		}
	}
	for _, sets := range [][]RRset{
		{{Name: "alias", Type: "A", Records: []string{"192.0.2.1"}}},
		{{Name: "@", Type: "SOA", Delete: true}},
	} {
		if _, err := Patch(patchZone(t), sets); err == nil {
			t.Errorf("%v was taken", sets)
		}
	}
}

func TestRRsetsComeBackAsTheyWere(t *testing.T) {
	z := patchZone(t)
	again, err := Patch(z, RRsets(z, true))
	if err != nil {
		t.Fatal(err)
	}
	if textOf(t, again) != textOf(t, z) {
		t.Errorf("got\n%s", textOf(t, again))
	}
}

func FuzzPatch(f *testing.F) {
	for _, s := range []string{`[]`, `[{"name":"www","type":"A","records":["192.0.2.9"]}]`, `[{"name":"@","type":"SOA","records":["a b 1 2 3 4 5"]}]`,
		`[{"name":"x","type":"TYPE65280","records":["\\# 2 abcd"]}]`, `[{"name":"x","type":"HTTPS","records":["1 . alpn=h2"]}]`, `[{"name":"*.\\000","type":"TXT","records":["\\\"","( a"]}]`,
		`[{"name":"x","type":"LOC","records":["52 22 23 N 4 53 32 E -2m"]}]`, `[{"name":"x","type":"NSEC","records":["a A RRSIG"]}]`} {
		f.Add([]byte(s))
	}
	base := patchZone(f)
	before := textOf(f, base)
	f.Fuzz(func(t *testing.T, body []byte) {
		var sets []RRset
		if len(body) > 4096 || json.Unmarshal(body, &sets) != nil {
			return
		}
		z, err := Patch(base, sets)
		if textOf(t, base) != before {
			t.Fatal("the zone was changed in place")
		}
		if err != nil {
			return
		}
		text := textOf(t, z)
		again, err := zone.Load("example.test.", []byte(text), "f")
		if err != nil {
			t.Fatalf("what was taken does not load: %v\n%s", err, text)
		}
		if got := textOf(t, again); got != text {
			t.Fatalf("comes back otherwise:\n%s\n%s", text, got)
		}
	})
}
