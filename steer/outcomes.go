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
	spec    *fleet.Spec
	svc     *fleet.Service
	leaves  []uint8 // regions that can be chosen, ascending
	records int
	empty   bool // the policy may serve no address
}

func outcomesOf(spec *fleet.Spec, service int) *outcomes {
	svc := &spec.Services[service]
	o := &outcomes{spec: spec, svc: svc, records: min(svc.Steering.Records, maxRecords), empty: svc.Steering.AllDown == fleet.FailClosed}
	for i := range spec.Regions {
		if len(svc.Steering.Regions) == 0 || slices.Contains(svc.Steering.Regions, spec.Regions[i].ID) {
			o.leaves = append(o.leaves, uint8(i))
		}
	}
	return o
}

// with gives the regions that have an address of the family.
func (o *outcomes) with(f Family) []uint8 {
	var out []uint8
	for _, r := range o.leaves {
		if hasVIP(o.spec.Regions[r].VIPs, f.index()) {
			out = append(out, r)
		}
	}
	return out
}

func (o *outcomes) anycast(f Family) bool {
	return o.svc.Steering.Answer == fleet.Anycast && hasVIP(o.spec.Anycast, f.index())
}

// none says whether a family can be without an address.
func (o *outcomes) none(f Family) bool {
	return o.empty || len(o.with(f)) == 0 && !o.anycast(f)
}

// count is the number of outcomes, reckoned without listing them, at most
// about a thousand million.
func (o *outcomes) count(f Family) int {
	n, total, choose := len(o.with(f)), 0, 1
	for k := 1; k <= min(o.records, n); k++ {
		choose = choose * (n - k + 1) / k
		if total += choose; total > 1_000_000_000 {
			break
		}
	}
	if o.anycast(f) {
		total++
	}
	if o.none(f) {
		total++
	}
	return total
}

func (o *outcomes) list(f Family) []Outcome {
	var out []Outcome
	if o.none(f) {
		out = append(out, Outcome{})
	}
	if o.anycast(f) {
		out = append(out, Outcome{Anycast: true})
	}
	regions := o.with(f)
	var extend func(from int, set []uint8)
	extend = func(from int, set []uint8) {
		for i := from; i < len(regions); i++ {
			next := append(slices.Clone(set), regions[i])
			out = append(out, Outcome{Regions: next})
			if len(next) < o.records {
				extend(i+1, next)
			}
		}
	}
	extend(0, nil)
	return out
}

// joint combines the outcomes of both families. Both follow from one order of
// regions, so that of two sets the one that ends first in it has no region of
// both families that the other lacks.
func (o *outcomes) joint(second bool) ([]HTTPSOutcome, error) {
	for _, f := range []Family{V4, V6} {
		if n := o.count(f); n > MaxOutcomes {
			return nil, &TooManyOutcomes{n}
		}
	}
	var out []HTTPSOutcome
	total := 0
	for _, v4 := range o.list(V4) {
		for _, v6 := range o.list(V6) {
			if !o.together(&v4, &v6) {
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
			for _, r := range o.leaves {
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

// together says whether both outcomes can hold at one time for one client.
func (o *outcomes) together(v4, v6 *Outcome) bool {
	if v4.Anycast || v6.Anycast {
		return true
	}
	return o.within(v4.Regions, v6.Regions, V6) || o.within(v6.Regions, v4.Regions, V4)
}

// within says whether every region of a that has the family is in b.
func (o *outcomes) within(a, b []uint8, f Family) bool {
	for _, r := range a {
		if hasVIP(o.spec.Regions[r].VIPs, f.index()) && !slices.Contains(b, r) {
			return false
		}
	}
	return true
}
