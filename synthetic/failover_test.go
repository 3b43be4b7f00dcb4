package synthetic_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"meridian/fleet"
)

// A region dies, with all its links, at any moment of the schedule. Every
// survivor's View has its service down within 1.3 s, with round trips of up to
// 240 ms between regions. The DNS answer changes as soon as the View does.
const failoverBudget = 1300 * time.Millisecond

// earth is three regions with the round trips of three continents.
func earth(a, b string) time.Duration {
	switch a + b {
	case "ab", "ba":
		return 90 * time.Millisecond
	case "ac", "ca":
		return 240 * time.Millisecond
	case "bc", "cb":
		return 160 * time.Millisecond
	}
	return time.Millisecond
}

func serviceIn(region string) fleet.Target {
	return fleet.Target{Kind: fleet.TargetService, Region: region, Service: "web"}
}

// stateAt gives the state of a target in the last View up to that moment.
func (s *simNode) stateAt(t fleet.Target, at time.Time) fleet.State {
	state := fleet.Unknown
	for _, v := range s.seen() {
		if !v.at.After(at) {
			state = v.view.Get(t).State
		}
	}
	return state
}

// flipAfter finds when the target first had that state, after a moment.
func (s *simNode) flipAfter(t fleet.Target, state fleet.State, since time.Time) (time.Duration, bool) {
	for _, v := range s.seen() {
		if v.at.After(since) && v.view.Get(t).State == state {
			return v.at.Sub(since), true
		}
	}
	return 0, false
}

// far is three regions as far apart as can be.
func far(a, b string) time.Duration {
	if a == b {
		return time.Millisecond
	}
	return 240 * time.Millisecond
}

func TestDeadRegionIsLeftWithinBudget(t *testing.T) {
	for _, c := range []struct {
		name string
		rtt  func(a, b string) time.Duration
		loss float64
	}{{"three continents", earth, 0}, {"three continents, one packet in a hundred lost", earth, 0.01}, {"240 ms everywhere", far, 0}} {
		t.Run(c.name, func(t *testing.T) {
			var worst, sum time.Duration
			n := 0
			for i := range 18 {
				for _, took := range deathToView(t, uint64(i), c.rtt, c.loss, regionsOf(3)[i%3], time.Duration(i)*57*time.Millisecond) {
					if took > failoverBudget {
						t.Errorf("death %d is seen after %s, budget %s", i, took, failoverBudget)
					}
					worst, sum, n = max(worst, took), sum+took, n+1
				}
			}
			t.Logf("death to changed View: mean %s, worst %s of %d", sum/time.Duration(n), worst, n)
		})
	}
}

// deathToView kills a region at a phase of the schedule and gives how long each
// survivor took to have each of its services down. Losses begin a second before.
func deathToView(t *testing.T, seed uint64, rtt func(a, b string) time.Duration, loss float64, victim string, phase time.Duration) (out []time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		net := newInternet(t, seed, regionsOf(3), rtt)
		defer net.close()
		for _, r := range regionsOf(3) {
			net.boot(r)
		}
		time.Sleep(8*time.Second + phase) // virtual
		net.mu.Lock()
		net.loss = loss
		net.mu.Unlock()
		time.Sleep(time.Second)
		died := time.Now()
		net.kill(victim)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		for _, r := range regionsOf(3) {
			if r == victim {
				continue
			}
			for _, svc := range []string{"web", "log"} {
				target := fleet.Target{Kind: fleet.TargetService, Region: victim, Service: svc}
				took, ok := net.nodes[r].flipAfter(target, fleet.Down, died)
				if !ok {
					t.Errorf("%s never sees %s down", r, target)
				}
				out = append(out, took)
			}
			for _, other := range regionsOf(3) {
				if s := net.nodes[r].stateAt(serviceIn(other), time.Now()); other != victim && s != fleet.Up {
					t.Errorf("%s sees %s as %s, which is alive", r, other, s)
				}
			}
		}
	})
	return out
}

func TestRestoredRegionComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newInternet(t, 1, regionsOf(3), earth)
		defer net.close()
		for _, r := range regionsOf(3) {
			net.boot(r)
		}
		time.Sleep(8 * time.Second)
		net.kill("c")
		time.Sleep(30 * time.Second)
		back := time.Now()
		net.boot("c")
		time.Sleep(12 * time.Second)
		for _, r := range []string{"a", "b"} {
			took, ok := net.nodes[r].flipAfter(serviceIn("c"), fleet.Up, back)
			if !ok || took < time.Second || took > 7*time.Second {
				t.Errorf("%s has c up again after %s (%v); rise is 5 checks of a second", r, took, ok)
			}
		}
		if s := net.nodes["c"].stateAt(serviceIn("a"), time.Now()); s != fleet.Up {
			t.Errorf("c itself sees a %s", s)
		}
	})
}

