package xdp

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"meridian/edge/maglev"
	"meridian/fleet"
)

// tables are the program's tables as the reconciler writes them. A call that
// failed may be made again.
type tables interface {
	setNode(edgeNode) error
	setBalancer(netip.Addr) error
	dropBalancer(netip.Addr) error
	setEndpoint(index uint16, e edgeEndpoint) error
	setRings(map[uint32]ringTable) error // each is swapped whole
	dropRing(index uint32) error
	setServer(key edgeServerKey, endpoint uint16) error
	dropServer(edgeServerKey) error
	setNetwork(netip.Prefix) error
	dropNetwork(netip.Prefix) error
	setVIP(edgeVipKey, edgeVip) error
	dropVIP(edgeVipKey) error
	clearTraffic(index uint32) error
	defences
}

// hop is the next hop on the way to an address.
type hop struct {
	mac, source [6]byte
	known       bool   // else mac and source mean nothing
	onLink      bool   // it is the address itself
	mtu         uint16 // of the whole way as far as the kernel knows; 0: not known
	device      uint32 // to leave by; 0: layer 4's own
}

// inputs are all that the tables' contents depend on.
type inputs struct {
	want  *desired
	state func(fleet.Target) fleet.State
	takes func(fleet.Target) bool // SYN cookies, of a gateway; nil: all do
	late  bool                    // take SYN cookies that were made before the Spec said to make none
	hop   func(netip.Addr) hop
	guard *guard // nil: none
	now   time.Time
}

// reconciler brings tables in line with inputs. What it holds is what it knows
// to be in the tables, so that a run that fails half-way is taken up by the
// next. It is not safe for concurrent use.
type reconciler struct {
	tables tables
	key    Key
	alone  bool // no second chance

	node      *edgeNode
	balancers map[netip.Addr]bool
	endpoints map[memberKey]uint16
	drained   map[fleet.Target]bool   // members that were draining when an earlier process ended, until more is known of them
	joined    map[memberKey]bool      // members that were there from the start, or have been up since
	records   map[uint16]edgeEndpoint // by index; an index without a key keeps its generation here
	rings     map[string]ringEntry    // by group
	servers   map[edgeServerKey]uint16
	networks  map[netip.Prefix]bool
	vips      map[edgeVipKey]edgeVip
	defended  defended
	guard     *guard // of the node's flags
	stands    bool   // after the last run: all that packets' ways depend on

	since map[memberKey]time.Time // since when each that may have new flows may; zero: from the start
	next  time.Time               // when a ring is to change by itself; zero: not

	untaken []string // gateways that take no SYN cookies, so that none are made
	late    bool     // as in the inputs of the last run

	members []memberStatus                 // of the last run
	seen    map[memberKey]memberSince      // since when each has been as it is
	room    struct{ rings, endpoints int } // that the tables have

	swaps uint64 // rings put in place, ever
}

// ringEntry is a ring in the tables.
type ringEntry struct {
	index   uint32
	history *maglev.History
	learned uint64            // the revision of the newest set of earlier gateways that the history has
	assumed [][]maglev.Member // rings that the history presumes
	owners  map[string]uint16 // the endpoint of each member, of now and of before, as it was written
}

func newReconciler(t tables, key Key) *reconciler {
	r := &reconciler{
		tables: t, key: key,
		balancers: map[netip.Addr]bool{}, endpoints: map[memberKey]uint16{}, records: map[uint16]edgeEndpoint{},
		rings: map[string]ringEntry{}, vips: map[edgeVipKey]edgeVip{},
		servers: map[edgeServerKey]uint16{}, networks: map[netip.Prefix]bool{}, since: map[memberKey]time.Time{},
		guard: new(guard),
	}
	r.room.rings, r.room.endpoints = maxRings, maxEndpoints-1
	return r
}

// reconcile brings the tables in line, in an order that shows no half state to
// a packet: what others point at comes before them and goes after them.
func (r *reconciler) reconcile(in inputs) error {
	in.state = r.remembered(in.state)
	r.join(in)
	r.untaken = nil
	if in.takes != nil && in.want.clustered() {
		r.untaken = in.untaken()
	}
	choices := make([]choice, len(in.want.groups))
	r.next = time.Time{}
	for i := range in.want.groups {
		g := &in.want.groups[i]
		choices[i] = g.choose(in.state, r.joined)
		next := choices[i].ramp(g, r.since, in.want.keep.ramp, in.now)
		if !next.IsZero() && (r.next.IsZero() || next.Before(r.next)) {
			r.next = next
		}
	}
	r.late = in.late
	r.note(in, choices)
	return r.write(in, r.wantRecords(in, choices), choices)
}

