package dashboard

import (
	"fmt"
	"math"
	"testing"
	"time"

	"meridian/fleet"
)

// Each case changes a healthy fleet; the page's words for Frankfurt and the
// headline follow.
func TestRegionStateAndHeadline(t *testing.T) {
	at := noon.Add(time.Minute)
	down := fleet.Verdict{State: fleet.Down, Cause: fleet.CauseRefused, Since: at}
	for _, c := range []struct {
		name     string
		change   func(w *fleet.World, in *Input)
		state    Health
		cause    string
		since    time.Time
		note     string
		headline string
		detail   string
	}{
		{"all up", func(*fleet.World, *Input) {},
			Up, "", noon, "", "All 3 regions serve", "Watched from Frankfurt, Ashburn and Tokyo."},
		{"a region dies", func(w *fleet.World, in *Input) { kill(w, in.View, "fra", at) },
			Down, "timeout", at, "timeout seen by Ashburn and Tokyo",
			"Frankfurt is down", "Timeout seen by Ashburn and Tokyo; its clients go to Ashburn."},
		{"two regions die", func(w *fleet.World, in *Input) { kill(w, in.View, "fra", at); kill(w, in.View, "nrt", at) },
			Down, "timeout", at, "timeout seen by Ashburn", "Frankfurt and Tokyo are down",
			"Frankfurt: timeout seen by Ashburn; its clients go to Ashburn. Tokyo: timeout seen by Ashburn; its clients go to Ashburn."},
		{"all regions die", func(w *fleet.World, in *Input) {
			for _, r := range []string{"fra", "iad", "nrt"} {
				kill(w, in.View, r, at)
			}
			in.Steering = []Steering{{Service: "web", FailOpen: true}}
		}, Down, "timeout", at, "timeout", "All 3 regions are down", "Fail open: answers are given as if every region were healthy."},
		{"one vantage cannot reach it", func(w *fleet.World, in *Input) {
			in.View.Vantages[fleet.VantageTarget{Vantage: "nrt", Target: web("fra")}] = down
		}, Degraded, "refused", at, "connection refused seen by Tokyo only", "Frankfurt is degraded", "Connection refused seen by Tokyo only."},
		{"a gateway is down", func(w *fleet.World, in *Input) { in.View.Verdicts[gateway("fra-2", "fra")] = down },
			Degraded, "", at, "1 of 2 gateways down", "Frankfurt is degraded", "1 of 2 gateways down."},
		{"its nameservers are down", func(w *fleet.World, in *Input) {
			in.View.Verdicts[fleet.Target{Kind: fleet.TargetNameserver, Region: "fra"}] = down
		}, Degraded, "refused", at, "its nameservers are down: connection refused", "Frankfurt is degraded", "Its nameservers are down: connection refused."},
		{"an operator drains it", func(w *fleet.World, in *Input) {
			in.World = &fleet.World{Snapshot: w.Snapshot, Shifts: []fleet.Shift{{ID: "s", From: "fra", Share: 1, Drain: true, Reason: "new switch"}}}
		}, Drained, "", time.Time{}, "drained by an operator: new switch", "Frankfurt is drained", "Drained by an operator: new switch."},
		{"an operator forces it down", func(w *fleet.World, in *Input) {
			in.View.Verdicts[web("fra")] = fleet.Verdict{State: fleet.Down, Forced: true, Cause: fleet.CauseForced, Since: at}
		}, Down, "forced", at, "forced by an operator", "Frankfurt is down", "Forced by an operator; its clients go to Ashburn."},
		{"nothing is known yet", func(w *fleet.World, in *Input) { in.View = nil },
			Unknown, "", time.Time{}, "no prober has spoken yet", "Waiting for the first verdicts", "No prober has spoken yet."},
		{"nothing is configured yet", func(w *fleet.World, in *Input) { in.World = nil },
			"", "", time.Time{}, "", "No regions yet", "This node has no configuration to show."},
		{"a node is behind", func(w *fleet.World, in *Input) {
			in.Nodes = map[string]NodeStatus{"iad-2": {Alive: true, Revision: 6}, "fra-1": {Alive: true, Revision: 7}}
		}, Up, "", noon, "", "All 3 regions serve", "Watched from Frankfurt, Ashburn and Tokyo. 1 node is not on the current revision."},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := testWorld(t)
			in := Input{Node: "iad-1", World: w, View: healthy(w), Now: at}
			c.change(w, &in)
			if in.Steering == nil {
				in.Steering = steering(w, in.View)
			}
			st := Show(in)
			if st.Headline.Text != c.headline || st.Headline.Detail != c.detail {
				t.Errorf("headline %q, %q\nexpected %q, %q", st.Headline.Text, st.Headline.Detail, c.headline, c.detail)
			}
			if c.state == "" {
				return
			}
			r := st.Regions[0]
			if r.State != c.state || r.Cause != c.cause || r.Note != c.note || !r.Since.Equal(c.since) {
				t.Errorf("fra is %s, cause %q, note %q, since %s\nexpected %s, %q, %q, %s", r.State, r.Cause, r.Note, r.Since,
					c.state, c.cause, c.note, c.since)
			}
		})
	}
}

func TestManyNamesAreCounted(t *testing.T) {
	for want, names := range map[string][]string{
		"": nil, "a": {"a"}, "a and b": {"a", "b"}, "a, b, c and d": {"a", "b", "c", "d"},
		"a, b, c and 2 others": {"a", "b", "c", "d", "e"},
	} {
		if got := few(names); got != want {
			t.Errorf("%v: %q, expected %q", names, got, want)
		}
	}
}

