package transfer

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/dns/tsig"
	"meridian/fleet"
)

// metrics counts what transfers do. Zones are not told apart but by the
// gauges of serials, which only zones with transfers have.
type metrics struct {
	transfers *prometheus.CounterVec
	octets    *prometheus.CounterVec
	records   *prometheus.CounterVec
	notifies  *prometheus.CounterVec
	tsig      *prometheus.CounterVec
	updates   *prometheus.CounterVec
	catalogs  *prometheus.CounterVec
	serials   *prometheus.GaugeVec
}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	return &metrics{
		transfers: counter("meridian_dns_transfers_total", "Zone transfers and questions for a newer version, by direction (in, out) and result (ok, refused, older, unreachable, slow, invalid; out also gone).", "direction", "result"),
		octets:    counter("meridian_dns_transfer_octets_total", "Octets of messages in zone transfers, by direction.", "direction"),
		records:   counter("meridian_dns_transfer_records_total", "Records in zone transfers, by direction and kind (axfr, ixfr).", "direction", "kind"),
		notifies:  counter("meridian_dns_notifies_total", "NOTIFY messages, by direction and result.", "direction", "result"),
		tsig:      counter("meridian_dns_tsig_errors_total", "Requests whose TSIG was refused, by error.", "error"),
		updates:   counter("meridian_dns_updates_total", "Dynamic updates, by RCODE.", "rcode"),
		catalogs:  counter("meridian_dns_catalog_errors_total", "Catalog versions that were not taken, by catalog.", "catalog"),
		serials:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "meridian_dns_zone_serial", Help: "SOA serial of zones that are transferred in or out."}, []string{"zone"}),
	}
}

// Register registers the metrics, with the number of secondary zones by state
// among them.
func (t *Transfer) Register(r prometheus.Registerer) {
	m := t.metrics
	r.MustRegister(m.transfers, m.octets, m.records, m.notifies, m.tsig, m.updates, m.catalogs, m.serials)
	for _, state := range []State{Current, Stale, Expired, Missing} {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "meridian_dns_secondary_zones", Help: "Zones that come from primaries, by state.", ConstLabels: prometheus.Labels{"state": string(state)},
		}, func() float64 { return float64(t.count(state)) }))
	}
}

// transferred counts a transfer by its result.
func (m *metrics) transferred(direction string, err error) {
	result := "ok"
	var refused rcodeError
	switch {
	case err == nil:
	case errors.As(err, &refused):
		result = "refused"
	case errors.Is(err, errOlder):
		result = "older"
	case errors.Is(err, errTrickle), errors.Is(err, errTooSlow):
		result = "slow"
	case errors.Is(err, errUnreachable), isNetwork(err):
		result = "unreachable"
	default:
		result = "invalid"
	}
	m.transfers.WithLabelValues(direction, result).Inc()
}

func (m *metrics) received(in *incoming) {
	kind := "axfr"
	if in.builder == nil {
		kind = "ixfr"
	}
	m.octets.WithLabelValues("in").Add(float64(in.octets))
	m.records.WithLabelValues("in", kind).Add(float64(in.seen))
}

func (m *metrics) sent(kind string, octets, records int) {
	m.octets.WithLabelValues("out").Add(float64(octets))
	m.records.WithLabelValues("out", kind).Add(float64(records))
}

func (m *metrics) notify(direction, result string) {
	m.notifies.WithLabelValues(direction, result).Inc()
}

func (m *metrics) unsigned(c tsig.Code) { m.tsig.WithLabelValues(c.String()).Inc() }

func (m *metrics) serial(name fleet.Name, serial uint32) {
	m.serials.WithLabelValues(string(name)).Set(float64(serial))
}

func (m *metrics) forget(name fleet.Name) { m.serials.DeleteLabelValues(string(name)) }
