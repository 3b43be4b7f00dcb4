package steer

import (
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"meridian/fleet"
)

// Family is the kind of address that is asked for.
type Family uint8

// The families.
const (
	V4 Family = 4
	V6 Family = 6
)

func (f Family) index() int {
	if f == V6 {
		return 1
	}
	return 0
}

// hasVIP takes the family as an index: 0 for IPv4.
func hasVIP(v fleet.VIPs, family int) bool {
	if family == 0 {
		return len(v.V4) > 0
	}
	return len(v.V6) > 0
}

// health is what the View says that matters to one service. It is comparable.
type health struct {
	out   mask   // regions that take no new clients
	last  mask   // of those, by an operator's word: the last to be served when failing open
	blind mask   // vantages that see the anycast addresses down
	seen  string // for each vantage one bit a region, down as seen from there; empty where none sees any down
}

func (h *health) down(vantage int, region uint8, regions int) bool {
	if h.seen == "" || vantage < 0 {
		return false
	}
	return h.seen[vantage*stride(regions)+int(region>>3)]>>(region&7)&1 != 0
}

// stride is the octets that one vantage has in health.seen.
func stride(regions int) int { return (regions + 7) / 8 }

// shift is a fleet.Shift with names resolved.
type shift struct {
	*fleet.Shift
	from    uint8
	to      []uint8
	service int // -1: all
	seed    uint64
}

// shifted says whether a slot is among the share of clients that the shift
// moves. A greater share moves the same slots and more.
func (sh *shift) shifted(slot Slot) bool { return sh.Share >= 1 || draw(sh.seed, slot) < sh.Share }

// Scene is a fleet at one moment: a Snapshot's classes, a View and the shifts
// in force. It is immutable and safe for concurrent use.
type Scene struct {
	classes *Classes
	view    *fleet.View
	now     time.Time
	shifts  []shift
	vips    [2]mask  // by family: regions with an address of their own
	anycast [2]bool  // by family
	admin   mask     // regions that the Spec takes out
	health  []health // by service
	probing []bool   // by region: it has a live prober
	rtt     *latencies
	byRTT   [][][]uint8 // by kind, for those that go by latency: by ranking × nodes + node
	keep    []float64   // by region: the share of its clients that it can take; nil where there is room for all
	seeds   []uint64    // by region: of the draw for spill-over
}

// NewScene prepares decisions at one moment. Shifts that have expired at now
// have no effect. before is the scene that held until now, or nil: what has not
// changed is taken over, and measured latencies are damped by it.
func NewScene(c *Classes, v *fleet.View, shifts []fleet.Shift, now time.Time, before *Scene) *Scene {
	s := &Scene{classes: c, view: v, now: now}
	s.addShifts(shifts, now)
	spec := c.snap.Spec
	for i := range c.regions {
		r := &c.regions[i]
		for f := range s.vips {
			if hasVIP(r.VIPs, f) {
				s.vips[f].set(uint8(i))
			}
		}
		s.probing = append(s.probing, v != nil && v.Probers[r.ID])
		s.seeds = append(s.seeds, seed("spill", r.ID))
	}
	for f := range s.anycast {
		s.anycast[f] = hasVIP(spec.Anycast, f)
	}
	s.admin = takenOut(c.snap)
	s.read(before)
	s.measure(before)
	s.keep = s.spill()
	return s
}

func (s *Scene) addShifts(shifts []fleet.Shift, now time.Time) {
	for i := range shifts {
		sh := &shifts[i]
		from, ok := s.classes.index[sh.From]
		if !ok || !sh.Active(now) || sh.Share <= 0 {
			continue
		}
		out := shift{Shift: sh, from: uint8(from), service: -1, seed: seed("shift", sh.From)}
		for _, id := range sh.To {
			if to, ok := s.classes.index[id]; ok {
				out.to = append(out.to, uint8(to))
			}
		}
		if sh.Service != "" {
			if out.service, ok = s.classes.services[sh.Service]; !ok {
				continue
			}
		}
		s.shifts = append(s.shifts, out)
	}
}

// takenOut gives the regions that the Spec takes out of steering: by their own
// state, or because none of their edge nodes is active.
func takenOut(s *fleet.Snapshot) mask {
	var out mask
	type nodes struct{ edge, active bool }
	of := map[string]nodes{}
	for i := range s.Spec.Nodes {
		if n := &s.Spec.Nodes[i]; n.Has(fleet.RoleL4) || n.Has(fleet.RoleL7) {
			of[n.Region] = nodes{true, of[n.Region].active || n.State == fleet.Active}
		}
	}
	for i := range s.Spec.Regions {
		r := &s.Spec.Regions[i]
		if n := of[r.ID]; r.State == fleet.Draining || r.State == fleet.Disabled || n.edge && !n.active {
			out.set(uint8(i))
		}
	}
	return out
}

