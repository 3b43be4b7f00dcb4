package xdp

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"meridian/dns/answer"
	"meridian/dns/zone"
	"meridian/fleet"
)

// maxCuts is MAX_CUTS of the program.
const maxCuts = 10

// compiler asks a plan for all that the program may answer.
type compiler struct {
	plan *answer.Plan
	w    answer.Worker
	key  uint64
	out  [answer.PayloadUDP]byte

	arena  arena
	room   int // blocks that may be filled
	nodes  map[uint64]ref
	order  []uint64     // their hashes, as they came
	left   []fleet.Name // zones that had no room
	zones  *zoneNumbers
	zone   uint16              // number of the zone at hand
	clash  bool                // two names have one hash
	seen   map[shown]bool      // answers whose names have been looked at
	ghosts map[string]struct{} // names that do not exist, and that answers mention
	queue  []ghost
	absent map[*zone.Zone]*absence
	family family
	plain  bool // no proofs about names that do not exist: there is no room for them

	deciding *decider
	variants []ref             // of all faces
	faces    map[faceKey]ref   // the records of those that several names share
	direct   map[directKey]ref // likewise, before they are made
}

// image is what the maps hold.
type image struct {
	blocks    [][]byte
	directory *directory
	names     int
	variants  []ref
	compiler  *compiler    // for what comes later
	plan      *answer.Plan // that it was made of
}

// compile makes the image of a plan, of as many blocks as there is room for; key
// is the hash's.
func compile(p *answer.Plan, key uint64, zones *zoneNumbers, room int) (*image, error) {
	for plain := false; ; {
		c := &compiler{plan: p, key: key, plain: plain, zones: zones, room: room, arena: arena{known: map[string]ref{}}, nodes: map[uint64]ref{},
			seen: map[shown]bool{}, absent: map[*zone.Zone]*absence{}, ghosts: map[string]struct{}{}, deciding: newDecider(p),
			faces: map[faceKey]ref{}, direct: map[directKey]ref{}}
		c.all()
		if len(c.left) > 0 && !plain {
			plain = true
			continue
		}
		if !c.clash {
			d, err := newDirectory(key, c.nodes)
			if err == nil {
				return &image{c.arena.blocks, d, len(c.nodes), c.variants, c, p}, nil
			}
		}
		key = key*0x9e3779b97f4a7c15 + 1
	}
}

func (c *compiler) all() {
	c.stub(c.plan.Fast().Whoami)
	for apex := range c.plan.Unavailable() {
		c.stub([]byte(apex))
	}
	zones := slices.SortedFunc(c.plan.Zones(), func(a, b *zone.Zone) int { // so that the most of them have room
		return cmp.Or(a.Records()-b.Records(), strings.Compare(string(a.Name), string(b.Name)))
	})
	for _, z := range zones {
		c.zone = c.zones.of(z.Name)
		mark := c.mark()
		if !c.whole(z) {
			c.rewind(mark)
			c.stub([]byte(z.Apex().Name))
			c.left = append(c.left, z.Name)
		}
	}
}

// whole places all names of a zone; false where there is no room for them.
func (c *compiler) whole(z *zone.Zone) bool {
	for n := range z.Nodes() {
		if name := []byte(n.Name); c.holds(z, name) {
			c.exists(z, n, name)
		}
		if len(c.arena.blocks) > c.room {
			return false
		}
	}
	for len(c.queue) > 0 {
		g := c.queue[len(c.queue)-1]
		c.queue = c.queue[:len(c.queue)-1]
		c.missing(g.zone, g.name)
	}
	return len(c.arena.blocks) <= c.room
}

// holds says whether names at a node of a zone are that zone's, and not those
// of one below it, and whether the program knows such long ones.
func (c *compiler) holds(z *zone.Zone, name []byte) bool {
	return len(name) <= maxName && c.plan.Deepest(name) == z
}

// stub makes all at and below a name the sockets'.
func (c *compiler) stub(name []byte) {
	if name != nil && len(name) <= maxName {
		c.node(name, [2]ref{}, pad(kindsRecord(nil, [2]ref{})))
	}
}

// node places one; kinds is its record.
func (c *compiler) node(name []byte, below [2]ref, kinds []byte) {
	h := hashOf(c.key, name)
	if _, had := c.nodes[h]; had {
		c.clash = c.clash || !c.isStub(name)
		return
	}
	rec := make([]byte, 16, 16+len(name)+8+len(kinds))
	rec[0], rec[1] = byte(dnsWhatWHAT_NODE), byte(len(name))
	binary.NativeEndian.PutUint16(rec[2:], c.zone)
	binary.NativeEndian.PutUint32(rec[4:], below[0])
	binary.NativeEndian.PutUint32(rec[8:], below[1])
	binary.NativeEndian.PutUint32(rec[12:], uint32(c.zone))
	c.order = append(c.order, h)
	c.nodes[h] = c.arena.put(append(pad(append(rec, name...)), kinds...))
}

// isStub says whether a name was given away before it was looked at.
func (c *compiler) isStub(name []byte) bool { return string(name) == string(c.plan.Fast().Whoami) }

// exists places a name of a zone.
func (c *compiler) exists(z *zone.Zone, n *zone.Node, name []byte) {
	asked := c.exact(z, name)
	c.node(name, c.below(z, name), c.kinds(n, asked))
}
