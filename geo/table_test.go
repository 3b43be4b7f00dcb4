package geo

import (
	"encoding/binary"
	"iter"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// world is a database for tests: networks in ascending order.
type world []network

type network struct {
	prefix netip.Prefix
	place  Place
}

func (w world) Networks() iter.Seq2[netip.Prefix, Place] {
	return func(yield func(netip.Prefix, Place) bool) {
		for _, n := range w {
			if !yield(n.prefix, n.place) {
				return
			}
		}
	}
}

func (w world) find(a netip.Addr) Place {
	for _, n := range w {
		if n.prefix.Contains(a) {
			return n.place
		}
	}
	return Place{}
}

var letters = []string{"", "A", "B", "C"}

// byCountry gives each country of letters its own class and all else class 0.
func byCountry(p Place) Class { return Class(max(0, slices.Index(letters, p.Country))) }

// randomWorld draws disjoint networks of both families, many side by side and
// of the same place, so that there is something to merge.
func randomWorld(r *rand.Rand) world {
	var w world
	var v4 func(a uint32, bits, depth int)
	v4 = func(a uint32, bits, depth int) {
		if depth > 0 && r.IntN(3) > 0 && bits < 32 {
			v4(a, bits+1, depth-1)
			v4(a|1<<(31-bits), bits+1, depth-1)
		} else if k := letters[r.IntN(len(letters))]; k != "" {
			w = append(w, network{netip.PrefixFrom(addr4(a), bits), Place{Country: k}})
		}
	}
	v4(0, 0, 12)
	for _, top := range []uint64{0x2000 << 48, 0x2001000000000000, 0x2002000000000000, 0x2a00 << 48} {
		var v6 func(a u128, bits, depth int)
		v6 = func(a u128, bits, depth int) {
			if depth > 0 && r.IntN(4) > 0 && bits < 128 {
				step := 1 + r.IntN(12)
				bits2 := min(128, bits+step)
				b := a
				if bits2 <= 64 {
					b.hi |= 1 << (64 - bits2)
				} else {
					b.lo |= 1 << (128 - bits2)
				}
				v6(a, bits2, depth-1)
				v6(b, bits2, depth-1)
			} else if k := letters[r.IntN(len(letters))]; k != "" {
				w = append(w, network{netip.PrefixFrom(a.addr(), bits), Place{Country: k}})
			}
		}
		v6(u128{top, 0}, 18, 8)
	}
	return w
}

func compile(t *testing.T, w world) *Table {
	t.Helper()
	table, err := Compile(w.Networks(), byCountry)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// Every address gets the class of its network, checked at each boundary ±1.
func TestClassAtEveryBoundary(t *testing.T) {
	for seed := range uint64(20) {
		w := randomWorld(rand.New(rand.NewPCG(seed, 1)))
		table := compile(t, w)
		check := func(a netip.Addr) {
			if !a.IsValid() || inCarrier(a) {
				return
			}
			if got, _ := table.Lookup(a); got != byCountry(w.find(a)) {
				t.Fatalf("seed %d: %s has class %d, want that of %v", seed, a, got, w.find(a))
			}
		}
		for _, n := range w {
			first := n.prefix.Addr()
			last := lastAddr(n.prefix)
			for _, a := range []netip.Addr{first.Prev(), first, first.Next(), last.Prev(), last, last.Next()} {
				check(a)
			}
		}
	}
}

func inCarrier(a netip.Addr) bool {
	for _, c := range carriers {
		if c.prefix.Contains(a) {
			return true
		}
	}
	return false
}

func lastAddr(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		return addr4(number4(p.Addr()) | uint32(uint64(1)<<(32-p.Bits())-1))
	}
	return lastOf(p).addr()
}

// The blocks tile the space, hold one class each, and none can be widened:
// its sibling is not wholly of the same class.
func TestBlocksAreDisjointUniformAndMaximal(t *testing.T) {
	for seed := range uint64(20) {
		w := randomWorld(rand.New(rand.NewPCG(seed, 2)))
		table := compile(t, w)
		blocks := map[netip.Prefix]Class{}
		var before netip.Prefix
		for p, k := range table.Blocks() {
			if before.IsValid() && before.Overlaps(p) {
				t.Fatalf("seed %d: %s and %s overlap", seed, before, p)
			}
			if p != p.Masked() {
				t.Fatalf("seed %d: block %s is not aligned", seed, p)
			}
			before, blocks[p] = p, k
		}
		for p, k := range blocks {
			for _, a := range []netip.Addr{p.Addr(), lastAddr(p)} {
				if got, scope := table.Lookup(a); got != k || scope != p.Bits() {
					t.Fatalf("seed %d: %s has class %d scope %d, want %d and %d", seed, a, got, scope, k, p.Bits())
				}
			}
			if p.Bits() == 0 {
				continue
			}
			if sib, ok := blocks[sibling(p)]; ok && sib == k {
				t.Fatalf("seed %d: %s and its sibling are both of class %d", seed, p, k)
			}
		}
	}
}

func sibling(p netip.Prefix) netip.Prefix {
	b := p.Addr().AsSlice()
	b[(p.Bits()-1)/8] ^= 0x80 >> ((p.Bits() - 1) % 8)
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, p.Bits())
}

