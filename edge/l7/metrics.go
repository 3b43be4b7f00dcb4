package l7

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// flag says whose fault it was that a request went wrong, in the letters that
// Envoy's users know where it has some.
type flag uint8

const (
	flagNone           flag = iota
	flagNoRoute             // NR: no service or route
	flagNoEndpoint          // UH: the pool has no endpoint in this region
	flagConnect             // UF: no connection to an endpoint
	flagReset               // UC: the endpoint broke off
	flagTimeout             // UT: no answer in time
	flagRetryLimit          // URX: all tries failed
	flagRetryOverflow       // RO: the retry budget was spent
	flagUpstreamStatus      // US: dropped answer, for another try
	flagClientGone          // DC: the client left
	flagBadRequest          // BR: a request that is not passed on
	flagRate                // RL: a limit of requests over time
	flagOverload            // UO: a limit of requests under way
	flagDenied              // DN: refused by a filter
	flagShed                // OL: the gateway is overloaded
	flagCount
)

var flagNames = [flagCount]string{"", "NR", "UH", "UF", "UC", "UT", "URX", "RO", "US", "DC", "BR", "RL", "UO", "DN", "OL"}

func (f flag) String() string { return flagNames[f] }

// metrics are the gateway's. Children are found when a generation is made, so
// that a request only adds to them.
type metrics struct {
	g            *Gateway
	pools        poolDescs
	clientRTT    prometheus.Histogram
	failures     *prometheus.CounterVec
	retries      *prometheus.CounterVec
	overflow     *prometheus.CounterVec
	streams      *prometheus.CounterVec
	octets       *prometheus.CounterVec
	hellos       *prometheus.CounterVec
	stress       *stressMetrics
	arrival      prometheus.Histogram
	connections  prometheus.Gauge
	opened       prometheus.Counter
	connErrors   prometheus.Counter
	acceptErrors prometheus.Counter
	faults       *prometheus.CounterVec
	answers      *prometheus.CounterVec
	abuse        *prometheus.CounterVec
	malformed    [wire.FaultCount]prometheus.Counter // faults, by fault
	outliers     *prometheus.CounterVec
	endpointUp   *prometheus.Desc
	ejected      *prometheus.Desc
	bound        *prometheus.Desc
	active       *prometheus.Desc
	expiry       *prometheus.Desc
	share        *prometheus.Desc

	why                 *prometheus.CounterVec
	whyTold, whyRefused prometheus.Counter

	filters  *filterMetrics
	unrouted *serviceStats // requests for which there was no service

	mu       sync.Mutex // guards services, which Apply and scrapes use
	services map[string]*serviceStats
}

// serviceStats are one service's metrics, ready to add to.
type serviceStats struct {
	classes   classes
	flags     [flagCount]prometheus.Counter
	duration  histogram
	retries   prometheus.Counter
	overflow  prometheus.Counter
	streams   prometheus.Counter
	received  prometheus.Counter // octets of streams, from clients
	sent      prometheus.Counter
	flows     prometheus.Gauge
	hops      [hopCount]prometheus.Counter
	datagrams [2]prometheus.Counter // of udp services, from clients and to them
}

