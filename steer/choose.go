package steer

import (
	"slices"

	"meridian/fleet"
)

// maxRecords is the greatest steering.records.
const maxRecords = 8

// None stands for no region.
const None = 0xff

// Choice is a decision without its reasons.
type Choice struct {
	regions [maxRecords]uint8
	n       uint8
	next    uint8 // the best region that is not in the answer; None where there is none
	Anycast bool  // answer with the anycast addresses; the one region is where they are expected to lead
	Sliced  bool  // depends on the client's slot as well as its ranking
}

// Regions lists the indexes in the Spec of the chosen regions, best first.
func (c *Choice) Regions() []uint8 { return c.regions[:c.n] }

// Next gives the best region that is not in the answer, or None.
func (c *Choice) Next() uint8 { return c.next }

// Answer is what tells answers apart: it is comparable, and equal for choices
// of one family and service with the same records in the same order.
func (c *Choice) Answer() Choice {
	if c.Anycast {
		return Choice{Anycast: true, next: None}
	}
	out := *c
	out.Sliced, out.next = false, None
	return out
}

// Set is Answer with the regions in the Spec's order.
func (c *Choice) Set() Choice {
	out := c.Answer()
	slices.Sort(out.regions[:out.n])
	return out
}

// mode is how far health counts.
type mode uint8

const (
	healthy mode = iota // only what is up
	spared              // all but what an operator took out
	anyhow              // all
)

// entry is one region in a client's order.
type entry struct {
	region uint8
	unit   uint8 // the node that names it: an answer never mixes units
	soft   bool  // its place depends on the slot
}

// walk is one decision under way. It lives on the stack.
type walk struct {
	s       *Scene
	t       *tree
	rank    *Ranking
	health  *health
	service int
	family  int
	slot    Slot
	vantage int
	taken   mask // regions in list
	why     *trace
	n       int
	list    [256]entry
}

// Choose decides for the clients of a ranking that fall into a slot; service
// is an index in the Spec. It allocates nothing.
func (s *Scene) Choose(service int, f Family, r *Ranking, slot Slot) Choice {
	return s.decide(service, f, r, slot, nil)
}

// decide is the one decision of this package; why may be nil.
func (s *Scene) decide(service int, f Family, r *Ranking, slot Slot, why *trace) Choice {
	w := walk{s: s, t: s.classes.trees[service], rank: r, health: &s.health[service], service: service,
		family: f.index(), slot: slot, vantage: s.vantage(r), why: why}
	open := w.root()
	choice := Choice{next: None}
	if w.n == 0 {
		return choice
	}
	moved := w.shift(&choice)
	if !open && !moved {
		w.spillOver(&choice)
	}
	w.carry(&choice, open, moved)
	w.answer(&choice)
	return choice
}

// root walks the service's own selection. open says that its regions are
// served although health leaves too few.
func (w *walk) root() (open bool) {
	n := &w.t.nodes[0]
	w.why.policy(w, 0)
	if w.up(0) {
		w.visit(0, healthy)
		w.forget()
	}
	if w.n > 0 {
		return false
	}
	if !w.possible() {
		return false
	}
	w.why.allDown(w, 0)
	switch n.sel.AllDown {
	case fleet.FailClosed:
		w.why.addf(fleet.ReasonFailClose, "", "no address is served")
		return false
	case fleet.Fallback:
		w.why.fallback(n)
		if w.members(0, n.fallback, nil, healthy); w.n > 0 {
			return false
		}
	}
	w.failOpen(0)
	w.why.addf(fleet.ReasonFailOpen, "", "regions are served as if healthy")
	return true
}

// possible says whether any region at all could be answered.
func (w *walk) possible() bool {
	return w.s.carries(w.t, w.family) || w.t.leaves.and(w.s.vips[w.family]) != mask{}
}

// carries says whether anycast addresses of the family may be the answer.
func (s *Scene) carries(t *tree, family int) bool {
	return t.st.Answer == fleet.Anycast && s.anycast[family]
}

// up says whether enough of a node's members are up.
func (w *walk) up(at uint8) bool {
	n := &w.t.nodes[at]
	up := 0
	for i := range n.members {
		m := &n.members[i]
		if m.node == 0 && !w.health.out.has(m.region) || m.node > 0 && w.serves(m.node) {
			if up++; up == n.need {
				return true
			}
		}
	}
	return false
}

