package dashboard

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// headline words the State's regions in one sentence.
func headline(st *State) Headline {
	by := map[Health][]Region{}
	for _, r := range st.Regions {
		by[r.State] = append(by[r.State], r)
	}
	n := len(st.Regions)
	switch {
	case n == 0:
		return Headline{State: Unknown, Text: "No regions yet", Detail: "This node has no configuration to show."}
	case len(by[Down]) == n:
		return Headline{State: Down, Text: all(n, "is down", "are down"), Since: latest(by[Down]), Detail: openDetail(st)}
	case len(by[Unknown]) == n:
		return Headline{State: Unknown, Text: "Waiting for the first verdicts", Detail: sentence(by[Unknown][0].Note)}
	case len(by[Up]) == n:
		return Headline{State: Up, Text: all(n, "serves", "serve"), Detail: watchers(st)}
	}
	var h Headline
	var parts, details []string
	for _, kind := range []struct {
		state      Health
		verb, many string
	}{
		{Down, "is down", "are down"},
		{Degraded, "is degraded", "are degraded"},
		{Unknown, "is unknown", "are unknown"},
		{Drained, "is drained", "are drained"},
	} {
		regions := by[kind.state]
		if len(regions) == 0 {
			continue
		}
		if h.State == "" {
			h.State, h.Since = kind.state, latest(regions)
		}
		parts = append(parts, enumerate(regions)+" "+choose(len(regions), kind.verb, kind.many))
		if len(regions) > 3 { // too many reasons to read at a glance
			details = append(details, join(namesOf(regions))+".")
			continue
		}
		for _, r := range regions {
			details = append(details, detail(st, &r, n-len(by[Up]) > 1))
		}
	}
	h.Text = strings.Join(parts, ", ")
	h.Detail = strings.Join(details, " ")
	return h
}

// detail says why one region is not up and where its clients go.
func detail(st *State, r *Region, name bool) string {
	text := r.Note
	if to := heirs(st, r.ID); len(to) > 0 {
		if text != "" {
			text += "; "
		}
		text += "its clients go to " + few(to)
	}
	if name && text != "" {
		return r.Name + ": " + text + "."
	}
	return sentence(text)
}

// heirs lists the regions that serve a region's clients in its place, the one
// with the most countries first.
func heirs(st *State, region string) []string {
	count := map[string]int{}
	for _, s := range st.Services {
		for to, countries := range s.Steered {
			for _, country := range countries {
				if s.Moved[country] == region {
					count[to]++
				}
			}
		}
	}
	var ids []string
	for id := range count {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int {
		if count[a] != count[b] {
			return count[b] - count[a]
		}
		return strings.Compare(a, b)
	})
	for i, id := range ids {
		ids[i] = nameOf(st, id)
	}
	return ids
}

func nameOf(st *State, id string) string {
	for _, r := range st.Regions {
		if r.ID == id {
			return r.Name
		}
	}
	return id
}

// watchers says who looks on while all is well.
func watchers(st *State) string {
	var live []string
	for _, r := range st.Regions {
		if r.Prober {
			live = append(live, r.Name)
		}
	}
	behind := 0
	for _, n := range st.Nodes {
		if n.State != Unknown && !n.Current {
			behind++
		}
	}
	text := "No prober is heard from."
	switch {
	case len(live) == 1:
		text = "Watched from " + live[0] + "."
	case len(live) > 4:
		text = fmt.Sprintf("Watched from %d regions.", len(live))
	case len(live) > 1:
		text = "Watched from " + join(live) + "."
	}
	if behind > 0 {
		text += fmt.Sprintf(" %d %s not on the current revision.", behind, choose(behind, "node is", "nodes are"))
	}
	return text
}

func openDetail(st *State) string {
	for _, s := range st.Services {
		if s.FailOpen {
			return "Fail open: answers are given as if every region were healthy."
		}
	}
	return ""
}

func latest(regions []Region) (since time.Time) {
	for _, r := range regions {
		if r.Since.After(since) {
			since = r.Since
		}
	}
	return since
}

// all words a whole of n regions.
func all(n int, one, many string) string {
	switch n {
	case 1:
		return "The only region " + one
	case 2:
		return "Both regions " + many
	}
	return fmt.Sprintf("All %d regions %s", n, many)
}

// enumerate names up to three regions; more are counted.
func enumerate(regions []Region) string {
	if len(regions) > 3 {
		return fmt.Sprintf("%d regions", len(regions))
	}
	return join(namesOf(regions))
}

func namesOf(regions []Region) []string {
	var names []string
	for _, r := range regions {
		names = append(names, r.Name)
	}
	return names
}

// few names a few, and counts the rest of many.
func few(names []string) string {
	if len(names) <= 4 {
		return join(names)
	}
	return fmt.Sprintf("%s and %d others", strings.Join(names[:3], ", "), len(names)-3)
}

// join lists names as a sentence does.
func join(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

func choose(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// sentence begins with a capital and ends with a stop.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
