package verdict

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"meridian/fleet"
)

// Report is what one live observer sees, put together from its frames.
type Report struct {
	Node, Region string
	Observer     Observer
	Targets      []fleet.Target
	Cells        []Cell                  // one for each of Targets
	Details      map[fleet.Target]string // what this node itself can add in words; may be nil
}

// vantage is under which name a report's view is shown and counted: probers
// speak for their region, all others for themselves.
func (r *Report) vantage() string {
	if r.Observer == Prober {
		return r.Region
	}
	return r.Node
}

// Change is one step from a View to the next.
type Change struct {
	Target   fleet.Target
	Vantage  string // whose verdict changed; empty for the fleet's
	From, To fleet.State
	Cause    fleet.Cause
	Detail   string
}

// Conclusion is a View, and what is new in it.
type Conclusion struct {
	View       *fleet.View
	Changes    []Change // the fleet's first, each in order of target and vantage
	Abstaining []string // nodes whose prober sees everything down and so is itself down; sorted
}

// Conclude makes the View of now out of the reports of all live observers.
// Reports must hold no observer twice; targets lists, without repeats, what the View may speak of;
// prev is the View before, or nil.
//
// Each vantage has one vote on a target. A region's probers agree on its vote
// by majority first. A region has no vote on itself where another has one, and
// a prober that sees everything else down has none at all (see cutOff, and Lone
// for the case that no other is left). The majority decides; a tie, or no vote
// at all, leaves things as they were, so that a node cut off from the others
// keeps what it last knew. What only observers of the target's own region can
// see, gateways and endpoints, becomes unknown with the last of them.
//
// View.Revision grows where a state or the set of probers changed; latencies
// alone only move View.At.
func Conclude(prev *fleet.View, reports []Report, targets []fleet.Target, now time.Time) Conclusion {
	if prev == nil {
		prev = &fleet.View{}
	}
	c := concluder{prev: prev, now: now, votes: make(map[fleet.Target][]vote, len(targets)),
		view: &fleet.View{Revision: prev.Revision, At: now,
			Verdicts: make(map[fleet.Target]fleet.Verdict, len(targets)),
			Vantages: make(map[fleet.VantageTarget]fleet.Verdict, len(prev.Vantages)),
			Probers:  map[string]bool{}}}
	for _, t := range targets {
		c.votes[t] = nil
	}
	for _, group := range byVantage(reports) {
		c.vantage(group)
	}
	for _, t := range targets {
		c.decide(t)
	}
	slices.Sort(c.abstaining)
	return compare(c.prev, c.view, c.abstaining)
}

// vote is one vantage's merged word on one target.
type vote struct {
	vantage string
	Cell
}

type concluder struct {
	prev       *fleet.View
	view       *fleet.View
	now        time.Time
	votes      map[fleet.Target][]vote // has a key for each target that the View may speak of
	abstaining []string
}

// byVantage groups reports by observer kind and vantage, in a fixed order.
func byVantage(reports []Report) [][]Report {
	rs := slices.Clone(reports)
	slices.SortFunc(rs, func(a, b Report) int {
		if d := int(a.Observer) - int(b.Observer); d != 0 {
			return d
		}
		if d := strings.Compare(a.vantage(), b.vantage()); d != 0 {
			return d
		}
		return strings.Compare(a.Node, b.Node)
	})
	var out [][]Report
	for i := 0; i < len(rs); {
		j := i + 1
		for j < len(rs) && rs[j].Observer == rs[i].Observer && rs[j].vantage() == rs[i].vantage() {
			j++
		}
		out = append(out, rs[i:j])
		i = j
	}
	return out
}

