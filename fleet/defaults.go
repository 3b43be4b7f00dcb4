package fleet

import "time"

// fillDefaults completes the Spec in place. Filling a complete Spec changes
// nothing.
func (s *Spec) fillDefaults() {
	def(&s.Fleet, "meridian")
	for i := range s.Regions {
		r := &s.Regions[i]
		def(&r.Name, r.ID)
		def(&r.Capacity, 100)
		def(&r.State, Active)
		def(&r.BGP.HoldTime, Duration(9*time.Second))
		for j := range r.BGP.Neighbors {
			def(&r.BGP.Neighbors[j].Port, 179)
		}
	}
	for i := range s.Nodes {
		def(&s.Nodes[i].Weight, 100)
		def(&s.Nodes[i].State, Active)
	}
	for i := range s.Services {
		s.Services[i].fillDefaults()
	}
	s.fillTwins()
	def(&s.Gateway.TrustedField, TrustXForwardedFor)
	p := &s.Probes
	def(&p.Interval, Duration(time.Second))
	def(&p.FastInterval, Duration(250*time.Millisecond))
	def(&p.Timeout, Duration(2*time.Second))
	def(&p.Fall, 3)
	def(&p.Rise, 5)
	def(&p.Path, "/health")
	l := &s.Layer4
	def(&l.FlowTimeout.TCP, Duration(time.Hour))
	def(&l.FlowTimeout.UDP, Duration(time.Minute))
	def(&l.FlowRetire, Duration(24*time.Hour))
	def(&l.StrangerLimit, 100_000)
	if t := s.Gateway.Tracing; t != nil {
		def(&t.Trust, TrustProxies)
	}
	if s.Defence != nil {
		s.Defence.fillDefaults()
	}
	s.DNS.fillDefaults()
	s.fillTLSDefaults()
	for i := range s.Zones {
		s.Zones[i].fillDefaults(&s.DNS)
	}
}

func (s *Service) fillDefaults() {
	def(&s.RoutingPolicy, RoundRobin)
	def(&s.Forwarding, IPIP)
	def(&s.Priority, PriorityNormal)
	def(&s.Affinity.By, ByFlow)
	def(&s.Affinity.V4Prefix, 32)
	def(&s.Affinity.V6Prefix, 128)
	def(&s.Ring, RingNormal)
	switch {
	case s.Protocol.Gateway():
		def(&s.ClientIP, ClientIPHeader)
	case s.Forwarding == Proxy:
		def(&s.ClientIP, ClientIPNone)
	default:
		def(&s.ClientIP, ClientIPPreserved)
	}
	s.fillCheckDefaults()
	if s.Gateway() {
		s.fillBalanceDefaults()
	}
	s.Retries.fillDefaults()
	def(&s.Timeouts.Connect, Duration(time.Second))
	if s.Timeouts.Request == nil {
		s.Timeouts.Request = ptr(Duration(30 * time.Second))
	}
	if s.Protocol == UDP {
		def(&s.Timeouts.Idle, Duration(time.Minute))
	}
	def(&s.Timeouts.Idle, Duration(75*time.Second))
	def(&s.Timeouts.Drain, Duration(20*time.Second))
	s.Steering.fillDefaults()
	for i := range s.Pools {
		if s.Protocol.Gateway() {
			def(&s.Pools[i].Protocol, PoolHTTP1)
		}
		for j := range s.Pools[i].Endpoints {
			def(&s.Pools[i].Endpoints[j].Weight, 100)
			def(&s.Pools[i].Endpoints[j].State, Active)
		}
	}
	s.fillRouteDefaults()
}

func (st *Steering) fillDefaults() {
	def(&st.Answer, Regional)
	def(&st.Rotate, RotateNone)
	st.Selection.fillDefaults(FailOpen)
	for i := range st.Groups {
		st.Groups[i].Selection.fillDefaults(FailClosed)
	}
}

// fillDefaults leaves a group's records open where they are those around it.
func (sel *Selection) fillDefaults(allDown AllDown) {
	def(&sel.Policy, Proximity)
	def(&sel.AllDown, allDown)
	switch {
	case sel.Policy == All:
		def(&sel.Records, 8)
	case allDown == FailOpen:
		def(&sel.Records, 1)
	}
}

func (s *Service) fillCheckDefaults() {
	h := &s.Healthcheck
	if h.Type == "" {
		switch {
		case !s.Protocol.Gateway():
			h.Type = CheckTCP
		case len(s.Pools) > 0 && s.Pools[0].Protocol == PoolH2:
			h.Type = CheckTCP // such endpoints need not know HTTP/1.1
		case len(s.Pools) > 0 && s.Pools[0].TLS != nil:
			h.Type = CheckHTTPS
		default:
			h.Type = CheckHTTP
		}
	}
	if h.Type.Web() {
		def(&h.Path, "/health")
		if len(h.Expect.Status) == 0 {
			h.Expect.Status = []string{"2xx"}
		}
	}
	if (h.Type.Web() || h.Type == CheckGRPC) && h.Host == "" && len(s.Hosts) > 0 {
		h.Host = s.Hosts[0]
	}
	def(&h.Interval, Duration(5*time.Second))
	def(&h.Timeout, min(Duration(2*time.Second), h.Interval))
	def(&h.Fall, 3)
	def(&h.Rise, 2)
}

// def sets a value that is still zero.
func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func ptr[T any](v T) *T { return &v }