func newMetrics(g *Gateway) *metrics {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "meridian_l7_" + name, Help: help}
	}
	m := &metrics{
		g:        g,
		services: map[string]*serviceStats{},
		stress:   newStressMetrics(),
		pools:    newPoolDescs(),
		failures: prometheus.NewCounterVec(opts("failures_total", "Requests, and connections of tcp services, that went wrong, by flag: NR no route, UH no endpoint, UF connect failed, UC endpoint broke off, UT timeout, URX all tries failed, RO retry budget spent, DC client left, BR bad request, RL over a rate, UO over a limit of what is under way, DN refused by a filter, OL the gateway is overloaded."), []string{"service", "flag"}),
		faults:   prometheus.NewCounterVec(opts("malformed_total", "Requests of clients that were refused because they are malformed, or could be read in two ways, by fault."), []string{"fault"}),
		answers:  prometheus.NewCounterVec(opts("malformed_answers_total", "Answers of endpoints that were refused because they are malformed, or could be read in two ways, by fault."), []string{"service", "fault"}),
		abuse:    prometheus.NewCounterVec(opts("abuse_total", "Clients' connections that were ended because of what their clients did, by reason."), []string{"reason"}),
		retries:  prometheus.NewCounterVec(opts("retries_total", "Tries after the first."), []string{"service"}),
		overflow: prometheus.NewCounterVec(opts("retry_overflow_total", "Retries that the budget refused."), []string{"service"}),
		streams:  prometheus.NewCounterVec(opts("streams_total", "Connections of tcp services that were passed on, or could not be."), []string{"service"}),
		octets:   prometheus.NewCounterVec(opts("stream_bytes_total", "Octets of connections of tcp services, from clients (received) and to them (sent)."), []string{"service", "direction"}),
		outliers: prometheus.NewCounterVec(opts("outliers_total", "Endpoints judged to be outliers, by reason: failures_in_a_row, share_of_failures, slow; spared where too many were ejected already; returned at an ejection's end."), []string{"service", "reason"}),
		clientRTT: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "meridian_l7_client_rtt_seconds", Help: "Round trip between client and gateway as TCP has found it, by the handshake, of one connection in 16.",
			Buckets: []float64{.0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1},
		}),
		hellos: prometheus.NewCounterVec(opts("stream_hellos_total", "Connections at ports where tcp services are told apart by server name: named (a service has the name), default (to the service without hosts), unknown (there is none: closed), malformed, too_large, none (in time; all three closed)."), []string{"result"}),
		arrival: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "meridian_l7_arrival_seconds", Help: "From the arrival of a request's last packet at the device until the gateway begins with it, for the connections that layer4.latency_of picks.",
			Buckets: []float64{10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, .001, .0025, .005, .01, .025, .1, 1},
		}),
		connections:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "meridian_l7_connections", Help: "Clients' connections, tunnels among them."}),
		opened:       prometheus.NewCounter(opts("connections_total", "Clients' connections that were taken.")),
		connErrors:   prometheus.NewCounter(opts("connection_errors_total", "Clients' connections that broke: TLS handshakes and the like.")),
		acceptErrors: prometheus.NewCounter(opts("accept_errors_total", "Connections that could not be accepted.")),
		endpointUp:   prometheus.NewDesc("meridian_l7_endpoint_up", "1 where the endpoint is up, by this gateway's checks.", []string{"service", "pool", "endpoint"}, nil),
		active:       prometheus.NewDesc("meridian_l7_endpoint_requests", "Requests under way at the endpoint.", []string{"service", "pool", "endpoint"}, nil),
		ejected:      prometheus.NewDesc("meridian_l7_endpoint_ejected", "1 where the endpoint is left out as an outlier.", []string{"service", "pool", "endpoint"}, nil),
		bound:        prometheus.NewDesc("meridian_l7_adaptive_limit_requests", "Requests that may be under way at the pool by limits.adaptive.", []string{"service", "pool"}, nil),
		share:        prometheus.NewDesc("meridian_l7_rate_share_ratio", "This gateway's part of a limit of requests that gateways hold together, by demand.", []string{"service", "limit"}, nil),
		expiry:       prometheus.NewDesc("meridian_l7_certificate_not_after_seconds", "When the certificate expires, in seconds since 1970.", []string{"certificate"}, nil),
	}
	for f := wire.NoFault + 1; f < wire.FaultCount; f++ {
		m.malformed[f] = m.faults.WithLabelValues(f.String())
	}
	m.why = prometheus.NewCounterVec(opts("why_total", "Requests that ask what became of them (X-Edge-Why), by outcome: told, or refused for their token."), []string{"outcome"})
	m.whyTold, m.whyRefused = m.why.WithLabelValues("told"), m.why.WithLabelValues("refused")
	m.filters = newFilterMetrics()
	m.unrouted = m.service("")
	return m
}

