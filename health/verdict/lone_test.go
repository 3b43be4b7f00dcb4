package verdict

import (
	"maps"
	"testing"
	"time"

	"meridian/fleet"
)

func TestLone(t *testing.T) {
	for _, c := range []struct {
		name, before string
		votes        []string
		want         string
		probing      bool // a's vantage is believed
	}{
		{"two of three dead at once", "uuu", []string{"a: udd"}, "udd", true},
		{"never heard of the others since the start", "???", []string{"a: udd"}, "udd", true},
		{"four of five", "uuuuu", []string{"a: udddd"}, "udddd", true},
		{"both probers of the region say so", "uuu", []string{"a: udd", "a: udd"}, "udd", true},
		{"its own region is down too: it is the prober's network", "uuu", []string{"a: ddd"}, "uuu", false},
		{"its own region is not known", "uuu", []string{"a: ?dd"}, "uuu", false},
		{"its own region drains, so it lives", "uuu", []string{"a: Ddd"}, "Ddd", true},
		{"another region is heard", "uuu", []string{"a: udd", "b: dud"}, "uuu", false},
		{"it has a vote as it is", "uud", []string{"a: udd"}, "udd", true},
		{"no prober in the region", "uuu", nil, "uuu", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := len(c.before)
			agreed := Conclude(view(c.before), probers(c.votes...), targets(n), epoch)
			was, probing := states(agreed.View, n), maps.Clone(agreed.View.Probers)
			got := agreed.Lone("a")
			if s := states(got.View, n); s != c.want || got.View.Probers["a"] != c.probing {
				t.Errorf("%v gives %s, probers %v; want %s", c.votes, s, got.View.Probers, c.want)
			}
			if states(agreed.View, n) != was || !maps.Equal(agreed.View.Probers, probing) {
				t.Error("the agreed view was written to")
			}
			if len(got.Abstaining) != len(agreed.Abstaining) {
				t.Errorf("abstaining: %v, then %v", agreed.Abstaining, got.Abstaining)
			}
		})
	}
}

// One of two services of the own region fails: the region is alive, and the
// fault is told as it is seen.
func TestLoneRegionWithOneServiceDown(t *testing.T) {
	api := fleet.Target{Kind: fleet.TargetService, Region: "a", Service: "api"}
	reports := probers("a: udd")
	reports[0].Targets = append(reports[0].Targets, api)
	reports[0].Cells = append(reports[0].Cells, Cell{State: fleet.Down, Cause: fleet.CauseRefused})
	v := Conclude(view("uuu"), reports, append(targets(3), api), epoch).Lone("a").View
	if states(v, 3) != "udd" || v.Get(api).State != fleet.Down || v.Get(api).Cause != fleet.CauseRefused {
		t.Errorf("got %s, api %+v", states(v, 3), v.Get(api))
	}
	if d := v.Get(service("b")).Detail; d != "down from a alone, which hears no other region" {
		t.Errorf("detail %q", d)
	}
}

// A region without addresses of its own has its nameservers to go by.
func TestLoneRegionWithoutServices(t *testing.T) {
	for own, want := range map[fleet.State]fleet.State{fleet.Up: fleet.Down, fleet.Down: fleet.Up} {
		r := Report{Node: "a", Region: "a", Observer: Prober}
		prev := &fleet.View{Verdicts: map[fleet.Target]fleet.Verdict{}}
		for _, s := range regionsOf(3) {
			ns := fleet.Target{Kind: fleet.TargetNameserver, Region: s}
			r.Targets, r.Cells = append(r.Targets, ns), append(r.Cells, Cell{State: fleet.Down})
			prev.Verdicts[ns] = fleet.Verdict{State: fleet.Up, Since: epoch}
		}
		r.Cells[0].State = own
		v := Conclude(prev, []Report{r}, r.Targets, epoch).Lone("a").View
		if got := v.Get(r.Targets[1]).State; got != want {
			t.Errorf("with its own nameservers %v, b is %v, want %v", own, got, want)
		}
	}
}

func TestAfterTellsWhatIsNewInTheViewShown(t *testing.T) {
	agreed := Conclude(view("uuu"), probers("a: udd"), targets(3), epoch)
	lone := agreed.Lone("a").After(agreed.View)
	if lone.View.Revision != agreed.View.Revision+1 || len(lone.Changes) != 2 || lone.Changes[0].To != fleet.Down {
		t.Errorf("revision %d after %d, changes %+v", lone.View.Revision, agreed.View.Revision, lone.Changes)
	}
	again := Conclude(agreed.View, probers("a: udd"), targets(3), epoch.Add(time.Second)).Lone("a").After(lone.View)
	if again.View.Revision != lone.View.Revision || len(again.Changes) != 0 {
		t.Errorf("nothing is new, yet revision %d after %d, changes %+v", again.View.Revision, lone.View.Revision, again.Changes)
	}
	// The others are heard again: a, which still sees both down, has no say.
	back := Conclude(agreed.View, probers("a: udd", "b: duu", "c: duu"), targets(3), epoch).After(again.View)
	if s := states(back.View, 3); s != "duu" || back.View.Revision != again.View.Revision+1 {
		t.Errorf("joined again: %s, revision %d", s, back.View.Revision)
	}
}
