package maglev

import (
	"fmt"
	"net/netip"

	"meridian/fleet"
)

// Limits of what a region may ask of a layer-4 node. A change puts the new beside
// the old: of rings the tables in the kernel hold just so many, of all else twice
// as many (see docs/layer4.md on changes that need more).
const (
	MaxVIPs       = 1024 // address or prefix, port and protocol of a region's VIPs together
	MaxAddresses  = 256  // VIP addresses and prefixes of a region
	MaxRings      = 512  // sets of members that differ, by family of the VIPs
	MaxLargeRings = 16   // those of them with many slots, 6.5 MB each
	MaxEndpoints  = 4096 // ways to gateways, and layer-4 endpoints of a region
	MaxNodes      = 1024 // own addresses of a region's nodes with roles l4 and l7
)

// Check is layer 4's rules on a Spec: each region fits a node's tables; services
// at one port go one way; and the endpoints of tcp and udp services are ones
// that layer 4 can reach, since it leaves addresses and ports of a packet as
// they are, and can check as the Spec says.
func Check(spec *fleet.Spec, errs *fleet.Errors) {
	ways := map[string]way{}
	for i := range spec.Services {
		s, at := &spec.Services[i], fmt.Sprintf("services[%d]", i)
		endpoints(s, at, errs)
		oneWay(s, at, ways, errs)
	}
	for i := range spec.Regions {
		region(spec, &spec.Regions[i], fmt.Sprintf("regions[%d]", i), errs)
	}
}

// way is what packets at a port go by.
type way struct {
	service    string
	forwarding fleet.Forwarding
	affinity   fleet.Affinity
	ring       fleet.RingSize
}

// oneWay refuses services at one port that are forwarded in different ways:
// layer 4 sees no host names.
func oneWay(s *fleet.Service, at string, ways map[string]way, errs *fleet.Errors) {
	mine := way{s.Service, s.Forwarding, s.Affinity, s.Ring}
	for _, port := range s.Ports {
		for _, proto := range protocols(s) {
			key := fmt.Sprintf("%s/%d", proto, port)
			other, ok := ways[key]
			switch {
			case !ok:
				ways[key] = mine
			case other.forwarding != mine.forwarding:
				errs.Addf(at+".forwarding", "%s: service %q at the same port (%s) has %s", mine.forwarding, other.service, key, other.forwarding)
			case other.affinity != mine.affinity:
				errs.Addf(at+".affinity", "is another than service %q's, which is at the same port (%s)", other.service, key)
			case other.ring != mine.ring:
				errs.Addf(at+".ring", "%s: service %q at the same port (%s) has %s", mine.ring, other.service, key, other.ring)
			default:
				continue
			}
			if ok {
				return
			}
		}
	}
}

// protocols gives those that the service has at its ports.
func protocols(s *fleet.Service) []string {
	switch {
	case s.Protocol == fleet.UDP:
		return []string{"udp"}
	case s.HTTP3:
		return []string{"tcp", "udp"}
	}
	return []string{"tcp"}
}

func endpoints(s *fleet.Service, at string, errs *fleet.Errors) {
	if s.Gateway() {
		return
	}
	h := &s.Healthcheck
	if s.Protocol == fleet.UDP && h.Port == 0 && !h.Type.Datagram() && (h.Type != fleet.CheckTCP || h.Path != "" || h.ReadyPath != "") {
		errs.Addf(at+".healthcheck.port", "expected the port of a tcp, http or https check; without one the endpoints of a udp service are checked by type dns or udp alone")
	}
	ports := map[uint16]bool{}
	for _, p := range s.Ports {
		ports[p] = true
	}
	for i, p := range s.Pools {
		for j, e := range p.Endpoints {
			path := fmt.Sprintf("%s.pools[%d].endpoints[%d].address", at, i, j)
			switch port := e.Address.Port(); {
			case ports[port]:
			case s.AllPorts:
				errs.Addf(path, "port %d: expected the service's, %v, where the endpoint is checked", port, s.Ports)
			default:
				errs.Addf(path, "port %d is none of the service's, and layer 4 does not change ports", port)
			}
		}
	}
}

// room is how much of something the tables hold for a region.
type room struct {
	what         string
	limit, taken int
	at           string // the field that takes more than there is; "": none
}

func (r *room) take(n int, at string) {
	if r.taken += n; r.taken > r.limit && r.at == "" {
		r.at = at
	}
}

