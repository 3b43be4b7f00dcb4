package keeper

import (
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/fleet"
)

// shows is what the metrics show of a zone.
type shows struct {
	signed, failed bool
	problem        string // why it could not be made, or is bogus
	expires        time.Time
	keys           [][3]string // role, part, state
}

// metrics are the Keeper's. What is counted over zones is counted when it is
// asked for.
type metrics struct {
	k          *Keeper
	signatures prometheus.Counter
	events     prometheus.Counter
	errors     prometheus.Counter
	failures   prometheus.Counter
	notices    *prometheus.CounterVec

	kept, signed, failed, problem, expiry, keys *prometheus.Desc
}

func newMetrics(k *Keeper) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &metrics{k: k,
		signatures: counter("meridian_keeper_signatures_total", "Signatures made."),
		events:     counter("meridian_keeper_key_events_total", "Steps of roll-overs."),
		errors:     counter("meridian_keeper_errors_total", "Zones that could not be made, each time counted."),
		failures:   counter("meridian_keeper_lookup_errors_total", "Lookups of aliases and of parents' DS that failed."),
		notices: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meridian_keeper_parent_notices_total",
			Help: "Notifications of parents about new CDS records by result: acknowledged, refused, failed, or none where the parent names nobody to tell."}, []string{"result"}),
		kept:   prometheus.NewDesc("meridian_keeper_zones", "Zones that are made of what operators and updates write.", nil, nil),
		signed: prometheus.NewDesc("meridian_keeper_signed_zones", "Zones that are signed.", nil, nil),
		failed: prometheus.NewDesc("meridian_keeper_failed_zones", "Zones that could not be made; what was made before stays.", nil, nil),
		problem: prometheus.NewDesc("meridian_keeper_zone_problem",
			"1 for a zone that could not be made, or whose parent has a DS of none of its keys.", []string{"zone"}, nil),
		expiry: prometheus.NewDesc("meridian_keeper_signature_expiry_timestamp_seconds",
			"When the first signature of a zone expires, in seconds since 1970.", []string{"zone"}, nil),
		keys: prometheus.NewDesc("meridian_keeper_keys",
			"Keys by role, part (dnskey, rrsig, ds) and how far it has come.", []string{"role", "part", "state"}, nil),
	}
}

// Problems tells why zones could not be made by the last Derive that looked at
// them, or why resolvers take them for bogus.
func (k *Keeper) Problems() map[fleet.Name]string {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := map[fleet.Name]string{}
	for name, s := range k.shows {
		if s.problem != "" {
			out[name] = s.problem
		}
	}
	return out
}

// Register adds the Keeper's metrics.
func (k *Keeper) Register(r prometheus.Registerer) {
	m := k.metrics
	r.MustRegister(m.signatures, m.events, m.errors, m.failures, m.notices, m)
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.kept, m.signed, m.failed, m.problem, m.expiry, m.keys} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	m.k.mu.Lock()
	all := maps.Clone(m.k.shows)
	m.k.mu.Unlock()
	signed, failed, keys := 0, 0, map[[3]string]int{}
	for name, s := range all {
		if s.failed {
			failed++
		}
		if s.problem != "" {
			gauge(m.problem, 1, string(name))
		}
		if !s.signed {
			continue
		}
		signed++
		if !s.expires.IsZero() {
			gauge(m.expiry, float64(s.expires.Unix()), string(name))
		}
		for _, key := range s.keys {
			keys[key]++
		}
	}
	for key, n := range keys {
		gauge(m.keys, float64(n), key[0], key[1], key[2])
	}
	gauge(m.kept, float64(len(all)))
	gauge(m.signed, float64(signed))
	gauge(m.failed, float64(failed))
}
