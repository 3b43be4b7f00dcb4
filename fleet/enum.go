package fleet

// An Enum is a word out of a fixed list; the decoder refuses any other.
type Enum interface{ Values() []string }

// Role is one part of a node's work.
type Role string

// Roles of the program gslb: dns, control, probe, dashboard. Of edge: l4, l7, bgp.
const (
	RoleDNS       Role = "dns"
	RoleControl   Role = "control"
	RoleProbe     Role = "probe"
	RoleDashboard Role = "dashboard"
	RoleL4        Role = "l4"
	RoleL7        Role = "l7"
	RoleBGP       Role = "bgp"
)

// Values lists the roles of both programs.
func (Role) Values() []string {
	return []string{"dns", "control", "probe", "dashboard", "l4", "l7", "bgp"}
}

// Protocol is what a Service speaks to its clients.
type Protocol string

// http and https pass through the gateways; tcp and udp go from layer 4
// straight to the endpoints.
const (
	HTTP  Protocol = "http"
	HTTPS Protocol = "https"
	TCP   Protocol = "tcp"
	UDP   Protocol = "udp"
)

// Values lists the protocols.
func (Protocol) Values() []string { return []string{"http", "https", "tcp", "udp"} }

// Gateway says whether the protocol is served by the layer-7 gateway.
func (p Protocol) Gateway() bool { return p == HTTP || p == HTTPS }

// PoolProtocol is what a gateway speaks to the endpoints of a Pool.
type PoolProtocol string

// HTTP/1.1 has a connection for each request under way; HTTP/2 has many
// requests on one.
const (
	PoolHTTP1 PoolProtocol = "http1"
	PoolH2    PoolProtocol = "h2"
)

// Values lists the protocols.
func (PoolProtocol) Values() []string { return []string{"http1", "h2"} }

// SteeringPolicy is how DNS picks regions.
type SteeringPolicy string

// The steering policies.
const (
	Geo       SteeringPolicy = "geo"
	Proximity SteeringPolicy = "proximity"
	Weighted  SteeringPolicy = "weighted"
	Failover  SteeringPolicy = "failover"
	Subnet    SteeringPolicy = "subnet"
	Latency   SteeringPolicy = "latency"
	All       SteeringPolicy = "all"
)

// Values lists the steering policies.
func (SteeringPolicy) Values() []string {
	return []string{"geo", "proximity", "weighted", "failover", "subnet", "latency", "all"}
}

// Rotate is the order of records within an answer.
type Rotate string

// The orders: best first, another record first in each answer, or by the
// client's network.
const (
	RotateNone   Rotate = "none"
	RotateQuery  Rotate = "query"
	RotateClient Rotate = "client"
)

// Values lists the orders.
func (Rotate) Values() []string { return []string{"none", "query", "client"} }

// RoutingPolicy is how a gateway picks an Endpoint.
type RoutingPolicy string

// The routing policies.
const (
	RoundRobin       RoutingPolicy = "round_robin"
	LeastConnections RoutingPolicy = "least_connections"
	ConsistentHash   RoutingPolicy = "consistent_hash"
	PeakEWMA         RoutingPolicy = "peak_ewma" // lower latency times load of two drawn at random
	Random           RoutingPolicy = "random"    // lower load of two drawn at random
)

// Values lists the routing policies.
func (RoutingPolicy) Values() []string {
	return []string{"round_robin", "least_connections", "consistent_hash", "peak_ewma", "random"}
}

// AnswerKind is the kind of VIP that a steered name answers with.
type AnswerKind string

// A regional answer is the chosen region's own VIP; an anycast answer is the
// VIP that every region announces.
const (
	Regional AnswerKind = "regional"
	Anycast  AnswerKind = "anycast"
)

// Values lists the kinds of answer.
func (AnswerKind) Values() []string { return []string{"regional", "anycast"} }

// AllDown is what a steered name answers when health leaves no region.
type AllDown string

// Fail open answers as if every region were healthy; fail closed answers
// with no address at all; fallback answers with regions named for the case.
const (
	FailOpen   AllDown = "fail_open"
	FailClosed AllDown = "fail_closed"
	Fallback   AllDown = "fallback"
)

// Values lists what to do when all regions are down.
func (AllDown) Values() []string { return []string{"fail_open", "fail_closed", "fallback"} }

// Forwarding is how layer 4 hands a packet to a gateway or endpoint.
type Forwarding string

