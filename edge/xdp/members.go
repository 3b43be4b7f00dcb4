package xdp

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"meridian/fleet"
)

// MemberState says how it is with a member of a ring.
type MemberState string

// The states of a member.
const (
	MemberJoining  MemberState = "joining"  // not found up yet, or with a part of its weight so far
	MemberActive   MemberState = "active"   // gets new flows, as many as its weight says
	MemberDraining MemberState = "draining" // gets no new flows and keeps those that it has
	MemberDrained  MemberState = "drained"  // likewise, and has none left: see Member
	MemberFailed   MemberState = "failed"   // found down: has no flows, but where all have failed
)

// Member is a gateway or endpoint in a ring of this node.
//
// Drained is one that drains and, of endpoints, has no live record in the flow
// table, where each of their flows has one. Of this gateway itself: no connection
// of its kernel at a VIP. Of other gateways, whose flows have records at unsafe
// slots alone: none there, and the ring in which it was is retired
// (layer4.flow_retire), so that nobody passes anything on to it any more.
type Member struct {
	Ring        string      `json:"ring"`
	Name        string      `json:"name"` // a gateway's, or an endpoint's ADDRESS:PORT
	Address     netip.Addr  `json:"address"`
	State       MemberState `json:"state"`
	Since       time.Time   `json:"since"`                 // when this process first saw it so
	Weight      int         `json:"weight"`                // in the ring as it is; 0: it gets no new flows
	Flows       *int        `json:"flows,omitempty"`       // live records of the flow table, of all its rings; absent on a node that does not balance
	Connections *int        `json:"connections,omitempty"` // of this gateway itself: TCP, at the VIPs
}

// memberStatus is a member as the reconciler sees it.
type memberStatus struct {
	ring     string
	gateway  bool
	member   member
	state    MemberState
	since    time.Time
	weighted int // in the ring
}

// memberSince is a state and when it began.
type memberSince struct {
	state MemberState
	since time.Time
}

// note notes how it is with each member. One that this node cannot reach is left
// out, as from the rings.
func (r *reconciler) note(in inputs, choices []choice) {
	seen := map[memberKey]memberSince{}
	r.members = nil
	for gi := range in.want.groups {
		g, c := &in.want.groups[gi], &choices[gi]
		takes := c.takes()
		for i, m := range g.members {
			if m.key.how == edgeForwardFORWARD_NONE {
				continue
			}
			now := memberSince{c.state(g, i, in.state, r.joined), in.now}
			if was, ok := r.seen[m.key]; ok && was.state == now.state {
				now = was
			}
			seen[m.key] = now
			s := memberStatus{ring: g.id, gateway: g.gateways, member: m, state: now.state, since: now.since}
			if takes[i] {
				s.weighted = c.member(g, i).Weight
			}
			r.members = append(r.members, s)
		}
	}
	r.seen = seen
}

// state gives a member's, as choose made it.
func (c *choice) state(g *group, i int, state func(fleet.Target) fleet.State, joined map[memberKey]bool) MemberState {
	m := g.members[i]
	known := state(m.key.target)
	_, ramps := c.weight[i]
	switch {
	case known == fleet.Down:
		return MemberFailed
	case known == fleet.Drain || m.admin == fleet.Draining:
		return MemberDraining
	case !joined[m.key] || ramps:
		return MemberJoining
	}
	return MemberActive
}

// Members lists the members of the rings in the tables, in the Spec's order. It
// goes through the whole flow table. Errors: layer 4 is not attached. It is safe
// for concurrent use.
func (l *Layer4) Members() ([]Member, error) {
	out := []Member{}
	err := l.tables.look(func(k *kernel, d *desired) error {
		var flows map[order]int
		if d.balances {
			var err error
			if flows, err = k.liveFlows(d.keep); err != nil {
				return err
			}
		}
		connections := sync.OnceValue(func() *int { return l.connections(d) })
		orders := *l.orders.Load()
		for _, s := range *l.members.Load() {
			m := Member{Ring: s.ring, Name: s.member.name, Address: s.member.key.addr, State: s.state, Since: s.since, Weight: s.weighted}
			if flows != nil {
				m.Flows = new(int)
				*m.Flows = flows[orders[s.member.key]]
			}
			own := s.gateway && d.unpacks && s.member.key.how == edgeForwardFORWARD_LOCAL
			if own {
				m.Connections = connections()
			}
			if s.state == MemberDraining && m.empty(s, own, d.keep.retire) {
				m.State = MemberDrained
			}
			out = append(out, m)
		}
		return nil
	})
	return out, err
}

// empty says whether a member that drains has nothing left, as far as this node
// can tell.
func (m *Member) empty(s memberStatus, own bool, retire time.Duration) bool {
	switch {
	case own:
		return m.Connections != nil && *m.Connections == 0
	case m.Flows != nil && *m.Flows > 0:
		return false
	case s.gateway:
		return time.Since(s.since) >= retire
	}
	return m.Flows != nil
}

// liveFlows counts the records of the flow table that are in force, by endpoint.
func (k *kernel) liveFlows(keep keeping) (map[order]int, error) {
	out := map[order]int{}
	now, limits := uint32(monotonic()/time.Second), keep.idle()
	err := k.eachFlow(func(f *edgeFlow) {
		if idle := int32(now - f.Seen); idle <= int32(limits[f.Owner/flowUDP&3]) {
			out[order{endpoint: uint16(f.Owner>>16) & slotEndpoint, generation: uint16(f.Owner)}]++
		}
	})
	return out, err
}

// connections counts those of this machine's kernel at the VIPs; nil: the kernel
// does not tell.
func (l *Layer4) connections(d *desired) *int {
	diag := l.sockets.Load()
	if diag == nil {
		return nil
	}
	const established, timeWait, closed, listening = 1, 6, 7, 10
	n := 0
	for _, family := range []uint8{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := diag.SocketDiagTCP(family)
		if err != nil {
			return nil
		}
		for _, s := range list {
			if s.State < established || s.State == timeWait || s.State == closed || s.State == listening {
				continue
			}
			if a, ok := netip.AddrFromSlice(s.ID.Source); ok && slices.Contains(d.addresses, a.Unmap()) {
				n++
			}
		}
	}
	return &n
}

// countMembers gives how many members of each ring are in each state.
func countMembers(list []memberStatus) map[ringState]int {
	out := map[ringState]int{}
	for _, m := range list {
		out[ringState{m.ring, m.state}]++
	}
	return out
}

// ringState is a ring and a state of members of it.
type ringState struct {
	ring  string
	state MemberState
}
