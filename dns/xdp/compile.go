package xdp

import (
	"cmp"
	"encoding/binary"
	"math"
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
	wide []byte // for answers that are not to be used

	arena   arena
	room    int // blocks that may be filled
	nodes   map[uint64]ref
	parts   map[string]*part // by apex
	numbers numbers          // of parts
	without int              // parts that are left for lack of room
	zones   *zoneNumbers
	plain   bool // no proofs about names that do not exist: there is no room for them

	dependents dependents
	*placing   // the part at hand

	deciding *decider
	variants []ref         // of all faces
	freed    map[int][]int // places in variants that are of no use any more, by how many stand together
	changed  extent        // of variants: first, and one behind the last, that the kernel has not
}

// numbers gives out small ones.
type numbers struct {
	next uint32
	free []uint32
}

func (n *numbers) take() uint32 {
	if last := len(n.free) - 1; last >= 0 {
		v := n.free[last]
		n.free = n.free[:last]
		return v
	}
	n.next++
	return n.next
}

func (n *numbers) give(v uint32) {
	if v > 0 {
		n.free = append(n.free, v)
	}
}

// compile makes the image of a plan, of as many blocks as there is room for; key
// is the hash's.
func compile(p *answer.Plan, key uint64, zones *zoneNumbers, room int) (*image, error) {
	for plain := false; ; {
		c := &compiler{plan: p, key: key, plain: plain, zones: zones, room: room, arena: newArena(), nodes: map[uint64]ref{},
			parts: map[string]*part{}, dependents: dependents{}, deciding: newDecider(p), freed: map[int][]int{}}
		err := c.all()
		if c.without > 0 && !plain {
			plain = true
			continue
		}
		if err == nil {
			d, err := newDirectory(key, c.nodes)
			if err == nil {
				return &image{compiler: c, directory: d, waiting: map[string]bool{}, jobs: map[string]*placing{}, slice: mendNames}, nil
			}
		}
		key = key*0x9e3779b97f4a7c15 + 1
	}
}

// all places all there is. The error says that two names have one hash.
func (c *compiler) all() error {
	install := func(p *part) error {
		for _, n := range p.nodes {
			if _, had := c.nodes[n.hash]; had {
				return errClash
			}
			c.nodes[n.hash] = n.at
		}
		c.settle(p)
		return nil
	}
	if name := c.plan.Fast().Whoami; name != nil {
		if err := install(c.stub("", name)); err != nil {
			return err
		}
	}
	for apex := range c.plan.Unavailable() {
		if err := install(c.stub(apex, []byte(apex))); err != nil {
			return err
		}
	}
	zones := slices.SortedFunc(c.plan.Zones(), func(a, b *zone.Zone) int { // so that the most of them have room
		return cmp.Or(a.Records()-b.Records(), strings.Compare(string(a.Name), string(b.Name)))
	})
	for _, z := range zones {
		c.begin(z, c.numbers.take())
		budget := math.MaxInt
		if _, ok := c.place(&budget); !ok {
			c.leave(z)
		}
		if err := install(c.part); err != nil {
			return err
		}
	}
	return nil
}

// begin begins to place the names of a zone.
func (c *compiler) begin(z *zone.Zone, number uint32) {
	c.placing = newPlacing(&part{apex: z.Apex().Name, zone: z, number: number, tally: c.zones.of(z.Name)})
}

// place places names of the part at hand as far as a budget goes. done says
// that there are no more, and ok that there was room.
func (c *compiler) place(budget *int) (done, ok bool) {
	for ; *budget > 0 && c.arena.used() <= c.room; *budget-- {
		if n := c.zone.At(c.at); n != nil {
			c.at++
			ahead := c.zone.At(c.at)
			c.above = ahead != nil && zone.Below(ahead.Name, n.Name)
			if name := []byte(n.Name); c.holds(c.zone, name) {
				c.exists(c.zone, n, name)
			}
			c.behind(c.zone, n)
			continue
		}
		c.above = false
		if c.closeLate() {
			continue
		}
		last := len(c.queue) - 1
		if last < 0 {
			return true, true
		}
		name := c.queue[last]
		c.queue = c.queue[:last]
		c.missing(c.zone, name)
	}
	return false, c.arena.used() <= c.room
}

// leave makes a zone the sockets' for lack of room; it is the one at hand, or
// not yet begun.
func (c *compiler) leave(z *zone.Zone) {
	if c.placing != nil && c.zone == z {
		c.numbers.give(c.number)
		c.release(c.part)
		c.arena.reclaim()
	}
	c.stub(z.Apex().Name, []byte(z.Apex().Name)).left = max(1, z.Records())
}

// settle takes a part among those that the program finds.
func (c *compiler) settle(p *part) {
	c.parts[p.apex] = p
	if p.left > 0 {
		c.without++
	}
}

// left gives the zones that had no room.
func (c *compiler) left() (list []fleet.Name) {
	for _, p := range c.parts {
		if p.left > 0 {
			list = append(list, zone.Text([]byte(p.apex)))
		}
	}
	return list
}

// holds says whether names at a node of a zone are that zone's, and not those
// of one below it, and whether the program knows such long ones.
func (c *compiler) holds(z *zone.Zone, name []byte) bool {
	return len(name) <= maxName && c.plan.Deepest(name) == z
}

// stub makes a part of which all at and below a name is the sockets'.
func (c *compiler) stub(apex string, name []byte) *part {
	c.placing = newPlacing(&part{apex: apex})
	if len(name) <= maxName {
		c.node(name, [2]ref{}, pad(kindsRecord(nil, [2]ref{})))
	}
	return c.part
}

// node places one; kinds is its record.
func (c *compiler) node(name []byte, below [2]ref, kinds []byte) {
	if c.apex != "" && string(name) == string(c.plan.Fast().Whoami) {
		return // it was given away
	}
	rec := make([]byte, 16, 16+len(name)+8+len(kinds))
	rec[0], rec[1] = byte(dnsWhatWHAT_NODE), byte(len(name))
	ne := binary.NativeEndian
	ne.PutUint16(rec[2:], c.tally)
	ne.PutUint32(rec[4:], below[0])
	ne.PutUint32(rec[8:], below[1])
	ne.PutUint32(rec[12:], c.number)
	c.part.nodes = append(c.part.nodes, node{hashOf(c.key, name), c.put(append(pad(append(rec, name...)), kinds...))})
}

// exists places a name of a zone.
func (c *compiler) exists(z *zone.Zone, n *zone.Node, name []byte) {
	asked := c.exact(z, name)
	below, kinds := c.below(z, name), c.kinds(n, asked)
	if c.open[n.Name] != nil {
		c.late = append(c.late, lateNode{name, below[0], kinds})
		return
	}
	c.node(name, below, kinds)
}
