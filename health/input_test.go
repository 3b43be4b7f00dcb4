package health

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/fleet"
	"meridian/health/verdict"
)

func TestBadInputChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, nil, "a-1", world(t, doc, 1), fleet.RoleProbe)
		defer n.stop()
		n.seeAll("uuu")
		time.Sleep(10 * time.Millisecond)
		before := n.View()
		n.receive([]byte("not a frame"))
		f := verdict.Frame{Node: "stranger", Region: "z", Observer: verdict.Prober, Incarnation: 1, Seq: 1}
		n.receive(f.Append(nil)) // not in the Snapshot: no vote
		if err := n.Apply(nil); err == nil {
			t.Error("no world was applied")
		}
		if err := n.Apply(&fleet.World{Snapshot: &fleet.Snapshot{Spec: &fleet.Spec{}, Hash: "zz"}}); err == nil {
			t.Error("a broken snapshot was applied")
		}
		time.Sleep(10 * time.Millisecond)
		if n.View().Revision != before.Revision || n.View().Probers["z"] {
			t.Errorf("the view changed: %+v", n.View())
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	for _, cfg := range []Config{{Region: "a", Logger: log}, {Node: "a", Logger: log}, {Node: "a", Region: "a"}, {Node: strings.Repeat("a", 64), Region: "a", Logger: log}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, nil, "a-1", world(t, doc, 1), fleet.RoleProbe)
		defer n.stop()
		n.seeAll("udu")
		time.Sleep(10 * time.Millisecond)
		r := prometheus.NewRegistry()
		n.Register(r)
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				var labels []string
				for _, l := range m.GetLabel() {
					labels = append(labels, l.GetValue())
				}
				got[f.GetName()+fmt.Sprint(labels)] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
		for name, want := range map[string]float64{
			"meridian_health_targets[service up]": 2, "meridian_health_targets[service down]": 1,
			"meridian_health_abstaining_probers[]": 0, "meridian_health_stray_observations_total[]": 0,
		} {
			if v, ok := got[name]; !ok || v != want {
				t.Errorf("%s is %v (%v), want %v", name, v, ok, want)
			}
		}
	})
}

// Frames and states of strangers, who have the key: none may break the node.
func FuzzMergeState(f *testing.F) {
	w := world(f, doc, 1)
	h, err := New(Config{Node: "a-1", Region: "a", Roles: []fleet.Role{fleet.RoleProbe}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		f.Fatal(err)
	}
	if err := h.Apply(w); err != nil {
		f.Fatal(err)
	}
	other, err := New(Config{Node: "b-1", Region: "b", Roles: []fleet.Role{fleet.RoleProbe}, Logger: h.cfg.Logger})
	if err != nil {
		f.Fatal(err)
	}
	if err := other.Apply(w); err != nil {
		f.Fatal(err)
	}
	other.emit(time.Now())
	f.Add(other.localState())
	f.Add([]byte{0, 0, 0, 0, 0, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		h.mergeState(b)
		h.receive(b)
		h.conclude(time.Now())
	})
}

func BenchmarkObserve(b *testing.B) {
	h, err := New(Config{Node: "a-1", Region: "a", Roles: []fleet.Role{fleet.RoleProbe}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		b.Fatal(err)
	}
	if err := h.Apply(world(b, doc, 1)); err != nil {
		b.Fatal(err)
	}
	o := fleet.Observation{Target: web("a"), Check: "rtt4", Time: time.Now(), OK: true, Latency: time.Millisecond}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			h.Observe(o)
		}
	})
}
