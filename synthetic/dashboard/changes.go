package dashboard

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"meridian/fleet"
)

// history is what the timeline has told already.
type history struct {
	hash     string
	revision uint64
	shifts   map[string]fleet.Shift
	told     map[fleet.VantageTarget]fleet.Verdict // fleet-wide verdicts have no Vantage
	probers  map[string]bool
	steered  map[string]map[string]string // service to country to region
	refused  map[string]string            // node to the error it gave
}

// changes lists what is new since the last call, and takes it in.
func (h *history) changes(in *Input, st *State) []Event {
	if in.World == nil {
		return nil
	}
	var out []Event
	out = append(out, h.config(in)...)
	out = append(out, h.refusals(in, st)...)
	out = append(out, h.shiftChanges(in)...)
	if in.View != nil {
		out = append(out, h.verdicts(in)...)
		out = append(out, h.proberChanges(in)...)
	}
	slices.SortStableFunc(out, func(a, b Event) int { return a.Time.Compare(b.Time) })
	// Steering follows from the others, so it comes last.
	return append(out, h.steeringChanges(in)...)
}

func (h *history) config(in *Input) []Event {
	s := in.snapshot()
	if s.Hash == h.hash && s.Revision == h.revision {
		return nil
	}
	h.hash, h.revision = s.Hash, s.Revision
	name := "configuration " + s.Hash[:min(8, len(s.Hash))]
	if s.Revision > 0 {
		name = fmt.Sprintf("revision %d", s.Revision)
	}
	return []Event{{Time: in.Now, Kind: "config", To: s.Hash, Text: "This node runs " + name}}
}

func (h *history) refusals(in *Input, st *State) []Event {
	var out []Event
	refused := map[string]string{}
	for _, n := range st.Nodes {
		if n.Error == "" {
			continue
		}
		refused[n.Name] = n.Error
		if h.refused[n.Name] != n.Error {
			out = append(out, Event{Time: in.Now, Kind: "config", State: Degraded, Region: n.Region, Target: n.Name,
				Text: n.Name + " refused a revision: " + n.Error})
		}
	}
	h.refused = refused
	return out
}

func (h *history) shiftChanges(in *Input) []Event {
	var out []Event
	now := map[string]fleet.Shift{}
	for _, sh := range in.World.Shifts {
		if !sh.Active(in.Now) {
			continue
		}
		now[sh.ID] = sh
		if _, had := h.shifts[sh.ID]; !had {
			out = append(out, Event{Time: in.Now, Kind: "shift", State: Drained, Region: sh.From,
				From: sh.From, To: strings.Join(sh.To, ", "), Text: in.shiftText(&sh)})
		}
	}
	for _, id := range sortedKeys(h.shifts) {
		if _, has := now[id]; !has {
			sh := h.shifts[id]
			text := "The shift away from " + in.names([]string{sh.From}) + " has ended"
			out = append(out, Event{Time: in.Now, Kind: "shift", Region: sh.From, From: sh.From, Text: text})
		}
	}
	h.shifts = now
	return out
}

func (in *Input) shiftText(sh *fleet.Shift) string {
	from := in.names([]string{sh.From})
	text := fmt.Sprintf("%.0f %% of %s's clients are shifted away", sh.Share*100, from)
	if sh.Drain {
		text = from + " is drained"
	}
	if sh.Service != "" {
		text += " for " + sh.Service
	}
	if len(sh.To) > 0 {
		text += " to " + in.names(sh.To)
	}
	if sh.Reason != "" {
		text += ": " + sh.Reason
	}
	return text
}

// verdicts tells of targets whose state changed: by the fleet's verdict, and
// for anycast addresses by each vantage's. The first word on a target is told
// only if it is bad. What a region is made of is not told to be unknown: that
// follows from the region's silence, and would only say it many times.
func (h *history) verdicts(in *Input) []Event {
	var out []Event
	now := map[fleet.VantageTarget]fleet.Verdict{}
	see := func(k fleet.VantageTarget, v fleet.Verdict) {
		before, had := h.told[k]
		if had && v.State == fleet.Unknown && (k.Target.Kind == fleet.TargetGateway || k.Target.Kind == fleet.TargetEndpoint) {
			v = before
		}
		now[k] = v
		if v.State == before.State && had || !had && v.State != fleet.Down {
			return
		}
		out = append(out, in.verdictEvent(k, before, v))
	}
	for t, v := range in.View.Verdicts {
		if t.Kind != fleet.TargetAnycast {
			see(fleet.VantageTarget{Target: t}, v)
		}
	}
	for k, v := range in.View.Vantages {
		if k.Target.Kind == fleet.TargetAnycast {
			see(k, v)
		}
	}
	for k, v := range h.told { // so that a target that comes back from nowhere is told to be up
		if _, seen := now[k]; !seen && v.State == fleet.Down {
			now[k] = v
		}
	}
	h.told = now
	slices.SortFunc(out, func(a, b Event) int { return strings.Compare(a.Target+a.Region, b.Target+b.Region) })
	return out
}

