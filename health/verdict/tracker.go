package verdict

import (
	"strings"
	"time"

	"meridian/fleet"
)

// CheckReady is the name of the check whose failure drains a target where the
// failure of any other brings it down.
const CheckReady = "ready"

// Params are the rise and fall of one target's checks.
type Params struct {
	Fall   int           // failures in a row that make a check down; at least 1
	Rise   int           // successes in a row that make a down check up; at least 1
	Expire time.Duration // a check without an observation for so long is forgotten
}

// The layer-4 nodes check their gateways several times a second, by rules
// that are not the operator's to set: see issue "a dead gateway is out of every
// ring in under 1 s".
const (
	gatewayFall   = 3
	gatewayRise   = 2
	gatewayExpire = 5 * time.Second
)

// ParamsOf gives the rise and fall that the Snapshot sets for a target. ok is
// false where the target's service does not exist.
func ParamsOf(s *fleet.Snapshot, t fleet.Target) (p Params, ok bool) {
	switch t.Kind {
	case fleet.TargetGateway:
		return Params{gatewayFall, gatewayRise, gatewayExpire}, true
	case fleet.TargetEndpoint:
		svc := s.Service(t.Service)
		if svc == nil {
			return Params{}, false
		}
		h := &svc.Healthcheck
		return Params{h.Fall, h.Rise, 3*h.Interval.D() + h.Timeout.D()}, true
	default:
		if t.Service != "" && s.Service(t.Service) == nil {
			return Params{}, false
		}
		pr := &s.Spec.Probes
		return Params{pr.Fall, pr.Rise, 3*max(pr.Interval, pr.FastInterval).D() + pr.Timeout.D()}, true
	}
}

// Tracker debounces the observations of one target by one observer. The zero
// Tracker knows nothing. It is not safe for concurrent use.
type Tracker struct {
	checks  []check // few; in order of first sight
	verdict fleet.Verdict
}

type check struct {
	name    string
	state   fleet.State
	oks     int // successes in a row
	fails   int // failures in a row
	cause   fleet.Cause
	detail  string
	latency time.Duration // smoothed over successes
	last    time.Time
}

// Observe takes one observation in and gives the local verdict. changed says
// that the State is another than before.
func (t *Tracker) Observe(o fleet.Observation, p Params) (v fleet.Verdict, changed bool) {
	c := t.check(o.Check)
	c.last = o.Time
	if o.OK {
		c.pass(o, p)
	} else {
		c.fail(o, p)
	}
	return t.conclude(o.Time)
}

// Expire forgets checks that are made no more. changed says that the State is
// another than before.
func (t *Tracker) Expire(now time.Time, p Params) (v fleet.Verdict, changed bool) {
	kept := t.checks[:0]
	for _, c := range t.checks {
		if now.Sub(c.last) <= p.Expire {
			kept = append(kept, c)
		}
	}
	if len(kept) == len(t.checks) {
		return t.verdict, false
	}
	t.checks = kept
	return t.conclude(now)
}

// Verdict gives the local verdict as last concluded.
func (t *Tracker) Verdict() fleet.Verdict { return t.verdict }

func (t *Tracker) check(name string) *check {
	for i := range t.checks {
		if t.checks[i].name == name {
			return &t.checks[i]
		}
	}
	t.checks = append(t.checks, check{name: name})
	return &t.checks[len(t.checks)-1]
}

// pass counts a success. What is unknown is up at its first success, so that
// a node that starts serves at once; only what was down has to rise.
func (c *check) pass(o fleet.Observation, p Params) {
	c.fails = 0
	c.oks++
	if c.state == fleet.Unknown || c.oks >= p.Rise {
		c.state, c.cause, c.detail = fleet.Up, fleet.CauseNone, ""
	}
	if c.latency == 0 {
		c.latency = o.Latency
	} else {
		c.latency += (o.Latency - c.latency) / 4
	}
}

func (c *check) fail(o fleet.Observation, p Params) {
	c.oks = 0
	c.fails++
	if c.fails >= p.Fall {
		c.state = fleet.Down
	}
	if c.state != fleet.Up {
		c.cause, c.detail = o.Cause, o.Detail
	}
}

// conclude gives the target the worst state of its checks.
func (t *Tracker) conclude(now time.Time) (fleet.Verdict, bool) {
	was := t.verdict.State
	worst, v := -1, fleet.Verdict{Since: t.verdict.Since}
	for i := range t.checks {
		c := &t.checks[i]
		s := c.state
		if s == fleet.Down && c.name == CheckReady {
			s = fleet.Drain
		}
		if rank := badness[s]; rank > worst {
			worst, v.State, v.Cause, v.Detail = rank, s, c.cause, c.describe()
		}
		if c.state == fleet.Up && (v.Latency == 0 || c.latency < v.Latency) {
			v.Latency = c.latency
		}
	}
	if v.State != was || v.Since.IsZero() {
		v.Since = now
	}
	t.verdict = v
	return v, v.State != was
}

// badness orders states; what a check has not yet proven does not pass for up.
var badness = [...]int{fleet.Up: 0, fleet.Drain: 1, fleet.Unknown: 2, fleet.Down: 3}

func (c *check) describe() string {
	if c.cause == fleet.CauseNone {
		return ""
	}
	return strings.TrimSuffix(c.name+": "+c.detail, ": ")
}
