package dashboard

import (
	"strings"
	"testing"
	"time"

	"meridian/fleet"
)

// told lists the texts of the events after the one with that ID.
func told(st State, after uint64) string {
	var out []string
	for _, e := range st.Events {
		if e.ID > after {
			out = append(out, e.Kind+": "+e.Text)
		}
	}
	return strings.Join(out, "\n")
}

func lastID(st State) uint64 {
	if len(st.Events) == 0 {
		return 0
	}
	return st.Events[len(st.Events)-1].ID
}

func expect(t *testing.T, got string, want ...string) {
	t.Helper()
	if got != strings.Join(want, "\n") {
		t.Errorf("timeline:\n%s\nexpected:\n%s", got, strings.Join(want, "\n"))
	}
}

// The story of a region that dies and comes back, as the timeline tells it.
func TestTimelineOfARegionLost(t *testing.T) {
	w := testWorld(t)
	feed := NewFeed(FeedConfig{Node: "iad-1", Steering: steering})
	feed.Apply(w)
	feed.SetView(healthy(w))
	st := feed.State()
	expect(t, told(st, 0), "config: This node runs revision 7")

	dead := healthy(w)
	kill(w, dead, "fra", noon.Add(time.Minute))
	feed.SetView(dead)
	mark := lastID(st)
	st = feed.State()
	expect(t, told(st, mark),
		"health: DNS in Frankfurt is down: timeout seen by Ashburn and Tokyo",
		"health: web in Frankfurt is down: timeout seen by Ashburn and Tokyo",
		"health: The prober in Frankfurt is silent",
		"steering: web: clients in 2 countries move from Frankfurt to Ashburn")

	back := healthy(w)
	for target, v := range back.Verdicts {
		if target.Region == "fra" {
			v.Since = noon.Add(90 * time.Second)
			back.Verdicts[target] = v
		}
	}
	feed.SetView(back)
	mark = lastID(st)
	st = feed.State()
	expect(t, told(st, mark),
		"health: DNS in Frankfurt is up again after 30 s",
		"health: web in Frankfurt is up again after 30 s",
		"health: The prober in Frankfurt is heard again",
		"steering: web: clients in 2 countries move from Ashburn to Frankfurt")
	if mark = lastID(st); lastID(feed.State()) != mark {
		t.Error("the same World and View bring new events")
	}
}

func TestTimelineOfShiftsRefusalsAndRoutes(t *testing.T) {
	status := map[string]NodeStatus{}
	feed := NewFeed(FeedConfig{Nodes: func() map[string]NodeStatus { return status }})
	w := testWorld(t)
	feed.Apply(w)
	mark := lastID(feed.State())

	feed.Apply(testWorld(t, fleet.Shift{ID: "1", From: "fra", To: []string{"iad"}, Share: 0.2, Reason: "load test"},
		fleet.Shift{ID: "2", From: "nrt", Share: 1, Drain: true}))
	status["fra-2"] = NodeStatus{Error: "VIP is in use"}
	feed.Add(Event{Kind: "bgp", Region: "nrt", Text: "nrt withdraws 198.51.100.1/32"})
	st := feed.State()
	expect(t, told(st, mark), "bgp: nrt withdraws 198.51.100.1/32",
		"config: fra-2 refused a revision: VIP is in use",
		"shift: 20 % of Frankfurt's clients are shifted away to Ashburn: load test",
		"shift: Tokyo is drained")

	mark = lastID(st)
	feed.Apply(w)
	expect(t, told(feed.State(), mark),
		"shift: The shift away from Frankfurt has ended", "shift: The shift away from Tokyo has ended")
}

func TestAnycastIsToldForEachVantage(t *testing.T) {
	w := testWorld(t)
	feed := NewFeed(FeedConfig{})
	feed.Apply(w)
	feed.SetView(healthy(w))
	mark := lastID(feed.State())
	v := healthy(w)
	v.Vantages[fleet.VantageTarget{Vantage: "nrt", Target: fleet.Target{Kind: fleet.TargetAnycast, Service: "web"}}] =
		fleet.Verdict{State: fleet.Down, Cause: fleet.CauseCertName, Since: noon}
	feed.SetView(v)
	expect(t, told(feed.State(), mark), "health: web's anycast address seen from Tokyo is down: certificate for another name")
}

// A target may vanish from the View while its region is silent; its return is
// told all the same.
func TestReturnFromNowhereIsTold(t *testing.T) {
	w := testWorld(t)
	feed := NewFeed(FeedConfig{})
	feed.Apply(w)
	v := healthy(w)
	v.Verdicts[gateway("fra-2", "fra")] = fleet.Verdict{State: fleet.Down, Cause: fleet.CauseRefused, Since: noon}
	feed.SetView(v)
	expect(t, told(feed.State(), 0), "health: Gateway fra-2 is down: connection refused", "config: This node runs revision 7")

	gone := healthy(w)
	delete(gone.Verdicts, gateway("fra-2", "fra"))
	feed.SetView(gone)
	mark := lastID(feed.State())
	feed.SetView(healthy(w))
	expect(t, told(feed.State(), mark), "health: Gateway fra-2 is up again")
}

func TestTimelineIsBounded(t *testing.T) {
	feed := NewFeed(FeedConfig{})
	for range 3 {
		for range keptEvents {
			feed.Add(Event{Kind: "bgp", Text: "a route came"})
		}
		feed.State()
	}
	st := feed.State()
	if len(st.Events) != keptEvents || lastID(st) != 3*keptEvents {
		t.Errorf("%d events are kept, the last is number %d", len(st.Events), lastID(st))
	}
}

func TestSubscribersAreToldUntilTheyCancel(t *testing.T) {
	feed := NewFeed(FeedConfig{})
	n := 0
	cancel := feed.Subscribe(func() { n++ })
	feed.SetView(nil)
	feed.Touch()
	cancel()
	feed.SetView(nil)
	if n != 2 {
		t.Errorf("told %d times, expected 2", n)
	}
}
