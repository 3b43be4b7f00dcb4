// Package plan decides what a node announces by BGP, and why.
//
// Pure: imports fleet only; no clock, no goroutine, no I/O. The room anycast
// calls it again on every change.
//
// The rules, in order of strength:
//
//   - A failure of the node itself (its data plane cannot forward) withdraws
//     everything: a packet that came here would be lost for certain.
//   - A failure of something the node depends on, or a verdict of the probes,
//     only degrades: the routes stay, less wanted than any other. Should every
//     region degrade at once, all are equal again and traffic stays put. So
//     nothing but the nodes themselves can take the last announcer away.
//   - An operator's drain degrades too.
//   - A node that has just become ready begins degraded and is announced in
//     full once the probes find its region up, so that clients come home once,
//     to a region that serves.
package plan

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"meridian/fleet"
)

// GracefulShutdown asks neighbors to prefer every other path (RFC 8326).
const GracefulShutdown uint32 = 0xFFFF0000

// Attributes of the steps of a degraded announcement. A raised MED moves
// traffic between equal paths of one neighbor, the community where routers
// honour it, a longer path nearly everywhere.
const (
	normalMED    = 100
	degradedMED  = 1000
	prependTimes = 3
)

// fillTime is how long a node that has become ready waits for the probes to
// find its region up. Without their word it is then announced in full: probes
// may be away, and the node itself can serve.
const fillTime = 10 * time.Second

// Input is all that the plan of one node depends on.
type Input struct {
	Snapshot *fleet.Snapshot
	Node     string
	Local    error     // why the node's data plane cannot serve; nil when it can
	Ready    time.Time // since when it can; zero: for long
	View     *fleet.View
	Shifts   []fleet.Shift
	Now      time.Time
}

// Plan is what to announce. Silent says why nothing is.
type Plan struct {
	Ads    []fleet.Advertisement // regional VIPs, then anycast ones, in the Spec's order
	Silent string
}

// Make decides what the node announces.
func Make(in Input) Plan {
	node := in.Snapshot.Node(in.Node)
	if node == nil {
		return Plan{Silent: fmt.Sprintf("node %q is not in the Spec", in.Node)}
	}
	region := in.Snapshot.Region(node.Region)
	switch {
	case !node.Has(fleet.RoleBGP):
		return Plan{Silent: "the node has not the role bgp"}
	case region.BGP.ASN == 0:
		return Plan{Silent: "the region has no bgp.asn"}
	case node.State == fleet.Disabled:
		return Plan{Silent: "the node is disabled"}
	case in.Local != nil:
		return Plan{Silent: "the node cannot serve: " + in.Local.Error()}
	}
	nodeStep, nodeWhy := none, ""
	if node.State == fleet.Draining {
		nodeStep, nodeWhy = strong, "the node is draining"
	}
	step, why := in.regionStep(region.ID)
	if nodeStep > step {
		step, why = nodeStep, nodeWhy
	}
	var p Plan
	// No other region announces a regional VIP, so what is wrong with the
	// region as a whole does not touch it.
	for _, a := range region.VIPs.Networks() {
		p.Ads = append(p.Ads, advertisement(region, a, "regional VIP", nodeStep, nodeWhy))
	}
	for _, a := range in.Snapshot.Spec.Anycast.Networks() {
		p.Ads = append(p.Ads, advertisement(region, a, "anycast VIP", step, why))
	}
	return p
}

// degree is how far an announcement is degraded.
type degree int

const (
	none   degree = iota
	light         // MED
	strong        // MED, GRACEFUL_SHUTDOWN and a longer path
)

// regionStep says how far the region's anycast announcements are degraded.
func (in *Input) regionStep(region string) (degree, string) {
	for i := range in.Shifts {
		sh := &in.Shifts[i]
		if sh.Drain && sh.From == region && sh.Active(in.Now) && (sh.Service == "" || len(in.Snapshot.Spec.Services) == 1) {
			return strong, "drained: " + orElse(sh.Reason, "shift "+sh.ID)
		}
	}
	if in.gatewaysDown(region) {
		return strong, "no gateway of the region answers"
	}
	if !in.Ready.IsZero() && in.Now.Sub(in.Ready) < fillTime && !in.servicesUp(region) {
		return strong, "the node has just become ready, and the probes have not found the region up yet"
	}
	down := in.servicesDown(region)
	switch {
	case len(down) == 0:
		return none, ""
	case len(down) < len(in.Snapshot.Spec.Services):
		return light, "the probes find down: " + strings.Join(down, ", ")
	case in.othersDown(region):
		// All regions down at once is more likely a fault of the probes; and
		// degrading all of them would move nothing.
		return none, ""
	default:
		return strong, "the probes find every service down"
	}
}