// read takes from the View what matters. Where the scene before is of the same
// View nothing is read, and where it is of the View before, only what has
// changed since.
func (s *Scene) read(before *Scene) {
	services := len(s.classes.trees)
	alike := before != nil && before.classes.snap == s.classes.snap && len(before.health) == services
	if alike && before.view == s.view {
		s.health = before.health
		return
	}
	if alike && s.follows(before) {
		s.health = slices.Clone(before.health)
		for i := range s.view.Changed {
			s.note(s.view.Changed[i].VantageTarget, s.view.Changed[i].Verdict)
		}
		return
	}
	s.health = make([]health, services)
	for i := range s.health {
		s.health[i].out, s.health[i].last = s.admin, s.admin
	}
	if s.view == nil {
		return
	}
	for t, v := range s.view.Verdicts {
		if v.State == fleet.Down || v.State == fleet.Drain {
			s.note(fleet.VantageTarget{Target: t}, v)
		}
	}
	for k, v := range s.view.Vantages {
		if v.State == fleet.Down {
			s.note(k, v)
		}
	}
}

// follows says whether the View tells what has changed since that of before:
// it is the next one, or the same but for latencies.
func (s *Scene) follows(before *Scene) bool {
	if s.view == nil || before.view == nil || s.view.Changed == nil {
		return false
	}
	return s.view.Revision == before.view.Revision+1 || s.view.Revision == before.view.Revision && len(s.view.Changed) == 0
}

// note enters one verdict.
func (s *Scene) note(k fleet.VantageTarget, v fleet.Verdict) {
	service, ok := s.classes.services[k.Target.Service]
	if !ok {
		return
	}
	h := &s.health[service]
	down := v.State == fleet.Down
	switch k.Target.Kind {
	case fleet.TargetAnycast:
		if from, ok := s.classes.index[k.Vantage]; ok {
			if h.blind.clear(uint8(from)); down {
				h.blind.set(uint8(from))
			}
		}
	case fleet.TargetService:
		r, ok := s.classes.index[k.Target.Region]
		if !ok {
			return
		}
		if k.Vantage != "" {
			s.see(h, k.Vantage, uint8(r), down)
			return
		}
		region := uint8(r)
		h.out.clear(region)
		h.last.clear(region)
		out := down || v.State == fleet.Drain
		if out || s.admin.has(region) {
			h.out.set(region)
		}
		if out && (v.Forced || v.State == fleet.Drain) || s.admin.has(region) {
			h.last.set(region)
		}
	}
}

// see enters what one vantage sees of a region.
func (s *Scene) see(h *health, vantage string, region uint8, down bool) {
	from, ok := s.classes.index[vantage]
	if !ok || !down && h.seen == "" {
		return
	}
	n := len(s.classes.regions)
	b := make([]byte, n*stride(n))
	copy(b, h.seen)
	at := &b[from*stride(n)+int(region>>3)]
	if *at &^= 1 << (region & 7); down {
		*at |= 1 << (region & 7)
	}
	h.seen = ""
	if slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) {
		h.seen = string(b)
	}
}

// measure ranks anew what goes by latency, where that has changed.
func (s *Scene) measure(before *Scene) {
	if !slices.ContainsFunc(s.classes.kinds, func(k *kind) bool { return k.tree.measured }) {
		return
	}
	same := before != nil && len(before.classes.kinds) > 0 && &before.classes.kinds[0] == &s.classes.kinds[0]
	if same {
		s.rtt = before.rtt
	}
	if before != nil && !same && slices.EqualFunc(before.classes.regions, s.classes.regions, func(a, b fleet.Region) bool { return a.ID == b.ID }) {
		s.rtt = before.rtt
	}
	had := s.rtt
	s.rtt = s.classes.measure(s.view, had)
	if same && s.rtt == had && before.byRTT != nil {
		s.byRTT = before.byRTT
		return
	}
	s.byRTT = make([][][]uint8, len(s.classes.kinds))
	for i, k := range s.classes.kinds {
		if !k.tree.measured {
			continue
		}
		for _, r := range k.list {
			for j := range k.tree.nodes {
				s.byRTT[i] = append(s.byRTT[i], s.measured(&k.tree.nodes[j], r))
			}
		}
	}
}

// measured gives the order of a node's members that goes by latency; nil for
// other nodes.
func (s *Scene) measured(n *node, r *Ranking) []uint8 {
	if n.sel.Policy != fleet.Latency || r.ms == nil {
		return nil
	}
	return s.rtt.byLatency(n, r)
}

// order gives the positions of a node's members for a ranking and slot, best
// first; nil for the Spec's order.
func (s *Scene) order(t *tree, r *Ranking, at uint8, slot Slot) []uint8 {
	n := &t.nodes[at]
	if n.slots != nil {
		return n.slots.at(slot)
	}
	if o := r.orders[at]; o != nil || n.sel.Policy != fleet.Latency {
		return o
	}
	if list := s.classes.kinds[t.kind].list; int(r.id) < len(list) && list[r.id] == r {
		return s.byRTT[t.kind][int(r.id)*len(t.nodes)+int(at)]
	}
	return s.measured(n, r)
}

