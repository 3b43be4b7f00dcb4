package zone

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// randomZone makes a zone of few names, types and values, so that two of them
// have much in common.
func randomZone(t testing.TB, r *rand.Rand, serial int) *Zone {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "$TTL 300\n@ SOA ns1 admin %d 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\n", serial)
	sig := func(owner, rtype string) {
		if r.IntN(2) == 0 {
			fmt.Fprintf(&b, "%s RRSIG %s 13 2 300 20300101000000 2026010100000%d 12345 @ c2ln\n", owner, rtype, r.IntN(3))
		}
	}
	sig("@", "SOA")
	if r.IntN(2) == 0 {
		b.WriteString(without(nsec3Records, "DNSKEY", "SOA", "TXT"))
	}
	for range r.IntN(12) {
		owner := []string{"a", "b", "c.b", "*.a", "d.c.b", "E", "x.y.z"}[r.IntN(7)]
		ttl := 60 * (1 + r.IntN(2))
		switch r.IntN(5) {
		case 0:
			fmt.Fprintf(&b, "%s %d A 192.0.2.%d\n", owner, ttl, r.IntN(3))
			sig(owner, "A")
		case 1:
			fmt.Fprintf(&b, "%s %d MX %d %s\n", owner, ttl, r.IntN(2), []string{"m", "M", "n"}[r.IntN(3)])
			sig(owner, "MX")
		case 2:
			fmt.Fprintf(&b, "%s %d TXT %d\n", owner, ttl, r.IntN(3))
		case 3:
			fmt.Fprintf(&b, "%s %d TYPE65280 \\# 1 0%d\n", owner, ttl, r.IntN(3))
		case 4:
			fmt.Fprintf(&b, "deleg NS ns%d.deleg\nns%d.deleg A 192.0.2.1\n", r.IntN(2), r.IntN(2))
		}
	}
	z, err := Load("example.test.", []byte(b.String()), "f")
	if err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	return z
}

// What Diff tells makes the one zone of the other, and the result answers as
// a zone read from the start.
func TestChangesMakeTheNewZone(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 2000 {
		a, b := randomZone(t, r, 1), randomZone(t, r, 1+r.IntN(2))
		changes := Diff(a, b)
		got, err := a.With(changes)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if !bytes.Equal(got.Encode(), b.Encode()) || got.Records() != b.Records() || got.Serial != b.Serial || got.Signed != b.Signed || got.Denial != b.Denial {
			t.Fatalf("%d: the changed zone is not the new one", i)
		}
		if again := Diff(got, b); len(again) != 0 {
			t.Fatalf("%d: %d changes are left", i, len(again))
		}
		for n := range b.Nodes() {
			for _, q := range []string{n.Name, "\x01q" + n.Name, "\x01q\x01q" + n.Name} {
				x, y := got.Lookup([]byte(q)), b.Lookup([]byte(q))
				if x.Kind != y.Kind || x.Exact != y.Exact || x.Node.Name != y.Node.Name {
					t.Fatalf("%d: %q is looked up differently", i, q)
				}
			}
		}
		if i%2 == 0 { // the old zone is what it was
			if back, err := got.With(Diff(got, a)); err != nil || !bytes.Equal(back.Encode(), a.Encode()) {
				t.Fatalf("%d: the way back: %v", i, err)
			}
		}
		for k, c := range changes {
			if k > 0 && c.Delete && !changes[k-1].Delete {
				t.Fatal("a deletion follows an addition")
			}
		}
	}
}

func TestChangesThatCannotBe(t *testing.T) {
	z := mustLoad(t, "x A 192.0.2.1\n")
	x, soa := name(t, "x.example.test"), z.Apex().Get(TypeSOA)
	rdata, _ := Next(soa.Data)
	for what, c := range map[string]struct {
		change Change
		want   error
	}{
		"deletes what is not there": {Change{true, x, TypeA, 300, []byte{192, 0, 2, 2}}, ErrNotThere},
		"out of the zone":           {Change{false, name(t, "x.other"), TypeA, 300, []byte{192, 0, 2, 2}}, ErrOutOfZone},
		"no RDATA of the type":      {Change{false, x, TypeA, 300, []byte{192}}, errRDATA},
		"no name":                   {Change{false, []byte{63}, TypeA, 300, []byte{192, 0, 2, 2}}, nil},
		"a CNAME beside other data": {Change{false, x, TypeCNAME, 300, []byte{0}}, nil},
		"no SOA is left":            {Change{true, []byte(z.Apex().Name), TypeSOA, 300, rdata}, nil},
		"a second SOA":              {Change{false, []byte(z.Apex().Name), TypeSOA, 300, append([]byte{0}, rdata[4:]...)}, nil},
	} {
		if _, err := z.With([]Change{c.change}); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// RFC 2181 §5.2: an added record gives its TTL to its whole RRset.
// RFC 2136 §3.4.2.2: a record that is there already changes nothing but the TTL.
func TestRFC2136AdditionsSetTheTTL(t *testing.T) {
	z := mustLoad(t, "x 300 A 192.0.2.1\n")
	x := name(t, "X.example.TEST")
	got, err := z.With([]Change{{false, x, TypeA, 60, []byte{192, 0, 2, 2}}, {false, x, TypeA, 30, []byte{192, 0, 2, 1}}})
	if err != nil {
		t.Fatal(err)
	}
	set := got.Node(name(t, "x.example.test")).Get(TypeA)
	if set.Count != 2 || set.TTL != 30 || z.Node(name(t, "x.example.test")).Get(TypeA).TTL != 300 {
		t.Errorf("%d records of TTL %d", set.Count, set.TTL)
	}
	if &got.index.slots[0] != &z.index.slots[0] {
		t.Error("the index is not shared though no name has changed")
	}
}

func BenchmarkWith(b *testing.B) {
	for _, names := range []int{100, 1_000_000} {
		b.Run(fmt.Sprint(names), func(b *testing.B) {
			z := manyNames(b, names)
			owner, data := name(b, "h7.example.test"), []byte{192, 0, 2, 9}
			for b.Loop() {
				if _, err := z.With([]Change{{false, owner, TypeA, 300, data}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func manyNames(b *testing.B, n int) *Zone {
	var s strings.Builder
	s.WriteString(top)
	for i := range n {
		fmt.Fprintf(&s, "h%d A 192.0.2.1\n", i)
	}
	z, err := Load("example.test.", []byte(s.String()), "f")
	if err != nil {
		b.Fatal(err)
	}
	return z
}

func BenchmarkForms(b *testing.B) {
	z := manyNames(b, 100_000)
	data := z.Encode()
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			if _, err := Decode(z.Name, data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			z.Encode()
		}
	})
	b.Run("text", func(b *testing.B) {
		for b.Loop() {
			if err := z.WriteText(io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("digest", func(b *testing.B) {
		for b.Loop() {
			if _, err := z.ZONEMD(ZONEMDSHA384); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("diff", func(b *testing.B) {
		for b.Loop() {
			Diff(z, z)
		}
	})
}
