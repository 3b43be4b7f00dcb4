package fleet

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// mostUnits bounds counts of connections and requests.
const mostUnits = 10_000_000

// MaxGroups is how many pairs of priority and zone a pool's endpoints may form.
const MaxGroups = 16

// balance checks what is for services of the gateways alone.
func (c *checker) balance(s *Service, at string) {
	if !s.Gateway() {
		for _, part := range []struct {
			key   string
			value any
		}{{"balancing", s.Balancing}, {"outlier", s.Outlier}, {"limits", s.Limits}} {
			if !reflect.ValueOf(part.value).IsZero() {
				c.errs.Addf(at+"."+part.key, "is for services whose connections end at the gateways: http, https, or tcp with forwarding proxy")
			}
		}
		return
	}
	c.balancing(s, at+".balancing")
	c.outlier(&s.Outlier, at+".outlier")
	c.limits(s, at+".limits")
}

func (c *checker) balancing(s *Service, at string) {
	b := &s.Balancing
	c.requestKey(at+".hash_on", b.HashOn, s, false)
	if b.HashBound != 0 {
		c.between(at+".hash_bound", b.HashBound, 105, 1000)
	}
	if s.RoutingPolicy != ConsistentHash && (b.HashBound != 0 || b.HashOn != "client") {
		c.errs.Addf(at, "hash_on and hash_bound are for routing_policy consistent_hash, and this is %s", s.RoutingPolicy)
	}
	c.within(at+".slow_start", b.SlowStart, 0, time.Hour)
	c.between(at+".panic_threshold", *b.PanicThreshold, 0, 100)
	c.between(at+".overprovision", b.Overprovision, 100, 1000)
	if k := b.Cookie; k != nil {
		if !isToken(k.Name) {
			c.errs.Addf(at+".cookie.name", "%q: expected a cookie's name", k.Name)
		}
		if !s.Protocol.Gateway() {
			c.errs.Addf(at+".cookie", "is for an http or https service, and this is %s", s.Protocol)
		}
		c.path(at+".cookie.path", k.Path)
		if strings.ContainsFunc(k.Path, func(r rune) bool { return r <= ' ' || r == ';' || r >= 0x7f }) {
			c.errs.Addf(at+".cookie.path", "%q: expected no blanks, semicolons or characters beyond ASCII", k.Path)
		}
		c.within(at+".cookie.ttl", k.TTL, 0, 8760*time.Hour)
	}
}

func (c *checker) requestKey(at string, k RequestKey, s *Service, all bool) {
	switch kind, _, err := k.Parse(); {
	case err != nil:
		c.errs.Addf(at, "%s", err)
	case kind == KeyAll && !all:
		c.errs.Addf(at, "%q: expected client, path, header:NAME or cookie:NAME", string(k))
	case kind != KeyClient && kind != KeyAll && !s.Protocol.Gateway():
		c.errs.Addf(at, "%q: a tcp connection shows the client alone", string(k))
	}
}

func (c *checker) outlier(o *Outlier, at string) {
	c.between(at+".consecutive_errors", *o.ConsecutiveErrors, 0, 1000)
	c.between(at+".error_percent", *o.ErrorPercent, 0, 100)
	if f := *o.LatencyFactor; f != 0 && !(f >= 1.5 && f <= 1000) {
		c.errs.Addf(at+".latency_factor", "%v is neither 0 nor between 1.5 and 1000", f)
	}
	c.within(at+".latency_least", o.LatencyLeast, time.Millisecond, time.Hour)
	c.between(at+".min_requests", o.MinRequests, 1, 100_000)
	c.within(at+".window", o.Window, time.Second, 10*time.Minute)
	c.within(at+".ejection", o.Ejection, 100*time.Millisecond, time.Hour)
	c.within(at+".max_ejection", o.MaxEjection, max(o.Ejection.D(), 100*time.Millisecond), 24*time.Hour)
	c.between(at+".max_ejected_percent", *o.MaxEjectedPercent, 0, 100)
}

func (c *checker) limits(s *Service, at string) {
	l := &s.Limits
	for _, f := range []struct {
		key string
		v   int
	}{
		{"connections", l.Connections}, {"pending", l.Pending}, {"requests", l.Requests}, {"retries", l.Retries},
		{"endpoint_connections", l.EndpointConnections}, {"endpoint_requests", l.EndpointRequests},
	} {
		if f.v != 0 {
			c.between(at+"."+f.key, f.v, 1, mostUnits)
		}
	}
	if a := l.Adaptive; a != nil {
		c.between(at+".adaptive.min", a.Min, 1, 1_000_000)
		c.between(at+".adaptive.max", a.Max, max(a.Min, 1), 1_000_000)
		c.between(at+".adaptive.tolerate_percent", a.Tolerate, 1, 1000)
		c.within(at+".adaptive.probe", a.Probe, time.Second, 24*time.Hour)
	}
	names := map[string]bool{}
	for i := range l.Rates {
		r, path := &l.Rates[i], fmt.Sprintf("%s.rates[%d]", at, i)
		c.unique(names, r.Name, path+".name")
		c.requestKey(path+".key", r.Key, s, true)
		c.between(path+".requests", r.Requests, 1, 1_000_000_000)
		c.within(path+".per", r.Per, time.Millisecond, 24*time.Hour)
		c.between(path+".burst", r.Burst, 1, 1_000_000_000)
		c.between(path+".v4_prefix", r.V4Prefix, 8, 32)
		c.between(path+".v6_prefix", r.V6Prefix, 16, 128)
	}
}

// place checks an endpoint's zone and priority, and notes them among those of
// its pool.
func (c *checker) place(s *Service, e *Endpoint, at string, groups map[[2]string]bool) {
	if e.Zone != "" && !idForm.MatchString(e.Zone) {
		c.errs.Addf(at+".zone", "%q: %s", e.Zone, idRule)
	}
	c.between(at+".priority", e.Priority, 0, 15)
	if !s.Gateway() && (e.Zone != "" || e.Priority != 0) {
		c.errs.Addf(at, "zone and priority are for services whose connections end at the gateways")
	}
	groups[[2]string{fmt.Sprint(e.Priority), e.Zone}] = true
}
