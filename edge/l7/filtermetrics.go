package l7

import "github.com/prometheus/client_golang/prometheus"

// filterMetrics count what filters do with requests and answers.
type filterMetrics struct {
	refused    *prometheus.CounterVec
	mirrored   *prometheus.CounterVec
	stale      *prometheus.CounterVec
	compressed *prometheus.CounterVec
}

func newFilterMetrics() *filterMetrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meridian_l7_" + name, Help: help}, append([]string{"service"}, labels...))
	}
	return &filterMetrics{
		refused:    vec("refused_total", "Requests that filters refused: maintenance, access, bounds, basic_auth, jwt, forward_auth.", "filter"),
		mirrored:   vec("mirrored_total", "Copies of requests: sent, failed; dropped since too many were under way; body: not copied, since the body is too large or its length unknown.", "outcome"),
		stale:      vec("stale_answers_total", "Answers from memory since no endpoint answered."),
		compressed: vec("compressed_total", "Answers that were compressed, by coding.", "coding"),
	}
}
