package geo

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math/bits"
	"net/netip"
	"slices"
)

// Class numbers a set of places that every policy ranks alike.
type Class uint32

// Spaces of IPv6 addresses that carry an IPv4 address, which alone says where
// the client is. In the table they are marked by a class of their own above
// maxClass.
const (
	maxClass    Class = 0xFFFFFF00
	inSixToFour Class = 0xFFFFFF01 // 2002::/16 (RFC 3056): bits 16 to 47
	inTeredo    Class = 0xFFFFFF02 // 2001::/32 (RFC 4380): the last 32 bits, inverted
	inLast32    Class = 0xFFFFFF03 // ::ffff:0:0/96 and 64:ff9b::/96 (RFC 6052): the last 32 bits
)

var carriers = [...]struct {
	prefix netip.Prefix
	mark   Class
}{
	{netip.MustParsePrefix("::ffff:0:0/96"), inLast32},
	{netip.MustParsePrefix("64:ff9b::/96"), inLast32},
	{netip.MustParsePrefix("2001::/32"), inTeredo},
	{netip.MustParsePrefix("2002::/16"), inSixToFour},
}

// Table gives every address its class and scope. It partitions the space of
// both families into disjoint blocks, each the largest one with a single
// class. It is immutable, safe for concurrent use, and looked up without
// allocation.
//
// It keeps, per family, the first address of each run of one class; the block
// around an address follows from where its run begins and ends.
type Table struct {
	v4      []uint32 // first address of each run; v4[0] is 0
	v4Class []Class
	v4Index []uint32 // by the upper bits: the run that holds the first such address
	v4Shift uint     // how many bits are not among those
	v6      []u128
	v6Class []Class
	v6Index []uint32
	v6Shift uint // of the upper 64
}

// u128 is an IPv6 address as a number.
type u128 struct{ hi, lo uint64 }

func (a u128) less(b u128) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

// next gives a+1, and false past the end of the space.
func (a u128) next() (u128, bool) {
	lo, carry := bits.Add64(a.lo, 1, 0)
	hi, over := bits.Add64(a.hi, 0, carry)
	return u128{hi, lo}, over == 0
}

func (a u128) prev() u128 {
	lo, borrow := bits.Sub64(a.lo, 1, 0)
	return u128{a.hi - borrow, lo}
}

// common is the number of leading bits that a and b share.
func (a u128) common(b u128) int {
	if x := a.hi ^ b.hi; x != 0 {
		return bits.LeadingZeros64(x)
	}
	return 64 + bits.LeadingZeros64(a.lo^b.lo)
}

func (a u128) addr() netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return netip.AddrFrom16(b)
}

