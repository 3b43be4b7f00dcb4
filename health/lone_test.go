package health

import (
	"testing"
	"testing/synctest"
	"time"

	"meridian/fleet"
)

// watch has a node see the same for some seconds, as a prober would.
func watch(n *node, states string, seconds int) {
	for range seconds {
		n.seeAll(states)
		time.Sleep(time.Second)
	}
	synctest.Wait()
}

// Two of three regions die at once: the third believes nobody at first, then
// itself, and the fleet again as soon as there is one.
func TestLoneSurvivor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hub{}
		w := world(t, doc, 1)
		a, ns := start(t, h, "a-1", w, fleet.RoleProbe), start(t, h, "a-e", w, fleet.RoleDNS)
		b, c := start(t, h, "b-1", w, fleet.RoleProbe), start(t, h, "c-1", w, fleet.RoleProbe)
		defer a.stop()
		defer ns.stop()
		for range 12 { // longer than loneAfter: only silence counts
			for _, n := range []*node{a, b, c} {
				n.seeAll("uuu")
			}
			time.Sleep(time.Second)
		}
		b.stop()
		c.stop()
		watch(a, "udd", 9)
		for _, n := range []*node{a, ns} {
			if n.states() != "uuu" || n.View().Probers["a"] {
				t.Errorf("after 9 s, %s has %s, probers %v", n.cfg.Node, n.states(), n.View().Probers)
			}
		}
		watch(a, "udd", 3)
		for _, n := range []*node{a, ns} {
			if n.states() != "udd" || !n.View().Probers["a"] {
				t.Errorf("after 12 s, %s has %s, probers %v", n.cfg.Node, n.states(), n.View().Probers)
			}
			last := n.views[len(n.views)-1]
			if last.Get(web("b")).State != fleet.Down || last.Revision != n.View().Revision {
				t.Errorf("%s told its subscribers %+v", n.cfg.Node, last.Verdicts)
			}
		}
		for _, s := range a.Nodes() {
			if s.Node == "a-1" && !s.Abstaining {
				t.Error("towards the fleet it still abstains")
			}
		}
		views := len(a.views)
		watch(a, "udd", 5)
		if len(a.views) != views {
			t.Errorf("%d views in which nothing is new", len(a.views)-views)
		}

		b = start(t, h, "b-1", w, fleet.RoleProbe)
		defer b.stop()
		b.seeAll("uud")
		watch(a, "uud", 1)
		for _, n := range []*node{a, ns} {
			if n.states() != "uud" || !n.View().Probers["b"] {
				t.Errorf("with b back, %s has %s, probers %v", n.cfg.Node, n.states(), n.View().Probers)
			}
			for i := 1; i < len(n.views); i++ {
				if n.views[i].Revision <= n.views[i-1].Revision {
					t.Errorf("%s: revision %d after %d", n.cfg.Node, n.views[i].Revision, n.views[i-1].Revision)
				}
			}
		}
	})
}

// A region cut off from two that live goes by its own word. Joined again, it
// goes by theirs at once, though its checks of them have yet to pass, and never
// by its own judgment of while it was alone.
func TestCutOffRegionJoinsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hub{mute: map[string]bool{}}
		w := world(t, doc, 1)
		a, b, c := start(t, h, "a-1", w, fleet.RoleProbe), start(t, h, "b-1", w, fleet.RoleProbe), start(t, h, "c-1", w, fleet.RoleProbe)
		defer a.stop()
		defer b.stop()
		defer c.stop()
		all := func(ofA, ofOthers string, seconds int) {
			for range seconds {
				a.seeAll(ofA)
				b.seeAll(ofOthers)
				c.seeAll(ofOthers)
				time.Sleep(time.Second)
			}
			synctest.Wait()
		}
		apart := func(is bool) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.mute["b-1"], h.mute["c-1"] = is, is
		}
		all("uuu", "uuu", 2)
		apart(true)
		all("udd", "duu", 9)
		if a.states() != "uuu" {
			t.Errorf("after 9 s: %s", a.states())
		}
		all("udd", "duu", 3)
		if a.states() != "udd" {
			t.Errorf("after 12 s: %s", a.states())
		}
		apart(false)
		before := len(a.views)
		all("udd", "duu", 2)
		if a.states() != "duu" || a.View().Probers["a"] {
			t.Errorf("joined again: %s, probers %v", a.states(), a.View().Probers)
		}
		for _, v := range a.views[before:] {
			if v.Get(web("b")).State == fleet.Down && v.Get(web("a")).State == fleet.Down {
				t.Error("for a moment nothing was up")
			}
		}
		all("uuu", "uuu", 1)
		if a.states() != "uuu" {
			t.Errorf("at the end: %s", a.states())
		}
	})
}

// A node that starts where nobody else lives waits as long.
func TestLoneFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, nil, "a-1", world(t, doc, 1), fleet.RoleProbe)
		defer a.stop()
		watch(a, "udd", 9)
		if a.states() != "???" {
			t.Errorf("after 9 s: %s", a.states())
		}
		watch(a, "udd", 3)
		if a.states() != "udd" {
			t.Errorf("after 12 s: %s", a.states())
		}
	})
}

// A prober that finds its own region down as well is itself what fails.
func TestBlindProberIsNeverBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, nil, "a-1", world(t, doc, 1), fleet.RoleProbe)
		defer a.stop()
		watch(a, "uuu", 2)
		watch(a, "ddd", 30)
		if a.states() != "uuu" {
			t.Errorf("got %s", a.states())
		}
	})
}
