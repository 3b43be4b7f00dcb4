package xdp

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"

	"meridian/edge/defence"
	"meridian/geo"
)

const (
	listRow     = 64  // octets of struct list_row
	listAllowed = 1   // LIST_ALLOWED of bpf/consts.h
	listPlaces  = 128 // LIST_PLACES there
)

// listOctets are what the program finds for each class of sources.
var listOctets = map[geo.Class]uint8{
	defence.None:           0,
	defence.Allowed:        listAllowed,
	defence.Martian:        uint8(edgeReasonDROP_MARTIAN),
	defence.Blocked:        uint8(edgeReasonDROP_BLOCKED),
	defence.BlockedCountry: uint8(edgeReasonDROP_BLOCKED_COUNTRY),
	defence.BlockedASN:     uint8(edgeReasonDROP_BLOCKED_ASN),
}

// listOctet is what the program finds for a class.
func listOctet(c geo.Class) uint8 {
	if c >= defence.Named {
		return listPlaces + uint8(c-defence.Named)
	}
	return listOctets[c]
}

// listWriter lays a table out in rows.
type listWriter struct {
	layout geo.Layout
	nodes4 uint32 // nodes and leaves of IPv4, which stand before IPv6's
	blocks uint32
}

// listRows gives a table as bpf/lists.h reads it: where all is, the roots, the
// nodes, and the classes, one octet for each block and then for each leaf; and
// the places of classes.
func listRows(t *defence.Table) []byte {
	w := listWriter{layout: t.Layout(0, 0)}
	l := &w.layout
	w.nodes4, w.blocks = uint32(len(l.V4.Nodes)), uint32(len(l.Blocks))
	out := make([]byte, listRow)
	head := edgeListHead{Bits4: uint32(l.V4.Bits), Bits6: uint32(l.V6.Bits)}
	head.Root4, out = uint32(len(out)/4), w.root(out, &l.V4, 0)
	head.Root6, out = uint32(len(out)/4), w.root(out, &l.V6, w.nodes4)
	head.Nodes, out = uint32(len(out)/listRow), w.nodes(out)
	head.Classes, out = uint32(len(out)/listRow), w.classes(out)
	head.Places = uint32(len(out) / listRow)
	for _, places := range t.Places {
		out = binary.NativeEndian.AppendUint64(out, places)
	}
	out = wholeRows(out)
	for i, v := range []uint32{head.Bits4, head.Bits6, head.Root4, head.Root6, head.Nodes, head.Classes, head.Places} {
		binary.NativeEndian.PutUint32(out[4*i:], v)
	}
	return out
}

func (w *listWriter) octet(block uint32) uint8 { return listOctet(w.layout.Blocks[block].Class()) }

// root writes a family's root: what is divided no further as its class.
func (w *listWriter) root(out []byte, x *geo.Index, firstNode uint32) []byte {
	for _, e := range x.Root {
		if e&geo.Divided != 0 {
			e += firstNode
		} else {
			e = uint32(w.octet(e))
		}
		out = binary.NativeEndian.AppendUint32(out, e)
	}
	return wholeRows(out)
}

func (w *listWriter) nodes(out []byte) []byte {
	l := &w.layout
	leaves := w.blocks
	firstNode := uint32(0)
	for _, x := range []*geo.Index{&l.V4, &l.V6} {
		for _, n := range x.Nodes {
			if n.Kids != 0 {
				n.Kid += firstNode
				n.Leaf += leaves
			}
			out = binary.NativeEndian.AppendUint64(out, n.Kids)
			out = binary.NativeEndian.AppendUint64(out, n.Starts)
			out = binary.NativeEndian.AppendUint32(out, n.Kid)
			out = binary.NativeEndian.AppendUint32(out, n.Leaf)
			out = binary.NativeEndian.AppendUint64(out, 0)
		}
		firstNode += uint32(len(x.Nodes))
		leaves += uint32(len(x.Leaves))
	}
	return wholeRows(out)
}

func (w *listWriter) classes(out []byte) []byte {
	for i := range w.blocks {
		out = append(out, w.octet(i))
	}
	for _, x := range []*geo.Index{&w.layout.V4, &w.layout.V6} {
		for _, block := range x.Leaves {
			out = append(out, w.octet(block))
		}
	}
	return wholeRows(out)
}

// wholeRows fills the last row.
func wholeRows(b []byte) []byte { return append(b, make([]byte, -len(b)&(listRow-1))...) }

// setLists puts a table of classes in place of the last one, whole.
func (k *kernel) setLists(t *defence.Table) error {
	rows := listRows(t)
	spec := k.specs[edgeMapLists].Copy()
	spec.MaxEntries = uint32(len(rows) / listRow)
	return putInner(k.Lists, spec, rows)
}

// putInner puts a new map with these octets into the only place of a map of
// maps.
func putInner(into *ebpf.Map, spec *ebpf.MapSpec, octets []byte) error {
	m, err := filled(spec, octets)
	if err != nil {
		return err
	}
	defer m.Close() // the outer map holds its own reference
	if err := into.Put(uint32(0), m); err != nil {
		return fmt.Errorf("put in place: %w", err)
	}
	return nil
}