// remembered gives the states; a member that was draining when an earlier process
// ended drains on until more is known of it.
func (r *reconciler) remembered(state func(fleet.Target) fleet.State) func(fleet.Target) fleet.State {
	for t := range r.drained {
		if state(t) != fleet.Unknown {
			delete(r.drained, t)
		}
	}
	return func(t fleet.Target) fleet.State {
		if s := state(t); s != fleet.Unknown || !r.drained[t] {
			return s
		}
		return fleet.Drain
	}
}

// join notes which members may be in a ring: those that were there when this
// node began, whatever is known of them, and of those that came later the ones
// that it does not check, and the others once they have been found up.
func (r *reconciler) join(in inputs) {
	begun, joined, checked := r.joined != nil, map[memberKey]bool{}, map[fleet.Target]bool{}
	since := map[memberKey]time.Time{}
	for _, c := range in.want.checks {
		checked[c.target] = true
	}
	for _, g := range in.want.groups {
		for _, m := range g.members {
			if !begun || !checked[m.key.target] || r.joined[m.key] || in.state(m.key.target) == fleet.Up {
				joined[m.key] = true
			}
			switch was, had := r.since[m.key]; {
			case !joined[m.key] || in.state(m.key.target) == fleet.Down:
			case had || !begun:
				since[m.key] = was
			default:
				since[m.key] = in.now
			}
		}
	}
	r.joined, r.since = joined, since
}

// write runs the steps in order to the first that fails, but for the defence: that
// stays as it was where its tables cannot be made, and keeps nothing else from being
// done.
func (r *reconciler) write(in inputs, records map[memberKey]edgeEndpoint, choices []choice) error {
	var errs []error
	do := func(what string, step func() error) bool {
		err := step()
		if err != nil {
			errs = append(errs, fmt.Errorf("write %s: %w", what, err))
		}
		return err == nil
	}
	d, g := in.want, in.guard
	if g == nil {
		g = new(guard)
	}
	if do("defence", func() error { return r.writeDefence(g) }) {
		r.guard = g
	}
	r.stands = do("node", func() error { return r.writeNode(d, r.guard) }) &&
		do("balancers", func() error { return r.writeBalancers(d) }) &&
		do("room", func() error { return r.makeRoom(d, records) }) &&
		do("endpoints", func() error { return r.raise(records) }) &&
		do("rings", func() error { return r.writeRings(in, choices) }) &&
		do("QUIC servers", func() error { return r.writeServers(d) }) &&
		do("VIPs", func() error { return r.writeVIPs(d) }) &&
		do("networks", func() error { return r.writeNetworks(d) }) &&
		do("old networks", func() error { return r.dropNetworks(d) }) &&
		do("old VIPs", func() error { return r.dropVIPs(d) }) &&
		do("old QUIC servers", func() error { return r.dropServers(d) }) &&
		do("old rings", func() error { return r.dropRings(d) }) &&
		do("old endpoints", func() error { return r.lower(records) }) &&
		do("old balancers", func() error { return r.dropBalancers(d) })
	return errors.Join(errs...)
}

func (r *reconciler) writeNode(d *desired, g *guard) error {
	n := edgeNode{Own4: toAddress(d.own4), Own6: toAddress(d.own6), CheckFirst: firstCheckPort, CheckLast: lastCheckPort,
		Idle:    d.keep.idle(),
		Defends: uint32(g.flags()), Sampling: uint32(g.sampling.Rate), Stamped: uint32(d.keep.stamp),
		// Of any mode, since VIPs are written after it, and may have another for so long.
		AttackSyns: perWindow(d.cookies.Threshold), Strangers: perWindow(d.keep.strangers)}
	if len(d.networks) > 0 {
		n.Flags |= uint32(edgeNodeFlagNODE_NETWORKS)
	}
	if d.balances {
		n.Duties |= uint32(edgeDutyDUTY_BALANCE)
	}
	if d.unpacks {
		n.Duties |= uint32(edgeDutyDUTY_DECAPSULATE)
	}
	if d.unpacks && d.clustered() || r.late {
		n.Duties |= uint32(edgeDutyDUTY_ACCEPT)
	}
	if r.node != nil && *r.node == n {
		return nil
	}
	if err := r.tables.setNode(n); err != nil {
		return err
	}
	r.node = &n
	return nil
}

