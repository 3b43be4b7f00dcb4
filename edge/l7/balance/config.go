package balance

import "meridian/fleet"

// Of gives the Config of a service's pools on one gateway: what the Spec says
// of it, the gateway's own zone, and the zones of its region's gateways.
func Of(s *fleet.Service, snap *fleet.Snapshot, node string) Config {
	b := &s.Balancing
	cfg := Config{Policy: s.RoutingPolicy, HashBound: b.HashBound, SlowStart: b.SlowStart.D(),
		Overprovision: b.Overprovision, Gateways: map[string]int{}}
	if b.PanicThreshold != nil {
		cfg.Panic = *b.PanicThreshold
	}
	self := snap.Node(node)
	if self == nil {
		return cfg
	}
	cfg.Zone = self.Zone
	for _, n := range snap.NodesWith(self.Region, fleet.RoleL7) {
		if n.State == fleet.Active {
			cfg.Gateways[n.Zone] += n.Weight
		}
	}
	return cfg
}
