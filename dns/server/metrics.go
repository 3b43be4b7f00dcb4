package server

import "github.com/prometheus/client_golang/prometheus"

var (
	descQueries = prometheus.NewDesc("meridian_dns_queries_total", "DNS queries answered, by transport.", []string{"transport"}, nil)
	descTypes   = prometheus.NewDesc("meridian_dns_queries_by_type_total", "DNS queries answered, by type.", []string{"type"}, nil)
	descClasses = prometheus.NewDesc("meridian_dns_queries_by_class_total", "DNS queries answered, by class.", []string{"class"}, nil)
	descByZone  = prometheus.NewDesc("meridian_dns_queries_by_zone_total", "DNS queries answered, by zone: of some hundred zones one by one, the rest as other.", []string{"zone"}, nil)
	descRcodes  = prometheus.NewDesc("meridian_dns_responses_total", "DNS responses, by transport and response code.", []string{"transport", "rcode"}, nil)
	descHanded  = prometheus.NewDesc("meridian_dns_handed_over_total", "Transfers, NOTIFY, UPDATE and TSIG-signed messages received, by transport.", []string{"transport"}, nil)
	descLimited = prometheus.NewDesc("meridian_dns_rate_limited_total", "Responses over the rate limit, by what became of them.", []string{"action"}, nil)
	descDrops   = prometheus.NewDesc("meridian_dns_dropped_total", "DNS messages and connections dropped, by transport and reason.", []string{"transport", "reason"}, nil)
	descKernel  = prometheus.NewDesc("meridian_dns_udp_receive_drops_total", "Datagrams that the kernel dropped for lack of room in a socket.", nil, nil)
	descCalls   = prometheus.NewDesc("meridian_dns_udp_system_calls_total", "System calls for UDP sockets: up to 64 messages each are received or sent.", nil, nil)
	descConns   = prometheus.NewDesc("meridian_dns_connections", "Connections open now, by transport.", []string{"transport"}, nil)
	descZones   = prometheus.NewDesc("meridian_dns_zones", "Zones served.", nil, nil)
	descOnline  = prometheus.NewDesc("meridian_dns_online_signatures_total", "Signatures that queries to zones with compact denial have cost.", nil, nil)
	descBroken  = prometheus.NewDesc("meridian_dns_zone_files_broken", "Zone files of --zones that are not usable as they are; what was served of them stays.", nil, nil)
	descFailed  = prometheus.NewDesc("meridian_dns_zone_file_errors_total", "Readings of zone files of --zones that failed.", nil, nil)
)

// Register adds the server's metrics to a registry.
func (s *Server) Register(r prometheus.Registerer) { r.MustRegister(collector{s}) }

type collector struct{ s *Server }

func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descQueries, descTypes, descClasses, descByZone, descRcodes, descHanded, descLimited, descDrops, descKernel, descCalls, descConns, descZones, descOnline, descBroken, descFailed} {
		ch <- d
	}
}

// sums gives the counters of each transport, those of closed sockets among
// them.
func (s *Server) sums() *[HTTPS + 1]counters {
	out := new([HTTPS + 1]counters)
	s.opening.Lock()
	defer s.opening.Unlock()
	for t := range out {
		out[t].add(&s.retired[t])
	}
	for _, st := range s.stats {
		st.addTo(&out[st.transport])
	}
	if s.cfg.Fast != nil {
		a := s.cfg.Fast.Answered()
		a.addTo(&out[UDP])
	}
	return out
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	all := new(counters)
	sums := c.s.sums()
	for t := range sums {
		sum := &sums[t]
		all.add(sum)
		transport := Transport(t).String()
		counter(descQueries, sum.queries.Load(), transport)
		counter(descHanded, sum.handed.Load(), transport)
		for i := range sum.rcode {
			if name, sent := rcodeNames[i]; sent {
				counter(descRcodes, sum.rcode[i].Load(), transport, name)
			}
		}
		for i := 1; i < dropReasons; i++ {
			counter(descDrops, sum.drops[i].Load(), transport, dropName(i))
		}
		if Transport(t) != UDP {
			gauge(descConns, int(c.s.clients.by[t].Load()), transport)
		}
	}
	for i, name := range typeNames {
		counter(descTypes, all.types[i].Load(), name)
	}
	for i, name := range classNames {
		counter(descClasses, all.classes[i].Load(), name)
	}
	for i := range all.zones.slots {
		if slot := &all.zones.slots[i]; slot.name.Load() != nil {
			counter(descByZone, slot.n.Load(), string(*slot.name.Load()))
		}
	}
	counter(descByZone, all.zones.other.Load(), "other")
	counter(descLimited, all.limited.Load(), "dropped")
	counter(descLimited, all.slipped.Load(), "truncated")
	counter(descKernel, all.kernel.Load())
	counter(descCalls, all.calls.Load())
	plan := c.s.plan.Load()
	gauge(descZones, plan.Len())
	counter(descOnline, plan.SignedOnline())
	broken, failed := c.s.files.count()
	gauge(descBroken, broken)
	counter(descFailed, failed)
}
