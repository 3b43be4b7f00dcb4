package xdp

import (
	"cmp"
	"fmt"
	"slices"
	"unsafe"

	"meridian/edge/maglev"
	"meridian/fleet"
)

// RingChange is what a Spec makes of one ring of a region.
type RingChange struct {
	Region string `json:"region"`
	Ring   string `json:"ring"`
	State  string `json:"state"`            // new, removed, changed, same
	Before int    `json:"members_before"`   // those that get new flows
	After  int    `json:"members_after"`    // likewise
	Chance bool   `json:"second_chance"`    // its members are gateways, which pass on the connections of others
	Unsafe int    `json:"unsafe_slots"`     // slots that become unsafe; of other members than gateways all are, always
	Flows  *int   `json:"flows,omitempty"`  // on a running node: records in its flow table at the slots that move
	Broken *int   `json:"broken,omitempty"` // likewise: records of members that do not stay
	maglev.Change

	moved  map[int]bool // slots
	leaves map[string]bool
	member map[string]memberKey
}

// BrokenShare gives the part of the ring's flows, 0 to 1, that break, second
// chance or not: their member does not stay. One that drains first keeps them.
func (c *RingChange) BrokenShare() float64 { return float64(c.Gone) / float64(max(c.Slots, 1)) }

// Changes says what the change from one World to another makes of every region's
// rings, with all members taken to live that are to get flows. old may be nil.
// key gives the flow hash's key of a region; with another the numbers differ a
// little. Errors: a Spec that does not fit layer 4.
func Changes(old, next *fleet.World, key func(region string) Key) ([]RingChange, error) {
	var out []RingChange
	for _, r := range next.Snapshot.Spec.Regions {
		before, err := regionRings(old, r.ID, key(r.ID))
		if err != nil {
			return nil, fmt.Errorf("the Spec in force: %w", err)
		}
		after, err := regionRings(next, r.ID, key(r.ID))
		if err != nil {
			return nil, err
		}
		out = append(out, compareRings(r.ID, before, after)...)
	}
	return out, nil
}

// plannedRing is a ring as a World would have it.
type plannedRing struct {
	owners  []string // by slot
	members []string // that get new flows
	keep    map[string]bool
	keys    map[string]memberKey
	chain   bool
}

// regionRings gives the rings of a region as a balancer there sees them, by id.
func regionRings(w *fleet.World, region string, key Key) (map[string]plannedRing, error) {
	if w == nil {
		return nil, nil
	}
	node := balancerOf(w, region)
	if node == "" {
		return nil, nil
	}
	d, err := plan(w, node, Roles{L4: true})
	if err != nil {
		return nil, err
	}
	return d.rings(key, func(fleet.Target) fleet.State { return fleet.Unknown })
}

// affine says which groups have VIPs whose flows are looked up by another hash
// than the ring's.
func (d *desired) affine() map[string]bool {
	out := map[string]bool{}
	for _, f := range d.frontends {
		if f.by != wholeFlow {
			out[d.groups[f.group].id] = true
		}
	}
	return out
}

// balancerOf names a node of the region with role l4; "" where there is none.
func balancerOf(w *fleet.World, region string) string {
	for _, n := range w.Snapshot.Spec.Nodes {
		if n.Region == region && n.Has(fleet.RoleL4) {
			return n.Name
		}
	}
	return ""
}

// rings gives the rings that a desired state has under a health.
func (d *desired) rings(key Key, state func(fleet.Target) fleet.State) (map[string]plannedRing, error) {
	out := map[string]plannedRing{}
	for i := range d.groups {
		g := &d.groups[i]
		joined := map[memberKey]bool{}
		for _, m := range g.members {
			joined[m.key] = true
		}
		c := g.choose(state, joined)
		r := plannedRing{keep: map[string]bool{}, keys: map[string]memberKey{}, chain: g.gateways}
		var members []maglev.Member
		for _, i := range c.ring {
			members = append(members, maglev.Member{Name: g.members[i].name, Weight: g.members[i].weight})
			r.members = append(r.members, g.members[i].name)
		}
		for i, m := range g.members {
			r.keys[m.name] = m.key
			if c.keep[i] {
				r.keep[m.name] = true
			}
		}
		var err error
		if r.owners, err = maglev.Owners(members, g.slots(), key.ringSeed()); err != nil {
			return nil, fmt.Errorf("group %s: %w", g.id, err)
		}
		out[g.id] = r
	}
	return out, nil
}

