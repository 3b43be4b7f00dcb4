package maglev

import (
	"fmt"

	"meridian/fleet"
)

// Limits of what a region may ask of a layer-4 node. Its tables in the kernel
// hold twice as much, for a change puts the new beside the old.
const (
	MaxVIPs       = 1024 // address or prefix, port and protocol of a region's VIPs together
	MaxAddresses  = 256  // VIP addresses and prefixes of a region
	MaxRings      = 256  // sets of members that differ
	MaxLargeRings = 16   // those of them with many slots, 6.5 MB each
	MaxEndpoints  = 4096 // gateways and layer-4 endpoints of a region, by family
	MaxBalancers  = 512  // layer-4 nodes of a region
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

// need is how much of something a region asks for.
type need struct {
	what       string
	have, room int
}

// region compares what one region needs with the tables' sizes.
func region(spec *fleet.Spec, r *fleet.Region, at string, errs *fleet.Errors) {
	addresses := len(spec.Anycast.Networks()) + len(r.VIPs.Networks())
	ports, members, rings, large := map[string]bool{}, 0, 0, 0
	ways := map[fleet.Forwarding]bool{fleet.IPIP: true}
	groups := map[string]bool{} // of gateways: each has a ring a family
	for i := range spec.Services {
		s := &spec.Services[i]
		for _, proto := range protocols(s) {
			for _, p := range s.Ports {
				ports[fmt.Sprint(proto, p)] = true
			}
		}
		mine := 2 * len(s.Ports)
		if s.Gateway() {
			way := s.Forwarding
			if way == fleet.Proxy {
				way = fleet.IPIP
			}
			ways[way] = true
			group := fmt.Sprint(way, s.Ring)
			mine = 2
			if groups[group] {
				mine = 0
			}
			groups[group] = true
		} else {
			for _, p := range s.Pools {
				members += 2 * len(p.Endpoints)
			}
		}
		rings += mine
		if s.Ring == fleet.RingLarge {
			large += mine
		}
	}
	balancers := 0
	for _, n := range spec.Nodes {
		if n.Region == r.ID && n.Has(fleet.RoleL7) {
			members += 2 * len(ways)
		}
		if n.Region == r.ID && n.Has(fleet.RoleL4) {
			balancers++
		}
	}
	for _, l := range []need{
		{"VIP addresses", addresses, MaxAddresses},
		{"VIPs by port", addresses * len(ports), MaxVIPs},
		{"gateways and endpoints of layer 4", members, MaxEndpoints},
		{"ports of tcp and udp services", rings, MaxRings},
		{"large rings", large, MaxLargeRings},
		{"nodes with role l4", balancers, MaxBalancers},
	} {
		if l.have > l.room {
			errs.Addf(at, "needs room for %d %s in layer 4's tables; the limit is %d", l.have, l.what, l.room)
		}
	}
}
