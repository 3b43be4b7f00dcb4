package api

import (
	"fmt"
	"net/http"
	"time"

	"meridian/fleet"
)

// HealthReply is the answer of GET /health.
type HealthReply struct {
	Node  NodeHealth   `json:"node"`
	Fleet *FleetHealth `json:"fleet,omitempty"` // as this node sees it; absent before there is a Spec
}

// NodeHealth is whether this node can do its work.
type NodeHealth struct {
	Node     string    `json:"node,omitempty"`
	OK       bool      `json:"ok"`
	Why      string    `json:"why,omitempty"` // not ok
	Started  time.Time `json:"started"`
	Revision uint64    `json:"revision"`
	Source   string    `json:"source,omitempty"` // store, disk or file
}

// FleetHealth is every region's state at one moment.
type FleetHealth struct {
	At      time.Time      `json:"at,omitzero"` // when the View was concluded
	Regions []RegionHealth `json:"regions"`     // in the Spec's order
	Anycast []TargetHealth `json:"anycast,omitempty"`
}

// RegionHealth is a region's state: that of its worst service, or drain where
// an operator took its clients away.
type RegionHealth struct {
	Region  string         `json:"region"`
	Name    string         `json:"name"`
	State   string         `json:"state"` // up, degraded, down, drain or unknown
	Since   time.Time      `json:"since,omitzero"`
	Why     string         `json:"why,omitempty"`
	Targets []TargetHealth `json:"targets"` // services, nameservers, gateways, endpoints
}

// TargetHealth is the verdict on one target.
type TargetHealth struct {
	Target  string             `json:"target"`
	Tier    string             `json:"tier"` // service, anycast, dns, gateway or endpoint
	State   fleet.State        `json:"state"`
	Since   time.Time          `json:"since,omitzero"`
	Cause   fleet.Cause        `json:"cause"`
	Detail  string             `json:"detail,omitempty"`
	Forced  bool               `json:"forced,omitempty"`
	Latency float64            `json:"latency_ms,omitempty"`
	FailAt  map[string]Vantage `json:"failing_from,omitempty"` // the vantages that see it fail, while others do not
}

// Vantage is what one vantage sees.
type Vantage struct {
	Since  time.Time   `json:"since"`
	Cause  fleet.Cause `json:"cause"`
	Detail string      `json:"detail,omitempty"`
}

var tiers = map[fleet.TargetKind]string{
	fleet.TargetService: "service", fleet.TargetAnycast: "anycast", fleet.TargetNameserver: "dns",
	fleet.TargetGateway: "gateway", fleet.TargetEndpoint: "endpoint",
}

// health answers 200 where this node can do its work, else 503, with the
// fleet's health in both cases.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	out := HealthReply{Node: NodeHealth{OK: true, Started: s.started}}
	code := http.StatusOK
	if s.cfg.Agent != nil {
		a := s.cfg.Agent()
		out.Node.Node, out.Node.Revision, out.Node.Source = a.Node, a.Revision, a.Source
	}
	if err := s.notReady(); err != nil {
		out.Node.OK, out.Node.Why = false, err.Error()
		code = http.StatusServiceUnavailable
	}
	if s.cfg.World != nil && s.cfg.View != nil {
		if world := s.cfg.World(); world != nil {
			f := FleetHealthOf(world, s.cfg.View(), time.Now())
			out.Fleet = &f
		}
	}
	reply(w, code, out)
}

func (s *Server) notReady() error {
	if s.cfg.Ready == nil {
		return nil
	}
	return s.cfg.Ready()
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if err := s.notReady(); err != nil {
		fail(w, http.StatusServiceUnavailable, fmt.Errorf("not ready: %w", err))
		return
	}
	reply(w, http.StatusOK, map[string]bool{"ready": true})
}

