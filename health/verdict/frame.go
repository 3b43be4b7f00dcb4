package verdict

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"meridian/fleet"
)

// Observer is in which capacity a node tells what it sees; it decides which
// list of targets a frame is about.
type Observer uint8

// The capacities. A node that observes nothing still says that it lives and
// what it has applied.
const (
	Presence Observer = iota // no targets
	Prober                   // Snapshot.ProbedTargets
	Layer4                   // Snapshot.GatewayTargets, then DirectTargets
	Gateway                  // Snapshot.EndpointTargets
)

// String gives presence, prober, layer4 or gateway.
func (o Observer) String() string {
	return [...]string{"presence", "prober", "layer4", "gateway"}[o&3]
}

// Targets lists what an observer in the region tells about.
func (o Observer) Targets(s *fleet.Snapshot, region string) []fleet.Target {
	switch o {
	case Prober:
		return s.ProbedTargets(region)
	case Layer4:
		return append(s.GatewayTargets(region), s.DirectTargets(region)...)
	case Gateway:
		return s.EndpointTargets(region)
	}
	return nil
}

// Observers lists the capacities of a node with these roles; at least one.
func Observers(roles []fleet.Role) []Observer {
	var out []Observer
	for _, r := range roles {
		switch r {
		case fleet.RoleProbe:
			out = append(out, Prober)
		case fleet.RoleL4:
			out = append(out, Layer4)
		case fleet.RoleL7:
			out = append(out, Gateway)
		}
	}
	if out == nil {
		out = []Observer{Presence}
	}
	return out
}

// A list of targets is cut into shards of ShardTargets, one to a frame, so
// that a frame with its names fits MaxFrame octets; MaxTargets bounds a list.
const (
	ShardTargets = 500
	MaxFrame     = 1200
	MaxTargets   = 200 * ShardTargets
)

// Cell is what one observer thinks of one target: two octets of a frame.
type Cell struct {
	State   fleet.State
	Cause   fleet.Cause
	Latency time.Duration // 0 where not known
}

// Frame is one node's word on one shard of one list of targets. Its size
// depends on the names and the list alone, never on what it says: a bad day
// costs no more than a good one.
type Frame struct {
	Node, Region string
	Roles        []fleet.Role
	Observer     Observer
	Incarnation  uint64  // grows each time the node starts
	Seq          uint64  // grows with each frame of an incarnation
	Revision     uint64  // of the Snapshot that the node has applied
	Hash         [8]byte // of that Snapshot: the first octets
	List         [8]byte // HashTargets of the list
	Total        int     // length of the list
	Offset       int     // place of the first cell in it, a multiple of ShardTargets
	Cells        []Cell
}

// Newer says whether f was sent after a frame of the same node with that
// incarnation and number.
func (f *Frame) Newer(incarnation, seq uint64) bool {
	return f.Incarnation > incarnation || f.Incarnation == incarnation && f.Seq > seq
}

// HashTargets gives the name under which a list of targets goes in frames.
func HashTargets(list []fleet.Target) (h [8]byte) {
	d := sha256.New()
	for _, t := range list {
		fmt.Fprintf(d, "%s\n", t)
	}
	copy(h[:], d.Sum(nil))
	return h
}

// The layout, all numbers in network order:
//
//	0  version (1)      1  observer       2  roles, a bit each
//	3  length of node   4  length of region
//	5  incarnation (8)  13 seq (8)        21 revision (8)   29 hash (8)
//	37 list (8)         45 total (4)      49 offset (4)     53 cells (2)
//	55 node, region, then two octets a cell:
//	   state (2 bits), cause (4 bits), latency (10 bits)
const (
	frameVersion = 1
	frameHeader  = 55
	maxNameLen   = 63
)

// frameRoles fixes the bit of each role; new roles go to the end.
var frameRoles = [...]fleet.Role{fleet.RoleDNS, fleet.RoleControl, fleet.RoleProbe, fleet.RoleDashboard,
	fleet.RoleL4, fleet.RoleL7, fleet.RoleBGP}

// ErrFrame is what every error of ParseFrame wraps.
var ErrFrame = errors.New("malformed health frame")

