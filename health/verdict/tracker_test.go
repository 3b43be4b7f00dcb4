package verdict

import (
	"math/rand/v2"
	"testing"
	"time"

	"meridian/fleet"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// script feeds a Tracker one observation a second for each letter: lower-case
// o and x are the main check's success and failure, O and X those of "ready",
// and . is a second without any. It returns the state after each.
func script(p Params, s string) string {
	var t Tracker
	out := make([]byte, len(s))
	for i, r := range s {
		now := epoch.Add(time.Duration(i) * time.Second)
		o := fleet.Observation{Check: "http", Time: now, Cause: fleet.CauseTimeout}
		switch r {
		case 'O', 'X':
			o.Check = CheckReady
		}
		o.OK = r == 'o' || r == 'O'
		var v fleet.Verdict
		if r == '.' {
			v, _ = t.Expire(now, p)
		} else {
			v, _ = t.Observe(o, p)
		}
		out[i] = "?udD"[v.State]
	}
	return string(out)
}

func TestTracker(t *testing.T) {
	p := Params{Fall: 3, Rise: 2, Expire: 3 * time.Second}
	for _, c := range []struct{ name, in, want string }{
		{"up at the first success", "o", "u"},
		{"unknown until it has fallen", "xxx", "??d"},
		{"one loss does not flip", "oxoxoxo", "uuuuuuu"},
		{"two losses do not flip", "oxxoxxo", "uuuuuuu"},
		{"three in a row do", "oxxx", "uuud"},
		{"recovery needs the rise", "xxxoxoo", "??ddddu"},
		{"ready alone drains", "oOXoXoXoOoO", "uuuuuuDDDDu"},
		{"both failing is down", "oOxXxXxXo", "uuuuuuddd"},
		{"silence is unknown", "o....", "uuuu?"},
	} {
		if got := script(p, c.in); got != c.want {
			t.Errorf("%s: %s gives %s, want %s", c.name, c.in, got, c.want)
		}
	}
}

func TestWorstOfItsChecks(t *testing.T) {
	p := Params{Fall: 1, Rise: 1, Expire: time.Minute}
	var tr Tracker
	tr.Observe(fleet.Observation{Check: "rtt4", Time: epoch, OK: true, Latency: 3 * time.Millisecond}, p)
	v, changed := tr.Observe(fleet.Observation{Check: "https4", Time: epoch.Add(time.Second), Cause: fleet.CauseCertExpired, Detail: "expired yesterday"}, p)
	if v.State != fleet.Down || v.Cause != fleet.CauseCertExpired || !changed {
		t.Fatalf("got %+v, changed %v", v, changed)
	}
	if v.Detail != "https4: expired yesterday" || !v.Since.Equal(epoch.Add(time.Second)) {
		t.Errorf("detail %q since %v", v.Detail, v.Since)
	}
	v, _ = tr.Observe(fleet.Observation{Check: "https4", Time: epoch.Add(2 * time.Second), OK: true, Latency: 9 * time.Millisecond}, p)
	if v.State != fleet.Up || v.Cause != fleet.CauseNone || v.Latency != 3*time.Millisecond {
		t.Errorf("got %+v, want up with the latency of the quickest check", v)
	}
}

// Whatever is observed: down only right after a run of fall failures of one
// check, and no more than one change of state for each observation.
func TestTrackerProperties(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		p := Params{Fall: 1 + rng.IntN(5), Rise: 1 + rng.IntN(5), Expire: time.Hour}
		var tr Tracker
		fails, oks, was := 0, 0, fleet.Unknown
		for i := range 300 {
			ok := rng.IntN(3) > 0
			if ok {
				fails, oks = 0, oks+1
			} else {
				fails, oks = fails+1, 0
			}
			v, changed := tr.Observe(fleet.Observation{Check: "tcp", Time: epoch.Add(time.Duration(i) * time.Second), OK: ok}, p)
			if changed != (v.State != was) {
				t.Fatal("changed does not tell a change")
			}
			if changed && v.State == fleet.Down && fails != p.Fall {
				t.Fatalf("down after %d failures, fall is %d", fails, p.Fall)
			}
			if changed && v.State == fleet.Up && was == fleet.Down && oks != p.Rise {
				t.Fatalf("up after %d successes, rise is %d", oks, p.Rise)
			}
			was = v.State
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	p := Params{Fall: 3, Rise: 5, Expire: time.Minute}
	var tr Tracker
	o := fleet.Observation{Check: "rtt4", Time: epoch, OK: true, Latency: time.Millisecond}
	b.ReportAllocs()
	for b.Loop() {
		tr.Observe(o, p)
	}
}