// RFC 7871 leaves the mapping open; the IPv4 address inside an IPv6 one says
// where the client is, and the scope covers as much of it as matters.
func TestIPv6ThatCarriesIPv4(t *testing.T) {
	w := world{
		{netip.MustParsePrefix("192.0.2.0/24"), Place{Country: "A"}},
		{netip.MustParsePrefix("2000::/3"), Place{Country: "B"}},
	}
	table := compile(t, w)
	teredo := netip.MustParseAddr("2001::").As16()
	binary.BigEndian.PutUint32(teredo[12:], ^uint32(0xC0000205))
	for _, c := range []struct {
		addr  string
		class Class
		scope int
	}{
		{"192.0.2.5", 1, 24},
		{"::ffff:192.0.2.5", 1, 96 + 24},
		{"64:ff9b::c000:205", 1, 96 + 24},
		{"2002:c000:205::1", 1, 16 + 24},
		{netip.AddrFrom16(teredo).String(), 1, 96 + 24},
		{"2002:c000:305::1", 0, 16 + 24},
		{"2003::1", 2, 16},
		{"2001:1::1", 2, 32},
		{"2a00::1", 2, 5},
	} {
		k, scope := table.Lookup(netip.MustParseAddr(c.addr))
		if k != c.class || scope != c.scope {
			t.Errorf("%s: class %d scope %d, want %d and %d", c.addr, k, scope, c.class, c.scope)
		}
	}
}

// Where nothing differs there is one block, and scope 0.
func TestUniformSpaceHasScopeZero(t *testing.T) {
	table := compile(t, nil)
	for _, a := range []string{"192.0.2.1", "2001:db8::1", "2002::1", "::ffff:192.0.2.1"} {
		if k, scope := table.Lookup(netip.MustParseAddr(a)); k != 0 || scope != 0 && a != "::ffff:192.0.2.1" {
			t.Errorf("%s: class %d scope %d, want 0 and 0", a, k, scope)
		}
	}
}

func TestNetworksOutOfOrderAreRefused(t *testing.T) {
	w := world{{netip.MustParsePrefix("10.0.0.0/8"), Place{}}, {netip.MustParsePrefix("10.1.0.0/16"), Place{}}}
	if _, err := Compile(w.Networks(), byCountry); err == nil {
		t.Fatal("overlapping networks were accepted")
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	table := compile(t, randomWorld(rand.New(rand.NewPCG(1, 1))))
	v4, v6 := netip.MustParseAddr("81.2.69.142"), netip.MustParseAddr("2a02:d280::1")
	if n := testing.AllocsPerRun(100, func() { table.Lookup(v4); table.Lookup(v6) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Blocks gives the whole partition in ascending order, IPv4 first. The parts
// of IPv6 that carry IPv4 addresses are left out: there the partition of IPv4
// holds.
func (t *Table) Blocks() iter.Seq2[netip.Prefix, Class] {
	return func(yield func(netip.Prefix, Class) bool) {
		for a := uint64(0); a < 1<<32; {
			k, scope := t.Lookup(addr4(uint32(a)))
			if !yield(netip.PrefixFrom(addr4(uint32(a)), scope), k) {
				return
			}
			a += uint64(1) << (32 - scope)
		}
		a, ok := u128{}, true
		for ok {
			at := t.Find(a.addr())
			if at.Before > 0 {
				a, ok = a.after(t.blocks[at.Carrier].Bits()), true
				continue
			}
			b := t.blocks[at.Block]
			p := netip.PrefixFrom(a.addr(), b.Bits())
			if !yield(p, b.Class()) {
				return
			}
			a, ok = lastOf(p).next()
		}
	}
}
