package xdp

import (
	"slices"

	"meridian/dns/zone"
)

// part is what an image has of one zone.
type part struct {
	apex   string     // in wire form; empty: of the name that is answered by who asks
	zone   *zone.Zone // nil: all at and below the apex is the sockets'
	left   int        // where that is for lack of room: records of the zone
	number uint32     // in stale; 0: none
	tally  uint16     // that its queries are counted by
	placed bool       // the program finds it

	nodes  []node
	own    []span              // that no other uses
	shared []ref               // that others may use; one for each of the arena's users
	faces  []*face             // of its steered answers
	ghosts map[string]struct{} // names that do not exist, and that answers mention
	leads  map[string]string   // names outside that answers depend on: the apexes that they belong to
}

// node is a name.
type node struct {
	hash uint64
	at   ref
}

// span is octets of a block.
type span struct{ block, size int }

// placing is a part in the making.
type placing struct {
	*part
	next   func() (*zone.Node, bool)
	stop   func()
	queue  [][]byte         // ghosts whose turn is yet to come
	uses   map[ref]struct{} // what is in shared
	seen   map[ref]struct{} // answers whose names have been looked at
	absent *absence
	family family
	same   map[faceKey]ref   // the records of faces that several names share
	direct map[directKey]ref // likewise, before they are made
}

func newPlacing(p *part) *placing {
	return &placing{part: p, uses: map[ref]struct{}{}, seen: map[ref]struct{}{}, same: map[faceKey]ref{}, direct: map[directKey]ref{}}
}

// put places a record that is the part's own.
func (c *compiler) put(rec []byte) ref {
	r := c.arena.put(rec)
	p := c.part
	if n := len(p.own); n > 0 && p.own[n-1].block == blockOf(r) {
		p.own[n-1].size += len(rec)
	} else {
		p.own = append(p.own, span{blockOf(r), len(rec)})
	}
	return r
}

// share places a record that other parts may share.
func (c *compiler) share(rec []byte) ref {
	if r, ok := c.arena.known[string(rec)]; ok {
		if _, ok := c.uses[r]; ok {
			return r
		}
	}
	r := c.arena.share(rec)
	c.uses[r] = struct{}{}
	c.shared = append(c.shared, r)
	return r
}

// release gives up what a part has placed, which no query finds any more.
func (c *compiler) release(p *part) {
	for _, s := range p.own {
		c.arena.drop(s.block, s.size)
	}
	for _, r := range p.shared {
		c.arena.unshare(r)
	}
	touched := map[*decision]bool{}
	for _, f := range p.faces {
		delete(c.arena.follow, f.at)
		c.freed[f.places()] = append(c.freed[f.places()], f.base)
		touched[f.decision] = true
	}
	for d := range touched {
		d.faces = slices.DeleteFunc(d.faces, func(f *face) bool { return f.part == p })
	}
	c.dependents.remove(p)
	*p = part{apex: p.apex}
}

// dependents are, by apex, parts whose answers depend on names that belong to
// another zone, or under the empty one to none.
type dependents map[string]map[dependent]struct{}

type dependent struct {
	part *part
	name string
}

func (d dependents) add(p *part, name, apex string) {
	if d[apex] == nil {
		d[apex] = map[dependent]struct{}{}
	}
	d[apex][dependent{p, name}] = struct{}{}
}

func (d dependents) remove(p *part) {
	for name, apex := range p.leads {
		delete(d[apex], dependent{p, name})
		if len(d[apex]) == 0 {
			delete(d, apex)
		}
	}
}

// lead notes that answers depend on what a name has that is not the part's.
func (c *compiler) lead(name []byte) {
	apex := c.plan.Apex(name)
	if _, had := c.leads[string(name)]; had || apex == c.apex {
		return
	}
	if c.leads == nil {
		c.part.leads = map[string]string{}
	}
	c.leads[string(name)] = apex
	if c.placed {
		c.dependents.add(c.part, string(name), apex)
	}
}
