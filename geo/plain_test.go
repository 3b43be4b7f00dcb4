package geo

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// A plain table goes by addresses as they are, those that carry others too.
func TestPlainTableGoesByAddressesAsTheyAre(t *testing.T) {
	w := randomWorld(rand.New(rand.NewPCG(3, 1)))
	w = append(w, network{netip.MustParsePrefix("fc00::/7"), Place{Country: "A"}})
	table, err := CompilePlain(w.Networks(), NewMarks([]netip.Prefix{netip.MustParsePrefix("2002:7f00::/24"), netip.MustParsePrefix("64:ff9b::/97")}),
		func(p Place) Class {
			if p.Mark != 0 {
				return 100 + Class(p.Mark)
			}
			return byCountry(p)
		})
	if err != nil {
		t.Fatal(err)
	}
	for a, want := range map[string]Class{
		"2002:7f00:1::1": 101, "64:ff9b::1.2.3.4": 102, "64:ff9b::129.2.3.4": byCountry(w.find(netip.MustParseAddr("64:ff9b::129.2.3.4"))),
		"2001::1": byCountry(w.find(netip.MustParseAddr("2001::1"))), "::ffff:1.2.3.4": byCountry(Place{}), "fd00::1": byCountry(Place{Country: "A"}),
	} {
		addr := netip.MustParseAddr(a)
		if got, _ := table.Lookup(addr); got != want {
			t.Errorf("%s is of class %d, expected %d", a, got, want)
		}
		if s := table.Find(addr); s.Carrier != 0 || s.Before != 0 {
			t.Errorf("%s is looked up as %+v", a, s)
		}
	}
}
