package geo

import (
	"net/netip"
	"slices"
	"testing"
)

// worldOf reads networks of both families: each a length, a country and the
// octets of an address, four below a length of 64 and sixteen from there on.
// What overlaps is left out.
func worldOf(data []byte) world {
	var all []netip.Prefix
	countries := map[netip.Prefix]string{}
	for len(data) >= 6 && len(all) < 200 {
		size, width := 4, 33
		if data[0] >= 64 {
			size, width = 16, 129
		}
		if len(data) < 2+size {
			break
		}
		a, _ := netip.AddrFromSlice(data[2 : 2+size])
		p, err := a.Prefix(int(data[0]) % width)
		if err == nil && !a.Is4In6() {
			if _, had := countries[p]; !had {
				all = append(all, p)
			}
			countries[p] = letters[int(data[1])%len(letters)]
		}
		data = data[2+size:]
	}
	slices.SortFunc(all, netip.Prefix.Compare)
	var w world
	for _, p := range all {
		if len(w) == 0 || !w[len(w)-1].prefix.Overlaps(p) {
			w = append(w, network{p, Place{Country: countries[p]}})
		}
	}
	return w
}

// FuzzTable: whatever the networks, every address has the class of its
// network, its block is aligned and of one class, and scopes are those of a
// table compiled for that decision alone.
func FuzzTable(f *testing.F) {
	f.Add([]byte{24, 1, 192, 0, 2, 0, 25, 2, 192, 0, 3, 128}, byte(0b01_10_01_00))
	f.Add([]byte{1, 1, 0, 0, 0, 0, 1, 1, 128, 0, 0, 0}, byte(0))
	f.Add([]byte{163, 3, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 132, 2, 0x20, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, byte(0b11_10_01_00))
	f.Add([]byte{128, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, byte(0b11_10_01_00))
	f.Fuzz(func(t *testing.T, data []byte, decision byte) {
		w := worldOf(data)
		table := compile(t, w)
		for _, n := range w {
			last := lastAddr(n.prefix)
			for _, a := range []netip.Addr{n.prefix.Addr().Prev(), n.prefix.Addr(), last, last.Next()} {
				if !a.IsValid() || inCarrier(a) {
					continue
				}
				if got, _ := table.Lookup(a); got != byCountry(w.find(a)) {
					t.Fatalf("%s has class %d, want that of %v", a, got, w.find(a))
				}
			}
		}
		to := []uint32{uint32(decision & 3), uint32(decision >> 2 & 3), uint32(decision >> 4 & 3), uint32(decision >> 6)}
		checkScopes(t, w, table, to)
	})
}