func TestTiersCountWhatARegionIsMadeOf(t *testing.T) {
	w := testWorld(t)
	v := healthy(w)
	v.Verdicts[gateway("fra-3", "fra")] = fleet.Verdict{State: fleet.Down}
	delete(v.Verdicts, fleet.Target{Kind: fleet.TargetEndpoint, Region: "fra", Service: "web", Pool: "main", Endpoint: "10.9.0.2:8443"})
	st := Show(Input{World: w, View: v, Now: noon, Nodes: map[string]NodeStatus{"fra-2": {Alive: true}, "fra-3": {}}})
	got := fmt.Sprint(st.Regions[0].Tiers)
	if want := "[{dns 1 0 1} {l4 1 1 2} {l7 1 1 2} {endpoints 1 0 2}]"; got != want {
		t.Errorf("tiers (up, down, total) %s, expected %s", got, want)
	}
}

func TestMatrixHasARowForEachProberAndAColumnForEachRegion(t *testing.T) {
	w := testWorld(t)
	v := healthy(w)
	kill(w, v, "fra", noon)
	st := Show(Input{World: w, View: v, Now: noon})
	if len(st.Matrix) != 2 || st.Matrix[0].Name != "web" || !st.Matrix[1].DNS {
		t.Fatalf("expected the matrix of web and that of the nameservers, got %+v", st.Matrix)
	}
	m := st.Matrix[0]
	if got := fmt.Sprint(m.Columns); got != "[fra iad nrt anycast]" {
		t.Errorf("columns %s", got)
	}
	for i, want := range []struct {
		vantage string
		live    bool
		cells   string
	}{
		{"fra", false, "unknown 0  unknown 0  unknown 0  unknown 0 "},
		{"iad", true, "down 0 timeout up 20  up 20  up 20 "},
		{"nrt", true, "down 0 timeout up 20  up 20  up 20 "},
	} {
		row, cells := m.Rows[i], ""
		for j, c := range row.Cells {
			if j > 0 {
				cells += " "
			}
			cells += fmt.Sprint(c.State, " ", c.Latency, " ", c.Cause)
		}
		if row.Vantage != want.vantage || row.Live != want.live || cells != want.cells {
			t.Errorf("row %s live=%t: %q, expected %+v", row.Vantage, row.Live, cells, want)
		}
	}
}

func TestServicesSayWhoIsSteeredWhereAndWhoMoved(t *testing.T) {
	w := testWorld(t)
	v := healthy(w)
	kill(w, v, "fra", noon)
	s := Show(Input{World: w, View: v, Now: noon, Steering: steering(w, v)}).Services[0]
	if got := fmt.Sprint(s.Steered); got != "map[iad:[DE FR US] nrt:[JP]]" {
		t.Errorf("steered %s", got)
	}
	if got := fmt.Sprint(s.Moved); got != "map[DE:fra FR:fra]" {
		t.Errorf("moved %s", got)
	}
}

func TestNodesSayWhatTheyAcknowledged(t *testing.T) {
	w := testWorld(t)
	st := Show(Input{World: w, View: healthy(w), Now: noon, Nodes: map[string]NodeStatus{
		"fra-1": {Alive: true, Revision: 7, Hash: w.Snapshot.Hash},
		"fra-2": {Alive: true, Revision: 7, Hash: "another"},
		"iad-2": {Revision: 6, Error: "VIP is in use"},
	}})
	for name, want := range map[string]string{
		"fra-1": "up true ", "fra-2": "up false ", "iad-2": "down false VIP is in use", "nrt-1": "unknown false ",
	} {
		for _, n := range st.Nodes {
			if got := fmt.Sprint(n.State, " ", n.Current, " ", n.Error); n.Name == name && got != want {
				t.Errorf("%s is %q, expected %q", name, got, want)
			}
		}
	}
}

func TestExpiredShiftsAreNotShown(t *testing.T) {
	w := testWorld(t, fleet.Shift{ID: "a", From: "fra", Drain: true, Expires: noon})
	st := Show(Input{World: w, View: healthy(w), Now: noon.Add(time.Second)})
	if len(st.Shifts) != 0 || st.Regions[0].State != Up {
		t.Errorf("expected no shift and fra up, got %+v and %s", st.Shifts, st.Regions[0].State)
	}
}

func TestProjection(t *testing.T) {
	near := func(a, b float64) bool { return math.Abs(a-b) < 0.5 }
	for _, c := range []struct{ lat, lon, x, y float64 }{
		{0, 0, 500, 252.7}, {0, 180, 1000, 252.7}, {0, -180, 0, 252.7}, {84, 0, 500, 0},
	} {
		if x, y := Project(c.lat, c.lon); !near(x, c.x) || !near(y, c.y) {
			t.Errorf("Project(%v, %v) = %.1f, %.1f, expected %v, %v", c.lat, c.lon, x, y, c.x, c.y)
		}
	}
	if _, y := Project(-55, -68); y > mapHeight {
		t.Errorf("Cape Horn lies at %.1f, below the map's edge %v", y, mapHeight)
	}
}

func BenchmarkShow(b *testing.B) {
	w := testWorld(b)
	in := Input{World: w, View: healthy(w), Now: noon}
	in.Steering = steering(w, in.View)
	for b.Loop() {
		Show(in)
	}
}