// serves says whether a group has anything to give.
func (w *walk) serves(at uint8) bool {
	return w.t.nodes[at].sel.AllDown != fleet.FailClosed || w.up(at)
}

// visit appends what a node comes to.
func (w *walk) visit(at uint8, m mode) {
	w.members(at, w.t.nodes[at].members, w.s.order(w.t, w.rank, at, w.slot), m)
}

// failOpen appends all of a node's regions as if they were up, but those that
// an operator took out only where there is no other.
func (w *walk) failOpen(at uint8) {
	start := w.n
	if w.visit(at, spared); w.n == start {
		w.visit(at, anyhow)
	}
}

// members appends what the members of a node come to, in an order of
// positions, or as they stand.
func (w *walk) members(at uint8, list []member, order []uint8, m mode) {
	start, from := w.n, 0
	for i := range list {
		k := i
		if order != nil {
			k = int(order[i])
		}
		before := w.n
		if list[k].node > 0 {
			w.group(list[k].node, m)
		} else {
			w.region(at, list[k].region, m)
		}
		if w.n > before {
			from++
		}
	}
	// Where several members share by weight, their places depend on the slot.
	if slots := w.t.nodes[at].slots; slots != nil && order != nil && slots.positive > 1 && from > 1 {
		w.soften(list, start)
	}
}

// soften marks what came of members with a weight, if of more than one.
func (w *walk) soften(list []member, start int) {
	sharing := 0
	for i := range list {
		if list[i].weight == 0 {
			continue
		}
		for j := start; j < w.n; j++ {
			if slices.Contains(list[i].leaves, w.list[j].region) {
				sharing++
				break
			}
		}
	}
	if sharing < 2 {
		return
	}
	for j := start; j < w.n; j++ {
		for i := range list {
			if list[i].weight > 0 && slices.Contains(list[i].leaves, w.list[j].region) {
				w.list[j].soft = true
				break
			}
		}
	}
}

// group appends what a group comes to.
func (w *walk) group(at uint8, m mode) {
	n := &w.t.nodes[at]
	w.why.enter(w, at)
	defer w.why.leave()
	if m != healthy {
		w.visit(at, m)
		return
	}
	if w.up(at) {
		w.visit(at, healthy)
		return
	}
	w.why.allDown(w, at)
	switch n.sel.AllDown {
	case fleet.FailClosed:
		w.why.addf(fleet.ReasonDown, "", "the group counts as down")
		return
	case fleet.Fallback:
		w.why.fallback(n)
		start := w.n
		if w.members(at, n.fallback, nil, healthy); w.n > start {
			return
		}
	}
	w.failOpen(at)
	w.why.addf(fleet.ReasonFailOpen, "", "its regions are served as if healthy")
}

// region appends one region, if it can be answered and is not there already.
func (w *walk) region(at, r uint8, m mode) {
	switch {
	case w.taken.has(r):
		return
	case !w.s.vips[w.family].has(r) && !w.s.carries(w.t, w.family):
		w.why.noVIP(w, r)
		return
	case m == healthy && w.health.out.has(r):
		w.why.down(w, r)
		return
	case m == spared && w.health.last.has(r):
		return
	case m == healthy:
		w.why.unknown(w, r)
	}
	w.list[w.n] = entry{region: r, unit: at}
	w.n++
	w.taken.set(r)
}

// forget drops what the client's own vantage sees down, but not where that
// would leave none: then that prober's network is what fails.
func (w *walk) forget() {
	if w.vantage < 0 || w.health.seen == "" {
		return
	}
	regions := len(w.s.classes.regions)
	alive := 0
	for _, e := range w.list[:w.n] {
		if !w.health.down(w.vantage, e.region, regions) {
			alive++
		}
	}
	if alive == 0 || alive == w.n {
		return
	}
	kept := 0
	for _, e := range w.list[:w.n] {
		if w.health.down(w.vantage, e.region, regions) {
			if w.why != nil {
				w.why.addf(fleet.ReasonDown, w.s.id(e.region), "down as seen from %s", w.s.id(uint8(w.vantage)))
			}
			continue
		}
		w.list[kept] = e
		kept++
	}
	w.n = kept
}

