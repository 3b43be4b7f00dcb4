package dashboard

import (
	"fmt"
	"slices"
	"time"

	"meridian/fleet"
)

// region works out one region's line.
func (in *Input) region(r *fleet.Region) Region {
	x, y := Project(r.Location.Latitude, r.Location.Longitude)
	out := Region{ID: r.ID, Name: r.Name, City: r.Location.City, Country: r.Location.Country,
		Lat: r.Location.Latitude, Lon: r.Location.Longitude, X: round1(x), Y: round1(y),
		Capacity: r.Capacity, Prober: in.prober(r.ID), Tiers: in.tiers(r.ID)}
	out.FailedBy = in.failedBy(r.ID)
	in.judge(&out)
	return out
}

// verdictOn is one target of a region and the fleet's verdict on it.
type verdictOn struct {
	fleet.Target
	fleet.Verdict
}

// probed gives what the probers watch of a region: its services, or its
// nameservers where it has no service.
func (in *Input) probed(region string) (services, nameservers []verdictOn) {
	for _, t := range in.snapshot().ProbedTargets("") {
		if t.Region != region {
			continue
		}
		v := verdictOn{t, in.View.Get(t)}
		if t.Kind == fleet.TargetService {
			services = append(services, v)
		} else {
			nameservers = append(nameservers, v)
		}
	}
	return services, nameservers
}

// judge sets the region's state, since when and why. What its services'
// users meet comes first: all services down is down, some is degraded.
// Then the operator's word, then the parts that users do not yet feel.
func (in *Input) judge(out *Region) {
	services, nameservers := in.probed(out.ID)
	main := services
	if len(main) == 0 {
		main = nameservers
	}
	down := having(main, fleet.Down)
	up := having(main, fleet.Up)
	drained := len(having(main, fleet.Drain)) > 0 || in.drained(out.ID)
	set := func(h Health, why []verdictOn, note string) {
		out.State, out.Note = h, note
		for _, v := range why {
			if v.Since.After(out.Since) {
				out.Since = v.Since
			}
		}
		if (h == Down || h == Degraded) && len(why) > 0 {
			out.Cause = why[0].Cause.String()
		}
	}
	switch {
	case len(main) > 0 && len(down) == len(main):
		set(Down, down, in.failure(down[0], out.FailedBy))
	case len(down) > 0:
		set(Degraded, down, down[0].Service+" is down: "+in.failure(down[0], out.FailedBy))
	case drained:
		set(Drained, having(main, fleet.Drain), in.drainNote(out.ID))
	case len(up) == 0:
		set(Unknown, nil, in.unknownNote())
	case len(having(nameservers, fleet.Down)) > 0:
		bad := having(nameservers, fleet.Down)
		set(Degraded, bad, "its nameservers are down: "+in.failure(bad[0], nil))
	case len(out.FailedBy) > 0:
		in.partly(out)
	case worstTier(out.Tiers) != nil:
		t := worstTier(out.Tiers)
		set(Degraded, nil, fmt.Sprintf("%d of %d %s down", t.Down, t.Total, tierNames[t.Tier]))
		out.Since = in.tierSince(out.ID, t.Tier)
	default:
		set(Up, up, "")
	}
}

var tierNames = map[string]string{"dns": "nameservers", "l4": "layer-4 nodes", "l7": "gateways", "endpoints": "endpoints"}

func having(list []verdictOn, s fleet.State) []verdictOn {
	var out []verdictOn
	for _, v := range list {
		if v.State == s {
			out = append(out, v)
		}
	}
	return out
}

// failure words a down verdict: its cause, and who sees it.
func (in *Input) failure(v verdictOn, seenBy []string) string {
	if v.Forced {
		return "forced by an operator"
	}
	cause := causeWords(v.Cause)
	if len(seenBy) > 0 {
		cause += " seen by " + in.names(seenBy)
	}
	return cause
}

// names lists regions for a sentence.
func (in *Input) names(ids []string) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = id
		if r := in.snapshot().Region(id); r != nil {
			names[i] = r.Name
		}
	}
	return few(names)
}

// causeWords gives a cause as people say it.
func causeWords(c fleet.Cause) string {
	switch c {
	case fleet.CauseNone, fleet.CauseOther:
		return "failure"
	case fleet.CauseRefused:
		return "connection refused"
	case fleet.CauseReset:
		return "connection reset"
	case fleet.CauseTLS:
		return "TLS failure"
	case fleet.CauseCertExpired:
		return "certificate expired"
	case fleet.CauseCertName:
		return "certificate for another name"
	case fleet.CauseStatus:
		return "wrong HTTP status"
	case fleet.CauseBody:
		return "wrong HTTP body"
	case fleet.CauseRcode:
		return "DNS error"
	case fleet.CauseAnswer:
		return "wrong DNS answer"
	case fleet.CauseProtocol:
		return "protocol error"
	case fleet.CauseQuorum:
		return "failure"
	}
	return c.String()
}

