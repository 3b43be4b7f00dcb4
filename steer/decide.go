package steer

import (
	"fmt"
	"time"

	"meridian/fleet"
	"meridian/geo"
)

// trace collects reasons; a nil trace collects none.
type trace struct{ reasons []fleet.Reason }

func (t *trace) addf(code fleet.ReasonCode, region, format string, args ...any) {
	if t != nil {
		t.reasons = append(t.reasons, fleet.Reason{Code: code, Region: region, Detail: fmt.Sprintf(format, args...)})
	}
}

func (t *trace) down(region string, v fleet.Verdict) {
	if t == nil {
		return
	}
	detail := v.State.String()
	if v.Forced {
		detail += " by an operator"
	} else if v.Cause != fleet.CauseNone {
		detail += ": " + v.Cause.String()
	}
	if v.Detail != "" {
		detail += ", " + v.Detail
	}
	if !v.Since.IsZero() {
		detail += ", since " + v.Since.UTC().Format(time.RFC3339)
	}
	t.addf(fleet.ReasonDown, region, "%s", detail)
}

// Client is whom a decision is for.
type Client struct {
	Place geo.Place
	Slot  Slot
}

// Decide gives the decision for one client with its reasons, by the code that
// Choose runs. ttl is that of the name asked for.
func (s *Scene) Decide(service int, f Family, c Client, ttl time.Duration) fleet.Decision {
	svc := &s.classes.snap.Spec.Services[service]
	class := s.classes.Rank(c.Place)
	why := &trace{}
	order := s.explainRank(service, class, c, why)
	choice := s.decide(service, f, class, c.Slot, why)
	d := fleet.Decision{
		Service: svc.Service, Policy: string(svc.Steering.Policy), Answer: fleet.Regional,
		Regions: []string{}, Ranked: []string{}, TTL: ttl, Sliced: choice.Sliced, Reasons: why.reasons,
	}
	if choice.Anycast {
		d.Answer = fleet.Anycast
	}
	for _, r := range choice.Regions() {
		d.Regions = append(d.Regions, s.id(int(r)))
	}
	for _, r := range order {
		d.Ranked = append(d.Ranked, s.id(int(r)))
	}
	return d
}

// explainRank says how the policy ranks the candidates for the client.
func (s *Scene) explainRank(service int, class *Class, c Client, why *trace) []uint8 {
	st := &s.classes.snap.Spec.Services[service].Steering
	order := s.classes.ranked(service, class, c.Slot)
	located := c.Place.Located && (st.Policy == fleet.Proximity || st.Policy == fleet.Geo)
	switch st.Policy {
	case fleet.Weighted:
		why.addf(fleet.ReasonPolicy, "", "weighted: the client's network falls into slot %d of %d", c.Slot, Slots)
	case fleet.Failover:
		why.addf(fleet.ReasonPolicy, "", "failover: the Spec's order")
	case fleet.Geo:
		if rule := MatchGeo(st.Geo, c.Place); rule >= 0 {
			why.addf(fleet.ReasonPolicy, "", "geo: rule %d names %s", rule+1, c.Place)
		} else {
			why.addf(fleet.ReasonPolicy, "", "geo: no rule names %s: by distance", c.Place)
		}
	default:
		why.addf(fleet.ReasonPolicy, "", "proximity: by distance from %s", c.Place)
	}
	if !located && st.Policy != fleet.Weighted && st.Policy != fleet.Failover {
		why.addf(fleet.ReasonDefault, "", "the client's place is not known: the Spec's order")
	}
	for i, r := range order {
		region := &s.classes.regions[r]
		detail := fmt.Sprintf("%d", i+1)
		if located {
			detail += fmt.Sprintf(": %.0f km", distance(region, c.Place))
		}
		if bias := st.Bias[region.ID]; located && bias != 0 {
			detail += fmt.Sprintf(" and a bias of %+.0f km", bias)
		}
		if st.Policy == fleet.Weighted {
			detail += fmt.Sprintf(": weight %d", st.Weights[region.ID])
		}
		why.addf(fleet.ReasonRank, region.ID, "%s", detail)
	}
	return order
}
