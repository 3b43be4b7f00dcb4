package l7

import "github.com/prometheus/client_golang/prometheus"

// Why datagrams were dropped.
const (
	dropFull       = "full"
	dropNoEndpoint = "no_endpoint"
	dropSocket     = "socket"
)

// stressMetrics are those of what docs/resilience.md describes.
type stressMetrics struct {
	flows     *prometheus.GaugeVec
	datagrams *prometheus.CounterVec
	dropped   *prometheus.CounterVec
	evicted   prometheus.Counter
}

func newStressMetrics() *stressMetrics {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "meridian_l7_" + name, Help: help}
	}
	return &stressMetrics{
		flows:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "meridian_l7_udp_flows", Help: "Flows of udp services: clients by address and port that have an endpoint."}, []string{"service"}),
		datagrams: prometheus.NewCounterVec(opts("udp_datagrams_total", "Datagrams of udp services that were passed on, from clients (received) and to them (sent)."), []string{"service", "direction"}),
		dropped:   prometheus.NewCounterVec(opts("udp_dropped_total", "Datagrams of udp services that were dropped, by reason: full (no room for another flow, or the port is let go), no_endpoint, socket (an error of the listening socket)."), []string{"reason"}),
		evicted:   prometheus.NewCounter(opts("udp_flows_evicted_total", "Flows that had to go for a new one.")),
	}
}

func (m *stressMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.flows, m.datagrams, m.dropped, m.evicted}
}

// vectors are those with a label service.
func (m *stressMetrics) vectors() []interface {
	DeletePartialMatch(prometheus.Labels) int
} {
	return []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{m.flows, m.datagrams}
}

func (s *serviceStats) stress(m *stressMetrics, name string) {
	s.flows = m.flows.WithLabelValues(name)
	s.datagrams = [2]prometheus.Counter{m.datagrams.WithLabelValues(name, "received"), m.datagrams.WithLabelValues(name, "sent")}
}
