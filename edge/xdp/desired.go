package xdp

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"meridian/edge/maglev"
	"meridian/edge/quiclb"
	"meridian/fleet"
)

// desired is what this node should do, computed from a World alone: no health,
// no kernel. It is immutable.
type desired struct {
	own4, own6 netip.Addr // zero where the node has none
	balances   bool
	unpacks    bool
	cookies    fleet.SynCookies
	balancers  []netip.Addr // who may tunnel to this node: balancers, and gateways that pass on what is another's
	addresses  []netip.Addr // VIPs, with and without services
	networks   []netip.Prefix
	keep       keeping
	frontends  []frontend
	groups     []group
	earlier    []fleet.GatewaySet // the region's gateways before, the oldest first
	unread     error              // why those are not known; nil: they are
	checks     []checkPlan
}

// keeping is how flows are kept, and how members join.
type keeping struct {
	tcp, udp time.Duration // without packets, until they are forgotten
	retire   time.Duration // after which flows of an earlier ring are taken to have ended
	stamp    int           // of one connection in so many arrivals are noted; 0: of none
	ramp     time.Duration // over which a member that joins gets its share; 0: at once

	strangers int // packets a second of no known flow that a VIP under attack gets in any case
}

// idleHalf is how long a flow is kept of which only a SYN was seen, or a datagram
// of which only the first fragment was, if not shorter.
const idleHalf = time.Minute

// idle gives after how many seconds a flow is forgotten: of TCP, of others, and of
// each of which only the beginning was seen.
func (k *keeping) idle() (out [4]uint32) {
	for i, d := range []time.Duration{k.tcp, k.udp, min(k.tcp, idleHalf), min(k.udp, idleHalf)} {
		out[i] = uint32(d / time.Second)
	}
	return out
}

// frontend is one VIP as the program looks it up.
type frontend struct {
	addr    netip.Addr
	bits    int    // of the network that begins with addr, all of which it is for; 0: none
	port    uint16 // 0: all that have no frontend of their own
	proto   uint8
	service string // one of the services there, for people
	group   int    // index in desired.groups
	by      mask   // what of a client its packets go by
	quic    bool   // connection ids say members
}

// mask is what counts of a client's address, as the tables have it, and whether
// the port does.
type mask struct {
	address [2]uint64
	port    uint16
}

var wholeFlow = mask{[2]uint64{^uint64(0), ^uint64(0)}, ^uint16(0)}

// maskOf gives the mask of an affinity at VIPs of one family.
func maskOf(a fleet.Affinity, v4 bool) mask {
	if a.By == fleet.ByFlow {
		return wholeFlow
	}
	bits := uint(a.V6Prefix)
	if v4 {
		bits = 96 + uint(a.V4Prefix)
	}
	return mask{address: [2]uint64{upper(min(bits, 64)), upper(max(bits, 64) - 64)}}
}

// upper gives a word whose upper bits are set, so many.
func upper(bits uint) uint64 { return ^(^uint64(0) >> bits) }

// fragmentRow is the VIP of later fragments, which show no port: they go by the
// ring of the first service at their address and protocol.
type fragmentRow struct {
	frontend
	of edgeVipKey // that service's
}

// fragmentRows gives one for each address and protocol with a service.
func (d *desired) fragmentRows() []fragmentRow {
	var out []fragmentRow
	seen := map[edgeVipKey]bool{}
	for _, f := range d.frontends {
		if f.port == 0 {
			seen[f.key()] = true // fragments go as all its packets do
		}
	}
	for _, f := range d.frontends {
		row := fragmentRow{f, f.key()}
		if row.port = 0; !seen[row.key()] {
			seen[row.key()] = true
			out = append(out, row)
		}
	}
	return out
}

// group is a set of members that share a ring.
type group struct {
	id       string
	large    bool     // its ring has many slots
	gateways bool     // else endpoints of a tcp or udp service
	members  []member // in the Spec's order; may be empty
}

func (g *group) slots() int {
	if g.large {
		return maglev.LargeSlots
	}
	return maglev.Slots
}

// member is one way to one gateway or endpoint.
type member struct {
	key    memberKey
	name   string // in the ring; the same on every balancer
	weight int
	admin  fleet.AdminState
	server [quiclb.ServerLen]byte // of a gateway, in the connection ids that it gives out
}

