package xdp

import (
	"maps"
	"slices"
)

// mark is where a compiler stands, to go back to.
type mark struct {
	blocks, last int // of the arena: blocks, and octets of the last
	nodes        int
	variants     int
}

func (c *compiler) mark() mark {
	m := mark{len(c.arena.blocks), 0, len(c.order), len(c.variants)}
	if m.blocks > 0 {
		m.last = len(c.arena.blocks[m.blocks-1])
	}
	return m
}

// rewind forgets all that was placed since a mark.
func (c *compiler) rewind(m mark) {
	a := &c.arena
	a.blocks = a.blocks[:m.blocks]
	first := ref(0) // that is gone
	if m.blocks > 0 {
		a.blocks[m.blocks-1] = a.blocks[m.blocks-1][:m.last]
		first = ref(m.blocks-1)<<12 | ref(m.last/8)
	}
	gone := func(r ref) bool { return r >= first }
	for _, h := range c.order[m.nodes:] {
		delete(c.nodes, h)
	}
	c.order, c.variants, c.queue = c.order[:m.nodes], c.variants[:m.variants], nil
	maps.DeleteFunc(a.known, func(_ string, r ref) bool { return gone(r) })
	maps.DeleteFunc(a.follow, func(r ref, _ bool) bool { return gone(r) })
	maps.DeleteFunc(c.faces, func(_ faceKey, r ref) bool { return gone(r) })
	maps.DeleteFunc(c.direct, func(_ directKey, r ref) bool { return gone(r) })
	maps.DeleteFunc(c.seen, func(s shown, _ bool) bool { return gone(s.answer) })
	for _, d := range c.deciding.by {
		d.faces = slices.DeleteFunc(d.faces, func(f *face) bool { return f.base >= m.variants })
	}
}
