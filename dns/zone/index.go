package zone

import (
	"hash/maphash"
	"math/bits"
)

// index finds nodes by name: a table of open addressing, whose slots hold 1 +
// a node's index, and in the bits left over a part of the name's hash, so
// that a slot of another name is nearly always told without looking at it.
type index struct {
	slots []uint32 // a power of two in length
	shift uint8    // where the part of the hash begins
}

// hashSeed only spreads names over tables of this process.
var hashSeed = maphash.MakeSeed()

// newIndex makes the table of nodes with different names.
func newIndex(nodes []Node) index {
	size := 4
	for size*3/4 < len(nodes) {
		size *= 2
	}
	x := index{slots: make([]uint32, size), shift: uint8(bits.Len(uint(len(nodes))))}
	for i := range nodes {
		h := maphash.String(hashSeed, nodes[i].Name)
		at := x.start(h)
		for x.slots[at] != 0 {
			at = (at + 1) & (len(x.slots) - 1)
		}
		x.slots[at] = x.tag(h)<<x.shift | uint32(i+1)
	}
	return x
}

func (x *index) start(h uint64) int  { return int(h) & (len(x.slots) - 1) }
func (x *index) tag(h uint64) uint32 { return uint32(h>>32) >> x.shift }

// find gives the node of a name in wire form and lower case, or nil.
func (x *index) find(nodes []Node, name []byte) *Node {
	if i := x.at(nodes, name); i >= 0 {
		return &nodes[i]
	}
	return nil
}

// at gives the index of the node of a name, or -1.
func (x *index) at(nodes []Node, name []byte) int {
	h := maphash.Bytes(hashSeed, name)
	tag := x.tag(h)
	for at := x.start(h); ; at = (at + 1) & (len(x.slots) - 1) {
		slot := x.slots[at]
		if slot == 0 {
			return -1
		}
		if slot>>x.shift != tag {
			continue
		}
		if i := int(slot&(1<<x.shift-1)) - 1; nodes[i].Name == string(name) {
			return i
		}
	}
}
