package steer

import (
	"slices"

	"meridian/fleet"
)

// Brief appends, for a service and a family, what the decision on a ranking
// comes down to: rankings with equal briefs are decided alike, whatever the
// slot. It costs far less than the decision. ok is false where only that can
// tell: where shares, groups, anycast, shifts or a lack of room have a say, or
// health leaves too little.
func (s *Scene) Brief(b []byte, service int, f Family, r *Ranking) (_ []byte, ok bool) {
	t, h, own := s.classes.trees[service], &s.health[service], &s.vips[f.index()]
	n := &t.nodes[0]
	shifted := slices.ContainsFunc(s.shifts, func(sh shift) bool { return sh.service < 0 || sh.service == service })
	if shifted || len(t.nodes) > 1 || n.slots != nil || t.st.Answer == fleet.Anycast || s.keep != nil && len(t.st.Demand) > 0 {
		return b, false
	}
	vantage, regions, order := s.vantage(r), len(s.classes.regions), s.order(t, r, 0, 0)
	start := len(b)
	for i := range n.members {
		k := i
		if order != nil {
			k = int(order[i])
		}
		m := n.members[k].region
		if !own.has(m) || h.out.has(m) || h.down(vantage, m, regions) || slices.Contains(b[start:], m) {
			continue
		}
		if b = append(b, m); len(b) > start+n.records { // the answer, and the next best
			break
		}
	}
	found := len(b) - start
	return append(b, None), found >= n.need
}