// shift applies the shifts in order. A shift moves clients whose first region
// is the one that gives up; it never takes the last region. moved says that
// anycast cannot carry the client where it was moved.
func (w *walk) shift(choice *Choice) (moved bool) {
	for i := range w.s.shifts {
		sh := &w.s.shifts[i]
		if w.n < 2 || sh.service >= 0 && sh.service != w.service {
			continue
		}
		choice.Sliced = choice.Sliced || w.list[0].soft
		if w.list[0].region != sh.from {
			continue
		}
		choice.Sliced = choice.Sliced || sh.Share < 1
		if !sh.shifted(w.slot) {
			if w.why != nil {
				w.why.addf(fleet.ReasonShift, sh.From, "shift %s moves %g %% of its clients, this one not among them", sh.ID, sh.Share*100)
			}
			continue
		}
		if w.why != nil {
			w.why.addf(fleet.ReasonShift, sh.From, "shift %s moves %g %% of its clients, this one among them", sh.ID, sh.Share*100)
		}
		copy(w.list[:], w.list[1:w.n])
		w.n--
		front := 0
		for _, to := range sh.to {
			for j := front; j < w.n; j++ {
				if w.list[j].region == to {
					e := w.list[j]
					copy(w.list[front+1:j+1], w.list[front:j])
					w.list[front] = e
					front++
					break
				}
			}
		}
		moved = moved || !sh.Drain
	}
	return moved
}

// spillOver passes over regions that have no room for the client's slot; where
// none has, the client stays.
func (w *walk) spillOver(choice *Choice) {
	if w.s.keep == nil || len(w.t.st.Demand) == 0 {
		return
	}
	for i, e := range w.list[:w.n] {
		choice.Sliced = choice.Sliced || e.soft
		keep := w.s.keep[e.region]
		if keep < 1 {
			choice.Sliced = true
			if draw(w.s.seeds[e.region], w.slot) >= keep {
				continue
			}
		}
		for _, full := range w.list[:i] {
			if w.why != nil {
				w.why.addf(fleet.ReasonSpill, w.s.id(full.region), "has room for %.1f %% of its clients, this one not among them", 100*w.s.keep[full.region])
			}
		}
		var passed [256]entry
		copy(passed[:], w.list[:i])
		copy(w.list[:], w.list[i:w.n])
		copy(w.list[w.n-i:], passed[:i])
		return
	}
}

// carry says whether anycast carries the client; where it should not, only
// regions with an address of their own can.
func (w *walk) carry(choice *Choice, open, moved bool) {
	if !w.s.carries(w.t, w.family) {
		return
	}
	blind := !open && w.vantage >= 0 && w.health.blind.has(uint8(w.vantage))
	own := w.s.vips[w.family]
	regional := slices.ContainsFunc(w.list[:w.n], func(e entry) bool { return own.has(e.region) })
	if !(moved || blind) || !regional {
		choice.Anycast = true
		return
	}
	kept := 0
	for _, e := range w.list[:w.n] {
		if own.has(e.region) {
			w.list[kept] = e
			kept++
		}
	}
	w.n = kept
	if blind && w.why != nil {
		w.why.addf(fleet.ReasonAnycast, "", "the anycast address is down as seen from %s: regional addresses instead", w.s.id(uint8(w.vantage)))
	}
}

// answer takes the regions of the answer: those at the front that one node
// names.
func (w *walk) answer(choice *Choice) {
	records := w.t.nodes[w.list[0].unit].records
	if choice.Anycast {
		records = 1
	}
	for _, e := range w.list[:w.n] {
		if int(choice.n) == records || e.unit != w.list[0].unit {
			choice.next = e.region
			break
		}
		choice.Sliced = choice.Sliced || e.soft && !choice.Anycast
		choice.regions[choice.n] = e.region
		choice.n++
		w.why.addf(fleet.ReasonChosen, w.s.id(e.region), "")
	}
}

// NextSliced says that what Next gives depends on the slot too: it is not
// among what Sliced counts.
func (s *Scene) NextSliced(service int) bool {
	for i := range s.classes.trees[service].nodes {
		if s.classes.trees[service].nodes[i].slots != nil {
			return true
		}
	}
	return false
}
