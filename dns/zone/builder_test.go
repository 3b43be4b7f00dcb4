package zone

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// built makes a zone of a Builder with the usual head.
func built(t testing.TB, more func(b *Builder)) *Zone {
	t.Helper()
	b := NewBuilder("example.test.")
	for n := range mustLoad(t, "").Nodes() {
		for _, s := range n.Sets {
			for rdata := range each(s.Data) {
				if err := b.Add([]byte(n.Name), s.Type, s.TTL, rdata); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if more != nil {
		more(b)
	}
	z, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestBuilderMakesWhatAFileMakes(t *testing.T) {
	if got, want := built(t, nil).Encode(), mustLoad(t, "").Encode(); !bytes.Equal(got, want) {
		t.Error("the zones differ")
	}
	x := name(t, "x.example.test")
	b := NewBuilder("example.test.")
	for what, c := range map[string]struct {
		owner []byte
		rtype uint16
		rdata []byte
		want  error
	}{
		"out of the zone":     {name(t, "x.other"), TypeA, []byte{1, 2, 3, 4}, ErrOutOfZone},
		"the parent":          {name(t, "test"), TypeA, []byte{1, 2, 3, 4}, ErrOutOfZone},
		"a short address":     {x, TypeA, []byte{1, 2, 3}, errRDATA},
		"a compressed name":   {x, TypeNS, []byte{0xc0, 12}, errRDATA},
		"a name cut short":    {x, TypeMX, []byte{0, 1, 3, 'a'}, errRDATA},
		"a short SOA":         {x, TypeSOA, make([]byte, 20), errRDATA},
		"a bitmap of 0":       {x, TypeNSEC, []byte{0, 0, 0}, errRDATA},
		"no type":             {x, 255, nil, nil},
		"no owner":            {[]byte{1}, TypeA, []byte{1, 2, 3, 4}, nil},
		"octets behind owner": {[]byte{0, 0}, TypeA, []byte{1, 2, 3, 4}, nil},
	} {
		if err := b.Add(c.owner, c.rtype, 60, c.rdata); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := b.Build(); err == nil || err.Error() != "zone example.test. has no SOA at its apex" {
		t.Errorf("an empty zone: %v", err)
	}
}

// Variants stay through both changes and the binary form.
func TestVariants(t *testing.T) {
	rrsig := append([]byte{0, 1, 13, 3, 0, 0, 1, 44, 0, 0, 0, 9, 0, 0, 0, 1, 0, 7}, append(name(t, "example.test"), 1, 2)...)
	set := RRset{Type: TypeA, TTL: 30, Count: 1, Data: []byte{0, 4, 192, 0, 2, 1}, Sigs: append([]byte{0, byte(len(rrsig))}, rrsig...)}
	other := set
	other.Data = []byte{0, 4, 192, 0, 2, 2}
	nsec := Variant{Set: RRset{Type: TypeNSEC, TTL: 60, Count: 1, Data: []byte{0, 4, 0, 0, 1, 0x40}}, Lacks: []uint16{TypeA, TypeAAAA}}
	x := name(t, "X.example.test")
	z := built(t, func(b *Builder) {
		for _, v := range []Variant{{Set: set}, {Set: other}, nsec} {
			if err := b.AddVariant(x, v); err != nil {
				t.Fatal(err)
			}
		}
		bad := set
		bad.Count = 2
		if err := b.AddVariant(x, Variant{Set: bad}); err == nil {
			t.Error("a set of a wrong count is taken")
		}
		if err := b.AddVariant(name(t, "x.other"), Variant{Set: set}); !errors.Is(err, ErrOutOfZone) {
			t.Errorf("a variant out of the zone: %v", err)
		}
	})
	check := func(z *Zone) {
		t.Helper()
		owner := string(name(t, "x.example.test"))
		if vs := z.Variants(owner, TypeA); len(vs) != 2 || !bytes.Equal(vs[1].Set.Data, other.Data) || !bytes.Equal(vs[0].Set.Sigs, set.Sigs) {
			t.Errorf("%d addresses", len(vs))
		}
		if vs := z.Variants(owner, TypeNSEC); len(vs) != 1 || len(vs[0].Lacks) != 2 || vs[0].Lacks[1] != TypeAAAA {
			t.Errorf("%d NSECs", len(vs))
		}
		if z.Variants(owner, TypeAAAA) != nil {
			t.Error("variants that nobody gave")
		}
	}
	check(z)
	back, err := Load(z.Name, z.Encode(), "f")
	if err != nil {
		t.Fatal(err)
	}
	check(back)
	changed, err := back.With([]Change{{false, x, TypeTXT, 60, []byte{1, 'a'}}})
	if err != nil {
		t.Fatal(err)
	}
	check(changed)
	roundTrips(t, changed)
}

// What is not the zone's own encoded form is refused, with the reason.
func TestDecodeRefuses(t *testing.T) {
	data := mustLoad(t, manyTypes).Encode()
	for i := range data {
		if _, err := Decode("example.test.", data[:i]); err == nil {
			t.Errorf("%d octets of %d are taken", i, len(data))
		}
	}
	for what, c := range map[string]struct{ data, want string }{
		"another zone": {strings.Replace(string(data), "example", "exomple", 1), "is another zone"},
		"left over":    {string(data) + "x", "octets are left over"},
		"a text":       {top, "is none"},
		"older":        {mark + "1\n" + string(data[len(magic):]), "is of another version of this program"},
		"upper case":   {strings.Replace(string(data), "\x03www", "\x03Www", 1), "a name is not in lower case"},
		"order":        {strings.Replace(string(data), "\x03www", "\x03aww", 1), "names are out of order"},
	} {
		if _, err := Decode("example.test.", []byte(c.data)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}
