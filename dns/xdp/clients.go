package xdp

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"

	"meridian/geo"
)

const row = 64 // octets (ROW of the program)

// rows is how many rows so many octets take, one at least.
func rows(octets int) uint32 { return uint32(max(1, (octets+row-1)/row)) }

// clients is geo's table as the program has it: one list of nodes and one of
// leaves for both families.
type clients struct {
	bits4, bits6                 uint32 // that the roots take of an address
	root4, root6, leaves, blocks []uint32
	nodes                        []geo.Node
}

func newClients(t *geo.Table) clients {
	if t == nil {
		return clients{bits4: 1, bits6: 1, root4: make([]uint32, 2), root6: make([]uint32, 2)}
	}
	l := t.Layout(0, 0)
	c := clients{bits4: uint32(l.V4.Bits), bits6: uint32(l.V6.Bits), root4: l.V4.Root, nodes: append(append([]geo.Node{}, l.V4.Nodes...), l.V6.Nodes...)}
	c.leaves = append(append(c.leaves, l.V4.Leaves...), l.V6.Leaves...)
	nodes4, leaves4 := uint32(len(l.V4.Nodes)), uint32(len(l.V4.Leaves))
	for _, e := range l.V6.Root {
		if e&geo.Divided != 0 {
			e += nodes4
		}
		c.root6 = append(c.root6, e)
	}
	for i := range l.V6.Nodes {
		if n := &c.nodes[int(nodes4)+i]; n.Kids != 0 {
			n.Kid += nodes4
			n.Leaf += leaves4
		}
	}
	for _, b := range l.Blocks {
		c.blocks = append(c.blocks, uint32(b))
	}
	return c
}

// size sets the sizes of the clients' maps.
func (c *clients) size(spec *ebpf.CollectionSpec) {
	for name, words := range map[string]int{dnsMapGeoRoot4: len(c.root4), dnsMapGeoRoot6: len(c.root6),
		dnsMapGeoLeaves: len(c.leaves), dnsMapGeoBlocks: len(c.blocks)} {
		spec.Maps[name].MaxEntries = rows(4 * words)
	}
	spec.Maps[dnsMapGeoNodes].MaxEntries = uint32(max(1, len(c.nodes)))
}

// fillClients fills them.
func (k *kernel) fillClients(c *clients) error {
	for m, list := range map[*ebpf.Map][]uint32{k.GeoRoot4: c.root4, k.GeoRoot6: c.root6, k.GeoLeaves: c.leaves, k.GeoBlocks: c.blocks} {
		if err := writeWords(m, 0, list); err != nil {
			return fmt.Errorf("clients' table: %w", err)
		}
	}
	buf := make([]byte, 0, 24*len(c.nodes))
	for i := range c.nodes {
		n := &c.nodes[i]
		buf = binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(buf, n.Kids), n.Starts)
		buf = binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(buf, n.Kid), n.Leaf)
	}
	if err := write(k.GeoNodes, 0, buf); err != nil {
		return fmt.Errorf("clients' table: %w", err)
	}
	return nil
}

// writeWords writes into a map of 32-bit words from an index on.
func writeWords(m *ebpf.Map, first int, list []uint32) error {
	buf := make([]byte, 0, 4*len(list))
	for _, w := range list {
		buf = binary.NativeEndian.AppendUint32(buf, w)
	}
	return write(m, 4*first, buf)
}

// write writes into a map's memory.
func write(m *ebpf.Map, at int, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	mem, err := m.Memory()
	if err != nil {
		return err
	}
	_, err = mem.WriteAt(b, int64(at))
	return err
}
