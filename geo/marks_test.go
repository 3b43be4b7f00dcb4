package geo

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

func prefixes(words ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, w := range words {
		out = append(out, netip.MustParsePrefix(w))
	}
	return out
}

// The smallest network that holds an address marks it, in both families, at
// the borders of the space too, and by the IPv4 address that IPv6 carries.
func TestMarks(t *testing.T) {
	m := NewMarks(prefixes("10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "255.255.255.0/24", "2001:db8::/32", "ffff::/16", "10.2.0.0/16", "10.3.0.0/16", "0.0.0.0/32"))
	for addr, want := range map[string]uint32{
		"10.0.0.1": 1, "10.1.0.0": 2, "10.1.1.255": 2, "10.1.2.0": 3, "10.1.2.255": 3, "10.1.3.0": 2, "10.1.255.255": 2, "10.2.0.0": 7, "10.3.255.255": 8,
		"10.4.0.0": 1, "10.255.255.255": 1, "11.0.0.0": 0, "9.255.255.255": 0, "255.255.255.255": 4, "0.0.0.0": 9, "0.0.0.1": 0,
		"2001:db8::": 5, "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff": 5, "2001:db9::": 0, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": 6,
		"::ffff:10.1.2.3": 3, "2002:a01:203::1": 3, "64:ff9b::a01:203": 3, "2001::f5fe:fdfc": 3,
	} {
		if got := m.Of(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %d, want %d", addr, got, want)
		}
	}
	if (*Marks)(nil).Of(netip.MustParseAddr("10.0.0.1")) != 0 {
		t.Error("no marks mark something")
	}
}

// A table with marks tells apart what they tell apart, whether the database
// has data there or not, and is found by asking for each address alone.
func TestMarksEnterThePartition(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 5))
		w := randomWorld(r)
		var nets []netip.Prefix
		for range 30 {
			if n := w[r.IntN(len(w))].prefix; r.IntN(2) == 0 {
				p, _ := n.Addr().Prefix(max(1, n.Bits()-r.IntN(6)))
				nets = append(nets, p)
			} else {
				p, _ := n.Addr().Prefix(min(n.Addr().BitLen(), n.Bits()+r.IntN(6)))
				nets = append(nets, p)
			}
		}
		marks := NewMarks(nets)
		table, err := CompileMarked(w.Networks(), marks, func(p Place) Class { return byCountry(p)<<8 | Class(p.Mark) })
		if err != nil {
			t.Fatal(err)
		}
		check := func(a netip.Addr) {
			if !a.IsValid() || inCarrier(a) {
				return
			}
			want := byCountry(w.find(a))<<8 | Class(marks.Of(a))
			if got, scope := table.Lookup(a); got != want {
				t.Fatalf("seed %d: %s has class %x scope %d, want %x", seed, a, got, scope, want)
			}
		}
		for _, p := range append(nets, w[0].prefix) {
			for _, a := range []netip.Addr{p.Masked().Addr(), lastAddr(p.Masked())} {
				check(a.Prev())
				check(a)
				check(a.Next())
			}
		}
	}
}
