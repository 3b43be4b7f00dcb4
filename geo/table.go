package geo

import "net/netip"

// Class numbers a set of places that every policy ranks alike. There are
// fewer than InSixToFour.
type Class uint32

// Table gives every address its class and scope. It partitions the space of
// both families into disjoint blocks, each the largest one with a single
// class. It is immutable, safe for concurrent use, and looked up without
// allocation.
type Table struct {
	blocks  []Block // in order of address, IPv4 first
	borders []uint8 // before each block and behind the last: one bit more than the addresses on both sides share; 0 at the ends of each space
	first6  int     // the first of IPv6
	v4, v6  Index
}

// Block is one entry of a Table: a maximal CIDR block of addresses of one
// class.
type Block uint32

const lengthBits = 8

// Class is that of all addresses in the block; of the blocks of IPv6 whose
// addresses carry an IPv4 one, InSixToFour, InTeredo or InLast32.
func (b Block) Class() Class { return Class(b >> lengthBits) }

// Bits is the length of the block's prefix.
func (b Block) Bits() int { return int(b & (1<<lengthBits - 1)) }

// Layout is a table as flat slices, to be copied into the kernel's maps.
type Layout struct {
	Blocks []Block // by number; in order of address, IPv4 first
	First6 int     // number of the first block of IPv6
	V4, V6 Index
}

// Layout gives the table as it is, or with roots that take other numbers of
// bits of an address, up to 24; 0 for those that it has. The caller does not
// change it.
func (t *Table) Layout(bits4, bits6 int) Layout {
	l := Layout{t.blocks, t.first6, t.v4, t.v6}
	if bits4 > 0 && bits4 != t.v4.Bits {
		l.V4 = newIndex(t.blocks[:t.first6], 0, bits4)
	}
	if bits6 > 0 && bits6 != t.v6.Bits {
		l.V6 = newIndex(t.blocks[t.first6:], t.first6, bits6)
	}
	return l
}

// rootBits gives how many bits the root of an index of so many blocks takes:
// the more, the fewer nodes lie on the way, and the more of the caches the root
// itself wants. With 24 bits it would be the root of DIR-24-8, of 64 MiB. On a
// table of 3.7 million blocks of IPv4 that is quicker than 20 bits only where
// the same few addresses are asked for (15 ns against 19; in the kernel 20
// against 23), and slower where they are of all kinds (139 against 66; 289
// against 248). See BenchmarkIndex.
func rootBits(blocks int, v6 bool) int {
	switch {
	case blocks < 1<<10:
		return 8
	case v6:
		return 14
	case blocks < 1<<18:
		return 12
	case blocks < 1<<20:
		return 18
	}
	return 20
}

// Size is the number of blocks of each family.
func (t *Table) Size() (v4, v6 int) { return t.first6, len(t.blocks) - t.first6 }

// Spot is where an address lies in a Table.
type Spot struct {
	Block   uint32 // number of the block that says the address's class
	Carrier uint32 // of an IPv6 address that carries an IPv4 one: number of its block of IPv6
	Before  uint8  // and how many bits stand before the IPv4 address; 0 for all other addresses
}

// Find gives where an address lies.
func (t *Table) Find(a netip.Addr) Spot {
	if a.Is4() {
		return Spot{Block: t.find4(number4(a))}
	}
	n := number(a)
	b := t.v6.find(t.v6.Root[n.hi>>(64-t.v6.Bits)], n)
	switch t.blocks[b].Class() {
	case InSixToFour:
		return Spot{t.find4(uint32(n.hi >> 16)), b, 16}
	case InTeredo:
		return Spot{t.find4(^uint32(n.lo)), b, 96}
	case InLast32:
		return Spot{t.find4(uint32(n.lo)), b, 96}
	}
	return Spot{Block: b}
}

func (t *Table) find4(a uint32) uint32 {
	return t.v4.find(t.v4.Root[a>>(32-t.v4.Bits)], u128{uint64(a) << 32, 0})
}

// Class gives the class of the addresses at a spot.
func (t *Table) Class(s Spot) Class { return t.blocks[s.Block].Class() }

// Scope gives the length of the block of one class around an address, counted
// in the family of the address as given: for an IPv6 address that carries an
// IPv4 one it says how much of the IPv6 address matters.
func (t *Table) Scope(s Spot) int { return t.blocks[s.Block].Bits() + int(s.Before) }

// Lookup gives the class of an address and its scope.
func (t *Table) Lookup(a netip.Addr) (Class, int) {
	s := t.Find(a)
	return t.Class(s), t.Scope(s)
}
