package server

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/dns/answer"
)

// Reasons for which a message or connection is dropped: those of answer.Drop,
// and the sockets' own.
const (
	dropOversize   = iota + 3 // longer than any query that could be answered
	dropSend                  // the answer could not be sent
	dropConnection            // too many TCP connections
	dropReceive               // the kernel could not hand over messages
	dropSpecial               // too many transfers, updates and the like at a time
	dropReasons
)

func dropName(i int) string {
	switch i {
	case dropOversize:
		return "oversize"
	case dropSend:
		return "send"
	case dropConnection:
		return "connections"
	case dropReceive:
		return "receive"
	case dropSpecial:
		return "special"
	}
	return answer.Drop(i).String()
}

// Types are counted one by one where they are common.
var typeNames = [...]string{"other", "A", "NS", "CNAME", "SOA", "PTR", "MX", "TXT", "AAAA", "SRV", "DS", "HTTPS", "ANY"}

func typeIndex(t uint16) int {
	switch t {
	case 1:
		return 1
	case 2:
		return 2
	case 5:
		return 3
	case 6:
		return 4
	case 12:
		return 5
	case 15:
		return 6
	case 16:
		return 7
	case 28:
		return 8
	case 33:
		return 9
	case 43:
		return 10
	case 65:
		return 11
	case 255:
		return 12
	}
	return 0
}

var rcodeNames = map[int]string{0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 6: "YXDOMAIN", 16: "BADVERS"}

const rcodes = 17

// stats are the counters of one socket, written by the goroutine that serves
// it (a listener's by its connections) and read by scrapes.
type stats struct {
	transport Transport
	queries   atomic.Uint64
	rcode     [rcodes]atomic.Uint64
	types     [len(typeNames)]atomic.Uint64
	drops     [dropReasons]atomic.Uint64
	_         [64]byte // so that sockets share no cache line
}

func (st *stats) count(o answer.Outcome) {
	if o.Drop != answer.Answered {
		st.drop(int(o.Drop))
		return
	}
	st.queries.Add(1)
	st.types[typeIndex(o.Type)].Add(1)
	if o.Rcode < rcodes {
		st.rcode[o.Rcode].Add(1)
	}
}

func (st *stats) drop(reason int) { st.drops[reason].Add(1) }

var (
	descQueries = prometheus.NewDesc("meridian_dns_queries_total", "DNS queries answered, by transport.", []string{"transport"}, nil)
	descTypes   = prometheus.NewDesc("meridian_dns_queries_by_type_total", "DNS queries answered, by type.", []string{"type"}, nil)
	descRcodes  = prometheus.NewDesc("meridian_dns_responses_total", "DNS responses, by transport and response code.", []string{"transport", "rcode"}, nil)
	descDrops   = prometheus.NewDesc("meridian_dns_dropped_total", "DNS messages and connections dropped, by transport and reason.", []string{"transport", "reason"}, nil)
	descConns   = prometheus.NewDesc("meridian_dns_tcp_connections", "TCP connections open now.", nil, nil)
	descZones   = prometheus.NewDesc("meridian_dns_zones", "Zones served.", nil, nil)
)

// Register adds the server's metrics to a registry.
func (s *Server) Register(r prometheus.Registerer) { r.MustRegister(collector{s}) }

type collector struct{ s *Server }

func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descQueries, descTypes, descRcodes, descDrops, descConns, descZones} {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	var types [len(typeNames)]uint64
	for t := UDP; t <= HTTPS; t++ {
		transport := t.String()
		var sum stats
		c.s.opening.Lock()
		for _, st := range c.s.stats {
			if st.transport == t {
				sum.add(st)
			}
		}
		c.s.opening.Unlock()
		counter(descQueries, sum.queries.Load(), transport)
		for i := range sum.types {
			types[i] += sum.types[i].Load()
		}
		for i := range sum.rcode {
			if name, sent := rcodeNames[i]; sent {
				counter(descRcodes, sum.rcode[i].Load(), transport, name)
			}
		}
		for i := 1; i < dropReasons; i++ {
			counter(descDrops, sum.drops[i].Load(), transport, dropName(i))
		}
	}
	for i, n := range types {
		counter(descTypes, n, typeNames[i])
	}
	gauge := func(d *prometheus.Desc, v int) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	gauge(descConns, int(c.s.conns.Load()))
	gauge(descZones, c.s.plan.Load().Len())
}

func (st *stats) add(o *stats) {
	st.queries.Add(o.queries.Load())
	for i := range st.rcode {
		st.rcode[i].Add(o.rcode[i].Load())
	}
	for i := range st.types {
		st.types[i].Add(o.types[i].Load())
	}
	for i := range st.drops {
		st.drops[i].Add(o.drops[i].Load())
	}
}