// One lost probe, of any check, from anywhere, changes no verdict of anybody.
func TestOneLostProbeNeverFlips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newInternet(t, 1, regionsOf(3), earth)
		defer net.close()
		for _, r := range regionsOf(3) {
			net.boot(r)
		}
		time.Sleep(8 * time.Second)
		began := time.Now()
		// Every path and check loses one probe in four, never two in a row.
		count := map[string]int{}
		net.mu.Lock()
		net.drop = func(from, to string, p fleet.Probe) bool {
			key := fmt.Sprint(from, p.Check, p.Address)
			count[key]++
			return count[key]%4 == 0
		}
		net.mu.Unlock()
		time.Sleep(60 * time.Second)
		synctest.Wait()
		net.mustStayUp(t, began, true)
	})
}

func TestRandomLossDoesNotFlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newInternet(t, 7, regionsOf(3), earth)
		defer net.close()
		for _, r := range regionsOf(3) {
			net.boot(r)
		}
		time.Sleep(8 * time.Second)
		began := time.Now()
		net.mu.Lock()
		net.loss = 0.01
		net.mu.Unlock()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		net.mustStayUp(t, began, false)
	})
}

// mustStayUp fails the test if any View since began has a service that is not
// up; strict holds that of each vantage as well.
func (n *internet) mustStayUp(t *testing.T, began time.Time, strict bool) {
	t.Helper()
	for r, node := range n.nodes {
		for _, s := range node.seen() {
			if s.at.Before(began) {
				continue
			}
			for target, v := range s.view.Verdicts {
				if v.State != fleet.Up {
					t.Errorf("%s had %s %s (%s) after %s", r, target, v.State, v.Detail, s.at.Sub(began))
				}
			}
			for k, v := range s.view.Vantages {
				if strict && v.State != fleet.Up {
					t.Errorf("%s had %s from %s %s after %s", r, k.Target, k.Vantage, v.State, s.at.Sub(began))
				}
			}
		}
		if s := node.stateAt(serviceIn("c"), time.Now()); s != fleet.Up {
			t.Errorf("%s sees c as %s at the end", r, s)
		}
	}
}

// A region that is cut off keeps what it knew, and the others leave it. When
// it has heard no other for 10 s, it goes by what it sees itself; joined again,
// by what the fleet sees.
func TestPartition(t *testing.T) {
	for _, size := range []int{3, 5} {
		t.Run(fmt.Sprint(size, " regions"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				regions := regionsOf(size)
				net := newInternet(t, 3, regions, func(a, b string) time.Duration {
					return time.Duration(10+40*max(int(a[0])-int(b[0]), int(b[0])-int(a[0]))) * time.Millisecond
				})
				defer net.close()
				for _, r := range regions {
					net.boot(r)
				}
				time.Sleep(8 * time.Second)
				began := time.Now()
				net.mu.Lock()
				for _, r := range regions[1:] {
					net.cut[[2]string{"a", r}], net.cut[[2]string{r, "a"}] = true, true
				}
				net.mu.Unlock()
				time.Sleep(9 * time.Second)
				synctest.Wait()
				for _, r := range regions {
					if s := net.nodes["a"].stateAt(serviceIn(r), time.Now()); s != fleet.Up {
						t.Errorf("a, cut off, took %s for %s", r, s)
					}
					want := fleet.Up
					if r == "a" {
						want = fleet.Down
					}
					for _, o := range regions[1:] {
						if s := net.nodes[o].stateAt(serviceIn(r), time.Now()); s != want {
							t.Errorf("%s sees %s as %s, want %s", o, r, s, want)
						}
					}
				}
				for _, s := range net.nodes["a"].seen() {
					for _, r := range regions {
						if s.at.After(began) && s.view.Get(serviceIn(r)).State != fleet.Up {
							t.Errorf("a had %s %s on the way", r, s.view.Get(serviceIn(r)).State)
						}
					}
				}
				if net.nodes["a"].health.View().Probers["a"] {
					t.Error("a's own prober still has a vote for a")
				}

				time.Sleep(6 * time.Second)
				synctest.Wait()
				for _, r := range regions {
					want := fleet.Down
					if r == "a" {
						want = fleet.Up
					}
					if s := net.nodes["a"].stateAt(serviceIn(r), time.Now()); s != want {
						t.Errorf("a, alone for 15 s, sees %s as %s, want %s", r, s, want)
					}
				}
				net.mu.Lock()
				clear(net.cut)
				net.mu.Unlock()
				time.Sleep(20 * time.Second)
				synctest.Wait()
				for _, r := range regions {
					for _, o := range regions {
						if s := net.nodes[o].stateAt(serviceIn(r), time.Now()); s != fleet.Up {
							t.Errorf("joined again, %s sees %s as %s", o, r, s)
						}
					}
				}
			})
		})
	}
}
