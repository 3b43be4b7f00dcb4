package dashboard

import "github.com/prometheus/client_golang/prometheus"

// Register exports the stream's figures.
func (d *Dashboard) Register(r prometheus.Registerer) {
	locked := func(f func() float64) func() float64 {
		return func() float64 {
			d.hub.mu.Lock()
			defer d.hub.mu.Unlock()
			return f()
		}
	}
	r.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "meridian_dashboard_streams",
			Help: "Open streams of events."}, locked(func() float64 { return float64(len(d.hub.clients)) })),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "meridian_dashboard_streams_refused_total",
			Help: "Streams refused because too many were open."}, locked(func() float64 { return float64(d.hub.refused) })),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "meridian_dashboard_streams_dropped_total",
			Help: "Streams ended because the client read too slowly."}, locked(func() float64 { return float64(d.hub.dropped) })),
	)
}
