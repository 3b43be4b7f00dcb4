package controlplane

import (
	"cmp"
	"maps"
	"slices"

	"meridian/fleet"
	"meridian/rules"
)

// ZoneProblem says why what is served of a zone is not as it should be.
type ZoneProblem struct {
	Zone    fleet.Name `json:"zone"`
	Problem string     `json:"problem"`
}

const (
	// maxProblems bounds the zones whose problems are stored.
	maxProblems = 1000
	// maxStatusProblems bounds those that Status tells of.
	maxStatusProblems = 100
)

// problemWrites gives the writes that make the stored problems those of now.
// The leader alone makes them, so that every replica can tell.
func problemWrites(now map[fleet.Name]string, stored *fleet.Zones) []ItemWrite {
	var items []ItemWrite
	kept := map[fleet.Name]bool{}
	for i, name := range slices.Sorted(maps.Keys(now)) {
		if i == maxProblems {
			break
		}
		kept[name] = true
		text := []byte(now[name])
		if have, ok := stored.Get(name); !ok || have.Version != rules.ContentVersion(text) {
			items = append(items, ItemWrite{Kind: ProblemItem, Name: name, Data: text, Expect: AnyVersion})
		}
	}
	for o := range stored.All() {
		if name := fleet.Name(o.Key.ID); !kept[name] {
			items = append(items, ItemWrite{Kind: ProblemItem, Name: name, Expect: AnyVersion})
		}
	}
	return items
}

// zoneProblems lists the first stored problems, in order of name.
func zoneProblems(stored *fleet.Zones) []ZoneProblem {
	var out []ZoneProblem
	for o := range stored.All() {
		out = append(out, ZoneProblem{fleet.Name(o.Key.ID), string(o.Data)})
	}
	slices.SortFunc(out, func(a, b ZoneProblem) int { return cmp.Compare(a.Zone, b.Zone) })
	return out[:min(len(out), maxStatusProblems)]
}
