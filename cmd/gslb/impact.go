package main

import (
	"math"
	"slices"
	"time"

	"meridian/dns/answer"
	"meridian/fleet"
)

// move is how much of a service's clients a change would send elsewhere,
// taking each country as one unit of clients.
type move struct {
	Service   string             `json:"service"`
	Share     float64            `json:"share"`              // of all clients, 0 to 1
	Countries int                `json:"countries"`          // with clients that would go elsewhere
	Of        int                `json:"of"`                 // countries in all
	From      map[string]float64 `json:"from,omitempty"`     // countries' worth that each region would lose
	To        map[string]float64 `json:"to,omitempty"`       // and gain
	Examples  []string           `json:"examples,omitempty"` // country codes, ten at most
}

// impact previews how much traffic a change would move, by the nameserver's
// own code under the present health.
func (s *gslbNode) impact(old, next *fleet.World) any {
	if old == nil {
		return nil
	}
	source, err := openGeo(s.flags.Geo)
	if err != nil {
		return nil
	}
	var view *fleet.View
	if b := s.daemon.Base(); b != nil {
		view = b.Health.View()
	}
	now := time.Now()
	before, err := answer.Compile(answer.Identity{}, old, source, view, now, nil)
	if err != nil {
		return nil
	}
	after, err := answer.Compile(answer.Identity{}, next, source, view, now, before)
	if err != nil {
		return nil
	}
	var out []move
	for _, svc := range next.Snapshot.Spec.Services {
		if old.Snapshot.Service(svc.Service) != nil {
			out = append(out, moved(svc.Service, before.Summary(svc.Service), after.Summary(svc.Service)))
		}
	}
	return out
}

// moved compares who is steered where, country by country.
func moved(service string, before, after []answer.Steering) move {
	m := move{Service: service, Of: len(after), From: map[string]float64{}, To: map[string]float64{}}
	was := map[string]map[string]float64{}
	for _, c := range before {
		was[c.Country] = shares(c)
	}
	for _, c := range after {
		old, next := was[c.Country], shares(c)
		gone := 0.0
		for region, share := range old {
			if d := share - next[region]; d > 0 {
				gone += d
				m.From[region] += d
			}
		}
		for region, share := range next {
			if d := share - old[region]; d > 0 {
				m.To[region] += d
			}
		}
		if gone < 0.001 { // summaries are sampled
			continue
		}
		m.Countries++
		m.Share += gone / float64(len(after))
		m.Examples = append(m.Examples, c.Country)
	}
	slices.Sort(m.Examples)
	m.Examples = m.Examples[:min(10, len(m.Examples))]
	m.Share = math.Round(m.Share*1000) / 1000
	return m
}

// shares gives the regions of a country's clients, which add up to 1.
func shares(c answer.Steering) map[string]float64 {
	switch {
	case len(c.Shares) > 0:
		return c.Shares
	case c.Region != "":
		return map[string]float64{c.Region: 1}
	}
	return nil
}