func (in *Input) verdictEvent(k fleet.VantageTarget, before, v fleet.Verdict) Event {
	t := k.Target
	e := Event{Time: v.Since, Kind: "health", State: word(v.State), Region: t.Region, Target: t.String(),
		From: before.State.String(), To: v.State.String()}
	if e.Time.IsZero() {
		e.Time = in.Now
	}
	if t.Kind == fleet.TargetAnycast {
		e.Region = k.Vantage
	}
	subject := in.subject(k)
	switch v.State {
	case fleet.Down:
		e.Cause = v.Cause.String()
		e.Text = subject + " is down: " + in.failure(verdictOn{t, v}, in.witnesses(k))
	case fleet.Up:
		e.Text = subject + " is up again"
		if before.State == fleet.Down && !before.Since.IsZero() && v.Since.After(before.Since) {
			e.Text += " after " + span(v.Since.Sub(before.Since))
		}
	case fleet.Drain:
		e.Text = subject + " drains"
	default:
		e.Text = subject + " is no longer observed"
	}
	return e
}

// subject names a target for a sentence.
func (in *Input) subject(k fleet.VantageTarget) string {
	t := k.Target
	region := in.names([]string{t.Region})
	switch t.Kind {
	case fleet.TargetService:
		return t.Service + " in " + region
	case fleet.TargetAnycast:
		return t.Service + "'s anycast address seen from " + in.names([]string{k.Vantage})
	case fleet.TargetNameserver:
		return "DNS in " + region
	case fleet.TargetGateway:
		return "Gateway " + t.Node
	}
	return "Endpoint " + t.Endpoint + " of " + t.Service + " in " + region
}

// witnesses lists the vantages that see a fleet-wide verdict's target down.
func (in *Input) witnesses(k fleet.VantageTarget) []string {
	if k.Vantage != "" {
		return nil
	}
	var out []string
	for _, r := range in.snapshot().Spec.Regions {
		if in.View.From(r.ID, k.Target).State == fleet.Down {
			out = append(out, r.ID)
		}
	}
	return out
}

func (h *history) proberChanges(in *Input) []Event {
	var out []Event
	now := map[string]bool{}
	for _, r := range in.snapshot().Spec.Regions {
		live, had := in.View.Probers[r.ID], h.probers[r.ID]
		now[r.ID] = live
		if _, known := h.probers[r.ID]; !known || live == had {
			continue
		}
		e := Event{Time: in.Now, Kind: "health", State: Unknown, Region: r.ID, Target: "prober@" + r.ID,
			Text: "The prober in " + r.Name + " is silent"}
		if live {
			e.State, e.Text = Up, "The prober in "+r.Name+" is heard again"
		}
		out = append(out, e)
	}
	h.probers = now
	return out
}

// toldMoves is how many moves between two regions are told one by one.
const toldMoves = 4

// steeringChanges tells for each service how many countries moved from one
// region to another.
func (h *history) steeringChanges(in *Input) []Event {
	type move struct{ from, to string }
	var out []Event
	now := map[string]map[string]string{}
	for _, st := range in.Steering {
		now[st.Service] = st.Chosen
		before := h.steered[st.Service]
		count := map[move]int{}
		for country, to := range st.Chosen {
			if from := before[country]; from != "" && from != to {
				count[move{from, to}]++
			}
		}
		var moves []move
		for m := range count {
			moves = append(moves, m)
		}
		slices.SortFunc(moves, func(a, b move) int {
			if count[a] != count[b] {
				return count[b] - count[a]
			}
			return strings.Compare(a.from+" "+a.to, b.from+" "+b.to)
		})
		rest := 0
		for i, m := range moves {
			if i >= toldMoves {
				rest += count[m]
				continue
			}
			out = append(out, Event{Time: in.Now, Kind: "steering", Region: m.to, Target: st.Service, From: m.from, To: m.to,
				Text: fmt.Sprintf("%s: clients in %d %s move from %s to %s", st.Service, count[m],
					choose(count[m], "country", "countries"), in.names([]string{m.from}), in.names([]string{m.to}))})
		}
		if rest > 0 {
			out = append(out, Event{Time: in.Now, Kind: "steering", Target: st.Service,
				Text: fmt.Sprintf("%s: clients in %d other %s move too", st.Service, rest, choose(rest, "country", "countries"))})
		}
	}
	h.steered = now
	return out
}

func sortedKeys(m map[string]fleet.Shift) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// span words a length of time roughly.
func span(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	}
	return fmt.Sprintf("%.0f h", d.Hours())
}
