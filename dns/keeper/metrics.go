package keeper

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/dns/sign"
	"meridian/fleet"
)

// metrics are the Keeper's.
type metrics struct {
	signed     prometheus.Gauge
	kept       prometheus.Gauge
	failed     prometheus.Gauge
	signatures prometheus.Counter
	events     prometheus.Counter
	errors     prometheus.Counter
	failures   prometheus.Counter
	expiry     *prometheus.GaugeVec
	keys       *prometheus.GaugeVec
}

func newMetrics() *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &metrics{
		kept:       gauge("meridian_keeper_zones", "Zones that are made of what operators and updates write."),
		signed:     gauge("meridian_keeper_signed_zones", "Zones that are signed."),
		failed:     gauge("meridian_keeper_failed_zones", "Zones that could not be made; what was made before stays."),
		signatures: counter("meridian_keeper_signatures_total", "Signatures made."),
		events:     counter("meridian_keeper_key_events_total", "Steps of roll-overs."),
		errors:     counter("meridian_keeper_errors_total", "Zones that could not be made, each time counted."),
		failures:   counter("meridian_keeper_lookup_errors_total", "Lookups of aliases and of parents' DS that failed."),
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "meridian_keeper_signature_expiry_timestamp_seconds",
			Help: "When the first signature of a zone expires, in seconds since 1970."}, []string{"zone"}),
		keys: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "meridian_keeper_keys",
			Help: "Keys by role, part (dnskey, rrsig, ds) and how far it has come."}, []string{"role", "part", "state"}),
	}
}

// Register adds the Keeper's metrics.
func (k *Keeper) Register(r prometheus.Registerer) {
	m := k.metrics
	r.MustRegister(m.kept, m.signed, m.failed, m.signatures, m.events, m.errors, m.failures, m.expiry, m.keys)
}

// zones counts what is kept.
func (m *metrics) zones(zones map[fleet.Name]*kept, _ time.Time) {
	m.expiry.Reset()
	m.keys.Reset()
	signed, failed := 0, 0
	for name, z := range zones {
		if z.failed {
			failed++
		}
		if z.state == nil {
			continue
		}
		signed++
		if !z.stats.Expires.IsZero() {
			m.expiry.WithLabelValues(string(name)).Set(float64(z.stats.Expires.Unix()))
		}
		for i := range z.state.Keys {
			key := &z.state.Keys[i]
			for part, p := range map[string]sign.Phase{"dnskey": key.DNSKEY, "rrsig": key.RRSIG, "ds": key.DS} {
				if p.State != sign.Hidden {
					m.keys.WithLabelValues(string(key.Role), part, string(p.State)).Inc()
				}
			}
		}
	}
	m.kept.Set(float64(len(zones)))
	m.signed.Set(float64(signed))
	m.failed.Set(float64(failed))
}
