package synthetic

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/fleet"
)

// desk is the Prober and the Observer of a test: probes take a while, and
// what was observed is counted.
type desk struct {
	takes time.Duration
	fails bool

	mu       sync.Mutex
	inFlight int
	most     int
	seen     map[string]int
}

func (d *desk) Probe(ctx context.Context, p fleet.Probe) fleet.ProbeResult {
	d.mu.Lock()
	d.inFlight++
	d.most = max(d.most, d.inFlight)
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.inFlight--
		d.mu.Unlock()
	}()
	select {
	case <-time.After(min(d.takes, p.Timeout)):
	case <-ctx.Done():
		return fleet.ProbeResult{Cause: fleet.CauseOther}
	}
	if d.fails || d.takes > p.Timeout {
		return fleet.ProbeResult{Cause: fleet.CauseTimeout}
	}
	return fleet.ProbeResult{OK: true, Latency: d.takes, Expiry: time.Unix(1, 0)}
}

func (d *desk) Observe(o fleet.Observation) fleet.Verdict {
	d.mu.Lock()
	defer d.mu.Unlock()
	word := "fail"
	if o.OK {
		word = "ok"
	}
	d.seen[o.Target.String()+" "+o.Check+" "+word]++
	return fleet.Verdict{}
}

func (d *desk) take() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.seen
	d.seen = map[string]int{}
	return out
}

func run(t *testing.T, d *desk, w *fleet.World) (s *Synthetic, stop func()) {
	t.Helper()
	d.seen = map[string]int{}
	s, err := New(Config{Node: "a-1", Region: "a", Prober: d, Observer: d, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(w); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestScheduleKeepsItsIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{takes: 30 * time.Millisecond}
		_, stop := run(t, d, compiled(t, planDoc))
		defer stop()
		time.Sleep(10 * time.Second)
		d.take()
		time.Sleep(20 * time.Second)
		got := d.take()
		for name, want := range map[string]int{
			"service/web@b rtt4 ok": 80, "service/web@b tcp4 ok": 20, "service/web@b https4 ok": 20, "anycast/web https6 ok": 20, "dns@a dns4 ok": 20,
		} {
			if n := got[name]; n < want-1 || n > want+1 {
				t.Errorf("%s: %d in 20 s, want %d", name, n, want)
			}
		}
	})
}

func TestProbesDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{takes: time.Hour}
		_, stop := run(t, d, compiled(t, planDoc))
		defer stop()
		time.Sleep(10 * time.Second)
		d.take()
		time.Sleep(20 * time.Second)
		if n := d.take()["service/web@b rtt4 fail"]; n < 79 || n > 81 {
			t.Errorf("%d checks in 20 s of a target that does not answer, want 80", n)
		}
		if d.most > maxInFlight {
			t.Errorf("%d in flight", d.most)
		}
	})
}

func TestRemovedServiceIsLeftAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{takes: 100 * time.Millisecond}
		s, stop := run(t, d, compiled(t, planDoc))
		defer stop()
		time.Sleep(5 * time.Second)
		i := strings.Index(planDoc, "- {service: web")
		j := strings.Index(planDoc, "zones:")
		if err := s.Apply(compiled(t, planDoc[:i]+planDoc[j:])); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		d.take()
		time.Sleep(5 * time.Second)
		got := d.take()
		for name := range got {
			if strings.Contains(name, "web") {
				t.Errorf("%s after the service was removed", name)
			}
		}
		if n := got["service/db@b rtt4 ok"]; n < 19 || n > 21 {
			t.Errorf("a service that stayed was checked %d times in 5 s", n)
		}
	})
}

func TestBadWorldKeepsTheOldSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{takes: time.Millisecond}
		s, stop := run(t, d, compiled(t, planDoc))
		defer stop()
		if err := s.Apply(compiled(t, strings.Replace(planDoc, "path: /well", "ca: \"file:ca.pem\"", 1))); err == nil {
			t.Error("a world without its authorities was applied")
		}
		if err := s.Apply(nil); err == nil {
			t.Error("no world was applied")
		}
		time.Sleep(3 * time.Second)
		if d.take()["service/web@a rtt4 ok"] == 0 {
			t.Error("the schedule stopped")
		}
	})
}

// One of several nameservers of a region is enough.
func TestAnyNameserverWillDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := check{probes: []fleet.Probe{{Check: "dns", Timeout: time.Second, Name: "slow."}, {Check: "dns", Timeout: time.Minute, Name: "quick."}}}
		d := &desk{takes: 2 * time.Second}
		if r := c.run(t.Context(), d, newPace(time.Second, time.Second)); !r.OK {
			t.Errorf("got %+v", r)
		}
		d.takes = time.Hour
		if r := c.run(t.Context(), d, newPace(time.Second, time.Second)); r.OK || r.Cause != fleet.CauseTimeout {
			t.Errorf("got %+v", r)
		}
	})
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{takes: time.Millisecond}
		s, stop := run(t, d, compiled(t, planDoc))
		time.Sleep(3 * time.Second)
		stop()
		r := prometheus.NewRegistry()
		s.Register(r)
		families, err := r.Gather()
		if err != nil || len(families) != 4 {
			t.Errorf("%d families, %v", len(families), err)
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	if _, err := New(Config{Node: "a"}); err == nil {
		t.Error("an incomplete config was accepted")
	}
}
