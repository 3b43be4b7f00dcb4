package geo

import (
	"fmt"
	"iter"
	"math/bits"
	"net/netip"
	"slices"
)

// Class numbers a set of places that every policy ranks alike. There are
// fewer than InSixToFour.
type Class uint32

// The classes of IPv6 addresses that carry an IPv4 address, which alone says
// where the client is.
const (
	InSixToFour Class = 0xFFFF01 // 2002::/16 (RFC 3056): bits 16 to 47
	InTeredo    Class = 0xFFFF02 // 2001::/32 (RFC 4380): the last 32 bits, inverted
	InLast32    Class = 0xFFFF03 // ::ffff:0:0/96 and 64:ff9b::/96 (RFC 6052): the last 32 bits

	maxClass = InSixToFour - 1
)

var carriers = [...]struct {
	prefix netip.Prefix
	mark   Class
}{
	{netip.MustParsePrefix("::ffff:0:0/96"), InLast32},
	{netip.MustParsePrefix("64:ff9b::/96"), InLast32},
	{netip.MustParsePrefix("2001::/32"), InTeredo},
	{netip.MustParsePrefix("2002::/16"), InSixToFour},
}

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

// Layout is a table as flat slices, to be copied into the kernel's maps.
type Layout struct {
	Blocks []Block // by number; in order of address, IPv4 first
	First6 int     // number of the first block of IPv6
	V4, V6 Index
}

// Layout gives the table with roots that take so many bits of an address, up
// to 24; with 24 for IPv4 one load finds the block of all prefixes up to /24.
// The caller does not change it.
func (t *Table) Layout(bits4, bits6 int) Layout {
	l := Layout{t.blocks, t.first6, t.v4, t.v6}
	if bits4 != t.v4.Bits {
		l.V4 = newIndex(t.blocks[:t.first6], 0, bits4)
	}
	if bits6 != t.v6.Bits {
		l.V6 = newIndex(t.blocks[t.first6:], t.first6, bits6)
	}
	return l
}

// Compile builds the table from a database's networks, in ascending order
// within each family. classify is called once for each distinct Place, and
// with the zero Place for the space without data.
func Compile(networks iter.Seq2[netip.Prefix, Place], classify func(Place) Class) (*Table, error) {
	return CompileMarked(networks, nil, classify)
}

// CompileMarked is Compile with marks, which classify finds in the Places.
func CompileMarked(networks iter.Seq2[netip.Prefix, Place], marks *Marks, classify func(Place) Class) (*Table, error) {
	c := compiler{classify: classify, seen: map[Place]Class{}}
	if marks == nil {
		marks = &Marks{}
	}
	c.v4 = runs{end: u128{0, 1<<32 - 1}, marks: &marks.v4, class: c.class}
	c.v6 = runs{end: u128{^uint64(0), ^uint64(0)}, marks: &marks.v6, class: c.class}
	for p, place := range networks {
		if !c.add(p.Masked(), place) {
			return nil, fmt.Errorf("geo table: network %s overlaps the one before it or is out of order", p)
		}
	}
	c.v4.finish()
	c.v6.finish()
	t := &Table{}
	t.blocks = c.v4.out.blocks(t.blocks, 32)
	t.first6 = len(t.blocks)
	v6 := overlay(c.v6.out, c.carriers())
	t.blocks = slices.Clip(v6.blocks(t.blocks, 128))
	t.borders = make([]uint8, len(t.blocks)+1)
	borders(t.borders[:t.first6], t.blocks[:t.first6], 32)
	borders(t.borders[t.first6:len(t.blocks)], t.blocks[t.first6:], 128)
	t.v4 = newIndex(t.blocks[:t.first6], 0, rootBits(t.first6))
	t.v6 = newIndex(t.blocks[t.first6:], t.first6, rootBits(len(t.blocks)-t.first6))
	return t, nil
}

// borders fills in the borders of one family.
func borders(out []uint8, blocks []Block, width int) {
	var at u128
	for i, b := range blocks {
		if i > 0 {
			out[i] = uint8(width - at.zeros())
		}
		at = at.after(128 - width + b.Bits())
	}
}

// rootBits gives how many bits the root of an index of so many blocks takes.
func rootBits(blocks int) int { return min(18, max(4, bits.Len(uint(blocks)))) }