// service finds or makes the children of one service.
func (m *metrics) service(name string) *serviceStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.services[name]; s != nil {
		return s
	}
	s := &serviceStats{
		retries:  m.retries.WithLabelValues(name),
		overflow: m.overflow.WithLabelValues(name),
		streams:  m.streams.WithLabelValues(name),
		received: m.octets.WithLabelValues(name, "received"),
		sent:     m.octets.WithLabelValues(name, "sent"),
	}
	for f := flagNone + 1; f < flagCount; f++ {
		if f != flagUpstreamStatus {
			s.flags[f] = m.failures.WithLabelValues(name, f.String())
		}
	}
	s.stress(m.stress, name)
	m.services[name] = s
	return s
}

// retire drops the children of services that are no more. Requests of theirs
// that are still under way add to children that nobody sees.
func (m *metrics) retire(old, now *generation) {
	if old == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range old.services {
		if s == nil || now.service(s.spec.Service) != nil {
			continue
		}
		label := prometheus.Labels{"service": s.spec.Service}
		for _, v := range m.stress.vectors() {
			v.DeletePartialMatch(label)
		}
		for _, v := range []interface{ DeletePartialMatch(prometheus.Labels) int }{m.failures, m.retries, m.overflow, m.outliers, m.streams, m.octets, m.answers, m.filters.refused, m.filters.mirrored, m.filters.stale, m.filters.compressed} {
			v.DeletePartialMatch(label)
		}
		delete(m.services, s.spec.Service)
	}
}

// Register adds the metrics to r.
func (g *Gateway) Register(r prometheus.Registerer) { r.MustRegister(g.metrics) }

// Describe and Collect make metrics a prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
	m.pools.describe(ch)
	ch <- m.endpointUp
	ch <- m.active
	ch <- m.ejected
	ch <- m.bound
	ch <- m.expiry
	ch <- m.share
}

func (m *metrics) all() []prometheus.Collector {
	return append([]prometheus.Collector{m.failures, m.retries, m.overflow, m.outliers, m.streams, m.octets, m.hellos, m.arrival, m.clientRTT, m.connections, m.opened, m.connErrors, m.acceptErrors, m.faults, m.answers, m.abuse, m.why, m.filters.refused, m.filters.mirrored, m.filters.stale, m.filters.compressed}, m.stress.all()...)
}

// Collect reads what is kept elsewhere: endpoints and certificates.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
	m.collectServices(ch)
	gen := m.g.gen.Load()
	if gen == nil {
		return
	}
	m.collectListeners(ch)
	for _, s := range gen.services {
		if s == nil {
			continue
		}
		for i := range s.rates {
			if r := &s.rates[i]; r.quota != nil {
				ch <- prometheus.MustNewConstMetric(m.share, prometheus.GaugeValue, float64(r.quota.held.Load())/float64(r.spec.Requests), s.spec.Service, r.spec.Name)
			}
		}
		for _, p := range s.pools {
			m.collectPool(ch, s.spec.Service, p)
			if p.adaptive != nil {
				ch <- prometheus.MustNewConstMetric(m.bound, prometheus.GaugeValue, float64(p.adaptive.Limit()), s.spec.Service, p.id)
			}
			for _, e := range p.endpoints {
				up, ejected := 0.0, 0.0
				if e.vital.State() == fleet.Up {
					up = 1
				}
				if e.vital.Ejected(time.Duration(m.g.now())) {
					ejected = 1
				}
				labels := []string{s.spec.Service, p.id, e.address}
				ch <- prometheus.MustNewConstMetric(m.endpointUp, prometheus.GaugeValue, up, labels...)
				ch <- prometheus.MustNewConstMetric(m.active, prometheus.GaugeValue, float64(e.vital.Active()), labels...)
				ch <- prometheus.MustNewConstMetric(m.ejected, prometheus.GaugeValue, ejected, labels...)
			}
		}
	}
	for _, c := range gen.tls.certs.All() {
		ch <- prometheus.MustNewConstMetric(m.expiry, prometheus.GaugeValue, float64(c.TLS.Leaf.NotAfter.Unix()), c.ID)
	}
}

// endpoints says whether it was endpoints that did not answer.
func (f flag) endpoints() bool {
	switch f {
	case flagNoEndpoint, flagConnect, flagReset, flagTimeout, flagRetryLimit, flagRetryOverflow:
		return true
	}
	return false
}
