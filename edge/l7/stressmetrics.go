package l7

import (
	"github.com/prometheus/client_golang/prometheus"

	"meridian/edge/l7/overload"
)

// Why datagrams were dropped.
const (
	dropFull       = "full"
	dropNoEndpoint = "no_endpoint"
	dropSocket     = "socket"
)

// What became of requests between regions' gateways.
const (
	hopAsked = iota
	hopFailed
	hopServed
	hopDoubted
	hopCount
)

var hopNames = [hopCount]string{"asked", "failed", "served", "doubted"}

// stressMetrics are those of what docs/resilience.md describes.
type stressMetrics struct {
	flows         *prometheus.GaugeVec
	datagrams     *prometheus.CounterVec
	dropped       *prometheus.CounterVec
	evicted       prometheus.Counter
	parsed        prometheus.Counter
	disagreements prometheus.Counter
	hops          *prometheus.CounterVec
	level         prometheus.Gauge
	pressure      *prometheus.GaugeVec
	shed          *prometheus.CounterVec
}

func newStressMetrics() *stressMetrics {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "meridian_l7_" + name, Help: help}
	}
	return &stressMetrics{
		flows:         prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "meridian_l7_udp_flows", Help: "Flows of udp services: clients by address and port that have an endpoint."}, []string{"service"}),
		datagrams:     prometheus.NewCounterVec(opts("udp_datagrams_total", "Datagrams of udp services that were passed on, from clients (received) and to them (sent)."), []string{"service", "direction"}),
		dropped:       prometheus.NewCounterVec(opts("udp_dropped_total", "Datagrams of udp services that were dropped, by reason: full (no room for another flow, or the port is let go), no_endpoint, socket (an error of the listening socket)."), []string{"reason"}),
		level:         prometheus.NewGauge(prometheus.GaugeOpts{Name: "meridian_l7_overload_level", Help: "What the gateway does without, each with those before it: 0 nothing, 1 mirror, 2 compression, 3 idle connections, 4 new connections, 5 requests of low priority, 6 of normal priority."}),
		pressure:      prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "meridian_l7_overload_pressure_ratio", Help: "Share of its limit that is in use, by resource: memory, files, processor (99th percentile of the wait to run, of 100 ms), connections."}, []string{"resource"}),
		shed:          prometheus.NewCounterVec(opts("overload_shed_total", "What was refused or closed for overload: idle (connection closed), connection, request, stream, flow (refused)."), []string{"what"}),
		hops:          prometheus.NewCounterVec(opts("next_region_total", "Requests between regions' gateways, by what: asked (the next region, since none here could answer), failed (and it did not answer), served (for another region), doubted (the mark of another region was not its own)."), []string{"service", "what"}),
		parsed:        prometheus.NewCounter(opts("parsed_twice_total", "Heads of requests that net/http has read as well.")),
		disagreements: prometheus.NewCounter(opts("parse_disagreements_total", "Heads that net/http has read in another way: the connection was closed.")),
		evicted:       prometheus.NewCounter(opts("udp_flows_evicted_total", "Flows that had to go for a new one.")),
	}
}

func (m *stressMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.flows, m.datagrams, m.dropped, m.evicted, m.parsed, m.disagreements, m.hops, m.level, m.pressure, m.shed}
}

// overloaded notes what was measured and decided.
func (m *stressMetrics) overloaded(l overload.Level, measured overload.Measures) {
	m.level.Set(float64(l))
	for r := range overload.Resources {
		m.pressure.WithLabelValues(r.String()).Set(measured[r])
	}
}

// vectors are those with a label service.
func (m *stressMetrics) vectors() []interface {
	DeletePartialMatch(prometheus.Labels) int
} {
	return []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{m.flows, m.datagrams, m.hops}
}

func (s *serviceStats) stress(m *stressMetrics, name string) {
	s.flows = m.flows.WithLabelValues(name)
	for i, what := range hopNames {
		s.hops[i] = m.hops.WithLabelValues(name, what)
	}
	s.datagrams = [2]prometheus.Counter{m.datagrams.WithLabelValues(name, "received"), m.datagrams.WithLabelValues(name, "sent")}
}