func (r *reconciler) writeBalancers(d *desired) error {
	for _, a := range d.balancers {
		if r.balancers[a] {
			continue
		}
		if err := r.tables.setBalancer(a); err != nil {
			return err
		}
		r.balancers[a] = true
	}
	return nil
}

func (r *reconciler) dropBalancers(d *desired) error {
	for a := range r.balancers {
		if slices.Contains(d.balancers, a) {
			continue
		}
		if err := r.tables.dropBalancer(a); err != nil {
			return err
		}
		delete(r.balancers, a)
	}
	return nil
}

// wantRecords gives the record that each member should have, but for its
// generation.
func (r *reconciler) wantRecords(in inputs, choices []choice) map[memberKey]edgeEndpoint {
	out := map[memberKey]edgeEndpoint{}
	for gi, g := range in.want.groups {
		takes := choices[gi].takes()
		for mi, m := range g.members {
			e := edgeEndpoint{Addr: toAddress(m.key.addr), How: uint8(m.key.how), Outer: outerOf(m.key.addr), Who: m.key.who()}
			if m.key.gue {
				e.Gue = swap16(guePort)
				e.Outer += OverheadGUE
			}
			if choices[gi].keep[mi] || out[m.key].Keeps == 1 {
				e.Keeps = 1
			}
			if takes[mi] || out[m.key].Takes == 1 {
				e.Takes = 1
			}
			if m.key.how != edgeForwardFORWARD_LOCAL && m.key.how != edgeForwardFORWARD_NONE {
				h := in.hop(m.key.addr)
				e.Mtu, e.Device = h.mtu, h.device
				// By L2 DSR a router would get what it has sent us.
				if h.known && (h.onLink || m.key.how != edgeForwardFORWARD_L2) {
					e.NextHop.Octet, e.NextHop.Set = h.mac, 1
					e.Source.Octet, e.Source.Set = h.source, 1
				}
			}
			out[m.key] = e
		}
	}
	return out
}

// raise writes the records of members, new ones at free indexes, without yet
// taking anything from those that lose.
func (r *reconciler) raise(want map[memberKey]edgeEndpoint) error {
	var free []uint16
	for key, e := range want {
		index, ok := r.endpoints[key]
		if !ok {
			if free == nil {
				free = r.free()
			}
			if len(free) == 0 {
				return fmt.Errorf("no room for more than %d endpoints", r.room.endpoints)
			}
			index, free = free[0], free[1:]
			e.Generation = r.records[index].Generation + 1
		} else {
			old := r.records[index]
			e.Generation = old.Generation
			e.Keeps |= old.Keeps
		}
		e.Index = index
		if err := r.setEndpoint(index, e); err != nil {
			return err
		}
		r.endpoints[key] = index
	}
	return nil
}

// outerOf is the size of the outer header to an address.
func outerOf(a netip.Addr) uint8 {
	if a.Is4() {
		return Overhead4
	}
	return Overhead6
}

// lower takes the flows from members that lost them, and frees the indexes of
// members that are gone. Flows that still name a freed index are told from its
// next owner's by the generation.
func (r *reconciler) lower(want map[memberKey]edgeEndpoint) error {
	for key, index := range maps.Clone(r.endpoints) {
		e, stays := want[key]
		e.Generation, e.Index = r.records[index].Generation, index
		if err := r.setEndpoint(index, e); err != nil {
			return err
		}
		if !stays {
			delete(r.endpoints, key)
		}
	}
	return nil
}

func (r *reconciler) setEndpoint(index uint16, e edgeEndpoint) error {
	if old, ok := r.records[index]; ok && old == e {
		return nil
	}
	if err := r.tables.setEndpoint(index, e); err != nil {
		return err
	}
	r.records[index] = e
	return nil
}

// free gives the indexes that no member has, first those unused for longest as far
// as generations tell. Index 0 stands for no endpoint.
func (r *reconciler) free() []uint16 {
	used := make(map[uint16]bool, len(r.endpoints))
	for _, i := range r.endpoints {
		used[i] = true
	}
	var out []uint16
	for i := uint16(1); int(i) <= r.room.endpoints; i++ {
		if !used[i] {
			out = append(out, i)
		}
	}
	slices.SortStableFunc(out, func(a, b uint16) int { return cmp.Compare(r.records[a].Generation, r.records[b].Generation) })
	return out
}