// IPIP encapsulates (IPv4 or IPv6 outside and inside alike), GUE with UDP
// between; L2DSR rewrites the destination MAC address and needs both hosts on
// one link; Proxy has a gateway end the client's TCP connection and make one of
// its own to an endpoint.
const (
	IPIP  Forwarding = "ipip"
	GUE   Forwarding = "gue"
	L2DSR Forwarding = "l2_dsr"
	Proxy Forwarding = "proxy"
)

// Values lists the ways to forward.
func (Forwarding) Values() []string { return []string{"ipip", "gue", "l2_dsr", "proxy"} }

// Priority is how long an overloaded gateway holds on to a service.
type Priority string

// The priorities: requests of low ones are refused first, of high ones never.
const (
	PriorityLow    Priority = "low"
	PriorityNormal Priority = "normal"
	PriorityHigh   Priority = "high"
)

// Values lists the priorities.
func (Priority) Values() []string { return []string{"low", "normal", "high"} }

// AffinityBy is what of a client layer 4 chooses by.
type AffinityBy string

// By the whole flow, or by the client's address or network alone.
const (
	ByFlow   AffinityBy = "flow"
	BySource AffinityBy = "source"
)

// Values lists what may be chosen by.
func (AffinityBy) Values() []string { return []string{"flow", "source"} }

// RingSize is the size of a Maglev ring.
type RingSize string

// The sizes of a ring.
const (
	RingNormal RingSize = "normal"
	RingLarge  RingSize = "large"
)

// Values lists the sizes of a ring.
func (RingSize) Values() []string { return []string{"normal", "large"} }

// ClientIP is how an endpoint learns the client's address.
type ClientIP string

// Preserved leaves the packet's source as it is (layer 4); header sets
// X-Forwarded-For (layer 7); the versions of the PROXY protocol say it first on
// each connection (forwarding proxy); none does not tell.
const (
	ClientIPPreserved ClientIP = "preserved"
	ClientIPHeader    ClientIP = "header"
	ClientIPProxyV1   ClientIP = "proxy_v1"
	ClientIPProxyV2   ClientIP = "proxy_v2"
	ClientIPNone      ClientIP = "none"

	ClientIPTransparent ClientIP = "transparent" // the gateway connects from the client's address
)

// Values lists the ways to tell the client's address.
func (ClientIP) Values() []string {
	return []string{"preserved", "header", "proxy_v1", "proxy_v2", "none", "transparent"}
}

// TraceTrust is whose traces gateways continue.
type TraceTrust string

// TrustNone has every trace begin at a gateway; TrustProxies continues those of
// connections by gateway.proxies; TrustAll everybody's.
const (
	TrustNone    TraceTrust = "none"
	TrustProxies TraceTrust = "proxies"
	TrustAll     TraceTrust = "all"
)

// Values lists whom gateways may trust.
func (TraceTrust) Values() []string { return []string{"none", "proxies", "all"} }

// AdminState is what the operator wants of an Endpoint or Node.
type AdminState string

// Active takes new work, draining only finishes what it has, disabled is as
// if it were not there.
const (
	Active   AdminState = "active"
	Draining AdminState = "draining"
	Disabled AdminState = "disabled"
)

// Values lists the admin states.
func (AdminState) Values() []string { return []string{"active", "draining", "disabled"} }

// CheckType is the protocol of a health check.
type CheckType string

// The types of health check.
const (
	CheckHTTP  CheckType = "http"
	CheckHTTPS CheckType = "https"
	CheckTCP   CheckType = "tcp"
	CheckDNS   CheckType = "dns" // a query in one datagram
	CheckUDP   CheckType = "udp" // any datagram

	CheckGRPC CheckType = "grpc" // gRPC's health checking protocol; over TLS where the pool has it
)

// Values lists the check types.
func (CheckType) Values() []string { return []string{"http", "https", "tcp", "grpc", "dns", "udp"} }

// Web says whether the check is a request by HTTP.
func (t CheckType) Web() bool { return t == CheckHTTP || t == CheckHTTPS }

// Datagram says whether the check is a datagram and an answer to it.
func (t CheckType) Datagram() bool { return t == CheckDNS || t == CheckUDP }

// ProbeType is the protocol in which probers ask a service at its VIPs.
type ProbeType string

// The types of probe: a TCP handshake alone, HTTP, or gRPC's health checking
// protocol; those that end in s over TLS, with the certificate verified.
const (
	ProbeTCP   ProbeType = "tcp"
	ProbeHTTP  ProbeType = "http"
	ProbeHTTPS ProbeType = "https"
	ProbeGRPC  ProbeType = "grpc"
	ProbeGRPCS ProbeType = "grpcs"
)

// Values lists the probe types.
func (ProbeType) Values() []string { return []string{"tcp", "http", "https", "grpc", "grpcs"} }