// failedBy lists the vantages, other than a silent one, that see a service of
// the region down.
func (in *Input) failedBy(region string) []string {
	out := []string{}
	services, _ := in.probed(region)
	for _, r := range in.snapshot().Spec.Regions {
		fails := slices.ContainsFunc(services, func(v verdictOn) bool {
			return in.View.From(r.ID, v.Target).State == fleet.Down
		})
		if fails {
			out = append(out, r.ID)
		}
	}
	return out
}

// partly is a region that most vantages reach and some do not.
func (in *Input) partly(out *Region) {
	var cause fleet.Cause
	services, _ := in.probed(out.ID)
	for _, vantage := range out.FailedBy {
		for _, v := range services {
			seen := in.View.From(vantage, v.Target)
			if seen.State == fleet.Down && (out.Since.IsZero() || seen.Since.Before(out.Since)) {
				out.Since, cause = seen.Since, seen.Cause
			}
		}
	}
	out.State, out.Cause = Degraded, cause.String()
	out.Note = causeWords(cause) + " seen by " + in.names(out.FailedBy) + " only"
}

func (in *Input) drained(region string) bool {
	return slices.ContainsFunc(in.World.Shifts, func(sh fleet.Shift) bool {
		return sh.From == region && sh.Drain && sh.Active(in.Now)
	})
}

func (in *Input) drainNote(region string) string {
	for _, sh := range in.World.Shifts {
		if sh.From == region && sh.Drain && sh.Reason != "" {
			return "drained by an operator: " + sh.Reason
		}
	}
	return "drained by an operator"
}

func (in *Input) unknownNote() string {
	if in.View == nil || len(in.View.Probers) == 0 {
		return "no prober has spoken yet"
	}
	return "the probers have no verdict"
}

// tiers counts what the region is made of. Nameservers and layer-4 nodes
// count by whether the node is heard from, unless the probers find the
// region's nameservers down; gateways and endpoints count by their verdicts.
func (in *Input) tiers(region string) []Tier {
	s := in.snapshot()
	out := []Tier{}
	add := func(t Tier) {
		if t.Total > 0 {
			out = append(out, t)
		}
	}
	dns := in.nodeTier("dns", region, fleet.RoleDNS)
	switch in.View.Get(fleet.Target{Kind: fleet.TargetNameserver, Region: region}).State {
	case fleet.Down:
		dns.Up, dns.Down = 0, dns.Total
	case fleet.Up:
		dns.Up = dns.Total - dns.Down
	}
	add(dns)
	add(in.nodeTier("l4", region, fleet.RoleL4))
	add(in.targetTier("l7", s.GatewayTargets(region)))
	add(in.targetTier("endpoints", endpoints(s, region)))
	return out
}

// endpoints lists those that gateways send to and those that layer 4 does.
func endpoints(s *fleet.Snapshot, region string) []fleet.Target {
	return append(s.EndpointTargets(region), s.DirectTargets(region)...)
}

func (in *Input) nodeTier(tier, region string, role fleet.Role) Tier {
	t := Tier{Tier: tier}
	for _, n := range in.snapshot().NodesWith(region, role) {
		t.Total++
		switch status, ok := in.Nodes[n.Name]; {
		case ok && status.Alive:
			t.Up++
		case ok:
			t.Down++
		}
	}
	return t
}

func (in *Input) targetTier(tier string, targets []fleet.Target) Tier {
	t := Tier{Tier: tier, Total: len(targets)}
	for _, target := range targets {
		switch in.View.Get(target).State {
		case fleet.Up, fleet.Drain:
			t.Up++
		case fleet.Down:
			t.Down++
		}
	}
	return t
}

func worstTier(tiers []Tier) *Tier {
	for i := range tiers {
		if tiers[i].Down > 0 {
			return &tiers[i]
		}
	}
	return nil
}

// tierSince is when the last of a tier's targets went down.
func (in *Input) tierSince(region, tier string) (since time.Time) {
	targets := in.snapshot().GatewayTargets(region)
	if tier == "endpoints" {
		targets = endpoints(in.snapshot(), region)
	} else if tier != "l7" {
		return since
	}
	for _, t := range targets {
		if v := in.View.Get(t); v.State == fleet.Down && v.Since.After(since) {
			since = v.Since
		}
	}
	return since
}
