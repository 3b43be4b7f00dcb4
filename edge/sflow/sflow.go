// Package sflow makes sFlow version 5 datagrams (sflow.org/sflow_version_5.txt)
// of sampled packets.
//
// Pure floor: it imports the standard library alone; the time is an argument.
// cmd/edge sends what it makes.
package sflow

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Output says where a packet went, as the specification's output field.
type Output uint32

// Where a packet goes that leaves by no device of this node, and why one was
// dropped; any other Output is a device's ifindex, or 0 where it is not known.
const (
	OutputHere    Output = 0x3FFFFFFF       // taken in by this node
	OutputDropped Output = 0x40000000 | 256 // discarded, no reason of the specification's
	OutputDenied  Output = 0x40000000 | 258 // discarded by an access list
)

// Packet is one sampled packet.
type Packet struct {
	Head   []byte // the Ethernet frame's first octets, without the check sequence
	Length int    // of the whole frame, likewise
	Rate   int    // one in so many was sampled
	Input  uint32 // ifindex
	Output Output
	Seen   uint64 // packets from which it was taken, ever
	Lost   uint64 // samples that were lost, ever
}

// MaxDatagram is the size that no datagram passes, so that it fits a path of
// 1,500 octets.
const MaxDatagram = 1400

// Encoder gathers packets into datagrams. It is not safe for concurrent use.
type Encoder struct {
	agent    netip.Addr
	start    time.Time
	sequence uint32            // of datagrams
	samples  map[uint32]uint32 // sequence of each source
	body     []byte
	count    uint32
}

// New gives an encoder for the agent with that address, which counts its time
// from start.
func New(agent netip.Addr, start time.Time) *Encoder {
	return &Encoder{agent: agent, start: start, samples: map[uint32]uint32{}}
}

const (
	versionFive    = 5
	addressIPv4    = 1
	addressIPv6    = 2
	formatFlow     = 1 // enterprise 0: flow_sample
	formatRaw      = 1 // enterprise 0: sampled_header
	headerEthernet = 1
	checkSequence  = 4 // octets behind a frame
	flowFixed      = 8 * 4
	rawFixed       = 4 * 4
)

// Add takes one packet in. Where it does not fit beside those before, it gives
// the datagram of those first; else nil.
func (e *Encoder) Add(p *Packet, now time.Time) (full []byte) {
	padded := (len(p.Head) + 3) &^ 3
	size := 8 + flowFixed + 8 + rawFixed + padded
	if e.count > 0 && e.headerSize()+len(e.body)+size > MaxDatagram {
		full = e.Flush(now)
	}
	e.samples[p.Input]++
	b := e.body
	for _, v := range []uint32{
		formatFlow, uint32(size - 8),
		e.samples[p.Input], p.Input & 0xffffff, uint32(p.Rate), uint32(p.Seen), uint32(p.Lost), p.Input, uint32(p.Output), 1,
		formatRaw, uint32(rawFixed + padded),
		headerEthernet, uint32(p.Length + checkSequence), checkSequence, uint32(len(p.Head)),
	} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	b = append(b, p.Head...)
	e.body = append(b, make([]byte, padded-len(p.Head))...)
	e.count++
	return full
}

func (e *Encoder) headerSize() int { return 6*4 + e.agent.BitLen()/8 }

// Flush gives the datagram of the packets taken in; nil: there are none.
func (e *Encoder) Flush(now time.Time) []byte {
	if e.count == 0 {
		return nil
	}
	e.sequence++
	kind := uint32(addressIPv6)
	if e.agent.Is4() {
		kind = addressIPv4
	}
	out := binary.BigEndian.AppendUint32(nil, versionFive)
	out = binary.BigEndian.AppendUint32(out, kind)
	out = append(out, e.agent.AsSlice()...)
	for _, v := range []uint32{0, e.sequence, uint32(now.Sub(e.start).Milliseconds()), e.count} {
		out = binary.BigEndian.AppendUint32(out, v)
	}
	out = append(out, e.body...)
	e.body, e.count = e.body[:0], 0
	return out
}
