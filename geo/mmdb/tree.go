package mmdb

import (
	"encoding/binary"
	"errors"

	"github.com/oschwald/maxminddb-golang/v2"
)

// checkTree makes sure that a walk through the search tree of a database ends
// within reasonable time: that no path is longer than an address, and that
// there are not many more paths than nodes. A sound database has one path to
// each node, but for the IPv4 part, which it shows in a few places of IPv6.
func checkTree(data []byte, m maxminddb.Metadata) error {
	t := &tree{data: data, nodes: m.NodeCount, octets: m.RecordSize / 4, bits: 128, leaves: make([]uint32, m.NodeCount)}
	if m.IPVersion == 4 {
		t.bits = 32
	}
	if t.nodes == 0 || t.nodes > uint(len(data))/t.octets {
		return errors.New("the search tree is longer than the file")
	}
	n, err := t.count(0, 0)
	if err != nil {
		return err
	}
	if uint64(n) > 16*(uint64(t.nodes)+1) {
		return errors.New("the search tree has more paths than nodes")
	}
	return nil
}

type tree struct {
	data   []byte
	nodes  uint
	octets uint // of one node
	bits   int
	leaves []uint32 // by node: paths that end below it; 0 where not known yet
}

// manyLeaves is where counting stops; far more than any node may have.
const manyLeaves = 1 << 31

// count gives the number of paths below a node.
func (t *tree) count(node uint, depth int) (uint32, error) {
	if depth > t.bits {
		return 0, errors.New("the search tree has a loop")
	}
	if node >= t.nodes { // a record or nothing: the reader checks it
		return 1, nil
	}
	if n := t.leaves[node]; n > 0 {
		return n, nil
	}
	left, right := t.children(node)
	l, err := t.count(left, depth+1)
	if err != nil {
		return 0, err
	}
	r, err := t.count(right, depth+1)
	if err != nil {
		return 0, err
	}
	t.leaves[node] = uint32(min(uint64(l)+uint64(r), manyLeaves))
	return t.leaves[node], nil
}

// children reads the two records of a node, of 24, 28 or 32 bits.
func (t *tree) children(node uint) (left, right uint) {
	b := t.data[node*t.octets : (node+1)*t.octets]
	switch t.octets {
	case 6:
		return uint(b[0])<<16 | uint(b[1])<<8 | uint(b[2]), uint(b[3])<<16 | uint(b[4])<<8 | uint(b[5])
	case 7:
		return uint(b[3]>>4)<<24 | uint(b[0])<<16 | uint(b[1])<<8 | uint(b[2]),
			uint(b[3]&15)<<24 | uint(b[4])<<16 | uint(b[5])<<8 | uint(b[6])
	}
	return uint(binary.BigEndian.Uint32(b)), uint(binary.BigEndian.Uint32(b[4:]))
}