func (in *Input) gatewaysDown(region string) bool {
	targets := in.Snapshot.GatewayTargets(region)
	for _, t := range targets {
		if in.View.Get(t).State != fleet.Down {
			return false
		}
	}
	return len(targets) > 0
}

func (in *Input) servicesUp(region string) bool {
	for i := range in.Snapshot.Spec.Services {
		name := in.Snapshot.Spec.Services[i].Service
		if in.View.Get(fleet.Target{Kind: fleet.TargetService, Region: region, Service: name}).State != fleet.Up {
			return false
		}
	}
	return true
}

func (in *Input) servicesDown(region string) []string {
	var down []string
	for i := range in.Snapshot.Spec.Services {
		name := in.Snapshot.Spec.Services[i].Service
		if in.View.Get(fleet.Target{Kind: fleet.TargetService, Region: region, Service: name}).State == fleet.Down {
			down = append(down, name)
		}
	}
	return down
}

// othersDown says whether every other region is down altogether.
func (in *Input) othersDown(region string) bool {
	for i := range in.Snapshot.Spec.Regions {
		id := in.Snapshot.Spec.Regions[i].ID
		if id != region && len(in.servicesDown(id)) < len(in.Snapshot.Spec.Services) {
			return false
		}
	}
	return true
}

func advertisement(r *fleet.Region, vip netip.Prefix, kind string, d degree, why string) fleet.Advertisement {
	ad := fleet.Advertisement{Prefix: vip, MED: normalMED, Reason: kind}
	for _, s := range r.BGP.Communities {
		if c, err := fleet.ParseCommunity(s); err == nil { // checked with the Spec
			ad.Communities = append(ad.Communities, c)
		}
	}
	if d >= light {
		ad.MED = degradedMED
		ad.Reason = kind + ", degraded: " + why
	}
	if d == strong {
		ad.Communities = append(ad.Communities, GracefulShutdown)
		ad.Prepend = prependTimes
	}
	return ad
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}

// Check notes what of a Spec could not be announced.
func Check(spec *fleet.Spec, errs *fleet.Errors) {
	for i := range spec.Regions {
		r := &spec.Regions[i]
		seen := map[netip.Addr]int{}
		for j, n := range r.BGP.Neighbors {
			at := fmt.Sprintf("regions[%d].bgp.neighbors[%d]", i, j)
			if k, ok := seen[n.Address]; ok && overlap(n.Nodes, r.BGP.Neighbors[k].Nodes) {
				errs.Addf(at+".address", "%s is already a neighbor of the same nodes", n.Address)
			}
			seen[n.Address] = j
			if path, ok := strings.CutPrefix(string(n.Password), "file:"); ok && !strings.HasPrefix(path, "/") {
				errs.Addf(at+".password", "expected an absolute path: each node reads its own file")
			}
		}
		if r.BGP.ASN != 0 {
			checkNextHops(spec, r, errs)
		}
	}
}

// checkNextHops asks each speaker for an address of every family that it
// announces, since that is where routers are to send.
func checkNextHops(spec *fleet.Spec, r *fleet.Region, errs *fleet.Errors) {
	v4, v6 := false, false
	for _, p := range append(r.VIPs.Networks(), spec.Anycast.Networks()...) {
		v4, v6 = v4 || p.Addr().Is4(), v6 || p.Addr().Is6()
	}
	for i := range spec.Nodes {
		n := &spec.Nodes[i]
		if n.Region != r.ID || !n.Has(fleet.RoleBGP) {
			continue
		}
		at := fmt.Sprintf("nodes[%d].addresses", i)
		if v4 && !n.Addresses.V4.IsValid() {
			errs.Addf(at+".v4", "expected an IPv4 address, the next hop of the IPv4 VIPs that the node announces")
		}
		if v6 && !n.Addresses.V6.IsValid() {
			errs.Addf(at+".v6", "expected an IPv6 address, the next hop of the IPv6 VIPs that the node announces")
		}
	}
}

// overlap says whether two lists of nodes share one; an empty list means all.
func overlap(a, b []string) bool {
	if len(a) == 0 || len(b) == 0 {
		return true
	}
	for _, x := range a {
		for _, y := range b {
			if x == y {
				return true
			}
		}
	}
	return false
}
