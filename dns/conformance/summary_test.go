package conformance

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// summary counts what the servers said: by zone what was asked and how often
// Meridian differs, and by aspect how often each server stands against two of
// BIND, NSD and Knot that agree.
type summary struct {
	zones map[string]*[3]int // asked, differences listed, differences not listed
	alone map[string]map[string]int
	asked int
}

func newSummary() *summary {
	return &summary{zones: map[string]*[3]int{}, alone: map[string]map[string]int{}}
}

func (s *summary) zone(name string) *[3]int {
	if s.zones[name] == nil {
		s.zones[name] = new([3]int)
	}
	return s.zones[name]
}

// count takes the responses to one question, the first four in the order of
// peers; more may follow.
func (s *summary) count(names []string, by []normal) {
	s.asked++
	cut := slices.ContainsFunc(by, func(n normal) bool { return n.tc })
	for _, a := range aspects {
		if a == aspectAdditional || cut && slices.Contains(contents, a) {
			continue
		}
		for i, n := range by {
			if most, ok := majority(by, a); ok && n.text[a] != most {
				if s.alone[names[i]] == nil {
					s.alone[names[i]] = map[string]int{}
				}
				s.alone[names[i]][a]++
			}
		}
	}
}

// majority is what two of BIND, NSD and Knot say.
func majority(by []normal, aspect string) (string, bool) {
	b, n, k := by[1].text[aspect], by[2].text[aspect], by[3].text[aspect]
	if b == n || b == k {
		return b, true
	}
	return n, n == k
}

func (s *summary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-28s %8s %8s %8s\n", "zone", "asked", "listed", "unlisted")
	for _, zone := range slices.Sorted(maps.Keys(s.zones)) {
		r := s.zones[zone]
		fmt.Fprintf(&b, "%-28s %8d %8d %8d\n", zone, r[0], r[1], r[2])
	}
	fmt.Fprintf(&b, "\nagainst the majority, of %d\n%-12s", s.asked, "")
	names := slices.Sorted(maps.Keys(s.alone))
	for _, n := range names {
		fmt.Fprintf(&b, " %9s", n)
	}
	for _, a := range aspects {
		row, some := fmt.Sprintf("\n%-12s", a), false
		for _, n := range names {
			row += fmt.Sprintf(" %9d", s.alone[n][a])
			some = some || s.alone[n][a] > 0
		}
		if some {
			b.WriteString(row)
		}
	}
	return b.String()
}
