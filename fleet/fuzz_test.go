package fleet

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzParse: no document crashes the decoder, and what compiles survives the
// canonical form: it compiles to the same Snapshot again.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"../examples/*.yaml", "testdata/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	for _, s := range []string{
		"", "null", "[]", "a: &x 1\nb: *x", "fleet: t\nregions: [{id: a, location: {latitude: .nan, longitude: 1e400}}]",
		"regions:\n- id: a\n  location: {latitude: -0, longitude: 1}\n  vips: {v6: [\"2001:db8::1%lo\", \"::ffff:1.2.3.4\"]}",
		`{"regions":[{"id":"a","location":{"latitude":0,"longitude":0},"capacity":1}],"dns":{"ttl":{"steered":"0s"}}}`,
		"regions: [{id: a, location: {latitude: 1, longitude: 1}}]\nzones: [{zone: \"a\\\\046b.test\", records: \"x\"}]",
		"regions: [{id: a, location: {latitude: 1, longitude: 1}, bgp: {hold_time: 9223372036854775807ns}}]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		spec, err := Parse(doc)
		if err == nil && spec == nil {
			t.Fatal("neither a Spec nor an error")
		}
		if err != nil {
			if len(FieldErrors(err)) == 0 {
				t.Fatalf("an error without a field: %v", err)
			}
			return
		}
		s, err := Compile(doc, 7)
		if err != nil {
			return
		}
		canonical := s.Canonical()
		again, err := Compile(canonical, 7)
		if err != nil {
			t.Fatalf("canonical form does not compile: %v\n%s", err, canonical)
		}
		if !bytes.Equal(again.Canonical(), canonical) || again.Hash != s.Hash {
			t.Fatalf("canonical form changes:\n%s\n%s", canonical, again.Canonical())
		}
	})
}
