package steer

// mask is a set of regions (or of a tree's nodes), by index. It is comparable.
type mask [4]uint64

func (m *mask) has(i uint8) bool { return m[i>>6]>>(i&63)&1 != 0 }
func (m *mask) set(i uint8)      { m[i>>6] |= 1 << (i & 63) }
func (m *mask) clear(i uint8)    { m[i>>6] &^= 1 << (i & 63) }

func (m mask) and(o mask) mask {
	for i := range m {
		m[i] &= o[i]
	}
	return m
}