// vantage shows what one vantage sees and casts its votes, if it has any.
func (c *concluder) vantage(group []Report) {
	name, prober := group[0].vantage(), group[0].Observer == Prober
	voting := group
	if prober {
		voting = nil
		for _, r := range group {
			if cutOff(&r, c.prev) {
				c.abstaining = append(c.abstaining, r.Node)
			} else {
				voting = append(voting, r)
			}
		}
		c.view.Probers[name] = len(voting) > 0
	}
	shown := voting
	if len(shown) == 0 {
		shown = group
	}
	merge := func(t fleet.Target, cells []Cell, detail string) {
		key := fleet.VantageTarget{Vantage: name, Target: t}
		was := c.prev.Vantages[key]
		merged := majority(cells, was.State)
		if merged.State == fleet.Unknown {
			return
		}
		v := merged.since(was, c.now)
		if merged.Cause != fleet.CauseNone {
			v.Detail = detail
		}
		c.view.Vantages[key] = v
		if len(voting) > 0 {
			c.votes[t] = append(c.votes[t], vote{name, merged})
		}
	}
	if len(shown) == 1 { // as nearly always
		r := &shown[0]
		for i, t := range r.Targets {
			if _, ok := c.votes[t]; ok && r.Cells[i].State != fleet.Unknown {
				merge(t, r.Cells[i:i+1], r.Details[t])
			}
		}
		return
	}
	words := map[fleet.Target][]Cell{}
	details := map[fleet.Target]string{}
	for _, r := range shown {
		for i, t := range r.Targets {
			if _, ok := c.votes[t]; ok && r.Cells[i].State != fleet.Unknown {
				words[t] = append(words[t], r.Cells[i])
			}
		}
		maps.Copy(details, r.Details)
	}
	for t, cells := range words {
		merge(t, cells, details[t])
	}
}

// decide gives a target its verdict by the votes.
func (c *concluder) decide(t fleet.Target) {
	votes := c.votes[t]
	was, had := c.prev.Verdicts[t]
	local := t.Kind == fleet.TargetGateway || t.Kind == fleet.TargetEndpoint
	if t.Region != "" && !local {
		others := slices.DeleteFunc(slices.Clone(votes), func(v vote) bool { return v.vantage == t.Region })
		if len(others) > 0 {
			votes = others
		}
	}
	if len(votes) == 0 {
		if had && !local {
			c.view.Verdicts[t] = was
		}
		return
	}
	cells := make([]Cell, len(votes))
	for i, v := range votes {
		cells[i] = v.Cell
	}
	m := majority(cells, was.State)
	v := m.since(was, c.now)
	if v.State == fleet.Down || v.State == fleet.Drain {
		v.Detail = describe(v.State, votes)
	}
	c.view.Verdicts[t] = v
}

// majority merges words on one target, none of them unknown: down wins over
// all others by number, else drain over up. A tie keeps the state before.
func majority(cells []Cell, was fleet.State) Cell {
	var n [4]int
	for _, c := range cells {
		n[c.State]++
	}
	alive := n[fleet.Up] + n[fleet.Drain]
	out := Cell{State: was}
	switch {
	case n[fleet.Down] > alive:
		out.State = fleet.Down
	case n[fleet.Down] == alive:
		// a tie
	case n[fleet.Drain] > n[fleet.Up]:
		out.State = fleet.Drain
	case n[fleet.Up] > n[fleet.Drain] || was != fleet.Drain:
		out.State = fleet.Up
	}
	out.Cause = commonCause(cells, out.State)
	out.Latency = median(cells)
	return out
}

// commonCause is the cause that most of those who see state give, or
// CauseQuorum where no cause stands out.
func commonCause(cells []Cell, state fleet.State) fleet.Cause {
	if state != fleet.Down && state != fleet.Drain {
		return fleet.CauseNone
	}
	var n [16]int
	for _, c := range cells {
		if c.State == state {
			n[c.Cause]++
		}
	}
	best, tied := 0, false
	for i := 1; i < len(n); i++ {
		switch {
		case n[i] > n[best]:
			best, tied = i, false
		case n[i] == n[best]:
			tied = true
		}
	}
	if tied || n[best] == 0 {
		return fleet.CauseQuorum
	}
	return fleet.Cause(best)
}

