package geo

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// Whatever its root, an index finds the block that an address lies in: at both
// ends of every block.
func TestIndexFindsEveryBlock(t *testing.T) {
	for seed := range uint64(10) {
		table := compile(t, randomWorld(rand.New(rand.NewPCG(seed, 8))))
		roots := []int{1, 6, 8, 13, 18}
		if seed == 0 {
			roots = append(roots, 24)
		}
		for _, bits := range roots {
			l := table.Layout(bits, bits)
			if len(l.V4.Root) != 1<<bits || len(l.V6.Root) != 1<<bits {
				t.Fatalf("roots of %d and %d entries, want 2^%d", len(l.V4.Root), len(l.V6.Root), bits)
			}
			u := &Table{blocks: l.Blocks, first6: l.First6, v4: l.V4, v6: l.V6}
			var at u128
			for i, b := range l.Blocks {
				width := 128
				if i < l.First6 {
					width = 32
				} else if i == l.First6 {
					at = u128{}
				}
				next := at.after(128 - width + b.Bits())
				for _, a := range []u128{at, next.prev()} {
					got, want := uint32(0), uint32(i)
					if width == 32 {
						got = u.find4(uint32(a.lo))
					} else {
						got = u.v6.find(u.v6.Root[a.hi>>(64-bits)], a)
					}
					if got != want {
						t.Fatalf("seed %d, root %d: %s lies in block %d, want %d", seed, bits, a.addr(), got, want)
					}
				}
				at = next
			}
		}
	}
}

// An index is no larger for one block than a line of the cache, but for what
// its root asks for.
func TestSmallTablesAreSmall(t *testing.T) {
	table := compile(t, nil)
	if v4, v6 := table.Size(); v4 != 1 || v6 != 1 {
		t.Fatalf("%d and %d blocks, want one of each", v4, v6)
	}
	for _, x := range []*Index{&table.v4, &table.v6} {
		if n := x.octets(); n > 2048 {
			t.Errorf("an index of one block takes %d octets", n)
		}
	}
}

// More classes than a block has room for are refused.
func TestTooManyClassesAreRefused(t *testing.T) {
	w := world{{netip.MustParsePrefix("10.0.0.0/8"), Place{Country: "A"}}}
	for _, k := range []Class{InSixToFour, 1 << 24, 1<<32 - 1} {
		if _, err := Compile(w.Networks(), func(p Place) Class { return k * Class(len(p.Country)) }); err == nil {
			t.Errorf("class %x was accepted", k)
		}
	}
	table, err := Compile(w.Networks(), func(p Place) Class { return maxClass * Class(len(p.Country)) })
	if err != nil {
		t.Fatal(err)
	}
	if k, scope := table.Lookup(netip.MustParseAddr("10.1.2.3")); k != maxClass || scope != 8 {
		t.Errorf("class %x scope %d, want %x and 8", k, scope, maxClass)
	}
}