// vantage gives the region nearest to the place that has a live prober, or -1.
func (s *Scene) vantage(r *Ranking) int {
	for _, i := range r.near.at[:r.near.n] {
		if s.probing[i] {
			return int(i)
		}
	}
	return -1
}

func (s *Scene) id(region uint8) string { return s.classes.regions[region].ID }

// View is what the scene was made of; it may be nil.
func (s *Scene) View() *fleet.View { return s.view }

// At is the moment that it was made for.
func (s *Scene) At() time.Time { return s.now }

// Revision is that of the View.
func (s *Scene) Revision() uint64 {
	if s.view == nil {
		return 0
	}
	return s.view.Revision
}

// Key names what the decisions on a service depend on in a scene, besides
// ranking, slot and family. Among scenes with the same ground (see Ground),
// services of one key are decided alike.
type Key struct {
	tree   int
	health health
	shifts string // the service's name, where a shift is for it alone
	rtt    *latencies
	keep   string
}

// Key gives the key of a service.
func (s *Scene) Key(service int) Key {
	t := s.classes.trees[service]
	k := Key{tree: t.id, health: s.health[service]}
	k.health.out = k.health.out.and(t.leaves)
	k.health.last = k.health.last.and(t.leaves)
	for i := range s.shifts {
		if s.shifts[i].service == service {
			k.shifts = s.classes.snap.Spec.Services[service].Service
		}
	}
	if t.measured {
		k.rtt = s.rtt
	}
	if s.keep != nil && len(t.st.Demand) > 0 {
		k.keep = text(s.keep)
	}
	return k
}

// Ground says whether decisions of one key are the same in both scenes.
func (s *Scene) Ground(o *Scene) bool {
	return s.classes == o.classes && slices.Equal(s.probing, o.probing) &&
		slices.EqualFunc(s.shifts, o.shifts, func(a, b shift) bool {
			return a.ID == b.ID && a.from == b.from && a.service == b.service && a.Share == b.Share && a.Drain == b.Drain && slices.Equal(a.to, b.to)
		})
}

// Effect names what a ranking comes to in the scene for a service: rankings of
// one effect are decided alike in every slot.
func (s *Scene) Effect(service int, r *Ranking) string {
	t := s.classes.trees[service]
	var b []byte
	for i := range t.nodes {
		if t.nodes[i].slots == nil {
			o := s.order(t, r, uint8(i), 0)
			b = append(append(b, byte(len(o))), o...)
		}
	}
	return string(s.appendSeen(b, service, s.vantage(r)))
}

// appendSeen appends what a vantage, or none where it is -1, sees otherwise
// than the fleet, of what a service may answer.
func (s *Scene) appendSeen(b []byte, service, vantage int) []byte {
	h, leaves := &s.health[service], &s.classes.trees[service].leaves
	if h.seen == "" && h.blind == (mask{}) {
		return b
	}
	var down mask
	for i := range s.classes.regions {
		if r := uint8(i); leaves.has(r) && !h.out.has(r) && h.down(vantage, r, len(s.classes.regions)) {
			down.set(r)
		}
	}
	for _, m := range down {
		b = binary.LittleEndian.AppendUint64(b, m)
	}
	if vantage >= 0 && h.blind.has(uint8(vantage)) {
		return append(b, 1)
	}
	return append(b, 0)
}

// Latencies gives the damped measures between regions that the scene goes by,
// as vantage to region to step; nil where no service goes by them. A scene
// made with the same is the same: see Recalled.
func (s *Scene) Latencies() map[string]map[string]int8 {
	if s.rtt == nil {
		return nil
	}
	out := map[string]map[string]int8{}
	for v := range s.classes.regions {
		for r := range s.classes.regions {
			if step := s.rtt.step[v*s.rtt.regions+r]; step != unmeasured {
				if out[s.id(uint8(v))] == nil {
					out[s.id(uint8(v))] = map[string]int8{}
				}
				out[s.id(uint8(v))][s.id(uint8(r))] = step
			}
		}
	}
	return out
}

// Recalled gives a scene that knows but the latencies that another one went
// by, to stand as the one before in NewScene.
func Recalled(c *Classes, steps map[string]map[string]int8) *Scene {
	n := len(c.regions)
	l := &latencies{n, slices.Repeat([]int8{unmeasured}, n*n)}
	for v := range maps.Keys(steps) {
		for r, step := range steps[v] {
			from, ok1 := c.index[v]
			to, ok2 := c.index[r]
			if ok1 && ok2 {
				l.step[from*n+to] = step
			}
		}
	}
	return &Scene{classes: c, rtt: l}
}
