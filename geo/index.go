package geo

import "math/bits"

// Index finds the block that an address lies in. The address's first Bits
// bits choose an entry of Root, which is the number of the block or, with
// Divided set, of a node; each node takes the next six bits.
//
//	e = Root[address >> (length - Bits)]
//	while e has Divided:
//	    n = Nodes[e &^ Divided]; slot = the next six bits (zeros behind the address's end)
//	    if bit slot of n.Kids is set:
//	        e = Divided | n.Kid + (set bits of n.Kids below slot)
//	    else:
//	        e = n.Leaf + (set bits of n.Starts up to slot) - 1
//	        if n.Kids != 0: e = Leaves[e]
//
// It is immutable. The kernel's maps are filled with its slices as they are.
type Index struct {
	Bits   int
	Root   []uint32 // 2^Bits of them
	Nodes  []Node
	Leaves []uint32 // numbers of blocks, in order
}

// Divided marks the entries of Root, and the numbers of nodes, where there is
// more than one block.
const Divided = 1 << 31

// Node divides a stretch of addresses into 64 slots.
type Node struct {
	Kids   uint64 // bit by slot, the first in bit 0: divided further, by a node
	Starts uint64 // a block begins there, and goes on to the next that does
	Kid    uint32 // number of the node of the first such slot; the others follow
	Leaf   uint32 // the first block that begins: its number without Kids, else its index in Leaves
}

const stride = 6

// find gives the number of the block; rest is the address with its first bit
// foremost, and e the entry of Root for it.
func (x *Index) find(e uint32, rest u128) uint32 {
	rest = rest.shift(x.Bits)
	for e&Divided != 0 {
		n := &x.Nodes[e&^Divided]
		bit := uint64(1) << (rest.hi >> (64 - stride))
		if n.Kids&bit == 0 {
			e = n.Leaf + uint32(bits.OnesCount64(n.Starts&(bit<<1-1))) - 1
			if n.Kids != 0 {
				e = x.Leaves[e]
			}
			return e
		}
		e = Divided | (n.Kid + uint32(bits.OnesCount64(n.Kids&(bit-1))))
		rest = rest.shift(stride)
	}
	return e
}

// newIndex makes the index of blocks that cover a family's space, in order;
// the first one's number is first. Addresses stand with their first bit
// foremost: an IPv4 address is the upper 32 bits of the number.
func newIndex(blocks []Block, first, rootBits int) Index {
	x := Index{Bits: rootBits, Root: make([]uint32, 1<<rootBits)}
	b := indexer{x: &x, blocks: blocks, first: uint32(first)}
	var at u128
	for i := 0; i < len(blocks); {
		slot := int(at.hi >> (64 - rootBits))
		if length := blocks[i].Bits(); length <= rootBits {
			for s := range 1 << (rootBits - length) {
				x.Root[slot+s] = uint32(first + i)
			}
			at = at.after(length)
			i++
			continue
		}
		end, next := b.within(i, at, rootBits)
		x.Root[slot] = Divided | uint32(len(x.Nodes))
		x.Nodes = append(x.Nodes, Node{})
		b.divide(len(x.Nodes)-1, i, end, at, rootBits)
		i, at = end, next
	}
	return x
}

type indexer struct {
	x      *Index
	blocks []Block
	first  uint32
}

// within gives the first block behind the block of addresses of that length
// which begins at at, as block i does, and where it begins.
func (b *indexer) within(i int, at u128, length int) (end int, next u128) {
	stop := at.after(length)
	for {
		at = at.after(b.blocks[i].Bits())
		if i++; at == stop {
			return i, at
		}
	}
}

// divide fills a node with the blocks i to end, which begin at at, where depth
// bits of the addresses have been taken.
func (b *indexer) divide(node, i, end int, at u128, depth int) {
	type kid struct {
		first, end int
		at         u128
	}
	var room [1 << stride]kid
	kids := room[:0]
	n := Node{Leaf: uint32(len(b.x.Leaves))}
	whole := uint32(i)
	for i < end {
		bit := uint64(1) << (at.upper64(depth) >> (64 - stride))
		if length := b.blocks[i].Bits(); length <= depth+stride {
			n.Starts |= bit
			b.x.Leaves = append(b.x.Leaves, b.first+uint32(i))
			at = at.after(length)
			i++
			continue
		}
		n.Kids |= bit
		next, after := b.within(i, at, depth+stride)
		kids = append(kids, kid{i, next, at})
		i, at = next, after
	}
	if n.Kids == 0 { // its blocks follow one another
		b.x.Leaves, n.Leaf = b.x.Leaves[:n.Leaf], b.first+whole
	}
	n.Kid = uint32(len(b.x.Nodes))
	b.x.Nodes = append(b.x.Nodes, make([]Node, len(kids))...)
	b.x.Nodes[node] = n
	for k := range kids {
		b.divide(int(n.Kid)+k, kids[k].first, kids[k].end, kids[k].at, depth+stride)
	}
}
