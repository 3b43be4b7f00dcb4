package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// EarlierGateways is the content of LiveGateways: a region's gateways as earlier
// revisions of the Spec had them, the oldest first. A gateway that is new, or has
// lost what it knew, knows from it where connections of before may be.
type EarlierGateways struct {
	Sets []GatewaySet `json:"sets"`
}

// GatewaySet is the gateways that layer 4 gave new connections to by the Spec, their
// health and the time that one takes to join aside.
type GatewaySet struct {
	Revision uint64          `json:"revision"` // the last that had them
	Until    time.Time       `json:"until"`    // when the next one was committed
	Gateways []GatewayWeight `json:"gateways"` // in order of name
}

// GatewayWeight is a gateway and its weight among the others.
type GatewayWeight struct {
	Name   string `json:"name"`
	Weight int    `json:"weight"`
}

// Gateways gives those that layer 4 gives a region's new connections to, their
// health aside, in order of name: the active ones, or those that drain where there
// is none.
func (s *Snapshot) Gateways(region string) []GatewayWeight {
	byState := map[AdminState][]GatewayWeight{}
	for _, n := range s.NodesWith(region, RoleL7) {
		byState[n.State] = append(byState[n.State], GatewayWeight{n.Name, n.Weight})
	}
	out := byState[Active]
	if len(out) == 0 {
		out = byState[Draining]
	}
	slices.SortFunc(out, func(a, b GatewayWeight) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Check says what is wrong, or nil: each gateway of a set has a name of its own, and
// a weight above 0.
func (e *EarlierGateways) Check() error {
	for i, set := range e.Sets {
		for j, g := range set.Gateways {
			if g.Name == "" || slices.ContainsFunc(set.Gateways[:j], func(b GatewayWeight) bool { return b.Name == g.Name }) {
				return fmt.Errorf("sets[%d].gateways[%d].name: %q: expected another name for each", i, j, g.Name)
			}
			if g.Weight < 1 {
				return fmt.Errorf("sets[%d].gateways[%d].weight: %d: expected 1 or more", i, j, g.Weight)
			}
		}
	}
	return nil
}
