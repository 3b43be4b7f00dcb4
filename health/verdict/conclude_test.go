package verdict

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"meridian/fleet"
)

func regionsOf(n int) []string { return strings.Split("abcdefgh", "")[:n] }

func service(region string) fleet.Target {
	return fleet.Target{Kind: fleet.TargetService, Region: region, Service: "web"}
}

// probers builds one prober's report for each line "vantage: states", where
// the states, of one service in each of the regions a, b, c …, are written u,
// d, D (drain) and ?. Two lines with one vantage are two probers there.
func probers(lines ...string) []Report {
	var out []Report
	for i, l := range lines {
		vantage, states, _ := strings.Cut(l, ": ")
		r := Report{Node: fmt.Sprintf("%s-%d", vantage, i), Region: vantage, Observer: Prober}
		for j, s := range regionsOf(len(states)) {
			c := Cell{State: fleet.State(strings.IndexByte("?udD", states[j]))}
			switch c.State {
			case fleet.Down:
				c.Cause = fleet.CauseTimeout
			case fleet.Up:
				c.Latency = time.Duration(i+1) * time.Millisecond
			}
			r.Targets, r.Cells = append(r.Targets, service(s)), append(r.Cells, c)
		}
		out = append(out, r)
	}
	return out
}

func targets(n int) (out []fleet.Target) {
	for _, r := range regionsOf(n) {
		out = append(out, service(r))
	}
	return out
}

// view builds the View before: one state for each region.
func view(states string) *fleet.View {
	v := &fleet.View{Verdicts: map[fleet.Target]fleet.Verdict{}}
	for i, r := range regionsOf(len(states)) {
		if s := fleet.State(strings.IndexByte("?udD", states[i])); s != fleet.Unknown {
			v.Verdicts[service(r)] = fleet.Verdict{State: s, Since: epoch}
		}
	}
	return v
}

func states(v *fleet.View, n int) string {
	var b strings.Builder
	for _, r := range regionsOf(n) {
		b.WriteByte("?udD"[v.Get(service(r)).State])
	}
	return b.String()
}

func TestQuorum(t *testing.T) {
	for _, c := range []struct {
		name, before string
		votes        []string
		want         string
		abstaining   int
	}{
		{"a lone region trusts its own prober", "?", []string{"a: u"}, "u", 0},
		{"a lone region goes down too", "u", []string{"a: d"}, "d", 0},
		{"start: first words count", "???", []string{"a: uuu", "b: uuu", "c: uuu"}, "uuu", 0},
		{"one dead of three; its last words were good", "uuu", []string{"a: uud", "b: uud", "c: uuu"}, "uud", 0},
		{"one dead of three; its last words have aged out", "uuu", []string{"a: uud", "b: uud"}, "uud", 0},
		{"one dead of two", "uu", []string{"a: ud", "b: uu"}, "ud", 0},
		{"a region cannot keep itself up", "uuu", []string{"a: uud", "b: uud", "c: ddu"}, "uud", 1},
		{"one path is broken: a tie changes nothing", "uuu", []string{"a: uud", "b: uuu", "c: uuu"}, "uuu", 0},
		{"a tie on the way back changes nothing", "uud", []string{"a: uud", "b: uuu", "c: uuu"}, "uud", 0},
		{"a tie at the start says nothing", "???", []string{"a: uud", "b: uuu", "c: uuu"}, "uu?", 0},
		{"cut off: sees all others down, keeps what it knew", "uuu", []string{"a: udd"}, "uuu", 1},
		{"cut off of five", "uuuuu", []string{"a: udddd"}, "uuuuu", 1},
		{"the others of the one cut off", "uuu", []string{"b: duu", "c: duu"}, "duu", 0},
		{"the others, with its last frame still fresh", "uuu", []string{"a: udd", "b: duu", "c: duu"}, "duu", 1},
		{"second death after the first was known", "uud", []string{"a: udd"}, "udd", 0},
		{"third death of five, one after the other", "uuddu", []string{"a: udddu", "e: udddu"}, "udddu", 0},
		{"split two to three, the small side", "uuuuu", []string{"a: uuddd", "b: uuddd"}, "uuddd", 0},
		{"split two to three, the large side", "uuuuu", []string{"c: dduuu", "d: dduuu", "e: dduuu"}, "dduuu", 0},
		{"split two to three, all frames still fresh",
			"uuuuu", []string{"a: uuddd", "b: uuddd", "c: dduuu", "d: dduuu", "e: dduuu"}, "dduuu", 0},
		{"all dead for all: nobody can be believed", "uuu", []string{"a: udd", "b: dud", "c: ddu"}, "uuu", 3},
		{"probers of a region agree first", "uuu", []string{"a: uud", "a: uud", "a: uud", "b: uuu", "c: uuu"}, "uuu", 0},
		{"one mad prober among three of a region", "uu", []string{"a: uu", "a: ud", "a: uu", "b: uu"}, "uu", 0},
		{"the cut-off prober of a region leaves the vote to its peer", "uuu", []string{"a: udd", "a: uud", "b: uud"}, "uud", 1},
		{"drain by majority", "uuu", []string{"a: uuD", "b: uuD", "c: uuu"}, "uuD", 0},
		{"down wins over drain by number alone", "uuu", []string{"a: uuD", "b: uud", "c: uuu"}, "uuu", 0},
		{"what is unknown has no vote", "uuu", []string{"a: uud", "b: uu?", "c: uuu"}, "uud", 0},
		{"nobody left: last known", "udu", nil, "udu", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := len(c.before)
			got := Conclude(view(c.before), probers(c.votes...), targets(n), epoch)
			if s := states(got.View, n); s != c.want {
				t.Errorf("%s then %v gives %s, want %s", c.before, c.votes, s, c.want)
			}
			if len(got.Abstaining) != c.abstaining {
				t.Errorf("abstaining: %v, want %d", got.Abstaining, c.abstaining)
			}
		})
	}
}