// memberKey says which entry of the endpoint table a member has: the target
// whose health it shares, and the way there.
type memberKey struct {
	target fleet.Target
	addr   netip.Addr // outer destination, or for l2_dsr the host on the link
	how    edgeForward
	gue    bool // with UDP between outer header and packet
}

// checkPlan is how one target is checked.
type checkPlan struct {
	target    fleet.Target
	ways      []checkWay // one by family; all have to pass
	kind      fleet.CheckType
	host      string
	path      string
	readyPath string // empty: none
	name      string // of a dns check
	send      string // datagram of a udp check
	expect    fleet.Expect
	interval  time.Duration
	timeout   time.Duration
}

// checkWay is a VIP and the member that the check reaches through it. Where
// the key says local, a plain socket of this node goes to vip, which then may
// also be an endpoint's own address.
type checkWay struct {
	vip netip.AddrPort
	key memberKey
	udp bool
}

const (
	protoTCP = 6
	protoUDP = 17
)

// planner gathers a desired state.
type planner struct {
	d      *desired
	snap   *fleet.Snapshot
	node   *fleet.Node
	groups map[string]int
	checks map[fleet.Target]int // in d.checks
	seen   map[frontend]bool    // by address, port and protocol
}

// plan computes the desired state of the node of that name. Errors: the node
// or its region is not in the Spec; the Spec breaks the limits of layer 4.
func plan(w *fleet.World, node string, roles Roles) (*desired, error) {
	snap := w.Snapshot
	n := snap.Node(node)
	if n == nil {
		return nil, fmt.Errorf("layer 4: node %q is not in the Spec", node)
	}
	region := snap.Region(n.Region)
	var errs fleet.Errors
	maglev.Check(snap.Spec, &errs)
	quiclb.Check(snap.Spec, &errs)
	if err := errs.Err(); err != nil {
		return nil, fmt.Errorf("layer 4: %w", err)
	}
	p := &planner{
		d: &desired{own4: n.Addresses.V4, own6: n.Addresses.V6, balances: roles.L4, unpacks: roles.L7,
			cookies: snap.Spec.Defence.Cookies()},
		snap: snap, node: n, groups: map[string]int{}, checks: map[fleet.Target]int{}, seen: map[frontend]bool{},
	}
	if roles.L7 { // a balancer passes nothing on
		p.d.earlier, p.d.unread = earlierSets(w, n.Region)
	}
	p.d.addresses = append(snap.Spec.Anycast.All(), region.VIPs.All()...)
	p.d.networks = append(slices.Clone(snap.Spec.Anycast.Prefixes), region.VIPs.Prefixes...)
	l := &snap.Spec.Layer4
	p.d.keep = keeping{tcp: l.FlowTimeout.TCP.D(), udp: l.FlowTimeout.UDP.D(), retire: l.FlowRetire.D(), ramp: l.Ramp.D(), stamp: l.LatencyOf,
		strangers: l.StrangerLimit}
	for i := range snap.Spec.Nodes {
		// A disabled node still counts: its last packets may be on their way.
		if b := &snap.Spec.Nodes[i]; b.Region == n.Region && (b.Has(fleet.RoleL4) || b.Has(fleet.RoleL7)) {
			p.d.balancers = append(p.d.balancers, valid(b.Addresses.V4, b.Addresses.V6)...)
		}
	}
	for _, proxied := range []bool{false, true} { // so that gateways are checked by http or https where there is any
		for i := range snap.Spec.Services {
			// A gateway knows the gateways' rings too: to pass on what is another's.
			if s := &snap.Spec.Services[i]; (s.Forwarding == fleet.Proxy) == proxied && (roles.L4 || s.Gateway()) {
				p.service(s)
			}
		}
	}
	for i := range snap.Spec.Services { // last: who has the port itself says how it is forwarded
		if s := &snap.Spec.Services[i]; s.Twin() != 0 {
			p.twin(s)
		}
	}
	return p.d, nil
}

// twin lets gateways have the port at which they redirect to an https service.
func (p *planner) twin(s *fleet.Service) {
	plain := *s
	plain.HTTP3 = false
	for _, vip := range p.d.addresses {
		p.frontends(&plain, frontend{addr: vip}, s.Twin())
	}
}

// own gives the node's own addresses, to compare.
func (d *desired) own() [2]netip.Addr { return [2]netip.Addr{d.own4, d.own6} }

