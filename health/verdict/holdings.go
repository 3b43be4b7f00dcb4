package verdict

import (
	"encoding/binary"
	"fmt"

	"meridian/fleet"
)

// HoldingsFrame is a gateway's word on the limits that it holds together with
// others. Its size depends on the node's name and the number of limits alone.
type HoldingsFrame struct {
	Node        string
	Incarnation uint64 // grows each time the node starts
	Seq         uint64 // grows with each frame of an incarnation
	List        []fleet.Holding
}

// HoldingsVersion is a HoldingsFrame's first octet, which no Frame begins with.
//
// The layout, all numbers in network order:
//
//	0  version (1)          1  length of node    2  limits
//	3  incarnation (8)      11 seq (8)
//	19 node, then 16 octets a limit: limit (8), demand (4), held (4)
const (
	HoldingsVersion = 2
	holdingsHeader  = 19
	holdingLen      = 16
)

// Append adds the frame's wire form to b: at most MaxFrame octets, as the name
// has at most 63 octets and the list at most fleet.MaxHoldings.
func (f *HoldingsFrame) Append(b []byte) []byte {
	b = append(b, HoldingsVersion, byte(len(f.Node)), byte(len(f.List)))
	b = binary.BigEndian.AppendUint64(b, f.Incarnation)
	b = binary.BigEndian.AppendUint64(b, f.Seq)
	b = append(b, f.Node...)
	for _, h := range f.List {
		b = binary.BigEndian.AppendUint64(b, h.Limit)
		b = binary.BigEndian.AppendUint32(b, h.Demand)
		b = binary.BigEndian.AppendUint32(b, h.Held)
	}
	return b
}

// ParseHoldings reads a HoldingsFrame. It is strict: what parses appends to the
// same octets again. Its errors wrap ErrFrame.
func ParseHoldings(b []byte) (*HoldingsFrame, error) {
	if len(b) < holdingsHeader || b[0] != HoldingsVersion {
		return nil, fmt.Errorf("%w: %d octets of holdings", ErrFrame, len(b))
	}
	n, limits := int(b[1]), int(b[2])
	if n == 0 || n > maxNameLen || limits > fleet.MaxHoldings || len(b) != holdingsHeader+n+limits*holdingLen {
		return nil, fmt.Errorf("%w: %d octets for a name of %d and %d limits", ErrFrame, len(b), n, limits)
	}
	f := &HoldingsFrame{
		Node:        string(b[holdingsHeader : holdingsHeader+n]),
		Incarnation: binary.BigEndian.Uint64(b[3:]), Seq: binary.BigEndian.Uint64(b[11:]),
		List: make([]fleet.Holding, limits),
	}
	if !printable(f.Node) {
		return nil, fmt.Errorf("%w: a name does not print", ErrFrame)
	}
	for i, at := 0, holdingsHeader+n; i < limits; i, at = i+1, at+holdingLen {
		f.List[i] = fleet.Holding{Limit: binary.BigEndian.Uint64(b[at:]),
			Demand: binary.BigEndian.Uint32(b[at+8:]), Held: binary.BigEndian.Uint32(b[at+12:])}
	}
	return f, nil
}