// Size is the number of blocks of each family.
func (t *Table) Size() (v4, v6 int) { return t.first6, len(t.blocks) - t.first6 }

type compiler struct {
	classify func(Place) Class
	seen     map[Place]Class
	v4, v6   runs // an IPv4 address is the number's last 32 bits
}

func (c *compiler) class(p Place) Class {
	k, ok := c.seen[p]
	if !ok {
		if k = c.classify(p); k > maxClass {
			panic("geo: class out of range")
		}
		c.seen[p] = k
	}
	return k
}

func (c *compiler) add(p netip.Prefix, place Place) bool {
	first, last := span4or6(p)
	if p.Addr().Is4() {
		return c.v4.add(first, last, place)
	}
	for _, s := range carriers {
		if s.prefix.Bits() <= p.Bits() && s.prefix.Contains(p.Addr()) {
			return true // what a database says there is not of the client
		}
	}
	return c.v6.add(first, last, place)
}

// runs covers the space of one family from its first address on.
type runs struct {
	out   classed
	at    u128 // the first address not covered yet
	full  bool // the whole space is covered
	end   u128 // the last address of the space
	marks *marked
	class func(Place) Class
}

// add covers first to last with a place, and what lies before it with none.
func (r *runs) add(first, last u128, place Place) bool {
	if r.full || first.less(r.at) {
		return false
	}
	if r.at != first {
		r.cover(r.at, first.prev(), Place{})
	}
	r.cover(first, last, place)
	r.full = last == r.end
	r.at, _ = last.next()
	return true
}

// finish covers the rest of the space.
func (r *runs) finish() {
	if !r.full {
		r.cover(r.at, r.end, Place{})
	}
}

// cover splits a stretch where marks begin and end.
func (r *runs) cover(first, last u128, place Place) {
	for {
		mark, next, more := r.marks.at(first)
		place.Mark = mark
		r.out.start(first, r.class(place))
		if !more || last.less(next) {
			return
		}
		first = next
	}
}

// classed is a list of runs of one class each.
type classed struct {
	first []u128
	class []Class
}

func (r *classed) start(first u128, k Class) {
	if n := len(r.class); n == 0 || r.class[n-1] != k {
		r.first, r.class = append(r.first, first), append(r.class, k)
	}
}

// blocks appends the runs as blocks of addresses of so many bits.
func (r *classed) blocks(to []Block, width int) []Block {
	for i, k := range r.class {
		var behind u128 // the first address behind the run; 0 past the end of the space
		if i+1 < len(r.first) {
			behind = r.first[i+1]
		} else if width < 64 {
			behind.lo = 1 << width
		}
		for at := r.first[i]; ; {
			size := min(at.zeros(), behind.minus(at).log2(), width)
			to = append(to, Block(k)<<lengthBits|Block(width-size))
			if at = at.after(128 - size); at == behind {
				break
			}
		}
	}
	return to
}

// span is a stretch of IPv6 space with one class, both ends included.
type span struct {
	first, last u128
	class       Class
}

// carriers gives the spaces that follow the IPv4 table. Where all of IPv4 is
// of one class so are they, and may then join their neighbours.
func (c *compiler) carriers() []span {
	out := make([]span, len(carriers))
	for i, s := range carriers {
		out[i] = span{number(s.prefix.Addr()), lastOf(s.prefix), s.mark}
		if len(c.v4.out.class) == 1 {
			out[i].class = c.v4.out.class[0]
		}
	}
	return out
}

// overlay lays spans, in order and disjoint, over runs.
func overlay(r classed, spans []span) (out classed) {
	for i := 0; i < len(r.first); {
		if len(spans) == 0 || r.first[i].less(spans[0].first) {
			out.start(r.first[i], r.class[i])
			i++
			continue
		}
		i = out.lay(spans[0], r.first, r.class, i)
		spans = spans[1:]
	}
	for _, s := range spans {
		out.lay(s, r.first, r.class, len(r.first))
	}
	return out
}

// lay puts one span, after which the run that it interrupted goes on. i is
// the first run that begins in or behind the span; lay gives the first behind.
func (r *classed) lay(s span, first []u128, class []Class, i int) int {
	for i < len(first) && !s.last.less(first[i]) {
		i++
	}
	r.start(s.first, s.class)
	if after, ok := s.last.next(); ok && (i == len(first) || first[i] != after) {
		r.start(after, class[i-1])
	}
	return i
}

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
