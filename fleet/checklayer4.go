package fleet

import (
	"fmt"
	"strings"
	"time"
)

// ports notes which ports of which protocol the service has, and refuses those
// of another; used is by protocol and port, 0 for all that are left.
func (c *checker) ports(s *Service, at string, used map[string]string) {
	protos, use := []string{"tcp"}, string(s.Protocol)
	shares := s.Gateway() && s.Protocol != UDP // told apart by host or server name: see edge/l7/route
	switch {
	case s.Protocol == TCP && shares:
		use = "tcp by server name"
	case s.Protocol == UDP:
		protos = []string{"udp"}
	case s.HTTP3 && s.Protocol != HTTPS:
		c.errs.Addf(at+".http3", "is for an https service, and this is %s", s.Protocol)
	case s.HTTP3:
		protos = append(protos, "udp")
	}
	if s.ServerTiming && !s.Protocol.Gateway() {
		c.errs.Addf(at+".server_timing", "is for an http or https service, and this is %s", s.Protocol)
	}
	take := func(path, proto string, port uint16) {
		key := fmt.Sprintf("%s/%d", proto, port)
		if had, ok := used[key]; ok && (had != use || !shares) {
			if port == 0 {
				key = "all of " + proto
			}
			c.errs.Addf(path, "%s is already used by another service", key)
		}
		used[key] = use
	}
	for i, p := range s.Ports {
		path := fmt.Sprintf("%s.ports[%d]", at, i)
		if p == 0 {
			c.errs.Addf(path, "0 is not a port")
		}
		for _, proto := range protos {
			if !s.AllPorts {
				take(path, proto, p)
			}
		}
	}
	if !s.AllPorts {
		return
	}
	if s.Gateway() {
		c.errs.Addf(at+".all_ports", "is for a tcp or udp service: a gateway listens at ports that it knows")
	}
	if len(s.Ports) > 1 {
		c.errs.Addf(at+".ports", "expected one, for checks and probes: the service has all")
	}
	take(at+".all_ports", protos[0], 0)
}

// clientIP checks that what forwards can tell the client's address in that way.
func (c *checker) clientIP(s *Service, at string) {
	can := []string{string(ClientIPPreserved)}
	switch {
	case s.Forwarding == Proxy && s.Protocol.Gateway():
		c.errs.Addf(at+".forwarding", "proxy is for a tcp or udp service, and this is %s", s.Protocol)
		return
	case s.Forwarding == Proxy:
		can = []string{string(ClientIPNone), string(ClientIPTransparent)}
		if s.Protocol == UDP {
			c.within(at+".timeouts.idle", s.Timeouts.Idle, 100*time.Millisecond, time.Hour)
		}
		if s.Protocol == TCP {
			can = append(can, string(ClientIPProxyV1), string(ClientIPProxyV2))
		}
		if len(s.Pools) > 1 {
			c.errs.Addf(at+".pools", "expected one pool, since forwarding is proxy")
		}
		if len(s.Pools) > 0 && s.Pools[0].TLS != nil {
			c.errs.Addf(at+".pools[0].tls", "is for an http or https service: what goes through a %s service is passed on as it is", s.Protocol)
		}
	case s.Protocol.Gateway():
		can = []string{string(ClientIPHeader), string(ClientIPProxyV1), string(ClientIPProxyV2)}
	}
	if !contains(can, string(s.ClientIP)) {
		c.errs.Addf(at+".client_ip", "%s: expected %s, for a service of protocol %s with forwarding %s", s.ClientIP, strings.Join(can, ", "), s.Protocol, s.Forwarding)
	}
}

func (c *checker) affinity(s *Service, at string) {
	a := &s.Affinity
	c.between(at+".v4_prefix", a.V4Prefix, 8, 32)
	c.between(at+".v6_prefix", a.V6Prefix, 16, 128)
	if a.By == ByFlow && (a.V4Prefix != 32 || a.V6Prefix != 128) {
		c.errs.Addf(at, "v4_prefix and v6_prefix are for by: source")
	}
}

func (c *checker) layer4() {
	l := &c.spec.Layer4
	c.within("layer4.flow_timeout.tcp", l.FlowTimeout.TCP, 10*time.Second, 168*time.Hour)
	c.within("layer4.flow_timeout.udp", l.FlowTimeout.UDP, 5*time.Second, 168*time.Hour)
	c.within("layer4.flow_retire", l.FlowRetire, time.Minute, 720*time.Hour)
	c.within("layer4.ramp", l.Ramp, 0, time.Hour)
	c.between("layer4.stranger_limit", l.StrangerLimit, 1000, 100_000_000)
	if l.LatencyOf != 0 {
		c.between("layer4.latency_of", l.LatencyOf, 1, 1_000_000)
	}
}
