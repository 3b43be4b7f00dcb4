package acme

import "github.com/prometheus/client_golang/prometheus"

// metrics tell of the certificates at the replica that leads; the others have
// none.
type metrics struct {
	m        *Manager
	attempts *prometheus.CounterVec
	refused  prometheus.Counter

	notBefore, notAfter, renew, ariStart, ariEnd, failures, failed, staple *prometheus.Desc
}

func newMetrics(m *Manager) *metrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("meridian_acme_"+name, help, []string{"certificate", "name"}, nil)
	}
	return &metrics{m: m,
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meridian_acme_attempts_total",
			Help: "Tries at certificates that this replica has made, by what came of them: issued, renewed or failed."}, []string{"certificate", "outcome"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "meridian_acme_demands_refused_total",
			Help: "Names that clients asked for and that got no certificate, since too many were asked for within an hour."}),
		notBefore: desc("not_before_seconds", "Since when the certificate in use is valid, in seconds since 1970."),
		notAfter:  desc("not_after_seconds", "Until when the certificate in use is valid, in seconds since 1970; 0 while there is none."),
		renew:     desc("renew_at_seconds", "When the certificate is to be renewed, in seconds since 1970."),
		ariStart:  desc("ari_window_start_seconds", "When the window begins in which the authority would have it renewed (RFC 9773), in seconds since 1970."),
		ariEnd:    desc("ari_window_end_seconds", "When that window ends, in seconds since 1970."),
		failures:  desc("failures", "Tries in a row that have failed; 0 after one that succeeded."),
		failed:    desc("last_error_seconds", "When the last try failed, in seconds since 1970."),
		staple:    desc("ocsp_next_update_seconds", "When the OCSP response that is served ends, in seconds since 1970."),
	}
}

// Register adds the metrics.
func (m *Manager) Register(r prometheus.Registerer) { r.MustRegister(m.metrics) }

func (s *metrics) outcome(certificate, outcome string) {
	s.attempts.WithLabelValues(certificate, outcome).Inc()
}

// Describe implements prometheus.Collector.
func (s *metrics) Describe(ch chan<- *prometheus.Desc) {
	s.attempts.Describe(ch)
	s.refused.Describe(ch)
	for _, d := range []*prometheus.Desc{s.notBefore, s.notAfter, s.renew, s.ariStart, s.ariEnd, s.failures, s.failed, s.staple} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *metrics) Collect(ch chan<- prometheus.Metric) {
	s.attempts.Collect(ch)
	s.refused.Collect(ch)
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	for _, t := range s.m.tasks {
		put := func(d *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, t.cert.ID, t.name)
		}
		put(s.failures, float64(t.failures))
		if !t.failed.IsZero() {
			put(s.failed, float64(t.failed.Unix()))
		}
		if t.leaf == nil {
			put(s.notAfter, 0)
			continue
		}
		put(s.notBefore, float64(t.leaf.NotBefore.Unix()))
		put(s.notAfter, float64(t.leaf.NotAfter.Unix()))
		put(s.renew, float64(t.renew.Unix()))
		if t.info.HasWindow() {
			put(s.ariStart, float64(t.info.SuggestedWindow.Start.Unix()))
			put(s.ariEnd, float64(t.info.SuggestedWindow.End.Unix()))
		}
		if !t.staple.IsZero() {
			put(s.staple, float64(t.staple.Unix()))
		}
	}
}
