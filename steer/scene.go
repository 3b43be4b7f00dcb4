package steer

import (
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

// condition is what health makes of one region for one service.
type condition struct {
	verdict fleet.Verdict
	out     bool // takes no new clients
	last    bool // out by an operator's word: the last to be served when failing open
}

// Scene is a fleet at one moment: a Snapshot's classes, a View and the shifts
// in force. It is immutable and safe for concurrent use.
type Scene struct {
	classes *Classes
	view    *fleet.View
	shifts  []fleet.Shift
	health  [][]condition // by service and region
	vips    [2][]bool     // by family and region: it has an address of its own
	anycast [2]bool       // by family
	seen    [][][]bool    // by service, vantage and region: down as seen from there
	blind   [][]bool      // by service and vantage: the anycast address is down as seen from there
	probing []bool        // by region: it has a live prober
}

// NewScene prepares decisions at one moment. Shifts that have expired at now
// have no effect.
func NewScene(c *Classes, v *fleet.View, shifts []fleet.Shift, now time.Time) *Scene {
	s := &Scene{classes: c, view: v}
	for _, sh := range shifts {
		if sh.Active(now) && sh.Share > 0 {
			s.shifts = append(s.shifts, sh)
		}
	}
	spec := c.snap.Spec
	for f := range s.vips {
		for i := range c.regions {
			s.vips[f] = append(s.vips[f], hasVIP(c.regions[i].VIPs, f))
		}
		s.anycast[f] = hasVIP(spec.Anycast, f)
	}
	for i := range c.regions {
		s.probing = append(s.probing, v != nil && v.Probers[c.regions[i].ID])
	}
	for i := range spec.Services {
		s.addService(spec.Services[i].Service)
	}
	return s
}

// hasVIP takes the family as an index: 0 for IPv4.
func hasVIP(v fleet.VIPs, family int) bool {
	if family == 0 {
		return len(v.V4) > 0
	}
	return len(v.V6) > 0
}

func (f Family) index() int {
	if f == V6 {
		return 1
	}
	return 0
}

func (s *Scene) addService(name string) {
	regions := s.classes.regions
	var health []condition
	for i := range regions {
		v := s.view.Get(fleet.Target{Kind: fleet.TargetService, Region: regions[i].ID, Service: name})
		out := v.State == fleet.Down || v.State == fleet.Drain
		health = append(health, condition{v, out, out && (v.Forced || v.State == fleet.Drain)})
	}
	s.health = append(s.health, health)
	seen, blind := make([][]bool, len(regions)), make([]bool, len(regions))
	for v := range regions {
		if !s.probing[v] {
			continue
		}
		for r := range regions {
			from := s.view.From(regions[v].ID, fleet.Target{Kind: fleet.TargetService, Region: regions[r].ID, Service: name})
			seen[v] = append(seen[v], from.State == fleet.Down)
		}
		blind[v] = s.view.From(regions[v].ID, fleet.Target{Kind: fleet.TargetAnycast, Service: name}).State == fleet.Down
	}
	s.seen, s.blind = append(s.seen, seen), append(s.blind, blind)
}

// vantage gives the region nearest to the class that has a live prober, or -1.
func (s *Scene) vantage(c *Class) int {
	for _, r := range c.near {
		if s.probing[r] {
			return int(r)
		}
	}
	return -1
}

// Choice is a decision without its reasons. It is comparable: equal choices
// have equal answers.
type Choice struct {
	regions [maxRecords]uint8
	n       uint8
	Anycast bool // answer with the anycast addresses
	Sliced  bool // depends on the client's slot as well as its class
}

// maxRecords is the greatest steering.records.
const maxRecords = 8

// Regions lists the indexes in the Spec of the chosen regions, best first.
func (c *Choice) Regions() []uint8 { return c.regions[:c.n] }

// Choose decides for the clients of a class that fall into a slot; service is
// an index in the Spec. It allocates nothing that lives on.
func (s *Scene) Choose(service int, f Family, class *Class, slot Slot) Choice {
	return s.decide(service, f, class, slot, nil)
}

// decide is the one decision of this package; why may be nil.
func (s *Scene) decide(service int, f Family, class *Class, slot Slot, why *trace) Choice {
	svc := &s.classes.snap.Spec.Services[service]
	var choice Choice
	order := s.classes.ranked(service, class, slot)
	choice.Sliced = s.classes.weighed[service] != nil && positive(svc.Steering.Weights) > 1
	vantage := s.vantage(class)
	var room [256]uint8
	list := s.eligible(room[:0], service, f, order, vantage, why)
	healthy := len(list) > 0
	if !healthy {
		if list = s.failOpen(room[:0], service, f, order, why); len(list) == 0 {
			return choice
		}
	}
	list, moved := s.shift(list, svc.Service, slot, &choice, why)
	if svc.Steering.Answer == fleet.Anycast && s.anycast[f.index()] {
		blind := healthy && vantage >= 0 && s.blind[service][vantage]
		list, choice.Anycast = s.carry(list, f, moved || blind)
		if blind && !choice.Anycast {
			why.addf(fleet.ReasonAnycast, "", "the anycast address is down as seen from %s: regional addresses instead", s.id(vantage))
		}
	}
	n := svc.Steering.Records
	if choice.Anycast {
		n = 1
	}
	choice.n = uint8(copy(choice.regions[:min(n, maxRecords)], list))
	for _, r := range choice.Regions() {
		why.addf(fleet.ReasonChosen, s.id(int(r)), "")
	}
	return choice
}

// carry says whether anycast carries the client; where it should not, only
// regions with an address of their own can.
func (s *Scene) carry(list []uint8, f Family, avoid bool) (_ []uint8, anycast bool) {
	if !avoid || !slices.ContainsFunc(list, func(r uint8) bool { return s.vips[f.index()][r] }) {
		return list, true
	}
	kept := list[:0]
	for _, r := range list {
		if s.vips[f.index()][r] {
			kept = append(kept, r)
		}
	}
	return kept, false
}

func positive(weights map[string]int) int {
	n := 0
	for _, w := range weights {
		if w > 0 {
			n++
		}
	}
	return n
}

func (s *Scene) id(region int) string { return s.classes.regions[region].ID }

// has says whether a region can be answered at all: with a regional address of
// the family, or any region where the answer is anycast.
func (s *Scene) has(service int, f Family, region uint8) bool {
	if s.vips[f.index()][region] {
		return true
	}
	return s.classes.snap.Spec.Services[service].Steering.Answer == fleet.Anycast && s.anycast[f.index()]
}

// eligible keeps the candidates that health allows, in order. What the
// client's own vantage sees counts too, but not where it would leave none:
// then that prober's network is what fails.
func (s *Scene) eligible(out []uint8, service int, f Family, order []uint8, vantage int, why *trace) []uint8 {
	alive := 0
	for _, r := range order {
		h := &s.health[service][r]
		switch {
		case !s.has(service, f, r):
			why.addf(fleet.ReasonNoVIP, s.id(int(r)), "no IPv%d address", f)
		case h.out:
			why.down(s.id(int(r)), h.verdict)
		default:
			if h.verdict.State == fleet.Unknown {
				why.addf(fleet.ReasonUnknown, s.id(int(r)), "no verdict: kept")
			}
			out = append(out, r)
			if vantage < 0 || !s.seen[service][vantage][r] {
				alive++
			}
		}
	}
	if vantage < 0 || alive == 0 || alive == len(out) {
		return out
	}
	kept := out[:0]
	for _, r := range out {
		if s.seen[service][vantage][r] {
			why.addf(fleet.ReasonDown, s.id(int(r)), "down as seen from %s", s.id(vantage))
			continue
		}
		kept = append(kept, r)
	}
	return kept
}

// failOpen gives all candidates as if healthy, but those that an operator took
// out only where there is no other; none where the policy fails closed.
func (s *Scene) failOpen(out []uint8, service int, f Family, order []uint8, why *trace) []uint8 {
	candidates := 0
	for _, r := range order {
		if s.has(service, f, r) {
			candidates++
			if !s.health[service][r].last {
				out = append(out, r)
			}
		}
	}
	if candidates == 0 {
		return nil
	}
	why.addf(fleet.ReasonAllDown, "", "health leaves no region")
	if s.classes.snap.Spec.Services[service].Steering.AllDown == fleet.FailClosed {
		why.addf(fleet.ReasonFailClose, "", "no address is served")
		return nil
	}
	if len(out) == 0 {
		for _, r := range order {
			if s.has(service, f, r) {
				out = append(out, r)
			}
		}
	}
	why.addf(fleet.ReasonFailOpen, "", "regions are served as if healthy")
	return out
}

// shift applies the shifts in order. A shift moves clients whose first region
// is the one that gives up; it never takes the last region. moved says that
// anycast cannot carry the client where it was moved.
func (s *Scene) shift(list []uint8, service string, slot Slot, choice *Choice, why *trace) (_ []uint8, moved bool) {
	for i := range s.shifts {
		sh := &s.shifts[i]
		if len(list) < 2 || s.id(int(list[0])) != sh.From || sh.Service != "" && sh.Service != service {
			continue
		}
		choice.Sliced = choice.Sliced || sh.Share < 1
		if !shifted(sh, slot) {
			continue
		}
		why.addf(fleet.ReasonShift, sh.From, "shift %s moves %g %% of its clients, this one among them", sh.ID, sh.Share*100)
		list = list[1:]
		front := 0
		for _, to := range sh.To {
			for j := front; j < len(list); j++ {
				if s.id(int(list[j])) == to {
					r := list[j]
					copy(list[front+1:j+1], list[front:j])
					list[front] = r
					front++
					break
				}
			}
		}
		moved = moved || !sh.Drain
	}
	return list, moved
}

// Key names what a decision of the service depends on in a class of Classes,
// besides the slot: classes of one key are decided alike in this scene.
func (s *Scene) Key(service int, c *Class) uint64 {
	key := uint64(s.vantage(c) + 1)
	if r := c.ranks[s.classes.kinds[service]]; r != nil {
		key |= uint64(r.id) << 16
	}
	return key
}

// Same says whether all decisions are those of another scene.
func (s *Scene) Same(o *Scene) bool {
	if s.classes != o.classes || !slices.Equal(s.probing, o.probing) || len(s.shifts) != len(o.shifts) {
		return false
	}
	for i := range s.shifts {
		a, b := s.shifts[i], o.shifts[i]
		if a.ID != b.ID || a.From != b.From || a.Service != b.Service || a.Share != b.Share || a.Drain != b.Drain || !slices.Equal(a.To, b.To) {
			return false
		}
	}
	for i := range s.health {
		if !slices.EqualFunc(s.health[i], o.health[i], func(a, b condition) bool { return a.out == b.out && a.last == b.last }) ||
			!slices.Equal(s.blind[i], o.blind[i]) || !slices.EqualFunc(s.seen[i], o.seen[i], slices.Equal) {
			return false
		}
	}
	return true
}

// Revision is that of the View.
func (s *Scene) Revision() uint64 {
	if s.view == nil {
		return 0
	}
	return s.view.Revision
}