// ours are the networks that no client is in: the node's own addresses, and VIPs.
func (d *desired) ours() []netip.Prefix {
	out := slices.Clone(d.networks)
	for _, a := range append(valid(d.own4, d.own6), d.addresses...) {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}

func valid(addrs ...netip.Addr) []netip.Addr {
	return slices.DeleteFunc(addrs, func(a netip.Addr) bool { return !a.IsValid() })
}

func (p *planner) service(s *fleet.Service) {
	for _, port := range s.Ports {
		for _, vip := range p.d.addresses {
			p.frontends(s, frontend{addr: vip}, port)
		}
		for _, net := range p.d.networks {
			if !s.Gateway() { // a gateway listens at addresses that it knows
				p.frontends(s, frontend{addr: net.Addr(), bits: net.Bits()}, port)
			}
		}
	}
}

// frontends adds what a service has at one of its ports at an address or
// network.
func (p *planner) frontends(s *fleet.Service, at frontend, port uint16) {
	if at.port = port; s.AllPorts {
		at.port = 0
	}
	protos := []uint8{protoTCP}
	switch {
	case s.Protocol == fleet.UDP:
		protos[0] = protoUDP
	case s.HTTP3:
		protos = append(protos, protoUDP)
	}
	for _, at.proto = range protos {
		if p.seen[at] {
			continue // http services share a port; the gateway tells them apart
		}
		p.seen[at] = true
		f := at
		f.service, f.by, f.quic = s.Service, maskOf(s.Affinity, at.addr.Is4()), s.HTTP3 && at.proto == protoUDP
		f.group = p.group(s, at.addr.Is4(), port)
		p.d.frontends = append(p.d.frontends, f)
		if p.d.balances {
			p.check(s, f, port)
		}
	}
}

// group finds or makes the group behind a VIP's family and port.
func (p *planner) group(s *fleet.Service, v4 bool, port uint16) int {
	family := "v6"
	if v4 {
		family = "v4"
	}
	size := ""
	if s.Ring == fleet.RingLarge {
		size = "/large"
	}
	way := s.Forwarding
	if way == fleet.Proxy {
		way = fleet.IPIP // to the gateway
	}
	id := fmt.Sprintf("gateways/%s/%s%s", way, family, size)
	if !s.Gateway() {
		id = fmt.Sprintf("%s/%d/%s%s", s.Service, port, family, size)
	}
	if i, ok := p.groups[id]; ok {
		return i
	}
	g := group{id: id, large: s.Ring == fleet.RingLarge, gateways: s.Gateway()}
	if s.Gateway() {
		g.members = p.gateways(way, v4)
	} else {
		g.members = p.endpoints(s, v4, port)
	}
	p.groups[id] = len(p.d.groups)
	p.d.groups = append(p.d.groups, g)
	return p.groups[id]
}

// gateways lists the region's gateways, each by its address of the VIP's
// family or, where it or this node has none, by the other.
func (p *planner) gateways(f fleet.Forwarding, v4 bool) []member {
	var out []member
	if f == fleet.L2DSR && p.d.unpacks {
		// A frame does not say that it was balanced before: two nodes that balance
		// and unpack, and do not agree on the ring, would send it to and fro.
		f = fleet.IPIP
	}
	for _, n := range p.snap.NodesWith(p.node.Region, fleet.RoleL7) {
		has4 := n.Addresses.V4.IsValid() && p.d.own4.IsValid()
		has6 := n.Addresses.V6.IsValid() && p.d.own6.IsValid()
		addr := n.Addresses.V6
		if has4 && (v4 || !has6) || !addr.IsValid() {
			addr = n.Addresses.V4
		}
		out = append(out, member{
			key: memberKey{
				target: fleet.Target{Kind: fleet.TargetGateway, Region: p.node.Region, Node: n.Name},
				addr:   addr, how: p.how(f, addr), gue: f == fleet.GUE,
			},
			name: n.Name, weight: n.Weight, admin: n.State, server: quiclb.ServerID(n),
		})
	}
	return out
}

// endpoints lists the endpoints that the region uses at a port of a tcp or udp
// service.
func (p *planner) endpoints(s *fleet.Service, v4 bool, port uint16) []member {
	var out []member
	seen := map[netip.AddrPort]bool{}
	for _, pool := range s.Pools {
		for _, e := range pool.Endpoints {
			if e.Address.Port() != port || e.State == fleet.Disabled || seen[e.Address] ||
				e.Region != "" && e.Region != p.node.Region {
				continue
			}
			seen[e.Address] = true
			out = append(out, member{
				key: memberKey{
					target: fleet.Target{Kind: fleet.TargetEndpoint, Region: p.node.Region,
						Service: s.Service, Pool: pool.ID, Endpoint: e.Address.String()},
					addr: e.Address.Addr(), how: p.how(s.Forwarding, e.Address.Addr()), gue: s.Forwarding == fleet.GUE,
				},
				name: e.Address.String(), weight: e.Weight, admin: e.State,
			})
		}
	}
	return out
}

// how gives the way to an address, as far as this node can go it: the outer
// header needs an own address of the same family.
func (p *planner) how(f fleet.Forwarding, addr netip.Addr) edgeForward {
	switch {
	case addr == p.d.own4 || addr == p.d.own6:
		return edgeForwardFORWARD_LOCAL
	case f == fleet.L2DSR:
		return edgeForwardFORWARD_L2
	case addr.Is4() && p.d.own4.IsValid():
		return edgeForwardFORWARD_TUNNEL4
	case addr.Is6() && p.d.own6.IsValid():
		return edgeForwardFORWARD_TUNNEL6
	}
	return edgeForwardFORWARD_NONE
}

// check plans the checks of the members behind a VIP, at one of the service's
// ports. A target is checked through the first VIP of each family that leads to
// it; an endpoint whose service names a port for checks, at its own address
// instead.
func (p *planner) check(s *fleet.Service, at frontend, port uint16) {
	own := p.d.own6
	if at.addr.Is4() {
		own = p.d.own4
	}
	direct := !s.Gateway() && s.Healthcheck.Port != 0
	if s.Gateway() && at.proto == protoUDP {
		return // gateways are asked by TCP
	}
	if !direct && ((at.proto == protoUDP) != s.Healthcheck.Type.Datagram() || !own.IsValid()) {
		return // udp may have no check; without an own address no reply finds back
	}
	vip := at.addr
	if at.bits > 0 {
		vip = vip.Next() // the first may stand for the network itself
	}
	for _, m := range p.d.groups[at.group].members {
		if m.key.how == edgeForwardFORWARD_NONE {
			continue
		}
		way := checkWay{netip.AddrPortFrom(vip, port), m.key, !s.Gateway() && s.Healthcheck.Type.Datagram()}
		if direct {
			way.vip, way.key.how = netip.AddrPortFrom(m.key.addr, s.Healthcheck.Port), edgeForwardFORWARD_LOCAL
		}
		i, ok := p.checks[m.key.target]
		if !ok {
			i = len(p.d.checks)
			p.checks[m.key.target] = i
			p.d.checks = append(p.d.checks, newCheckPlan(s, m.key.target))
		}
		c := &p.d.checks[i]
		if slices.ContainsFunc(c.ways, func(w checkWay) bool { return w.vip.Addr().Is4() == way.vip.Addr().Is4() }) {
			continue
		}
		if c.target.Kind == fleet.TargetGateway && gatewayCheck(s) != c.kind {
			continue // one kind of check a gateway
		}
		c.ways = append(c.ways, way)
	}
}

// Gateways are checked often enough that three failures in a row take less
// than a second; see checkTimeout for the rest of that sum.
const gatewayInterval = 150 * time.Millisecond

// gatewayCheck is how a gateway is checked by way of a service.
func gatewayCheck(s *fleet.Service) fleet.CheckType {
	switch s.Protocol {
	case fleet.HTTPS:
		return fleet.CheckHTTPS
	case fleet.HTTP:
		return fleet.CheckHTTP
	}
	return fleet.CheckTCP // all that is said there is between client and endpoint
}

func newCheckPlan(s *fleet.Service, t fleet.Target) checkPlan {
	if t.Kind == fleet.TargetGateway {
		c := checkPlan{target: t, kind: gatewayCheck(s), interval: gatewayInterval}
		if c.kind.Web() {
			c.host, c.path, c.readyPath, c.expect = fleet.GatewayHost, "/health", "/ready", fleet.Expect{Status: []string{"2xx"}}
		}
		return c
	}
	h := &s.Healthcheck
	return checkPlan{target: t, kind: h.Type, host: h.Host, path: h.Path, readyPath: h.ReadyPath, name: h.Name, send: h.Send,
		expect: h.Expect, interval: h.Interval.D(), timeout: h.Timeout.D()}
}
