package conformance

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// peers in the order of responses.
var peers = []string{"meridian", "bind", "nsd", "knot"}

// difference is one aspect in which Meridian stands alone.
type difference struct{ aspect, ours, theirs string }

// judge compares the first response, Meridian's, with those of the others.
func judge(by []normal) []difference {
	var out []difference
	tc := 0
	for _, n := range by {
		if n.tc {
			tc++
		}
	}
	for _, a := range aspects {
		if tc > 0 && slices.Contains(contents, a) {
			continue // the flags tell whether truncation itself was right
		}
		if a == aspectAdditional {
			out = append(out, judgeExtra(by)...)
			continue
		}
		ours := by[0].text[a]
		agree := 0
		var theirs []string
		for _, n := range by[1:] {
			if n.text[a] == ours {
				agree++
			}
			theirs = append(theirs, n.text[a])
		}
		allDiffer := theirs[0] != theirs[1] && theirs[1] != theirs[2] && theirs[0] != theirs[2]
		if agree >= 2 || allDiffer && agree == 1 {
			continue
		}
		out = append(out, difference{a, ours, "bind: " + theirs[0] + "\nnsd:  " + theirs[1] + "\nknot: " + theirs[2]})
	}
	return out
}

// judgeExtra holds Meridian to optional additional data that all give, and to
// none that nobody gives.
func judgeExtra(by []normal) []difference {
	var missing, invented []string
	for r := range by[1].extra {
		if by[2].extra[r] && by[3].extra[r] && !by[0].all[r] {
			missing = append(missing, r)
		}
	}
	for r := range by[0].extra {
		if strings.Contains(r, "\tRRSIG\t") {
			continue // goes with its set; who has less room leaves it out first
		}
		if !by[1].all[r] && !by[2].all[r] && !by[3].all[r] {
			invented = append(invented, r)
		}
	}
	if len(missing)+len(invented) == 0 {
		return nil
	}
	slices.Sort(missing)
	slices.Sort(invented)
	return []difference{{aspectAdditional, "alone gives " + strings.Join(invented, "\n"), "all give " + strings.Join(missing, "\n")}}
}

// differences is the committed list of what Meridian does otherwise.
type differences struct {
	rows []*listed
}

type listed struct {
	line   int
	aspect string
	name   string
	qtype  string
	mode   string
	peer   string // the one that Meridian agrees with; "-": none
	clause string
	used   bool
}

// readDifferences reads differences.txt: aspect, name, type and mode, each a
// pattern as of a shell; the peer that Meridian agrees with; and the clause
// that decides.
func readDifferences(t *testing.T) *differences {
	t.Helper()
	text, err := os.ReadFile("differences.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := &differences{}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Fields(line)
		if len(f) < 7 || f[5] != "RFC" {
			t.Fatalf("differences.txt:%d: want ASPECT NAME TYPE MODE PEER RFC n §s: why", n)
		}
		out.rows = append(out.rows, &listed{n, f[0], f[1], f[2], f[3], f[4], strings.Join(f[5:], " "), false})
	}
	return out
}

// only keeps the rows about one aspect.
func (d *differences) only(aspect string) *differences {
	return &differences{slices.DeleteFunc(slices.Clone(d.rows), func(r *listed) bool { return r.aspect != aspect })}
}

// without leaves the rows about some aspects out.
func (d *differences) without(aspects ...string) *differences {
	return &differences{slices.DeleteFunc(slices.Clone(d.rows), func(r *listed) bool { return slices.Contains(aspects, r.aspect) })}
}

// find gives the clause of the first row that matches, or "".
func (d *differences) find(diff difference, q query, by []normal) string {
	f := strings.Fields(q.key())
	for _, r := range d.rows {
		if i := slices.Index(peers, r.peer); i > 0 && diff.aspect != aspectAdditional && by[i].text[diff.aspect] != diff.ours {
			continue
		}
		if matchAny(r.aspect, diff.aspect) && matchAny(r.name, f[0]) && match(r.qtype, f[1]) && match(r.mode, f[2]) {
			r.used = true
			return r.clause
		}
	}
	return ""
}

func match(pattern, s string) bool {
	ok, err := filepath.Match(pattern, strings.ReplaceAll(s, "/", "_"))
	return err == nil && ok
}

// unused fails the test for what is listed and no longer occurs.
func (d *differences) unused(t *testing.T) {
	for _, r := range d.rows {
		if !r.used {
			t.Errorf("differences.txt:%d: this difference no longer occurs: %s %s %s %s", r.line, r.aspect, r.name, r.qtype, r.mode)
		}
	}
}

// matchAny takes several patterns with commas between.
func matchAny(patterns, s string) bool {
	return slices.ContainsFunc(strings.Split(patterns, ","), func(p string) bool { return match(p, s) })
}
