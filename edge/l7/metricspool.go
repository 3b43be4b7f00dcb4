package l7

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"meridian/fleet"
)

// poolStats are what is counted of a pool, whatever becomes of its endpoints.
// Generations share them.
type poolStats struct {
	answers  histogram // from a connection to the head of the answer
	connects histogram // to open a connection, TLS included
}

// poolStats gives those of the pool, of before if there was one.
func (b *builder) poolStats(service, id string) *poolStats {
	if had := b.before(service, id); had != nil {
		return had.stats
	}
	return &poolStats{}
}

// poolDescs describe what is read of pools and listeners when it is asked for.
type poolDescs struct {
	requests, duration              *prometheus.Desc // of services
	upRequests, upAnswer, upConnect *prometheus.Desc // of endpoints and pools
	members, healthy, ejections     *prometheus.Desc
	requestsIn, pending, links      *prometheus.Desc // under way
	refused                         *prometheus.Desc
	listeners                       *prometheus.Desc
}

func newPoolDescs() poolDescs {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("meridian_l7_"+name, help, labels, nil)
	}
	return poolDescs{
		requests:   desc("requests_total", "Requests, by class of the status sent (none: the client left first).", "service", "code_class"),
		duration:   desc("request_duration_seconds", "From a request's header to the end of its answer.", "service"),
		upRequests: desc("upstream_requests_total", "Tries at the endpoint, by class of its answer's status (none: it gave none).", "service", "pool", "endpoint", "code_class"),
		upAnswer:   desc("upstream_duration_seconds", "From when a try has its connection to an endpoint to the head of the answer.", "service", "pool"),
		upConnect:  desc("upstream_connect_seconds", "To open a connection of HTTP/1.1 to an endpoint, TLS included.", "service", "pool"),
		members:    desc("pool_endpoints", "Endpoints of the pool in this region.", "service", "pool"),
		healthy:    desc("pool_endpoints_healthy", "Those that are up and not ejected.", "service", "pool"),
		ejections:  desc("pool_endpoints_ejected", "Those that are left out as outliers.", "service", "pool"),
		requestsIn: desc("pool_requests", "Requests under way at the pool.", "service", "pool"),
		pending:    desc("pool_pending_requests", "Those of them that wait for a new connection.", "service", "pool"),
		links:      desc("pool_connections", "Connections to the pool's endpoints, idle ones among them.", "service", "pool"),
		refused:    desc("pool_refused_total", "What a limit of the pool has refused, by limit: requests, adaptive, pending, connections, retries.", "service", "pool", "limit"),
		listeners:  desc("listener_connections", "Clients' TCP connections, by address and port; tunnels are not among them.", "listener"),
	}
}

func (d *poolDescs) describe(ch chan<- *prometheus.Desc) {
	for _, x := range []*prometheus.Desc{d.requests, d.duration, d.upRequests, d.upAnswer, d.upConnect, d.members, d.healthy, d.ejections, d.requestsIn, d.pending, d.links, d.refused, d.listeners} {
		ch <- x
	}
}

func (h *histogram) collect(ch chan<- prometheus.Metric, d *prometheus.Desc, labels ...string) {
	count, sum, buckets := h.read()
	ch <- prometheus.MustNewConstHistogram(d, count, sum, buckets, labels...)
}

func (c *classes) collect(ch chan<- prometheus.Metric, d *prometheus.Desc, labels ...string) {
	for i, n := range c.read() {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), append(labels, classNames[i])...)
	}
}

// collectServices gives what requests have added to their services.
func (m *metrics) collectServices(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, s := range m.services {
		s.classes.collect(ch, m.pools.requests, name)
		s.duration.collect(ch, m.pools.duration, name)
	}
}

// collectPool gives one pool's.
func (m *metrics) collectPool(ch chan<- prometheus.Metric, service string, p *pool) {
	d, now := &m.pools, time.Duration(m.g.now())
	p.stats.answers.collect(ch, d.upAnswer, service, p.id)
	p.stats.connects.collect(ch, d.upConnect, service, p.id)
	healthy, ejected := 0, 0
	for _, e := range p.endpoints {
		e.vital.answers.collect(ch, d.upRequests, service, p.id, e.address)
		switch {
		case e.vital.Ejected(now):
			ejected++
		case e.vital.State() == fleet.Up:
			healthy++
		}
	}
	for _, g := range []struct {
		desc *prometheus.Desc
		n    int64
	}{{d.members, int64(len(p.endpoints))}, {d.healthy, int64(healthy)}, {d.ejections, int64(ejected)},
		{d.requestsIn, p.circuit.Requests.In()}, {d.pending, p.circuit.Pending.In()}, {d.links, p.circuit.Connections.In()}} {
		ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, float64(g.n), service, p.id)
	}
	m.collectRefused(ch, service, p)
}

// collectRefused gives what the pool's limits have refused.
func (m *metrics) collectRefused(ch chan<- prometheus.Metric, service string, p *pool) {
	c := p.circuit
	refused := map[string]uint64{"requests": c.Requests.Refused(), "pending": c.Pending.Refused(), "connections": c.Connections.Refused(), "retries": c.Retries.Refused()}
	if p.adaptive != nil {
		refused["adaptive"] = p.adaptive.Refused()
	}
	for limit, n := range refused {
		ch <- prometheus.MustNewConstMetric(m.pools.refused, prometheus.CounterValue, float64(n), service, p.id, limit)
	}
}

// collectListeners gives each listener's connections.
func (m *metrics) collectListeners(ch chan<- prometheus.Metric) {
	m.g.mu.Lock()
	defer m.g.mu.Unlock()
	for at, l := range m.g.listeners {
		s := l.current.Load()
		s.mu.Lock()
		n := len(s.conns)
		s.mu.Unlock()
		ch <- prometheus.MustNewConstMetric(m.pools.listeners, prometheus.GaugeValue, float64(n), at.String())
	}
}

// pathEvery is of how many of the clients' connections one is asked for its
// round trip when it begins.
const pathEvery = 16

// path measures the way to the client: what TCP has found it to be.
func (g *Gateway) path(c *conn) {
	if g.pathTurn.Add(1)%pathEvery != 0 {
		return
	}
	if rtt := c.rtt(); rtt > 0 {
		g.metrics.clientRTT.Observe(rtt.Seconds())
	}
}

// rtt is what TCP has found of the way to the client and back; 0: nothing.
func (c *conn) rtt() (rtt time.Duration) {
	if c.raw == nil {
		return 0
	}
	c.raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			rtt = time.Duration(info.Rtt) * time.Microsecond
		}
	})
	return rtt
}
