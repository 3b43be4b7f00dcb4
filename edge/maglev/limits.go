package maglev

import (
	"fmt"

	"meridian/fleet"
)

// Limits of what a region may ask of a layer-4 node. Its tables in the kernel
// hold twice as much, for a change puts the new beside the old.
const (
	MaxVIPs      = 1024 // address, port and protocol of a region's VIPs together
	MaxAddresses = 256  // VIP addresses of a region
	MaxRings     = 256  // sets of members that differ
	MaxEndpoints = 4096 // gateways and layer-4 endpoints of a region, by family
	MaxBalancers = 512  // layer-4 nodes of a region
)

// Check is layer 4's rules on a Spec: each region fits a node's tables, and
// the endpoints of tcp and udp services are ones that layer 4 can reach, since
// it leaves addresses and ports of a packet as they are, and can check as the
// Spec says.
func Check(spec *fleet.Spec, errs *fleet.Errors) {
	for i := range spec.Services {
		endpoints(&spec.Services[i], fmt.Sprintf("services[%d]", i), errs)
	}
	for i := range spec.Regions {
		region(spec, &spec.Regions[i], fmt.Sprintf("regions[%d]", i), errs)
	}
}

func endpoints(s *fleet.Service, at string, errs *fleet.Errors) {
	if s.Protocol.Gateway() {
		return
	}
	h := &s.Healthcheck
	if s.Protocol == fleet.UDP && h.Port == 0 && (h.Type != fleet.CheckTCP || h.Path != "" || h.ReadyPath != "") {
		errs.Addf(at+".healthcheck.port", "expected the port of a tcp, http or https check; without one the endpoints of a udp service are not checked")
	}
	ports := map[uint16]bool{}
	for _, p := range s.Ports {
		ports[p] = true
	}
	for i, p := range s.Pools {
		for j, e := range p.Endpoints {
			if port := e.Address.Port(); !ports[port] {
				errs.Addf(fmt.Sprintf("%s.pools[%d].endpoints[%d].address", at, i, j),
					"port %d is none of the service's, and layer 4 does not change ports", port)
			}
		}
	}
}

// region compares what one region needs with the tables' sizes.
func region(spec *fleet.Spec, r *fleet.Region, at string, errs *fleet.Errors) {
	addresses := len(spec.Anycast.V4) + len(spec.Anycast.V6) + len(r.VIPs.V4) + len(r.VIPs.V6)
	ports, members, rings := map[string]bool{}, 0, 2*2 // gateways: by family of the VIP and kind of forwarding
	for _, s := range spec.Services {
		proto := "tcp"
		if s.Protocol == fleet.UDP {
			proto = "udp"
		}
		for _, p := range s.Ports {
			ports[fmt.Sprint(proto, p)] = true
		}
		if s.Protocol.Gateway() {
			continue
		}
		rings += 2 * len(s.Ports)
		for _, p := range s.Pools {
			members += 2 * len(p.Endpoints)
		}
	}
	balancers := 0
	for _, n := range spec.Nodes {
		if n.Region == r.ID && n.Has(fleet.RoleL7) {
			members += 2 * 2
		}
		if n.Region == r.ID && n.Has(fleet.RoleL4) {
			balancers++
		}
	}
	for _, l := range []struct {
		what       string
		have, room int
	}{
		{"VIP addresses", addresses, MaxAddresses},
		{"VIPs by port", addresses * len(ports), MaxVIPs},
		{"gateways and endpoints of layer 4", members, MaxEndpoints},
		{"ports of tcp and udp services", rings, MaxRings},
		{"nodes with role l4", balancers, MaxBalancers},
	} {
		if l.have > l.room {
			errs.Addf(at, "needs room for %d %s in layer 4's tables; the limit is %d", l.have, l.what, l.room)
		}
	}
}
