package steer

import (
	"fmt"
	"strings"
	"time"

	"meridian/fleet"
	"meridian/geo"
)

// trace collects reasons; a nil trace collects none.
type trace struct {
	reasons []fleet.Reason
	group   []string
	client  geo.Place
}

func (t *trace) addf(code fleet.ReasonCode, region, format string, args ...any) {
	if t == nil {
		return
	}
	r := fleet.Reason{Code: code, Region: region, Detail: fmt.Sprintf(format, args...), Depth: len(t.group)}
	if len(t.group) > 0 {
		r.Group = t.group[len(t.group)-1]
	}
	t.reasons = append(t.reasons, r)
}

// enter begins the reasons of a group.
func (t *trace) enter(w *walk, at uint8) {
	if t != nil {
		t.group = append(t.group, w.t.nodes[at].name)
		t.policy(w, at)
	}
}

func (t *trace) leave() {
	if t != nil {
		t.group = t.group[:len(t.group)-1]
	}
}

func (t *trace) noVIP(w *walk, r uint8) {
	if t != nil {
		family := V4
		if w.family == 1 {
			family = V6
		}
		t.addf(fleet.ReasonNoVIP, w.s.id(r), "no IPv%d address", family)
	}
}

func (t *trace) target(w *walk, r uint8) fleet.Target {
	return fleet.Target{Kind: fleet.TargetService, Region: w.s.id(r), Service: w.s.classes.snap.Spec.Services[w.service].Service}
}

func (t *trace) unknown(w *walk, r uint8) {
	if t != nil && w.s.view.Get(t.target(w, r)).State == fleet.Unknown {
		t.addf(fleet.ReasonUnknown, w.s.id(r), "no verdict: kept")
	}
}

func (t *trace) down(w *walk, r uint8) {
	if t == nil {
		return
	}
	region := &w.s.classes.regions[r]
	if w.s.admin.has(r) {
		why := "none of its edge nodes is active"
		if region.State != fleet.Active {
			why = "is " + string(region.State)
		}
		t.addf(fleet.ReasonDown, region.ID, "by the Spec: %s", why)
		return
	}
	v := w.s.view.Get(t.target(w, r))
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
	t.addf(fleet.ReasonDown, region.ID, "%s", detail)
}

// allDown tells of a node that health leaves too little of, and why.
func (t *trace) allDown(w *walk, at uint8) {
	if t == nil {
		return
	}
	for _, m := range w.t.nodes[at].members {
		if m.node == 0 && w.health.out.has(m.region) {
			t.down(w, m.region)
		}
	}
	t.addf(fleet.ReasonAllDown, "", "health leaves %s", t.tooFew(w, at))
}

func (t *trace) fallback(n *node) {
	if t != nil {
		t.addf(fleet.ReasonFallback, "", "%s instead", strings.Join(n.sel.Fallback, ", "))
	}
}

func (t *trace) tooFew(w *walk, at uint8) string {
	n := &w.t.nodes[at]
	if t == nil || n.need < 2 {
		return "no region"
	}
	return fmt.Sprintf("fewer than %d of %d", n.need, len(n.members))
}

// policy says how a node ranks its members for the client.
func (t *trace) policy(w *walk, at uint8) {
	if t == nil {
		return
	}
	n := &w.t.nodes[at]
	t.addf(fleet.ReasonPolicy, "", "%s: %s", n.sel.Policy, t.by(w, n))
	p := t.client
	if n.byPlace() && !p.Located && t.rule(w, n) == "" && (n.sel.Policy != fleet.Latency || w.rank.ms == nil) {
		order := "the Spec's order"
		if len(n.sel.Unmapped) > 0 {
			order = "the order of unmapped"
		}
		t.addf(fleet.ReasonDefault, "", "the client's place is not known: %s", order)
	}
	order := w.s.order(w.t, w.rank, at, w.slot)
	for i := range n.members {
		k := i
		if order != nil {
			k = int(order[i])
		}
		t.addf(fleet.ReasonRank, n.members[k].id, "%d%s", i+1, t.measure(w, n, k))
	}
}