// compareRings gives the changes in order of the rings' ids.
func compareRings(region string, before, after map[string]plannedRing) []RingChange {
	var out []RingChange
	for id, next := range after {
		was, had := before[id]
		c := changeOf(was, next)
		c.Region, c.Ring = region, id
		switch {
		case !had:
			c.State = "new"
		case c.Moved == 0 && slices.Equal(was.members, next.members):
			c.State = "same"
		default:
			c.State = "changed"
		}
		out = append(out, c)
	}
	for id, was := range before {
		if _, stays := after[id]; !stays {
			c := changeOf(was, plannedRing{owners: make([]string, len(was.owners)), chain: was.chain})
			c.Region, c.Ring, c.State = region, id, "removed"
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b RingChange) int { return cmp.Compare(a.Ring, b.Ring) })
	return out
}

func changeOf(was, next plannedRing) RingChange {
	c := RingChange{Before: len(was.members), After: len(next.members), Chance: next.chain, member: was.keys,
		moved: map[int]bool{}, leaves: map[string]bool{}}
	stays := func(name string) bool { return next.keep[name] && was.keys[name] == next.keys[name] }
	for name := range was.keep {
		c.leaves[name] = !stays(name)
	}
	c.Change = maglev.Compare(was.owners, next.owners, stays)
	for _, slot := range maglev.Moved(was.owners, next.owners) {
		c.moved[slot] = true
		if next.chain && stays(was.owners[slot]) {
			c.Unsafe++
		}
	}
	return c
}

// Changes says what a World would make of this node's region under its present
// health, and how many flow records its table holds at slots that would move.
// Errors: layer 4 is not attached; a Spec that does not fit it, or without this
// node. It is safe for concurrent use.
func (l *Layer4) Changes(next *fleet.World) ([]RingChange, error) {
	d, err := plan(next, l.cfg.Node, Roles{L4: true, L7: l.cfg.Roles.L7})
	if err != nil {
		return nil, err
	}
	after, err := d.rings(l.cfg.Key, l.state.get)
	if err != nil {
		return nil, err
	}
	region := next.Snapshot.Node(l.cfg.Node).Region
	var out []RingChange
	err = l.tables.look(func(k *kernel, have *desired) error {
		affine := d.affine()
		before, err := have.rings(l.cfg.Key, l.state.get)
		if err != nil {
			return err
		}
		out = compareRings(region, before, after)
		if err := k.countFlows(out, *l.orders.Load()); err != nil {
			return err
		}
		for i := range out {
			if affine[out[i].Ring] {
				out[i].Flows = nil // their records do not tell the slot
			}
		}
		return nil
	})
	return out, err
}

// countFlows goes through the flow table once. A record tells its flow's hash and
// endpoint, not its VIP: it counts for each ring that has that endpoint.
func (k *kernel) countFlows(rings []RingChange, orders map[memberKey]order) error {
	type held struct {
		ring   *RingChange
		leaves bool
	}
	of := map[order][]held{}
	for i := range rings {
		c := &rings[i]
		c.Flows, c.Broken = new(int), new(int)
		for name, key := range c.member {
			if o, ok := orders[key]; ok {
				of[o] = append(of[o], held{c, c.leaves[name]})
			}
		}
	}
	return k.eachFlow(func(f *edgeFlow) {
		for _, h := range of[order{endpoint: uint16(f.Owner>>16) & slotEndpoint, generation: uint16(f.Owner)}] {
			if h.ring.moved[int(f.hash()>>32*uint64(h.ring.Slots)>>32)] {
				*h.ring.Flows++
			}
			if h.leaves {
				*h.ring.Broken++
			}
		}
	})
}

// eachFlow calls f with each place of the flow table that is taken, as it is while
// the program goes on writing.
func (k *kernel) eachFlow(f func(*edgeFlow)) error {
	mem, err := k.Flows.Memory()
	if err != nil {
		return fmt.Errorf("read flow table: %w", err)
	}
	const size = int(unsafe.Sizeof(edgeBucket{}))
	buckets := make([]edgeBucket, 4096)
	total := int(k.Flows.MaxEntries())
	for at := 0; at < total; at += len(buckets) {
		some := buckets[:min(len(buckets), total-at)]
		if _, err := mem.ReadAt(octetsOf(some), int64(at*size)); err != nil {
			return fmt.Errorf("read flow table: %w", err)
		}
		for i := range some {
			for j := range some[i].Way {
				if flow := &some[i].Way[j]; flow.Owner != 0 {
					f(flow)
				}
			}
		}
	}
	return nil
}
