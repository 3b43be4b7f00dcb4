package geo

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// carriersOf gives the IPv6 addresses that carry an IPv4 one.
func carriersOf(a netip.Addr) []netip.Addr {
	b := a.As4()
	teredo := netip.MustParseAddr("2001:0:1234:5678::").As16()
	binary.BigEndian.PutUint32(teredo[12:], ^binary.BigEndian.Uint32(b[:]))
	nat64 := netip.MustParseAddr("64:ff9b::").As16()
	copy(nat64[12:], b[:])
	return []netip.Addr{netip.AddrFrom16(a.As16()), netip.AddrFrom16(nat64), netip.AddrFrom16(teredo),
		netip.AddrFrom16([16]byte{0x20, 0x02, b[0], b[1], b[2], b[3], 7: 1, 15: 1})}
}

// checkScopes holds the scopes of a decision against a table that was compiled
// for that decision alone: at the ends of each of its blocks, carried or not.
func checkScopes(t *testing.T, w world, table *Table, to []uint32) {
	t.Helper()
	scopes := table.Widen(to)
	direct, err := Compile(w.Networks(), func(p Place) Class { return Class(to[byCountry(p)]) })
	if err != nil {
		t.Fatal(err)
	}
	check := func(a netip.Addr) {
		at := table.Find(a)
		want, bits := direct.Lookup(a)
		if got, scope := Class(to[table.Class(at)]), scopes.Scope(at); got != want || scope != bits {
			t.Fatalf("%v: %s has answer %d scope %d, want %d and %d", to, a, got, scope, want, bits)
		}
	}
	for p := range direct.Blocks() {
		for _, a := range []netip.Addr{p.Addr(), lastAddr(p)} {
			check(a)
			if a.Is4() {
				for _, c := range carriersOf(a) {
					check(c)
				}
			}
		}
	}
}

// Scopes are as wide as a table goes that was compiled for that decision alone.
func TestScopesAreAsWideAsOneAnswerGoes(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 6))
		w := randomWorld(r)
		table := compile(t, w)
		for range 4 {
			checkScopes(t, w, table, []uint32{r.Uint32N(3), r.Uint32N(3), r.Uint32N(3), r.Uint32N(3)})
		}
		checkScopes(t, w, table, []uint32{7, 7, 7, 7})
	}
}

// Where all of IPv4 gets one answer, the spaces that carry it are of one answer
// too, and join neighbours that get the same.
func TestScopesWhereIPv4IsOfOneAnswer(t *testing.T) {
	w := world{
		{netip.MustParsePrefix("0.0.0.0/1"), Place{Country: "A"}},
		{netip.MustParsePrefix("2000::/5"), Place{Country: "B"}},
		{netip.MustParsePrefix("2a00::/16"), Place{Country: "C"}},
	}
	table := compile(t, w)
	for _, to := range [][]uint32{{1, 1, 1, 2}, {1, 1, 2, 2}, {1, 1, 2, 1}, {0, 1, 0, 1}, {0, 1, 1, 1}} {
		checkScopes(t, w, table, to)
	}
	for addr, want := range map[string]int{"2002:102:304::1": 5, "::ffff:1.2.3.4": 3, "2a00::1": 16, "2a01::1": 16, "2100::1": 5} {
		if got := table.Widen([]uint32{1, 1, 1, 2}).Scope(table.Find(netip.MustParseAddr(addr))); got != want {
			t.Errorf("%s: scope %d, want %d", addr, got, want)
		}
	}
}
