package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/url"
	"strconv"
	"strings"
	"time"

	"meridian/cli"
	"meridian/dns/answer"
	"meridian/fleet"
	"meridian/rules"
)

// supposition is what an explanation supposes to be other than it is.
type supposition struct {
	down    cli.List // regions
	weights cli.List // SERVICE[/GROUP]:REGION=N
	shifts  cli.List // REGION:SHARE[:TO,…]
	spec    []byte   // a Spec in place of the present one; nil for none
}

func (s *supposition) register(fs *flag.FlagSet) {
	fs.Var(&s.down, "down", "as if `REGION` were down; repeatable")
	fs.Var(&s.weights, "weight", "as if a weight were another, given as `SERVICE:REGION=N`, or SERVICE/GROUP:REGION=N; repeatable")
	fs.Var(&s.shifts, "shift", "as if a shift were in force, given as `REGION:SHARE[:TO,…]`, as fra:25%:iad; repeatable")
}

func (s *supposition) any() bool {
	return len(s.down)+len(s.weights)+len(s.shifts) > 0 || s.spec != nil
}

// values adds the supposition to a query of the admin API.
func (s *supposition) values(q url.Values) {
	for key, list := range map[string]cli.List{"down": s.down, "weight": s.weights, "shift": s.shifts} {
		for _, v := range list {
			q.Add(key, v)
		}
	}
}

// suppositionOf reads one back.
func suppositionOf(q url.Values, spec []byte) *supposition {
	return &supposition{down: q["down"], weights: q["weight"], shifts: q["shift"], spec: spec}
}

// world gives the World that is supposed in place of w.
func (s *supposition) world(w *fleet.World, now time.Time) (*fleet.World, error) {
	out := *w
	var err error
	if s.spec != nil {
		if out.Snapshot, err = rules.Compile(s.spec, w.Snapshot.Revision); err != nil {
			return nil, err
		}
		out.Objects = maps.Clone(w.Objects)
		for k, o := range rules.Inline(out.Snapshot) {
			out.Objects[k] = o
		}
	}
	if len(s.weights) > 0 {
		if out.Snapshot, err = s.weighted(out.Snapshot); err != nil {
			return nil, err
		}
	}
	out.Shifts = append([]fleet.Shift{}, w.Shifts...)
	for _, text := range s.shifts {
		sh, err := parseSupposedShift(text)
		if err == nil {
			err = sh.Check(out.Snapshot)
		}
		if err != nil {
			return nil, fmt.Errorf("--shift %s: %w", text, err)
		}
		sh.Created = now
		out.Shifts = append(out.Shifts, *sh)
	}
	return &out, nil
}

func parseSupposedShift(text string) (*fleet.Shift, error) {
	parts := strings.Split(text, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return nil, fmt.Errorf("expected REGION:SHARE or REGION:SHARE:TO,TO")
	}
	share, err := parseShare(parts[1])
	if err != nil {
		return nil, err
	}
	sh := &fleet.Shift{ID: "supposed", From: parts[0], Share: share}
	if len(parts) == 3 {
		sh.To = strings.Split(parts[2], ",")
	}
	return sh, nil
}

// weighted gives the Snapshot with other weights.
func (s *supposition) weighted(old *fleet.Snapshot) (*fleet.Snapshot, error) {
	var spec fleet.Spec
	if err := json.Unmarshal(old.Canonical(), &spec); err != nil {
		return nil, fmt.Errorf("copying the Spec: %w", err)
	}
	for _, text := range s.weights {
		if err := setWeight(&spec, text); err != nil {
			return nil, fmt.Errorf("--weight %s: %w", text, err)
		}
	}
	doc, err := json.Marshal(&spec)
	if err != nil {
		return nil, fmt.Errorf("copying the Spec: %w", err)
	}
	return rules.Compile(doc, old.Revision)
}

func setWeight(spec *fleet.Spec, text string) error {
	where, number, ok1 := strings.Cut(text, "=")
	of, region, ok2 := strings.Cut(where, ":")
	n, err := strconv.Atoi(number)
	if !ok1 || !ok2 || err != nil {
		return fmt.Errorf("expected SERVICE:REGION=N")
	}
	service, group, _ := strings.Cut(of, "/")
	for i := range spec.Services {
		svc := &spec.Services[i]
		if svc.Service != service {
			continue
		}
		sel := &svc.Steering.Selection
		if group != "" {
			sel = nil
			for j := range svc.Steering.Groups {
				if svc.Steering.Groups[j].Group == group {
					sel = &svc.Steering.Groups[j].Selection
				}
			}
		}
		switch {
		case sel == nil:
			return fmt.Errorf("service %q has no group %q", service, group)
		case sel.Policy != fleet.Weighted:
			return fmt.Errorf("the policy is %s; weights are for policy weighted", sel.Policy)
		}
		sel.Weights[region] = n
		return nil
	}
	return fmt.Errorf("service %q does not exist", service)
}

// view gives the View that is supposed in place of v, which may be nil.
func (s *supposition) view(v *fleet.View, snap *fleet.Snapshot) (*fleet.View, error) {
	if v == nil {
		return supposed(snap, s.down)
	}
	if len(s.down) == 0 {
		return v, nil
	}
	out := *v
	out.Changed, out.Verdicts = nil, maps.Clone(v.Verdicts)
	lost, err := supposed(snap, s.down)
	if err != nil {
		return nil, err
	}
	for t, d := range lost.Verdicts {
		if d.State == fleet.Down {
			out.Verdicts[t] = d
		}
	}
	return &out, nil
}

// plan gives the plan that is supposed in place of one.
func (s *supposition) plan(p *answer.Plan, w *fleet.World, v *fleet.View, now time.Time) (*answer.Plan, error) {
	next, err := s.world(w, now)
	if err != nil {
		return nil, err
	}
	view, err := s.view(v, next.Snapshot)
	if err != nil {
		return nil, err
	}
	return p.Suppose(next, view, now)
}
