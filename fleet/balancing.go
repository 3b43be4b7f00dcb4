package fleet

import (
	"fmt"
	"strings"
	"time"
)

// Balancing is how a gateway shares requests among the endpoints of a pool,
// beside routing_policy.
type Balancing struct {
	HashOn         RequestKey     `json:"hash_on,omitempty" doc:"What consistent_hash goes by: client (the client's address), path, header:NAME or cookie:NAME. Requests without that header or cookie, and tcp connections, go by the client's address." default:"client"`
	HashBound      int            `json:"hash_bound,omitempty" doc:"Requests under way that consistent_hash lets an endpoint have, in percent of its fair share (105 to 1000); above it the key goes to another endpoint." default:"no bound"`
	SlowStart      Duration       `json:"slow_start,omitempty" doc:"An endpoint that comes up gets its share over this time, from a tenth (0s to 1h); 0s: at once." default:"0s"`
	PanicThreshold *int           `json:"panic_threshold,omitempty" doc:"With less than this percentage of a pool's weight healthy (0 to 100), all of its endpoints are used as if they were healthy, but for those that are ejected; 0: only where none is." default:"50"`
	Overprovision  int            `json:"overprovision,omitempty" doc:"What endpoints can bear, in percent of their share when all are healthy (100 to 1000): what a priority or the gateway's zone cannot bear by that goes to the next ones." default:"140"`
	Cookie         *BalanceCookie `json:"cookie,omitempty" doc:"A client of an http or https service stays with an endpoint by a cookie, as long as that endpoint is usable." default:"none"`
}

// BalanceCookie is the cookie that holds a client to an endpoint.
type BalanceCookie struct {
	Name string   `json:"name,omitempty" doc:"Its name." default:"meridian_endpoint"`
	TTL  Duration `json:"ttl,omitempty" doc:"How long the client keeps it (0s to 8760h); 0s: until it ends." default:"0s"`
	Path string   `json:"path,omitempty" doc:"Paths that it holds for." default:"/"`
}

// Outlier is when an endpoint gets no requests because of how it has answered
// earlier ones, whatever its checks say.
type Outlier struct {
	ConsecutiveErrors *int     `json:"consecutive_errors,omitempty" doc:"Ejected after so many failures in a row (1 to 1000): no answer, or a status from 500 on; 0: not for that." default:"5"`
	ErrorPercent      *int     `json:"error_percent,omitempty" doc:"Ejected when so many percent of the requests in the window fail (1 to 100); 0: not for that." default:"50"`
	LatencyFactor     *float64 `json:"latency_factor,omitempty" doc:"Ejected when answers take so many times as long as the median of the pool's other endpoints (1.5 to 1000); 0: not for that." default:"4"`
	LatencyLeast      Duration `json:"latency_least,omitempty" doc:"Answers that take less than so much longer than that median are not slow (1ms to 1h)." default:"50ms"`
	MinRequests       int      `json:"min_requests,omitempty" doc:"Requests in the window without which error_percent and latency_factor say nothing (1 to 100000)." default:"20"`
	Window            Duration `json:"window,omitempty" doc:"Requests of the last so long are judged (1s to 10m)." default:"10s"`
	Ejection          Duration `json:"ejection,omitempty" doc:"Length of the first ejection (100ms to 1h); each further one that follows soon is twice as long." default:"30s"`
	MaxEjection       Duration `json:"max_ejection,omitempty" doc:"The longest; not below ejection (up to 24h)." default:"5m0s"`
	MaxEjectedPercent *int     `json:"max_ejected_percent,omitempty" doc:"At most so many percent of a pool's endpoints are ejected at a time (0 to 100), but one may always be; 0: none ever. Never so many that balancing.panic_threshold would be passed. Endpoints that refuse connections are ejected in any case, but for the last." default:"30"`
}

// Limits is how much a service lets through to its endpoints.
type Limits struct {
	Connections         int            `json:"connections,omitempty" doc:"Connections to a pool's endpoints, idle ones among them, on each gateway (1 to 10000000)." default:"none"`
	Pending             int            `json:"pending,omitempty" doc:"Requests that wait for a connection to a pool's endpoints, on each gateway (1 to 10000000)." default:"none"`
	Requests            int            `json:"requests,omitempty" doc:"Requests under way at a pool, on each gateway (1 to 10000000)." default:"none"`
	Retries             int            `json:"retries,omitempty" doc:"Retries under way at a pool, on each gateway (1 to 10000000), besides the retry budget." default:"none"`
	EndpointConnections int            `json:"endpoint_connections,omitempty" doc:"Connections to one endpoint, idle ones among them, of each gateway (1 to 10000000)." default:"none"`
	EndpointRequests    int            `json:"endpoint_requests,omitempty" doc:"Requests under way at one endpoint, of each gateway (1 to 10000000)." default:"none"`
	Adaptive            *Adaptive      `json:"adaptive,omitempty" doc:"Bound the requests under way at a pool by how long its answers take." default:"none"`
	Rates               []RequestLimit `json:"rates,omitempty" doc:"Requests (tcp: connections) over time. All must allow a request; one that does not is answered with 429."`
}