func number(a netip.Addr) u128 {
	b := a.As16()
	return u128{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func number4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func addr4(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
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
	t := &Table{v4: make([]uint32, len(c.v4.out.first)), v4Class: slices.Clip(c.v4.out.class)}
	for i, a := range c.v4.out.first {
		t.v4[i] = uint32(a.lo)
	}
	t.v6, t.v6Class = overlay(c.v6.out.first, c.v6.out.class, c.carriers())
	t.index()
	return t, nil
}

// Merge gives a table with other classes: addresses whose classes become equal
// share blocks. to gives the new class of an old one.
func (t *Table) Merge(to func(Class) Class) *Table {
	out := &Table{}
	for i, k := range t.v4Class {
		if k = to(k); i == 0 || out.v4Class[len(out.v4Class)-1] != k {
			out.v4, out.v4Class = append(out.v4, t.v4[i]), append(out.v4Class, k)
		}
	}
	for i, k := range t.v6Class {
		switch {
		case k <= maxClass:
			k = to(k)
		case len(out.v4Class) == 1:
			k = out.v4Class[0]
		}
		if i == 0 || out.v6Class[len(out.v6Class)-1] != k {
			out.v6, out.v6Class = append(out.v6, t.v6[i]), append(out.v6Class, k)
		}
	}
	out.v4, out.v4Class = slices.Clip(out.v4), slices.Clip(out.v4Class)
	out.v6, out.v6Class = slices.Clip(out.v6), slices.Clip(out.v6Class)
	out.index()
	return out
}

// Size is the number of runs that the table holds, of 8 octets each for IPv4
// and 20 for IPv6.
func (t *Table) Size() (v4, v6 int) { return len(t.v4), len(t.v6) }

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
func overlay(first []u128, class []Class, spans []span) ([]u128, []Class) {
	out := classed{}
	for i := 0; i < len(first); {
		if len(spans) == 0 || first[i].less(spans[0].first) {
			out.start(first[i], class[i])
			i++
			continue
		}
		i = out.lay(spans[0], first, class, i)
		spans = spans[1:]
	}
	for _, s := range spans {
		out.lay(s, first, class, len(first))
	}
	return out.first, out.class
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

// index notes for each value of an address's upper bits the run in which the
// first such address lies; a table of few runs needs few bits.
func (t *Table) index() {
	bits4, bits6 := indexBits(len(t.v4)), indexBits(len(t.v6))
	t.v4Shift, t.v6Shift = 32-bits4, 64-bits6
	t.v4Index, t.v6Index = make([]uint32, 1<<bits4), make([]uint32, 1<<bits6)
	run := 0
	for i := range t.v4Index {
		for run+1 < len(t.v4) && t.v4[run+1] <= uint32(i)<<t.v4Shift {
			run++
		}
		t.v4Index[i] = uint32(run)
	}
	run = 0
	for i := range t.v6Index {
		for run+1 < len(t.v6) && !(u128{uint64(i) << t.v6Shift, 0}).less(t.v6[run+1]) {
			run++
		}
		t.v6Index[i] = uint32(run)
	}
}

func indexBits(runs int) uint { return uint(min(16, max(1, bits.Len(uint(runs))))) }

// Lookup gives the class of an address and the length of the block around it
// in which every address has that class. The length counts in the family of
// the address as given: for an IPv6 address that carries an IPv4 one it says
// how much of the IPv6 address matters.
func (t *Table) Lookup(a netip.Addr) (Class, int) {
	if a.Is4() {
		return t.lookup4(number4(a))
	}
	n := number(a)
	k, scope := t.lookup6(n)
	switch k {
	case inSixToFour:
		k, scope = t.lookup4(uint32(n.hi >> 16))
		return k, 16 + scope
	case inTeredo:
		k, scope = t.lookup4(^uint32(n.lo))
		return k, 96 + scope
	case inLast32:
		k, scope = t.lookup4(uint32(n.lo))
		return k, 96 + scope
	}
	return k, scope
}

func (t *Table) lookup4(a uint32) (Class, int) {
	top := int(a >> t.v4Shift)
	lo, hi := int(t.v4Index[top]), len(t.v4)-1
	if top+1 < len(t.v4Index) {
		hi = int(t.v4Index[top+1])
	}
	for lo < hi { // the last run that begins at or before a
		if mid := (lo + hi + 1) / 2; t.v4[mid] <= a {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	// The block must hold neither the address before the run nor the one behind.
	scope := 0
	if lo > 0 {
		scope = bits.LeadingZeros32(a^(t.v4[lo]-1)) + 1
	}
	if lo+1 < len(t.v4) {
		scope = max(scope, bits.LeadingZeros32(a^t.v4[lo+1])+1)
	}
	return t.v4Class[lo], scope
}

func (t *Table) lookup6(a u128) (Class, int) {
	top := int(a.hi >> t.v6Shift)
	lo, hi := int(t.v6Index[top]), len(t.v6)-1
	if top+1 < len(t.v6Index) {
		hi = int(t.v6Index[top+1])
	}
	for lo < hi {
		if mid := (lo + hi + 1) / 2; !a.less(t.v6[mid]) {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	scope := 0
	if lo > 0 {
		scope = a.common(t.v6[lo].prev()) + 1
	}
	if lo+1 < len(t.v6) {
		scope = max(scope, a.common(t.v6[lo+1])+1)
	}
	return t.v6Class[lo], scope
}

// lastOf gives the last address of an IPv6 prefix.
func lastOf(p netip.Prefix) u128 {
	a := number(p.Addr())
	if n := 128 - p.Bits(); n > 64 {
		return u128{a.hi | (uint64(1)<<(n-64) - 1), ^uint64(0)}
	} else if n == 64 {
		return u128{a.hi, ^uint64(0)}
	} else {
		return u128{a.hi, a.lo | (uint64(1)<<n - 1)}
	}
}