// Append adds the frame's wire form to b. Names are at most 63 octets long,
// cells at most ShardTargets, as fleet's rules and Shards ensure.
func (f *Frame) Append(b []byte) []byte {
	b = append(b, frameVersion, byte(f.Observer), roleBits(f.Roles), byte(len(f.Node)), byte(len(f.Region)))
	b = binary.BigEndian.AppendUint64(b, f.Incarnation)
	b = binary.BigEndian.AppendUint64(b, f.Seq)
	b = binary.BigEndian.AppendUint64(b, f.Revision)
	b = append(b, f.Hash[:]...)
	b = append(b, f.List[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(f.Total))
	b = binary.BigEndian.AppendUint32(b, uint32(f.Offset))
	b = binary.BigEndian.AppendUint16(b, uint16(len(f.Cells)))
	b = append(b, f.Node...)
	b = append(b, f.Region...)
	for _, c := range f.Cells {
		b = binary.BigEndian.AppendUint16(b, uint16(c.State)<<14|uint16(c.Cause)<<10|latencyCode(c.Latency))
	}
	return b
}

// ParseFrame reads a frame. It is strict: what parses appends to the same
// octets again.
func ParseFrame(b []byte) (*Frame, error) {
	if len(b) < frameHeader || len(b) > MaxFrame {
		return nil, fmt.Errorf("%w: %d octets", ErrFrame, len(b))
	}
	if b[0] != frameVersion {
		return nil, fmt.Errorf("%w: version %d", ErrFrame, b[0])
	}
	if b[1] > byte(Gateway) || b[2]>>len(frameRoles) != 0 {
		return nil, fmt.Errorf("%w: observer %d, roles %#x", ErrFrame, b[1], b[2])
	}
	n, r, cells := int(b[3]), int(b[4]), int(binary.BigEndian.Uint16(b[53:]))
	if n == 0 || n > maxNameLen || r > maxNameLen || len(b) != frameHeader+n+r+2*cells {
		return nil, fmt.Errorf("%w: %d octets for names of %d and %d and %d cells", ErrFrame, len(b), n, r, cells)
	}
	f := &Frame{
		Observer: Observer(b[1]), Roles: rolesOf(b[2]),
		Node: string(b[frameHeader : frameHeader+n]), Region: string(b[frameHeader+n : frameHeader+n+r]),
		Incarnation: binary.BigEndian.Uint64(b[5:]), Seq: binary.BigEndian.Uint64(b[13:]),
		Revision: binary.BigEndian.Uint64(b[21:]), Hash: [8]byte(b[29:37]), List: [8]byte(b[37:45]),
		Total: int(binary.BigEndian.Uint32(b[45:])), Offset: int(binary.BigEndian.Uint32(b[49:])),
	}
	if !printable(f.Node) || !printable(f.Region) {
		return nil, fmt.Errorf("%w: a name does not print", ErrFrame)
	}
	if f.Total > MaxTargets || f.Offset%ShardTargets != 0 || f.Offset > f.Total ||
		f.Offset == f.Total && f.Total > 0 || cells != min(ShardTargets, f.Total-f.Offset) {
		return nil, fmt.Errorf("%w: %d cells at %d of %d", ErrFrame, cells, f.Offset, f.Total)
	}
	f.Cells = make([]Cell, cells)
	for i, at := 0, frameHeader+n+r; i < cells; i, at = i+1, at+2 {
		v := binary.BigEndian.Uint16(b[at:])
		f.Cells[i] = Cell{fleet.State(v >> 14), fleet.Cause(v >> 10 & 15), latencyOf(v & 1023)}
	}
	return f, nil
}

// printable holds names to visible ASCII: they go to logs and metrics.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// Shards cuts a list's cells into frames like f, which gives all but
// Total, Offset and Cells. An empty list makes one frame.
func (f Frame) Shards(cells []Cell) []Frame {
	f.Total = len(cells)
	var out []Frame
	for f.Offset = 0; f.Offset == 0 || f.Offset < len(cells); f.Offset += ShardTargets {
		f.Cells = cells[f.Offset:min(f.Offset+ShardTargets, len(cells))]
		out = append(out, f)
	}
	return out
}

func roleBits(roles []fleet.Role) (bits byte) {
	for _, r := range roles {
		for i, known := range frameRoles {
			if r == known {
				bits |= 1 << i
			}
		}
	}
	return bits
}

func rolesOf(bits byte) (out []fleet.Role) {
	for i, r := range frameRoles {
		if bits>>i&1 == 1 {
			out = append(out, r)
		}
	}
	return out
}

// Latencies go on a logarithmic scale: code 0 is not known, code 1 is 10 µs
// or less, and 45 codes make a doubling, so that 1023 stands for about 69 s and the
// error stays below 1 %.
const (
	latencyLeast   = 10 * time.Microsecond
	codesPerDouble = 45
)

func latencyCode(d time.Duration) uint16 {
	if d <= 0 {
		return 0
	}
	code := 1 + math.Round(codesPerDouble*math.Log2(float64(d)/float64(latencyLeast)))
	return uint16(min(max(code, 1), 1023))
}

func latencyOf(code uint16) time.Duration {
	if code == 0 {
		return 0
	}
	return time.Duration(float64(latencyLeast) * math.Exp2(float64(code-1)/codesPerDouble))
}