func TestConclusionShowsWhatEachVantageSees(t *testing.T) {
	c := Conclude(nil, probers("a: uud", "b: uud", "c: udd"), targets(3), epoch)
	if c.View.Probers["a"] != true || c.View.Probers["c"] != true {
		t.Errorf("probers: %v", c.View.Probers)
	}
	v := c.View.Get(service("c"))
	if v.Cause != fleet.CauseTimeout || v.Detail != "down from 2 of 2 vantages: a, b" {
		t.Errorf("got %+v", v)
	}
	if got := c.View.From("c", service("b")); got.State != fleet.Down {
		t.Errorf("from c, b is %v", got)
	}
	if got := c.View.Get(service("a")).Latency; got != 2*time.Millisecond {
		t.Errorf("latency %s, want the median", got)
	}
	if c.View.Revision != 1 || len(c.Changes) == 0 || c.Changes[0].Vantage != "" {
		t.Errorf("revision %d, changes %v", c.View.Revision, c.Changes)
	}
	again := Conclude(c.View, probers("a: uud", "b: uud", "c: udd"), targets(3), epoch.Add(time.Second))
	if again.View.Revision != 1 || len(again.Changes) != 0 {
		t.Errorf("nothing changed, but revision %d with %v", again.View.Revision, again.Changes)
	}
	if got := again.View.Get(service("c")).Since; !got.Equal(epoch) {
		t.Errorf("since %v, want the beginning", got)
	}
}

func TestAnycastCountsEveryVantage(t *testing.T) {
	any := fleet.Target{Kind: fleet.TargetAnycast, Service: "web"}
	report := func(region string, s fleet.State) Report {
		return Report{Node: region, Region: region, Observer: Prober, Targets: []fleet.Target{any}, Cells: []Cell{{State: s}}}
	}
	c := Conclude(nil, []Report{report("a", fleet.Up), report("b", fleet.Down), report("c", fleet.Up)}, []fleet.Target{any}, epoch)
	if c.View.Get(any).State != fleet.Up || c.View.From("b", any).State != fleet.Down {
		t.Errorf("got %v, from b %v", c.View.Get(any), c.View.From("b", any))
	}
}

