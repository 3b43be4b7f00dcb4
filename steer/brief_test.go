package steer

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"meridian/fleet"
	"meridian/geo"
)

// Rankings with equal briefs are decided alike, in every slot, whatever the
// policy, health and shifts; and so are those with equal effects.
func TestBriefsTellDecisionsApart(t *testing.T) {
	policies := []string{
		`{}`, `{records: 2}`, `{records: 8}`, `{min_healthy: 0.6}`, `{bias: {fra: 500, tyo: -300}}`, `{policy: failover, regions: [iad, fra, tyo]}`,
		`{policy: geo, geo: [{continents: [EU], regions: [ams]}, {countries: [JP, CN], regions: [sjc, tyo]}], records: 3, all_down: fail_closed}`,
		`{policy: latency, unmapped: [tyo]}`, `{policy: latency, regions: [fra, iad], all_down: fallback, fallback: [tyo]}`,
		`{policy: subnet, subnet_map: offices}`, `{policy: weighted, weights: {fra: 1, tyo: 2}}`, `{policy: all, regions: [tyo, fra]}`,
		`{policy: failover, regions: [eu, us], ` + continents + `}`, `{demand: {fra: 60, tyo: 90, iad: 150}}`,
	}
	regions := []string{"fra", "ams", "iad", "sjc", "tyo"}
	plain := 0
	for i, policy := range policies {
		snap := fleetOf(t, policy)
		c := NewClasses(snap, nil)
		rankings := []*Ranking{c.Rank(0, geo.Place{})}
		for _, country := range geo.Countries() {
			rankings = append(rankings, c.Rank(0, country.Place()))
		}
		for seed := range uint64(60) {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			words := ""
			for _, region := range regions {
				words += []string{"", "", "", " " + region + ":down", " " + region + ":drain", " " + region + ":forced", " " + region + ":noprober"}[r.IntN(7)]
				for _, from := range regions {
					if seed%2 == 1 && r.IntN(4) == 0 {
						words += fmt.Sprintf(" %s@%s:down", region, from)
					}
				}
			}
			var shifts []fleet.Shift
			if r.IntN(5) == 0 {
				shifts = []fleet.Shift{{ID: "s", From: "fra", Share: 0.5}}
			}
			scene := NewScene(c, view(words), shifts, now, nil)
			for _, f := range []Family{V4, V6} {
				known, effects := map[string]Choice{}, map[string]Choice{}
				for _, rank := range rankings {
					for slot := range Slot(3) {
						key := fmt.Sprint(slot, scene.Effect(0, rank))
						got := scene.Choose(0, f, rank, slot*1000)
						if want, had := effects[key]; had && got != want {
							t.Fatalf("%s, %s, %v: one effect in slot %d stands for %v and for %v", policy, words, shifts, slot*1000, want, got)
						}
						effects[key] = got
					}
					brief, ok := scene.Brief(nil, 0, f, rank)
					if !ok {
						continue
					}
					for slot := range Slot(3) {
						got := scene.Choose(0, f, rank, slot*1000)
						want, had := known[string(brief)]
						if !had {
							known[string(brief)] = got
							continue
						}
						if plain++; got != want || got.Sliced {
							t.Fatalf("%s, %s, %v: brief %v stands for %v and for %v", policy, words, shifts, brief, want, got)
						}
					}
				}
			}
		}
	}
	if plain < 100_000 {
		t.Errorf("only %d rankings were found by their briefs", plain)
	}
}
