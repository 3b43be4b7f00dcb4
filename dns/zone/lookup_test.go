package zone

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// byTheBook looks a name up as RFC 1034 section 4.3.2, RFC 4592 and RFC 6672
// say, label by label from the apex, over nothing but the owners and types.
func byTheBook(types map[string]string, q []string) (kind Kind, at string) {
	key := func(labels []string) string { return strings.Join(labels, ".") }
	exists := func(labels []string) bool {
		for owner := range types {
			if owner == key(labels) || strings.HasSuffix(owner, "."+key(labels)) || len(labels) == 0 {
				return true
			}
		}
		return false
	}
	for n := 0; n <= len(q); n++ {
		here := q[len(q)-n:]
		if !exists(here) {
			above := q[len(q)-n+1:]
			if wild := key(append([]string{"*"}, above...)); exists(append([]string{"*"}, above...)) {
				return Wildcard, wild
			}
			return Missing, key(above)
		}
		if n > 0 && strings.Contains(types[key(here)], "NS") {
			return Delegation, key(here)
		}
		if n < len(q) && strings.Contains(types[key(here)], "D") {
			return Redirect, key(here)
		}
	}
	return Found, key(q)
}

// Random zones of few labels, so that wildcards, delegations, DNAMEs and empty
// non-terminals meet, are looked up as the book says.
func TestLookupByTheBook(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	letters := []string{"a", "b", "*"}
	random := func(most int) []string {
		var out []string
		for range 1 + r.IntN(most) {
			out = append(out, letters[r.IntN(len(letters))])
		}
		return out
	}
	tried := 0
	for range 3000 {
		types := map[string]string{"": "SOA"}
		var text strings.Builder
		text.WriteString(top[:strings.Index(top, "@ NS")])
		for range r.IntN(7) {
			owner := strings.Join(random(4), ".")
			switch rr := []string{"TXT x", "TXT x", "NS n.", "DNAME d."}[r.IntN(4)]; {
			case types[owner] != "":
			case rr == "NS n.":
				types[owner] = "NS"
				fmt.Fprintf(&text, "%s %s\n", owner, rr)
			default:
				types[owner] = rr[:1]
				fmt.Fprintf(&text, "%s %s\n", owner, rr)
			}
		}
		z, err := Load("example.test.", []byte(text.String()), "f")
		if err != nil {
			continue // data below a DNAME
		}
		tried++
		for range 20 {
			q := random(5)
			got := z.Lookup(name(t, strings.Join(q, ".")+".example.test"))
			kind, at := byTheBook(types, q)
			where := strings.TrimPrefix(at+".example.test.", ".")
			if got.Kind != kind || string(Text([]byte(got.Node.Name))) != where {
				t.Fatalf("%s\n%v: kind %d at %s, want %d at %s", text.String(), q, got.Kind, Text([]byte(got.Node.Name)), kind, where)
			}
		}
	}
	if tried < 1000 {
		t.Errorf("only %d zones were good", tried)
	}
}

func BenchmarkLookup(b *testing.B) {
	z := manyNames(b, 100_000)
	hit, miss := name(b, "h777.example.test"), name(b, "x.y.z.nothing.example.test")
	b.Run("hit", func(b *testing.B) {
		for b.Loop() {
			z.Lookup(hit)
		}
	})
	b.Run("miss", func(b *testing.B) {
		for b.Loop() {
			z.Lookup(miss)
		}
	})
}
