package gossip

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// counted gives how many attempts of the member to join ended in that way.
func counted(t *testing.T, m *member, result string) int {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(m.joins)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, s := range f.GetMetric() {
			if s.GetLabel()[0].GetValue() == result {
				return int(s.GetCounter().GetValue())
			}
		}
	}
	return 0
}

func TestMetrics(t *testing.T) {
	s := newSite(t, 1)
	m := s.start(0, nil)
	m.count(m.sent, nil)
	r := prometheus.NewRegistry()
	m.Register(r)
	families, err := r.Gather()
	if err != nil || len(families) != 2 {
		t.Errorf("%d families, %v", len(families), err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "meridian_gossip_") || f.GetHelp() == "" {
			t.Errorf("metric %s: %q", f.GetName(), f.GetHelp())
		}
	}
}
