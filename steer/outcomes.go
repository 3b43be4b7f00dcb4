package steer

import (
	"fmt"
	"slices"

	"meridian/fleet"
)

// MaxOutcomes is how many answers a steered name of a signed zone may have
// for one type, so that all of them can be signed ahead of the query.
const MaxOutcomes = 256

// Outcome is one set of regions that a decision can come to, order left aside.
type Outcome struct {
	Regions []uint8 // indexes in the Spec, ascending; none: no address is served
	Anycast bool    // the anycast addresses are served; Regions is empty
}

// HTTPSOutcome is what an HTTPS record set can be made of.
type HTTPSOutcome struct {
	V4, V6 Outcome // what A and AAAA answer at the same time
	Second int     // region of the record of lower priority; -1 for none
}

// TooManyOutcomes says that a service has more than MaxOutcomes answers.
type TooManyOutcomes struct{ Count int }

func (e *TooManyOutcomes) Error() string {
	return fmt.Sprintf("steering can produce %d answers, and at most %d can be signed ahead: take fewer regions or fewer records", e.Count, MaxOutcomes)
}

// Outcomes gives every set of regions that a decision on a service, an index
// in the Spec, can come to for a family, whatever health, shifts and clients
// are; a *TooManyOutcomes where there are more than MaxOutcomes.
func Outcomes(s *fleet.Snapshot, service int, f Family) ([]Outcome, error) {
	o := outcomesOf(s.Spec, service)
	if n := o.count(f); n > MaxOutcomes {
		return nil, &TooManyOutcomes{n}
	}
	return o.list(f), nil
}

// HTTPSOutcomes gives every combination that an HTTPS record set of the
// service can be made of; second says that it has a record of lower priority.
func HTTPSOutcomes(s *fleet.Snapshot, service int, second bool) ([]HTTPSOutcome, error) {
	o := outcomesOf(s.Spec, service)
	return o.joint(second)
}

// outcomes is what the outcomes of a service follow from.
type outcomes struct {
	spec *fleet.Spec
	t    *tree
}

func outcomesOf(spec *fleet.Spec, service int) *outcomes {
	return &outcomes{spec, newTree(spec, indexRegions(spec), &spec.Services[service].Steering)}
}

// with gives those of some regions that have an address of the family.
func (o *outcomes) with(f Family, regions []uint8) []uint8 {
	return slices.DeleteFunc(slices.Clone(regions), func(r uint8) bool { return !hasVIP(o.spec.Regions[r].VIPs, f.index()) })
}

func (o *outcomes) leaves() []uint8 { return slices.Sorted(slices.Values(o.t.reach(0))) }

func (o *outcomes) anycast(f Family) bool {
	return o.t.st.Answer == fleet.Anycast && hasVIP(o.spec.Anycast, f.index())
}

// none says whether a family can be without an address: where the policy fails
// closed, and where no candidate has one to fail open with.
func (o *outcomes) none(f Family) bool {
	if o.t.st.AllDown == fleet.FailClosed {
		return true
	}
	var members []uint8
	for _, m := range o.t.nodes[0].members {
		members = append(members, m.leaves...)
	}
	return len(o.with(f, members)) == 0 && !o.anycast(f)
}

// units gives the regions that each node names itself: an answer is some of
// one node's.
func (o *outcomes) units(f Family) (regions [][]uint8, records []int) {
	for i := range o.t.nodes {
		n := &o.t.nodes[i]
		var own []uint8
		for _, m := range slices.Concat(n.members, n.fallback) {
			if m.node == 0 && !slices.Contains(own, m.region) {
				own = append(own, m.region)
			}
		}
		slices.Sort(own)
		regions, records = append(regions, o.with(f, own)), append(records, n.records)
	}
	return regions, records
}

// count is the number of outcomes. Where there are very many it is reckoned
// without listing them, up to about a thousand million, and those that two
// groups share count twice.
func (o *outcomes) count(f Family) int {
	total := 0
	units, records := o.units(f)
	for i, own := range units {
		choose := 1
		for k := 1; k <= min(records[i], len(own)) && total < 1_000_000_000; k++ {
			choose = choose * (len(own) - k + 1) / k
			total += choose
		}
	}
	if total > 20*MaxOutcomes {
		return total
	}
	return len(o.list(f))
}

// list gives each outcome once.
func (o *outcomes) list(f Family) []Outcome {
	var out []Outcome
	if o.none(f) {
		out = append(out, Outcome{})
	}
	if o.anycast(f) {
		out = append(out, Outcome{Anycast: true})
	}
	seen := map[string]bool{}
	units, records := o.units(f)
	for i, own := range units {
		var extend func(from int, set []uint8)
		extend = func(from int, set []uint8) {
			for j := from; j < len(own); j++ {
				next := append(slices.Clone(set), own[j])
				if !seen[string(next)] {
					seen[string(next)] = true
					out = append(out, Outcome{Regions: next})
				}
				if len(next) < records[i] {
					extend(j+1, next)
				}
			}
		}
		extend(0, nil)
	}
	return out
}

// joint combines the outcomes of both families. Where every candidate has
// both, they are the same regions; where some lack one, health and shifts may
// part them.
func (o *outcomes) joint(second bool) ([]HTTPSOutcome, error) {
	for _, f := range []Family{V4, V6} {
		if n := o.count(f); n > MaxOutcomes {
			return nil, &TooManyOutcomes{n}
		}
	}
	leaves := o.leaves()
	alike := slices.Equal(o.with(V4, leaves), o.with(V6, leaves)) && o.anycast(V4) == o.anycast(V6)
	var out []HTTPSOutcome
	total := 0
	for _, v4 := range o.list(V4) {
		for _, v6 := range o.list(V6) {
			if alike && (v4.Anycast != v6.Anycast || !slices.Equal(v4.Regions, v6.Regions)) {
				continue
			}
			add := func(second int) {
				if total++; total <= MaxOutcomes {
					out = append(out, HTTPSOutcome{v4, v6, second})
				}
			}
			add(-1)
			if !second || v4.Anycast || v6.Anycast || len(v4.Regions)+len(v6.Regions) == 0 {
				continue
			}
			for _, r := range leaves {
				if !slices.Contains(v4.Regions, r) && !slices.Contains(v6.Regions, r) {
					add(int(r))
				}
			}
		}
	}
	if total > MaxOutcomes {
		return nil, &TooManyOutcomes{total}
	}
	return out, nil
}
