package controlplane

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"meridian/fleet"
)

// What the leader's Deriver could not make every replica tells of, until it is
// made again.
func TestProblemsOfZonesAreToldByEveryReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, m := newMemory(), &marker{next: time.Minute}
		var broken atomic.Bool
		leader, stop := run(t, store, &onDisk{}, func(c *Config) {
			c.Deriver = m
			c.Problems = func() map[fleet.Name]string {
				if broken.Load() {
					return map[fleet.Name]string{"dyn.test.": "not made anew: no keys"}
				}
				return nil
			}
		})
		defer stop()
		other, stopOther := run(t, store, &onDisk{})
		defer stopOther()
		if _, err := leader.Submit(t.Context(), Submission{Doc: []byte(zoneSpec), Objects: zoneObjects()}); err != nil {
			t.Fatal(err)
		}
		if _, err := leader.WriteZone(t.Context(), "dyn.test.", AnyBase, add("a", 1)); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			broken   bool
			state    string
			problems int
		}{{false, "ok", 0}, {true, "not made anew: no keys", 1}, {false, "ok", 0}} {
			broken.Store(c.broken)
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			for _, r := range []*rig{leader, other} {
				if info, err := r.ZoneInfo("dyn.test."); err != nil || info.State != c.state {
					t.Errorf("state %q, want %q: %v", info.State, c.state, err)
				}
				if got := r.Status().ZoneProblems; len(got) != c.problems {
					t.Errorf("status: %v", got)
				}
			}
		}
	})
}

// However many zones have a problem, what is stored and told of them is
// bounded.
func TestProblemsAreBounded(t *testing.T) {
	now := map[fleet.Name]string{}
	for i := range 3 * maxProblems {
		now[fleet.Name(fmt.Sprintf("z%05d.test.", i))] = strings.Repeat("x", i%7)
	}
	var stored *fleet.Zones
	for _, w := range problemWrites(now, nil) {
		stored = stored.With([]fleet.Object{{Key: fleet.ObjectKey{Kind: fleet.ObjectZone, ID: string(w.Name)}, Data: w.Data}}, nil)
	}
	if stored.Len() != maxProblems {
		t.Errorf("%d are stored", stored.Len())
	}
	if told := zoneProblems(stored); len(told) != maxStatusProblems || told[0].Zone != "z00000.test." {
		t.Errorf("%d are told", len(told))
	}
	if gone := problemWrites(nil, stored); len(gone) != maxProblems || gone[0].Data != nil {
		t.Errorf("%d go", len(gone))
	}
}
