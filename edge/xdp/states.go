package xdp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"meridian/fleet"
)

// states holds what is known of each target: the local verdict, and where
// there is none, on a node that checks nothing itself, the fleet's. It is safe
// for concurrent use.
type states struct {
	mu   sync.Mutex
	m    map[fleet.Target]fleet.State
	view *fleet.View

	cookies map[fleet.Target]bool // gateways that said whether they take SYN cookies
}

func newStates() *states {
	return &states{m: map[fleet.Target]fleet.State{}, cookies: map[fleet.Target]bool{}}
}

// takes says whether a gateway has said that it takes SYN cookies.
func (s *states) takes(t fleet.Target) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cookies[t]
}

// setTakes says whether that is otherwise than before. What comes after wanted has
// ended counts for nothing.
func (s *states) setTakes(wanted context.Context, t fleet.Target, takes bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.cookies[t]
	if wanted.Err() != nil {
		return false
	}
	s.cookies[t] = takes
	return was != takes
}

// presumeTakes takes a gateway for one that takes SYN cookies until it is heard.
func (s *states) presumeTakes(t fleet.Target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, heard := s.cookies[t]; !heard {
		s.cookies[t] = true
	}
}

func (s *states) get(t fleet.Target) fleet.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.m[t]; ok {
		return v
	}
	return s.view.Get(t).State
}

// setView says whether the fleet has changed its mind about a gateway.
func (s *states) setView(v *fleet.View) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.view
	s.view = v
	differs := func(of map[fleet.Target]fleet.Verdict) bool {
		for t := range of {
			if t.Kind == fleet.TargetGateway && was.Get(t).State != v.Get(t).State {
				return true
			}
		}
		return false
	}
	return differs(v.Verdicts) || was != nil && differs(was.Verdicts)
}

// set says whether the state is another than before. What comes after wanted has
// ended counts for nothing.
func (s *states) set(wanted context.Context, t fleet.Target, v fleet.State) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.m[t]
	if wanted.Err() != nil {
		return false
	}
	s.m[t] = v
	return was != v
}

// forget follows the end of the context of what reports on the target.
func (s *states) forget(t fleet.Target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, t)
	delete(s.cookies, t)
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

// serving says why the node could not serve the VIPs, or nil: it balances, and
// no gateway is known to live. Endpoints of tcp and udp services do not count:
// they are what the fleet depends on, not a part of this node's region, and
// their failure must not have the region withdraw its VIPs.
func (d *desired) serving(state func(fleet.Target) fleet.State) error {
	if !d.balances {
		return nil
	}
	if len(d.frontends) == 0 {
		return errors.New("layer 4: no VIP has a service")
	}
	for _, f := range d.frontends {
		if g := &d.groups[f.group]; g.gateways && !g.lives(state) {
			return fmt.Errorf("layer 4: no live gateway behind %s of service %q", netip.AddrPortFrom(f.addr, f.port), f.service)
		}
	}
	return nil
}

func (g *group) lives(state func(fleet.Target) fleet.State) bool {
	for _, m := range g.members {
		if s := state(m.key.target); m.key.how != edgeForwardFORWARD_NONE && (s == fleet.Up || s == fleet.Drain) {
			return true
		}
	}
	return false
}