// rule says which rule of the node names the client; empty for none.
func (t *trace) rule(w *walk, n *node) string {
	if _, why := w.s.classes.rule(n, t.client); why != nil {
		return why()
	}
	return ""
}

func (t *trace) by(w *walk, n *node) string {
	p := t.client
	switch n.sel.Policy {
	case fleet.Weighted:
		return fmt.Sprintf("the client's network falls into slot %d of %d", w.slot, Slots)
	case fleet.Failover, fleet.All:
		return "the Spec's order"
	case fleet.Geo, fleet.Subnet:
		what := map[fleet.SteeringPolicy]string{fleet.Geo: p.String(), fleet.Subnet: "the client"}[n.sel.Policy]
		if rule := t.rule(w, n); rule != "" {
			return fmt.Sprintf("%s names %s", rule, what)
		}
		return fmt.Sprintf("no rule names %s: by distance", what)
	case fleet.Latency:
		return fmt.Sprintf("by round-trip time from %s", p)
	}
	return fmt.Sprintf("by distance from %s", p)
}

// measure says what a member's place in the order comes from.
func (t *trace) measure(w *walk, n *node, k int) string {
	m := &n.members[k]
	var out []string
	switch n.sel.Policy {
	case fleet.Weighted:
		return fmt.Sprintf(": weight %d", n.sel.Weights[m.id])
	case fleet.Failover, fleet.All:
		return ""
	case fleet.Latency:
		if w.rank.ms != nil {
			return t.latency(w, m)
		}
	}
	if t.client.Located {
		km := make([]float64, len(w.s.classes.regions))
		for i := range km {
			km[i] = distance(&w.s.classes.regions[i], t.client)
		}
		out = append(out, fmt.Sprintf(": %.0f km", n.distance(k, km)))
		if bias := n.sel.Bias[m.id]; bias != 0 {
			out = append(out, fmt.Sprintf(" and a bias of %+.0f km", bias))
		}
	}
	return strings.Join(out, "")
}

func (t *trace) latency(w *walk, m *member) string {
	c := w.s.classes
	best, by := -1.0, "not known"
	for _, r := range m.leaves {
		ms := w.s.rtt.estimate(w.rank, int(r))
		if best >= 0 && ms >= best {
			continue
		}
		best, by = ms, "estimated"
		if c.latency != nil {
			if _, row, ok := c.latency.find(c.network(t.client), t.client, c.regions[r].ID); ok {
				by = "by the latency map for " + row
			}
		}
	}
	return fmt.Sprintf(": %.0f ms, %s", best, by)
}

// Client is whom a decision is for.
type Client struct {
	Place geo.Place // with its Mark: see Classes.Locate
	Slot  Slot
}

// Decide gives the decision for one client with its reasons, by the code that
// Choose runs. ttl is that of the name asked for.
func (s *Scene) Decide(service int, f Family, c Client, ttl time.Duration) fleet.Decision {
	svc := &s.classes.snap.Spec.Services[service]
	why := &trace{client: c.Place}
	r := s.classes.Rank(service, c.Place)
	choice := s.decide(service, f, r, c.Slot, why)
	d := fleet.Decision{
		Service: svc.Service, Policy: string(svc.Steering.Policy), Answer: fleet.Regional,
		Regions: []string{}, Ranked: []string{}, TTL: ttl, Sliced: choice.Sliced, Reasons: why.reasons,
	}
	if choice.Anycast {
		d.Answer = fleet.Anycast
	}
	for _, r := range choice.Regions() {
		d.Regions = append(d.Regions, s.id(r))
	}
	for _, e := range s.ranked(service, r, c.Slot) {
		d.Ranked = append(d.Ranked, s.id(e.region))
	}
	return d
}

// ranked gives every candidate in the policy's order, health left aside.
func (s *Scene) ranked(service int, r *Ranking, slot Slot) []entry {
	calm := *s
	calm.anycast = [2]bool{true, true}
	for i := range calm.vips {
		for r := range s.classes.regions {
			calm.vips[i].set(uint8(r))
		}
	}
	w := walk{s: &calm, t: s.classes.trees[service], rank: r, health: &health{}, service: service, slot: slot, vantage: -1}
	w.visit(0, anyhow)
	return w.list[:w.n]
}
