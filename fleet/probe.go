package fleet

import (
	"net/netip"
	"time"
)

// GatewayHost is the reserved host by which layer 4 asks a gateway about
// itself: GET /health and GET /ready at any VIP and port of an http or https
// service. Under every other host these paths belong to the service. At an
// https port the name is also accepted as the TLS server name.
const GatewayHost = "gateway.meridian.internal"

// CookiesHeader is in a gateway's answers to layer 4 while it makes connections
// of the SYN cookies of the region's balancers: its value is CookiesTaken.
const (
	CookiesHeader = "Meridian-Syn-Cookies"
	CookiesTaken  = "taken"
)

// Probe is one check to make: what the synthetic prober, the gateway's and
// layer 4's health checks ask of the rooms under probe. It is complete: the
// rooms that run it add nothing of their own.
type Probe struct {
	Check       string         // rtt (TCP connect), tcp, http, https, grpc, grpcs, dns or udp; also the name in the Observation
	Address     netip.AddrPort // where to connect
	Host        string         // http, https, grpc, grpcs: Host header and TLS server name
	TLSName     string         // https, grpcs: TLS server name, where it is not Host
	Path        string         // http, https; grpc, grpcs: the name whose health is asked for
	Expect      Expect         // http, https; udp: Body alone
	CA          []byte         // https, grpcs: authorities in PEM; empty for the system's
	Certificate []byte         // https, grpcs: chain and key in PEM to show; empty for none
	Insecure    bool           // https, grpcs: accept any certificate
	Name        Name           // dns: the name asked; its SOA is asked where Want is empty
	Want        []netip.Addr   // dns: the answer must hold at least one of these
	Send        string         // udp: the datagram
	Timeout     time.Duration  // more than 0
}

// ProbeResult is what came of one Probe.
type ProbeResult struct {
	OK      bool
	Latency time.Duration // to the end of the check
	Cause   Cause         // why it failed
	Detail  string        // one line for people
	Expiry  time.Time     // https, grpcs: when the first certificate of the chain expires
}

// Observation turns a result into the fact about a target.
func (r ProbeResult) Observation(t Target, vantage, check string, now time.Time) Observation {
	return Observation{Target: t, Vantage: vantage, Check: check, Time: now,
		OK: r.OK, Latency: r.Latency, Cause: r.Cause, Detail: r.Detail}
}