// Adaptive bounds concurrency by latency.
type Adaptive struct {
	Min      int      `json:"min,omitempty" doc:"The bound is never lower (1 to 1000000)." default:"10"`
	Max      int      `json:"max,omitempty" doc:"And never higher (up to 1000000)." default:"1000"`
	Tolerate int      `json:"tolerate_percent,omitempty" doc:"Answers may take so many percent longer than at rest before the bound falls (1 to 1000)." default:"50"`
	Probe    Duration `json:"probe,omitempty" doc:"How often it is measured anew how long answers take at rest (1s to 24h)." default:"1m0s"`
}

// RequestLimit is one limit on requests over time.
type RequestLimit struct {
	Name     string     `json:"name" doc:"Name, unique in the service, for metrics and logs. Lower-case letters, digits and hyphens."`
	Key      RequestKey `json:"key,omitempty" doc:"What has the limit for itself: client (each client network), path, header:NAME or cookie:NAME (each value; requests without go by client), or all: everything together." default:"client"`
	Requests int        `json:"requests" doc:"So many requests (1 to 1000000000)."`
	Per      Duration   `json:"per,omitempty" doc:"in so long a time (1ms to 24h)." default:"1s"`
	Burst    int        `json:"burst,omitempty" doc:"That may come at once (1 to 1000000000)." default:"requests"`
	Scope    RateScope  `json:"scope,omitempty" doc:"Who counts together: each gateway for itself; or the gateways of a region, or all, which divide the limit by where requests come." default:"gateway"`
	V4Prefix int        `json:"v4_prefix,omitempty" doc:"Clients whose IPv4 addresses begin with so many same bits count as one (8 to 32)." default:"32"`
	V6Prefix int        `json:"v6_prefix,omitempty" doc:"Likewise, IPv6 (16 to 128)." default:"64"`
}

// RateScope is which gateways count together.
type RateScope string

// Each gateway for itself, those of a region, or all of the fleet.
const (
	ScopeGateway RateScope = "gateway"
	ScopeRegion  RateScope = "region"
	ScopeFleet   RateScope = "fleet"
)

// Values lists the scopes.
func (RateScope) Values() []string { return []string{"gateway", "region", "fleet"} }

// RequestKey is what of a request something goes by: client, path, all,
// header:NAME or cookie:NAME.
type RequestKey string

// KeyKind is the sort of a RequestKey.
type KeyKind uint8

// The sorts of key.
const (
	KeyClient KeyKind = iota
	KeyPath
	KeyAll
	KeyHeader
	KeyCookie
)

// Parse gives the sort and, for a header or cookie, its name. The empty key is
// the client. Errors: an unknown word, a name that is no token (RFC 9110
// section 5.6.2).
func (k RequestKey) Parse() (KeyKind, string, error) {
	word, name, named := strings.Cut(string(k), ":")
	switch {
	case k == "" || k == "client":
		return KeyClient, "", nil
	case k == "path":
		return KeyPath, "", nil
	case k == "all":
		return KeyAll, "", nil
	case named && word == "header" && isToken(name):
		return KeyHeader, name, nil
	case named && word == "cookie" && isToken(name):
		return KeyCookie, name, nil
	}
	return 0, "", fmt.Errorf("%q: expected client, path, header:NAME or cookie:NAME", string(k))
}

func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

// fillBalanceDefaults completes what is for services of the gateways alone.
func (s *Service) fillBalanceDefaults() {
	b := &s.Balancing
	def(&b.HashOn, "client")
	defPtr(&b.PanicThreshold, 50)
	def(&b.Overprovision, 140)
	if c := b.Cookie; c != nil {
		def(&c.Name, "meridian_endpoint")
		def(&c.Path, "/")
	}
	o := &s.Outlier
	defPtr(&o.ConsecutiveErrors, 5)
	defPtr(&o.ErrorPercent, 50)
	defPtr(&o.LatencyFactor, 4)
	def(&o.LatencyLeast, Duration(50*time.Millisecond))
	def(&o.MinRequests, 20)
	def(&o.Window, Duration(10*time.Second))
	def(&o.Ejection, Duration(30*time.Second))
	def(&o.MaxEjection, max(Duration(5*time.Minute), o.Ejection))
	defPtr(&o.MaxEjectedPercent, 30)
	if a := s.Limits.Adaptive; a != nil {
		def(&a.Min, 10)
		def(&a.Max, max(1000, a.Min))
		def(&a.Tolerate, 50)
		def(&a.Probe, Duration(time.Minute))
	}
	for i := range s.Limits.Rates {
		r := &s.Limits.Rates[i]
		def(&r.Key, "client")
		def(&r.Per, Duration(time.Second))
		def(&r.Burst, r.Requests)
		def(&r.Scope, ScopeGateway)
		def(&r.V4Prefix, 32)
		def(&r.V6Prefix, 64)
	}
}

func defPtr[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}
