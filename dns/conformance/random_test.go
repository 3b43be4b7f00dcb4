package conformance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// labels are few, so that names meet: wildcards beside names, names below
// cuts, DNAMEs above empty non-terminals.
var labels = []string{"a", "b", "c", "*"}

// randomZone writes a small zone of names that interfere with one another.
// Aliases point forward in a random order of the names, so that they seldom
// loop. The same seed gives the same zone.
func randomZone(seed uint64) string {
	rnd := rand.New(rand.NewPCG(seed, 2))
	names := map[string]bool{}
	for range 14 {
		name := labels[rnd.IntN(len(labels))]
		for range rnd.IntN(4) {
			name = labels[rnd.IntN(len(labels))] + "." + name
		}
		names[name] = true
	}
	order := make([]string, 0, len(names))
	for name := range names {
		order = append(order, name)
	}
	slices.Sort(order)
	rnd.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	kind := map[string]string{}
	for _, name := range order {
		choices := []string{"A", "A", "TXT", "A TXT", "CNAME", "CNAME", "MX"}
		if !strings.HasPrefix(name, "*") {
			choices = append(choices, "NS", "NS", "NS DS", "DNAME", "DNAME A")
		}
		kind[name] = choices[rnd.IntN(len(choices))]
	}
	var b strings.Builder
	b.WriteString("$TTL 300\n@ SOA ns1 host 1 7200 3600 1209600 60\n@ NS ns1\nns1 A 192.0.2.1\n")
	for i, name := range order {
		if below(name, kind, "DNAME") {
			continue // no data below a DNAME
		}
		target := order[i+rnd.IntN(len(order)-i)]
		if target = strings.TrimPrefix(target, "*."); target == name || strings.HasSuffix(target, "."+name) {
			target = []string{"ns1", "nowhere", "txt.nowhere"}[rnd.IntN(3)]
		}
		for _, k := range strings.Fields(kind[name]) {
			switch k {
			case "A":
				fmt.Fprintf(&b, "%s A 192.0.2.%d\n", name, 10+i)
			case "TXT":
				fmt.Fprintf(&b, "%s TXT \"%d\"\n", name, i)
			case "MX":
				fmt.Fprintf(&b, "%s MX 10 %s\n", name, target)
			case "CNAME", "DNAME":
				fmt.Fprintf(&b, "%s %s %s\n", name, k, target)
			case "NS":
				fmt.Fprintf(&b, "%s NS ns.%s\n%s NS ns1\nns.%s A 192.0.2.%d\n", name, name, name, name, 10+i)
			case "DS":
				fmt.Fprintf(&b, "%s DS 1 13 2 49fd46e6c4b45c55d4ac49fd46e6c4b45c55d4ac49fd46e6c4b45c55d4acaaaa\n", name)
			}
		}
	}
	for range 60 {
		name := append(labels, "x")[rnd.IntN(5)]
		for range rnd.IntN(5) {
			name = append(labels, "x")[rnd.IntN(5)] + "." + name
		}
		fmt.Fprintf(&b, ";? %s %s\n", name, []string{"A", "TXT", "MX", "NS", "DS", "CNAME", "DNAME", "SOA"}[rnd.IntN(8)])
	}
	return b.String()
}

// below says whether a name lies below one of the kind.
func below(name string, kind map[string]string, of string) bool {
	for {
		_, up, ok := strings.Cut(name, ".")
		if !ok {
			return false
		}
		if name = up; strings.Contains(kind[name], of) {
			return true
		}
	}
}
