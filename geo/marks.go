package geo

import (
	"net/netip"
	"slices"
)

// Marks says which of some networks an address lies in, the smallest one
// winning. It is immutable and safe for concurrent use; nil marks nothing.
type Marks struct {
	v4, v6 marked
}

// marked are the runs of one family: each begins at first and goes on to the
// next; an IPv4 address is the number's last 32 bits.
type marked struct {
	first []u128
	mark  []uint32
}

// NewMarks makes marks of networks, the index of each plus one being its
// mark. Of two that are equal the later one stands. An IPv6 network inside a
// space that carries IPv4 addresses marks nothing: see Carried.
func NewMarks(networks []netip.Prefix) *Marks {
	order := make([]int, len(networks))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		p, q := networks[a], networks[b]
		if c := p.Masked().Addr().Compare(q.Masked().Addr()); c != 0 {
			return c
		}
		return p.Bits() - q.Bits()
	})
	m := &Marks{}
	m.v4.lay(networks, order, true)
	m.v6.lay(networks, order, false)
	return m
}

// open is a network that the sweep is inside of.
type open struct {
	last u128
	mark uint32
}

// lay sweeps over the networks of one family in order: those that hold others
// come before them.
func (m *marked) lay(networks []netip.Prefix, order []int, v4 bool) {
	var stack []open
	close := func(before u128, all bool) {
		for len(stack) > 0 {
			top := stack[len(stack)-1]
			if !all && !top.last.less(before) {
				return
			}
			stack = stack[:len(stack)-1]
			next, ok := top.last.next()
			if !ok {
				continue
			}
			under := uint32(0)
			if len(stack) > 0 {
				under = stack[len(stack)-1].mark
			}
			m.start(next, under)
		}
	}
	for _, i := range order {
		p := networks[i].Masked()
		if p.Addr().Is4() != v4 {
			continue
		}
		first, last := span4or6(p)
		close(first, false)
		m.start(first, uint32(i)+1)
		stack = append(stack, open{last, uint32(i) + 1})
	}
	close(u128{}, true)
}

// start begins a run; one that begins at the same address replaces it.
func (m *marked) start(first u128, mark uint32) {
	n := len(m.first)
	if n > 0 && m.first[n-1] == first {
		m.mark[n-1] = mark
		return
	}
	m.first, m.mark = append(m.first, first), append(m.mark, mark)
}

// span4or6 gives the ends of a prefix as numbers.
func span4or6(p netip.Prefix) (first, last u128) {
	if p.Addr().Is4() {
		n := uint64(number4(p.Addr()))
		return u128{0, n}, u128{0, n | (uint64(1)<<(32-p.Bits()) - 1)}
	}
	return number(p.Addr()), lastOf(p)
}

// Of gives the mark of an address, by the IPv4 address that it carries where
// it does; 0 for none.
func (m *Marks) Of(a netip.Addr) uint32 {
	if m == nil {
		return 0
	}
	a = Carried(a)
	if a.Is4() {
		mark, _, _ := m.v4.at(u128{0, uint64(number4(a))})
		return mark
	}
	mark, _, _ := m.v6.at(number(a))
	return mark
}

// at gives the mark of an address and where the next run begins.
func (m *marked) at(a u128) (mark uint32, next u128, more bool) {
	i, found := slices.BinarySearchFunc(m.first, a, u128.compare)
	if !found {
		i--
	}
	if i >= 0 {
		mark = m.mark[i]
	}
	if i+1 < len(m.first) {
		return mark, m.first[i+1], true
	}
	return mark, u128{}, false
}