// FleetHealthOf joins the targets of a World with the verdicts of a View.
func FleetHealthOf(w *fleet.World, v *fleet.View, now time.Time) FleetHealth {
	f := FleetHealth{Regions: []RegionHealth{}}
	if v != nil {
		f.At = v.At
	}
	s := w.Snapshot
	byRegion := map[string][]TargetHealth{}
	seen := map[fleet.Target]bool{}
	add := func(t fleet.Target) {
		if seen[t] {
			return
		}
		seen[t] = true
		th := targetHealth(t, v)
		if t.Region == "" {
			f.Anycast = append(f.Anycast, th)
			return
		}
		byRegion[t.Region] = append(byRegion[t.Region], th)
	}
	for i := range s.Spec.Regions {
		id := s.Spec.Regions[i].ID
		for _, t := range s.ProbedTargets(id) {
			add(t)
		}
	}
	for i := range s.Spec.Regions {
		id := s.Spec.Regions[i].ID
		for _, t := range s.GatewayTargets(id) {
			add(t)
		}
		if len(s.NodesWith(id, fleet.RoleL7)) > 0 {
			for _, t := range s.EndpointTargets(id) {
				add(t)
			}
		}
		if len(s.NodesWith(id, fleet.RoleL4)) > 0 {
			for _, t := range s.DirectTargets(id) {
				add(t)
			}
		}
	}
	for i := range s.Spec.Regions {
		r := &s.Spec.Regions[i]
		f.Regions = append(f.Regions, regionHealth(r, byRegion[r.ID], w.Shifts, now))
	}
	return f
}

func targetHealth(t fleet.Target, v *fleet.View) TargetHealth {
	d := v.Get(t)
	th := TargetHealth{Target: t.String(), Tier: tiers[t.Kind], State: d.State, Since: d.Since, Cause: d.Cause,
		Detail: d.Detail, Forced: d.Forced, Latency: float64(d.Latency.Microseconds()) / 1000}
	if v == nil {
		return th
	}
	for from := range v.Probers {
		if one := v.From(from, t); one.State == fleet.Down && d.State != fleet.Down {
			if th.FailAt == nil {
				th.FailAt = map[string]Vantage{}
			}
			th.FailAt[from] = Vantage{one.Since, one.Cause, one.Detail}
		}
	}
	return th
}

func regionHealth(r *fleet.Region, targets []TargetHealth, shifts []fleet.Shift, now time.Time) RegionHealth {
	h := RegionHealth{Region: r.ID, Name: r.Name, State: "unknown", Targets: targets}
	if targets == nil {
		h.Targets = []TargetHealth{}
	}
	for i := range shifts {
		if sh := &shifts[i]; sh.From == r.ID && sh.Drain && sh.Active(now) {
			h.State, h.Since, h.Why = "drain", sh.Created, sh.Reason
			if h.Why == "" {
				h.Why = "drained by an operator"
			}
			for _, t := range targets { // so that whoever undrains it knows
				if t.Tier == "service" && t.State == fleet.Down {
					h.Why += fmt.Sprintf("; %s is down (%s)", t.Target, t.Cause)
				}
			}
			return h
		}
	}
	up, known, services := 0, 0, 0
	var worst *TargetHealth
	for i := range targets {
		t := &targets[i]
		if t.Tier == "service" {
			services++
			switch t.State {
			case fleet.Up:
				up++
				known++
			case fleet.Down, fleet.Drain:
				known++
			}
		}
		if t.State == fleet.Down && (worst == nil || worst.Tier != "service" && t.Tier == "service") {
			worst = t
		}
		if t.State == fleet.Up && t.Since.After(h.Since) {
			h.Since = t.Since
		}
	}
	switch {
	case worst != nil && services > 0 && up == 0 && known == services:
		h.State = "down"
	case worst != nil:
		h.State = "degraded"
	case known > 0:
		h.State = "up"
	}
	if worst != nil {
		h.Since, h.Why = worst.Since, fmt.Sprintf("%s is down (%s)", worst.Target, worst.Cause)
		if worst.Detail != "" {
			h.Why += ": " + worst.Detail
		}
	}
	return h
}