// median of the known latencies of those who see the target alive.
func median(cells []Cell) time.Duration {
	var known []time.Duration
	for _, c := range cells {
		if c.State != fleet.Down && c.Latency > 0 {
			known = append(known, c.Latency)
		}
	}
	if len(known) == 0 {
		return 0
	}
	slices.Sort(known)
	return known[(len(known)-1)/2]
}

func (c Cell) since(was fleet.Verdict, now time.Time) fleet.Verdict {
	v := fleet.Verdict{State: c.State, Cause: c.Cause, Latency: c.Latency, Since: was.Since}
	if was.State != c.State || was.Since.IsZero() {
		v.Since = now
	}
	return v
}

// describe says who saw it, as "down from 2 of 3 vantages: nyc, sin".
func describe(s fleet.State, votes []vote) string {
	var who []string
	for _, v := range votes {
		if v.State == s {
			who = append(who, v.vantage)
		}
	}
	slices.Sort(who)
	return fmt.Sprintf("%s from %d of %d vantages: %s", s, len(who), len(votes), strings.Join(who, ", "))
}

// cutOff says whether a prober sees all of two or more other regions down at
// once: then it is more likely that it is itself cut off, and it abstains. A
// region counts as down when all its services are (its nameservers, where it
// has no services). Regions that the fleet already took for dead do not
// count, so that regions which fail one after the other are left one after
// the other, down to the last.
func cutOff(r *Report, prev *fleet.View) bool {
	type tally struct{ seen, down, already int }
	services, nameservers := map[string]tally{}, map[string]tally{}
	for i, t := range r.Targets {
		state := r.Cells[i].State
		if t.Region == "" || t.Region == r.Region || state == fleet.Unknown {
			continue
		}
		m := nameservers
		if t.Kind == fleet.TargetService {
			m = services
		}
		n := m[t.Region]
		n.seen++
		if state == fleet.Down {
			n.down++
		}
		if prev.Verdicts[t].State == fleet.Down {
			n.already++
		}
		m[t.Region] = n
	}
	for region, n := range nameservers {
		if _, ok := services[region]; !ok {
			services[region] = n
		}
	}
	regions := 0
	for _, n := range services {
		if n.already == n.seen {
			continue
		}
		if n.down < n.seen {
			return false
		}
		regions++
	}
	return regions >= 2
}

// compare tells a new View against the one before, whose Revision it has; it
// raises that where there is news.
func compare(prev, view *fleet.View, abstaining []string) Conclusion {
	out := Conclusion{View: view, Abstaining: abstaining}
	view.Changed = []fleet.VantageVerdict{}
	note := func(vantage string, t fleet.Target, was, is fleet.Verdict) {
		if was.State != is.State || was.Forced != is.Forced {
			view.Changed = append(view.Changed, fleet.VantageVerdict{VantageTarget: fleet.VantageTarget{Vantage: vantage, Target: t}, Verdict: is})
		}
		if was.State != is.State {
			out.Changes = append(out.Changes, Change{t, vantage, was.State, is.State, is.Cause, is.Detail})
		}
	}
	for t, is := range view.Verdicts {
		note("", t, prev.Verdicts[t], is)
	}
	for t, was := range prev.Verdicts {
		if _, ok := view.Verdicts[t]; !ok {
			note("", t, was, fleet.Verdict{})
		}
	}
	for k, is := range view.Vantages {
		note(k.Vantage, k.Target, prev.Vantages[k], is)
	}
	for k, was := range prev.Vantages {
		if _, ok := view.Vantages[k]; !ok {
			note(k.Vantage, k.Target, was, fleet.Verdict{})
		}
	}
	slices.SortFunc(out.Changes, func(a, b Change) int {
		if (a.Vantage == "") != (b.Vantage == "") {
			return len(a.Vantage) - len(b.Vantage)
		}
		return strings.Compare(a.Target.String()+"\x00"+a.Vantage, b.Target.String()+"\x00"+b.Vantage)
	})
	if len(view.Changed) > 0 || !maps.Equal(view.Probers, prev.Probers) {
		view.Revision++
	}
	return out
}
