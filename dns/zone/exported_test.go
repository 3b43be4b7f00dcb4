package zone

import (
	"bytes"
	"strings"
	"testing"
)

// What transfers show stands in place of what answers choose from; denial
// tells of that alone; all survives the binary form, and marks have no part.
func TestExported(t *testing.T) {
	x, y := name(t, "x.example.test"), name(t, "y.example.test")
	set := func(rtype uint16, rdata ...byte) RRset {
		return RRset{Type: rtype, TTL: 30, Count: 1, Data: append([]byte{0, byte(len(rdata))}, rdata...)}
	}
	apex := string(name(t, "example.test"))
	nsec := append([]byte(apex), 0, 1, 0x40)        // A
	other := append([]byte(apex), 0, 4, 0, 0, 0, 8) // AAAA
	z := built(t, func(b *Builder) {
		b.Exports = true
		for _, v := range []Variant{{Set: set(TypeA, 192, 0, 2, 1)}, {Set: set(TypeA, 192, 0, 2, 2), Export: true}} {
			if err := b.AddVariant(x, v); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Add(y, TypeNSEC, 60, nsec); err != nil {
			t.Fatal(err)
		}
		if err := b.AddVariant(y, Variant{Set: set(TypeNSEC, other...), Lacks: []uint16{TypeA}, Export: true}); err != nil {
			t.Fatal(err)
		}
	})
	back, err := Decode(z.Name, z.Encode())
	if err != nil || !back.Exports {
		t.Fatalf("exports %v: %v", back != nil && back.Exports, err)
	}
	for _, z := range []*Zone{z, back, back.with(nil)} {
		shown, err := z.Exported()
		if err != nil {
			t.Fatal(err)
		}
		if got := shown.Node(x).Get(TypeA); got == nil || !bytes.Equal(got.Data, []byte{0, 4, 192, 0, 2, 2}) || got.TTL != 30 {
			t.Errorf("x: %v", got)
		}
		if got := shown.Node(y).Get(TypeNSEC); got.Count != 1 || !bytes.Equal(got.Data[2:], other) {
			t.Errorf("y: %v", got)
		}
		if shown.Exports || shown.Variants(string(x), TypeA) != nil {
			t.Error("variants are left")
		}
		if again, err := shown.Exported(); err != nil || again != shown {
			t.Error("a zone that exports nothing is not shown as it is")
		}
	}
}

// What cannot stand in a zone is not exported.
func TestExportedRefuses(t *testing.T) {
	x := name(t, "x.example.test")
	a := RRset{Type: TypeA, TTL: 30, Count: 1, Data: []byte{0, 4, 192, 0, 2, 1}}
	b := RRset{Type: TypeA, TTL: 30, Count: 1, Data: []byte{0, 4, 192, 0, 2, 2}}
	nsec := RRset{Type: TypeNSEC, TTL: 30, Count: 1, Data: []byte{0, 4, 0, 0, 1, 0x40}}
	for what, list := range map[string][]Variant{
		"two of a type":     {{Set: a, Export: true}, {Set: b, Export: true}},
		"denial of nothing": {{Set: nsec, Export: true}},
	} {
		bd := NewBuilder("example.test.")
		if err := bd.Add(Wire("example.test."), TypeSOA, 60, append([]byte("\x01a\x00\x01b\x00"), make([]byte, 20)...)); err != nil {
			t.Fatal(err)
		}
		for _, v := range list {
			if err := bd.AddVariant(x, v); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := bd.Build(); err == nil || !strings.Contains(err.Error(), "exported") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
