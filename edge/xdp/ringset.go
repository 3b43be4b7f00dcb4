package xdp

import "meridian/fleet"

// choice is what health makes of a group: who is in the ring, and whose flows
// may stay.
type choice struct {
	ring []int        // indexes in group.members
	keep map[int]bool // members that may keep flows; holds those of the ring
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
