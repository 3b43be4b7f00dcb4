package xdp

import (
	"fmt"
	"net/netip"
	"sync"

	"meridian/fleet"
)

// states holds the local verdict on each target. It is safe for concurrent
// use.
type states struct {
	mu sync.Mutex
	m  map[fleet.Target]fleet.State
}

func newStates() *states { return &states{m: map[fleet.Target]fleet.State{}} }

func (s *states) get(t fleet.Target) fleet.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[t]
}

// set says whether the state is another than before.
func (s *states) set(t fleet.Target, v fleet.State) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.m[t]
	s.m[t] = v
	return was != v
}

func (s *states) forget(t fleet.Target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, t)
}

// destinations lists the addresses to which the node needs a way.
func (d *desired) destinations() []netip.Addr {
	seen := map[netip.Addr]bool{}
	var out []netip.Addr
	for _, g := range d.groups {
		for _, m := range g.members {
			if m.key.how == edgeForwardFORWARD_LOCAL || m.key.how == edgeForwardFORWARD_NONE || seen[m.key.addr] {
				continue
			}
			seen[m.key.addr] = true
			out = append(out, m.key.addr)
		}
	}
	return out
}

// serving says why the node could not serve every VIP, or nil. A member counts
// once a check has passed, or at once where it has no check.
func (d *desired) serving(state func(fleet.Target) fleet.State) error {
	if !d.balances {
		return nil
	}
	if len(d.frontends) == 0 {
		return fmt.Errorf("layer 4: no VIP has a service")
	}
	checked := map[fleet.Target]bool{}
	for _, c := range d.checks {
		checked[c.target] = true
	}
	for _, f := range d.frontends {
		if !d.groups[f.group].lives(state, checked) {
			return fmt.Errorf("layer 4: no live member behind %s of service %q", netip.AddrPortFrom(f.addr, f.port), f.service)
		}
	}
	return nil
}

func (g *group) lives(state func(fleet.Target) fleet.State, checked map[fleet.Target]bool) bool {
	for _, m := range g.members {
		switch state(m.key.target) {
		case fleet.Up, fleet.Drain:
			return true
		case fleet.Unknown:
			if !checked[m.key.target] {
				return true
			}
		}
	}
	return false
}
