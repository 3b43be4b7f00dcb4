package xdp

import (
	"time"

	"meridian/edge/maglev"
	"meridian/fleet"
)

// choice is what health makes of a group: who is in the ring, and whose flows
// may stay.
type choice struct {
	ring   []int        // indexes in group.members
	keep   map[int]bool // members that may keep flows; holds those of the ring
	weight map[int]int  // of those of the ring that have less than their own
}

// choose applies health and the operator's word to a group. A member that is
// down is out, and so is one that has not joined yet; one that drains keeps its
// flows and gets no new ones. Where that leaves no one, the group fails open:
// first to those that drain, then to all.
func (g *group) choose(state func(fleet.Target) fleet.State, joined map[memberKey]bool) choice {
	var up, draining, all []int
	for i, m := range g.members {
		if m.key.how == edgeForwardFORWARD_NONE {
			continue
		}
		all = append(all, i)
		switch s := state(m.key.target); {
		case s == fleet.Down || !joined[m.key]:
		case s == fleet.Drain || m.admin == fleet.Draining:
			draining = append(draining, i)
		default:
			up = append(up, i)
		}
	}
	c := choice{ring: up, keep: map[int]bool{}}
	if len(c.ring) == 0 {
		c.ring = draining
	}
	if len(c.ring) == 0 {
		c.ring = all
	}
	for _, list := range [][]int{c.ring, draining} {
		for _, i := range list {
			c.keep[i] = true
		}
	}
	return c
}

// takes gives the members of the ring as a set.
func (c *choice) takes() map[int]bool {
	out := make(map[int]bool, len(c.ring))
	for _, i := range c.ring {
		out[i] = true
	}
	return out
}

// rampSteps is in how many steps a member that joins gets its weight.
const rampSteps = 5

// ramp gives members that joined less than so long ago a part of their weight,
// and says when that is next to change; zero: never.
func (c *choice) ramp(g *group, since map[memberKey]time.Time, over time.Duration, now time.Time) (next time.Time) {
	c.weight = map[int]int{}
	for _, i := range c.ring {
		began := since[g.members[i].key]
		took := now.Sub(began)
		if took >= over {
			continue
		}
		step := max(took, 0)*(rampSteps-1)/over + 1
		c.weight[i] = max(1, g.members[i].weight*int(step)/rampSteps)
		if t := began.Add(over * step / (rampSteps - 1)); next.IsZero() || t.Before(next) {
			next = t
		}
	}
	return next
}

// member gives a member of the ring with the weight that it has now.
func (c *choice) member(g *group, i int) maglev.Member {
	m := maglev.Member{Name: g.members[i].name, Weight: g.members[i].weight}
	if w, ok := c.weight[i]; ok {
		m.Weight = w
	}
	return m
}