// needs is what one region asks for.
type needs struct {
	region    string
	addresses int // and networks
	families  int // of these
	plain     int // families of the addresses alone, which gateways serve
	ways      map[fleet.Forwarding]bool
	groups    map[string]bool // of gateways: each has rings of its own
	quic      map[string]bool // those of them that connection ids are looked up for
	ports     map[string]bool

	networks, vips, rings, large, members, servers, nodes room
}

// region compares what one region needs with the tables' sizes.
func region(spec *fleet.Spec, r *fleet.Region, at string, errs *fleet.Errors) {
	n := &needs{region: r.ID, ways: map[fleet.Forwarding]bool{}, groups: map[string]bool{},
		quic: map[string]bool{}, ports: map[string]bool{},
		networks: room{what: "VIP addresses", limit: MaxAddresses},
		vips:     room{what: "VIPs by port", limit: MaxVIPs},
		rings:    room{what: "rings", limit: MaxRings},
		large:    room{what: "large rings", limit: MaxLargeRings},
		members:  room{what: "gateways and endpoints", limit: MaxEndpoints},
		servers:  room{what: "server ids of QUIC", limit: MaxEndpoints},
		nodes:    room{what: "addresses of nodes with roles l4 and l7", limit: MaxNodes},
	}
	n.take(&spec.Anycast, &r.VIPs, at)
	for i := range spec.Services {
		n.service(&spec.Services[i], fmt.Sprintf("services[%d]", i))
	}
	for i := range spec.Nodes {
		n.node(&spec.Nodes[i], fmt.Sprintf("nodes[%d]", i))
	}
	for _, l := range []room{n.networks, n.vips, n.rings, n.large, n.members, n.servers, n.nodes} {
		if l.at != "" {
			errs.Addf(l.at, "region %s needs room for %d %s in layer 4's tables; the limit is %d", r.ID, l.taken, l.what, l.limit)
		}
	}
}

// take counts the VIPs.
func (n *needs) take(anycast, regional *fleet.VIPs, at string) {
	n.networks.take(len(anycast.Networks()), "anycast")
	n.networks.take(len(regional.Networks()), at+".vips")
	n.addresses = n.networks.taken
	all, plain := map[bool]bool{}, map[bool]bool{}
	for _, p := range append(anycast.Networks(), regional.Networks()...) {
		all[p.Addr().Is4()] = true
		if p.IsSingleIP() {
			plain[p.Addr().Is4()] = true
		}
	}
	n.families, n.plain = len(all), len(plain)
}

// service counts what a service has beside those before it.
func (n *needs) service(s *fleet.Service, at string) {
	for _, proto := range protocols(s) {
		for _, p := range s.Ports {
			key := fmt.Sprint(proto, p)
			if !n.ports[key] {
				n.vips.take(n.addresses, at+".ports")
			}
			n.ports[key] = true
		}
	}
	if key := fmt.Sprint("tcp", s.Twin()); s.Twin() != 0 && !n.ports[key] {
		n.vips.take(n.addresses, at+".redirect_http")
		n.ports[key] = true
	}
	rings := len(s.Ports) * n.families
	if s.Gateway() {
		way := s.Forwarding
		if way == fleet.Proxy {
			way = fleet.IPIP
		}
		n.ways[way] = true
		group := fmt.Sprint(way, s.Ring)
		if rings = n.plain; n.groups[group] {
			rings = 0
		}
		n.groups[group] = true
		if s.HTTP3 {
			n.quic[group] = true
		}
	} else {
		n.endpoints(s, at)
	}
	n.rings.take(rings, at+".ports")
	if s.Ring == fleet.RingLarge {
		n.large.take(rings, at+".ring")
	}
}

// endpoints counts those that the region uses.
func (n *needs) endpoints(s *fleet.Service, at string) {
	for i, p := range s.Pools {
		for j, e := range p.Endpoints {
			if e.State != fleet.Disabled && (e.Region == "" || e.Region == n.region) {
				n.members.take(1, fmt.Sprintf("%s.pools[%d].endpoints[%d]", at, i, j))
			}
		}
	}
}

// node counts a node of the region: each of its addresses may send by tunnel, and
// is a way to it as a gateway.
func (n *needs) node(o *fleet.Node, at string) {
	if o.Region != n.region || !o.Has(fleet.RoleL4) && !o.Has(fleet.RoleL7) {
		return
	}
	own := 0
	for _, a := range []netip.Addr{o.Addresses.V4, o.Addresses.V6} {
		if a.IsValid() {
			own++
		}
	}
	n.nodes.take(own, at)
	if o.Has(fleet.RoleL7) && o.State != fleet.Disabled {
		n.members.take(own*len(n.ways), at)
		n.servers.take(n.plain*len(n.quic), at)
	}
}
