package geo

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math/bits"
	"net/netip"
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
	v4Index []uint32 // by the upper 16 bits: the run that holds the first such address
	v6      []u128
	v6Class []Class
	v6Index []uint32
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
	c := compiler{classify: classify, seen: map[Place]Class{}}
	none := c.class(Place{})
	c.v4 = runs{end: u128{0, 1<<32 - 1}, none: none}
	c.v6 = runs{end: u128{^uint64(0), ^uint64(0)}, none: none}
	for p, place := range networks {
		if !c.add(p.Masked(), c.class(place)) {
			return nil, fmt.Errorf("geo table: network %s overlaps the one before it or is out of order", p)
		}
	}
	c.v4.finish()
	c.v6.finish()
	t := &Table{v4: make([]uint32, len(c.v4.first)), v4Class: c.v4.class}
	for i, a := range c.v4.first {
		t.v4[i] = uint32(a.lo)
	}
	t.v6, t.v6Class = overlay(c.v6.first, c.v6.class, c.carriers())
	t.index()
	return t, nil
}

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

func (c *compiler) add(p netip.Prefix, k Class) bool {
	if p.Addr().Is4() {
		first := uint64(number4(p.Addr()))
		return c.v4.add(u128{0, first}, u128{0, first | (uint64(1)<<(32-p.Bits()) - 1)}, k)
	}
	for _, s := range carriers {
		if s.prefix.Bits() <= p.Bits() && s.prefix.Contains(p.Addr()) {
			return true // what a database says there is not of the client
		}
	}
	return c.v6.add(number(p.Addr()), lastOf(p), k)
}

// runs collects the runs of one family.
type runs struct {
	first []u128
	class []Class
	at    u128 // the first address not covered yet
	full  bool // the whole space is covered
	end   u128 // the last address of the space
	none  Class
}

// add covers first to last with k, and what lies before it with the default.
func (r *runs) add(first, last u128, k Class) bool {
	if r.full || first.less(r.at) {
		return false
	}
	if r.at != first {
		r.start(r.at, r.none)
	}
	r.start(first, k)
	r.full = last == r.end
	r.at, _ = last.next()
	return true
}

// finish covers the rest of the space.
func (r *runs) finish() {
	if !r.full {
		r.start(r.at, r.none)
	}
}

func (r *runs) start(first u128, k Class) {
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
		if len(c.v4.class) == 1 {
			out[i].class = c.v4.class[0]
		}
	}
	return out
}

// overlay lays spans, in order and disjoint, over runs.
func overlay(first []u128, class []Class, spans []span) ([]u128, []Class) {
	out := runs{}
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
func (r *runs) lay(s span, first []u128, class []Class, i int) int {
	for i < len(first) && !s.last.less(first[i]) {
		i++
	}
	r.start(s.first, s.class)
	if after, ok := s.last.next(); ok && (i == len(first) || first[i] != after) {
		r.start(after, class[i-1])
	}
	return i
}

// index notes for each value of an address's upper 16 bits the run in which
// the first such address lies.
func (t *Table) index() {
	t.v4Index, t.v6Index = make([]uint32, 1<<16), make([]uint32, 1<<16)
	run4, run6 := 0, 0
	for i := range 1 << 16 {
		for run4+1 < len(t.v4) && t.v4[run4+1] <= uint32(i)<<16 {
			run4++
		}
		for run6+1 < len(t.v6) && !(u128{uint64(i) << 48, 0}).less(t.v6[run6+1]) {
			run6++
		}
		t.v4Index[i], t.v6Index[i] = uint32(run4), uint32(run6)
	}
}

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
	lo, hi := int(t.v4Index[a>>16]), len(t.v4)-1
	if a>>16 < 0xFFFF {
		hi = int(t.v4Index[a>>16+1])
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
	top := a.hi >> 48
	lo, hi := int(t.v6Index[top]), len(t.v6)-1
	if top < 0xFFFF {
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

// Blocks gives the whole partition in ascending order, IPv4 first. The parts
// of IPv6 that carry IPv4 addresses are left out: there the partition of IPv4
// holds.
func (t *Table) Blocks() iter.Seq2[netip.Prefix, Class] {
	return func(yield func(netip.Prefix, Class) bool) {
		for a := uint64(0); a < 1<<32; {
			k, scope := t.lookup4(uint32(a))
			if !yield(netip.PrefixFrom(addr4(uint32(a)), scope), k) {
				return
			}
			a += uint64(1) << (32 - scope)
		}
		a, ok := u128{}, true
		for ok {
			k, scope := t.lookup6(a)
			p := netip.PrefixFrom(a.addr(), scope)
			if k <= maxClass && !yield(p, k) {
				return
			}
			a, ok = lastOf(p).next()
		}
	}
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
