package fleet

import "strings"

// TargetKind is what sort of thing a Verdict is about.
type TargetKind uint8

// The kinds of target, and who observes them.
const (
	TargetService    TargetKind = iota + 1 // a service at one region's regional VIPs; probers of every region
	TargetAnycast                          // a service at its anycast VIPs; probers, each for its own vantage
	TargetNameserver                       // the nameservers of a region; probers of every region
	TargetGateway                          // the gateway on one node; the layer-4 nodes of its region
	TargetEndpoint                         // one endpoint of a pool; who sends to it: gateways, or layer-4 nodes for tcp and udp
)

// Target is one thing that can be up or down. It is comparable and serves as
// a map key; fields that a kind does not need are empty.
type Target struct {
	Kind     TargetKind
	Region   string // the region it stands in; empty for TargetAnycast
	Service  string // TargetService, TargetAnycast, TargetEndpoint
	Node     string // TargetGateway
	Pool     string // TargetEndpoint
	Endpoint string // TargetEndpoint: its ADDRESS:PORT
}

// String gives the target's stable text form, as service/web@fra,
// anycast/web, dns@fra, gateway/fra-edge-1@fra or
// endpoint/web/main/10.0.0.1:8443@fra.
func (t Target) String() string {
	at := ""
	if t.Region != "" {
		at = "@" + t.Region
	}
	switch t.Kind {
	case TargetService:
		return "service/" + t.Service + at
	case TargetAnycast:
		return "anycast/" + t.Service
	case TargetNameserver:
		return "dns" + at
	case TargetGateway:
		return "gateway/" + t.Node + at
	case TargetEndpoint:
		return strings.Join([]string{"endpoint", t.Service, t.Pool, t.Endpoint}, "/") + at
	}
	return "unknown"
}

// ProbedTargets lists, in a fixed order, what a prober of the region watches:
// every region's services and nameservers, its own region's among them, and
// every service's anycast VIPs.
func (s *Snapshot) ProbedTargets(vantage string) []Target {
	var out []Target
	for _, svc := range s.Spec.Services {
		for _, r := range s.Spec.Regions {
			if len(r.VIPs.V4)+len(r.VIPs.V6) > 0 {
				out = append(out, Target{Kind: TargetService, Region: r.ID, Service: svc.Service})
			}
		}
		if len(s.Spec.Anycast.V4)+len(s.Spec.Anycast.V6) > 0 {
			out = append(out, Target{Kind: TargetAnycast, Service: svc.Service})
		}
	}
	for _, r := range s.Spec.Regions {
		if len(s.NodesWith(r.ID, RoleDNS)) > 0 {
			out = append(out, Target{Kind: TargetNameserver, Region: r.ID})
		}
	}
	return out
}

// GatewayTargets lists, in a fixed order, the gateways that the layer-4 nodes
// of the region check.
func (s *Snapshot) GatewayTargets(region string) []Target {
	var out []Target
	for _, n := range s.NodesWith(region, RoleL7) {
		out = append(out, Target{Kind: TargetGateway, Region: region, Node: n.Name})
	}
	return out
}

// EndpointTargets lists, in a fixed order, the endpoints that the gateways of
// the region check: those of http and https services.
func (s *Snapshot) EndpointTargets(region string) []Target {
	return s.endpointTargets(region, true)
}

// DirectTargets lists, in a fixed order, the endpoints that the layer-4 nodes
// of the region check: those of tcp and udp services, which no gateway stands
// before.
func (s *Snapshot) DirectTargets(region string) []Target {
	return s.endpointTargets(region, false)
}

func (s *Snapshot) endpointTargets(region string, gateway bool) []Target {
	var out []Target
	for _, svc := range s.Spec.Services {
		if svc.Gateway() != gateway {
			continue
		}
		for _, p := range svc.Pools {
			for _, e := range p.Endpoints {
				if e.Region == "" || e.Region == region {
					out = append(out, Target{Kind: TargetEndpoint, Region: region, Service: svc.Service,
						Pool: p.ID, Endpoint: e.Address.String()})
				}
			}
		}
	}
	return out
}
