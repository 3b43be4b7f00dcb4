package balance

import (
	"time"

	"meridian/fleet"
)

// Reason is why a pick took a member, or why not.
type Reason string

// The reasons, in the order in which a pick meets them.
const (
	ReasonHeld     Reason = "held"        // the client's cookie names it
	ReasonDown     Reason = "down"        // and there is somebody better
	ReasonEjected  Reason = "ejected"     // an outlier, and there is somebody better
	ReasonDraining Reason = "draining"    // likewise
	ReasonUnproven Reason = "unproven"    // nothing is known of it, and others are up
	ReasonTried    Reason = "tried"       // by this request already
	ReasonPriority Reason = "priority"    // another priority takes the request
	ReasonZone     Reason = "zone"        // another zone takes the request
	ReasonFull     Reason = "full"        // consistent hash: above its bound
	ReasonCost     Reason = "cost"        // another costs less
	ReasonDraw     Reason = "not_drawn"   // of random choices
	ReasonTurn     Reason = "not_in_turn" // another's turn, or another's key
	ReasonChosen   Reason = "chosen"

	// ReasonElsewhere: it would be taken, but the next region is asked first.
	ReasonElsewhere Reason = "next_region"
)

// Candidate is one member as a pick sees it.
type Candidate struct {
	Name     string        `json:"name"`
	Zone     string        `json:"zone,omitempty"`
	Priority int           `json:"priority"`
	State    fleet.State   `json:"state"`
	Ejected  time.Duration `json:"ejected_ns,omitempty"` // still so long
	Panic    bool          `json:"panic,omitempty"`      // it counts as healthy, because too few are
	Weight   float64       `json:"weight"`               // share of its weight that it has, 0 to 1
	Active   int64         `json:"active"`               // requests under way
	Latency  time.Duration `json:"latency_ns,omitempty"`
	Score    float64       `json:"score"` // less is better: requests there for its weight, this one counted; with peak EWMA times seconds
	Reason   Reason        `json:"reason"`
}

// Explain tells what the next Pick for the same Ask will do, by the same code,
// and changes nothing. It allocates: it is for people.
func (b *Balancer) Explain(a Ask, tried *Tried) []Candidate {
	if len(b.members) == 0 {
		return nil
	}
	c := b.choose(&a, tried)
	pick, held := 0, b.held(&a, tried)
	if held {
		pick = a.Held - 1
	} else {
		pick = b.decide(&c, &a, b.turn.Load()+1)
	}
	out := make([]Candidate, len(b.members))
	for i := range b.members {
		m := &b.members[i]
		out[i] = Candidate{
			Name: m.Name, Zone: m.Zone, Priority: m.Priority, State: m.Live.State(), Panic: c.panic,
			Ejected: max(m.Live.EjectedUntil()-a.Now, 0), Weight: float64(m.Live.ramp(a.Now, b.cfg.SlowStart)) / full,
			Active: m.Live.Active(), Latency: m.Live.Latency(a.Now), Score: b.score(&c, i),
		}
		switch {
		case i != pick:
			out[i].Reason = b.whyNot(&c, &a, i, pick)
		case held:
			out[i].Reason = ReasonHeld
		default:
			out[i].Reason = ReasonChosen
		}
	}
	return out
}

// score is the member's cost, in requests at an endpoint of mean weight; with
// peak EWMA in seconds.
func (b *Balancer) score(c *choice, i int) float64 {
	cost := b.cost(c, i)
	if b.cfg.Policy == fleet.PeakEWMA {
		cost /= float64(time.Second)
	}
	return cost
}

func (b *Balancer) whyNot(c *choice, a *Ask, i, pick int) Reason {
	if !b.takes(c, i) {
		return b.whyOut(c, i, pick)
	}
	switch b.cfg.Policy {
	case fleet.LeastConnections:
		return ReasonCost
	case fleet.PeakEWMA, fleet.Random:
		if one, other := b.drawn(c, a.Draw); i == one || i == other {
			return ReasonCost
		}
		return ReasonDraw
	case fleet.ConsistentHash:
		if !b.roomy(c, i, b.bound(c)) {
			return ReasonFull
		}
	}
	return ReasonTurn
}

// whyOut is why a member is none of those among which the policy picks.
func (b *Balancer) whyOut(c *choice, i, pick int) Reason {
	switch r := b.rank(c, i); {
	case c.tried.Has(i):
		return ReasonTried
	case r > c.rank && r == down:
		return ReasonDown
	case r > c.rank && r == ejected:
		return ReasonEjected
	case r > c.rank && r == draining || b.members[i].Leaving:
		return ReasonDraining
	case r > c.rank && r == unproven:
		return ReasonUnproven
	case b.members[i].Priority != b.members[pick].Priority:
		return ReasonPriority
	}
	return ReasonZone
}
