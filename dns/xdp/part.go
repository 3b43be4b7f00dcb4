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
	stale  bool       // the program leaves it to the sockets

	nodes  []node
	own    []span   // that no other uses
	shared []ref    // that others may use; one for each of the arena's users
	faces  []*face  // of its steered answers
	ghosts []string // names that do not exist, and that answers mention
	leads  []lead
}

// lead is a name that is not the part's, and that answers depend on, and the
// apex of the zone that it belongs to; empty where that is none.
type lead struct{ name, apex string }

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
	at     int              // how many names were placed
	queue  [][]byte         // ghosts whose turn is yet to come
	told   map[string]bool  // what is in ghosts
	led    map[string]bool  // and in leads
	uses   map[ref]struct{} // and in shared
	seen   map[ref]struct{} // answers whose names have been looked at
	absent *absence
	above  bool              // the name at hand has names below it
	open   map[string][]gap  // by name, the gaps below it that are known
	late   []lateNode        // names that wait for theirs
	hashed *hashed           // the zone's NSEC3s; nil before they were looked at
	same   map[faceKey]ref   // the records of faces that several names share
	direct map[directKey]ref // likewise, before they are made
}

func newPlacing(p *part) *placing {
	pl := &placing{part: p, told: map[string]bool{}, led: map[string]bool{}, uses: map[ref]struct{}{}, seen: map[ref]struct{}{},
		open: map[string][]gap{},
		same: map[faceKey]ref{}, direct: map[directKey]ref{}}
	for _, name := range p.ghosts {
		pl.told[name] = true
	}
	return pl
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
// another zone, or under the empty one to none; those that are being placed are
// among them.
type dependents map[string]map[dependent]struct{}

type dependent struct {
	part *part
	name string
}

func (d dependents) add(p *part, l lead) {
	if d[l.apex] == nil {
		d[l.apex] = map[dependent]struct{}{}
	}
	d[l.apex][dependent{p, l.name}] = struct{}{}
}

func (d dependents) remove(p *part) {
	for _, l := range p.leads {
		delete(d[l.apex], dependent{p, l.name})
		if len(d[l.apex]) == 0 {
			delete(d, l.apex)
		}
	}
}

// lead notes that answers depend on what a name has that is not the part's.
func (c *compiler) lead(name []byte) {
	if c.led[string(name)] {
		return
	}
	l := lead{string(name), c.plan.Apex(name)}
	c.led[l.name] = true
	if l.apex == c.apex {
		return
	}
	c.part.leads = append(c.part.leads, l)
	c.dependents.add(c.part, l)
}