func TestGatewayIsUnknownWithoutObservers(t *testing.T) {
	gw := fleet.Target{Kind: fleet.TargetGateway, Region: "a", Node: "edge-2"}
	report := func(node string, s fleet.State) Report {
		return Report{Node: node, Region: "a", Observer: Layer4, Targets: []fleet.Target{gw}, Cells: []Cell{{State: s}}}
	}
	all := []fleet.Target{gw}
	c := Conclude(nil, []Report{report("edge-1", fleet.Up), report("edge-2", fleet.Up), report("edge-3", fleet.Down)}, all, epoch)
	if c.View.Get(gw).State != fleet.Up || c.View.From("edge-3", gw).State != fleet.Down {
		t.Errorf("by majority of its region's nodes: got %v", c.View.Get(gw))
	}
	c = Conclude(c.View, nil, all, epoch)
	if c.View.Get(gw).State != fleet.Unknown || len(c.Changes) != 4 {
		t.Errorf("got %v, changes %v", c.View.Get(gw), c.Changes)
	}
}

func TestTargetsThatAreGoneLeaveTheView(t *testing.T) {
	c := Conclude(nil, probers("a: uu", "b: uu"), targets(2), epoch)
	c = Conclude(c.View, probers("a: uu", "b: uu"), targets(1), epoch)
	if len(c.View.Verdicts) != 1 || len(c.View.Vantages) != 2 {
		t.Errorf("got %v", c.View)
	}
}

// Whatever probers say: the outcome does not depend on the order of reports; a
// target's own region changes nothing where another has a vote; what all
// voters say is what holds.
func TestQuorumProperties(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	pick := func(n int, from string) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = from[rng.IntN(len(from))]
		}
		return string(b)
	}
	for range 3000 {
		n := 2 + rng.IntN(4)
		before := view(pick(n, "ud?"))
		var lines []string
		for _, r := range regionsOf(n) {
			lines = append(lines, r+": "+pick(n, "uuud?"))
		}
		reports := probers(lines...)
		got := Conclude(before, reports, targets(n), epoch)
		shuffled := slices.Clone(reports)
		rng.Shuffle(n, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if s := Conclude(before, shuffled, targets(n), epoch); states(s.View, n) != states(got.View, n) {
			t.Fatalf("%v: the order of reports matters: %s or %s", lines, states(got.View, n), states(s.View, n))
		}
		for i, r := range regionsOf(n) {
			said := map[fleet.State]int{}
			for j, rep := range reports {
				if s := rep.Cells[i].State; j != i && s != fleet.Unknown && !slices.Contains(got.Abstaining, rep.Node) {
					said[s]++
				}
			}
			is := got.View.Get(service(r)).State
			if len(said) == 1 && said[is] == 0 {
				t.Fatalf("%v: all say %v of %s, the verdict is %s", lines, said, r, is)
			}
			if len(said) > 0 {
				other := slices.Clone(reports)
				other[i].Cells = slices.Clone(other[i].Cells)
				other[i].Cells[i].State = fleet.State(rng.IntN(3))
				if s := Conclude(before, other, targets(n), epoch).View.Get(service(r)).State; s != is {
					t.Fatalf("%v: %s's word on itself makes it %s instead of %s", lines, r, s, is)
				}
			}
		}
	}
}

func BenchmarkConclude(b *testing.B) {
	const regions, services = 10, 100
	var all []fleet.Target
	for s := range services {
		for _, r := range regionsOf(8) {
			all = append(all, fleet.Target{Kind: fleet.TargetService, Region: r, Service: fmt.Sprint(s)})
		}
	}
	var reports []Report
	for i := range regions {
		r := Report{Node: fmt.Sprint(i), Region: fmt.Sprint(i), Observer: Prober, Targets: all, Cells: make([]Cell, len(all))}
		for j := range r.Cells {
			r.Cells[j].State = fleet.Up
		}
		reports = append(reports, r)
	}
	prev := Conclude(nil, reports, all, epoch).View
	b.ReportAllocs()
	for b.Loop() {
		Conclude(prev, reports, all, epoch)
	}
}
