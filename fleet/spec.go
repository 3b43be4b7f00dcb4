package fleet

import "net/netip"

// Spec is what the operator writes: the whole intent for one fleet. The json
// tag is the key in YAML and JSON; the doc tag is its entry in the JSON Schema
// and in the configuration reference, which are generated from these types.
type Spec struct {
	Fleet        string        `json:"fleet" doc:"Name of the fleet, to show to people. Lower-case letters, digits and hyphens." default:"meridian"`
	Regions      []Region      `json:"regions,omitempty" doc:"Sites that serve users. At least one."`
	Anycast      VIPs          `json:"anycast" doc:"Anycast VIPs: addresses that every region announces."`
	Nodes        []Node        `json:"nodes,omitempty" doc:"Machines of the fleet."`
	Services     []Service     `json:"services,omitempty" doc:"What users reach."`
	SubnetMaps   []SubnetMap   `json:"subnet_maps,omitempty" doc:"Lists of client networks that services share, for steering policy subnet."`
	Zones        []Zone        `json:"zones,omitempty" doc:"DNS zones that the fleet is authoritative for."`
	Certificates []Certificate `json:"certificates,omitempty" doc:"TLS certificates: those of the gateways, chosen by server name, and those that dns.tls, quic, https and transfers name."`
	ECH          *ECH          `json:"ech,omitempty" doc:"Encrypted Client Hello: the gateways of https services hold its keys, and the HTTPS records of their steered names say them." default:"off"`
	Defence      *Defence      `json:"defence,omitempty" doc:"What layer 4 does against floods, in the order of the keys. It is about packets for VIPs; what is for the node itself passes." default:"nothing"`
	Probes       Probes        `json:"probes" doc:"How every region's prober watches the others."`
	Layer4       Layer4        `json:"layer4" doc:"How layer 4 keeps flows."`
	Gateway      Gateway       `json:"gateway,omitzero" doc:"What holds for all gateways."`
	DNS          DNS           `json:"dns" doc:"How the nameservers listen and answer."`
}

// Region is a site with a location, VIPs and capacity.
type Region struct {
	ID       string     `json:"id" doc:"Short unique id, used everywhere the region is named. Lower-case letters, digits and hyphens."`
	Name     string     `json:"name,omitempty" doc:"Name to show to people." default:"the id"`
	Location Location   `json:"location" doc:"Where the region is."`
	VIPs     VIPs       `json:"vips" doc:"Regional VIPs: this region's own addresses."`
	Capacity int        `json:"capacity,omitempty" doc:"Relative capacity, in any one unit for the whole fleet (1 to 1000000000); shown on the dashboard, and what steering.demand is held against." default:"100"`
	State    AdminState `json:"state,omitempty" doc:"active; draining and disabled: steering sends no new clients there, as long as another region is left." default:"active"`
	BGP      BGP        `json:"bgp" doc:"How the region's nodes announce VIPs."`
}

// Location is a place on the earth.
type Location struct {
	Latitude  float64 `json:"latitude" doc:"Degrees north, -90 to 90."`
	Longitude float64 `json:"longitude" doc:"Degrees east, -180 to 180."`
	City      string  `json:"city,omitempty" doc:"City, to show to people."`
	Country   string  `json:"country,omitempty" doc:"ISO 3166-1 two-letter country code."`
	Continent string  `json:"continent,omitempty" doc:"AF, AN, AS, EU, NA, OC or SA."`
}

// VIPs are virtual addresses by family.
type VIPs struct {
	V4 []netip.Addr `json:"v4,omitempty" doc:"IPv4 addresses."`
	V6 []netip.Addr `json:"v6,omitempty" doc:"IPv6 addresses."`

	Prefixes []netip.Prefix `json:"prefixes,omitempty" doc:"Whole networks of VIPs, as 192.0.2.0/28 or 2001:db8:1::/64, for tcp and udp services: layer 4 takes packets for every address of them, BGP announces them as they are, and DNS does not answer with them."`
}

// All lists the IPv4 addresses, then the IPv6 ones, without the prefixes.
func (v VIPs) All() []netip.Addr { return append(append([]netip.Addr{}, v.V4...), v.V6...) }

// Networks lists what is announced: each address as a network of its own, then
// the prefixes.
func (v VIPs) Networks() []netip.Prefix {
	var out []netip.Prefix
	for _, a := range v.All() {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return append(out, v.Prefixes...)
}

// BGP is how the nodes of a region announce its VIPs.
type BGP struct {
	ASN         uint32     `json:"asn,omitempty" doc:"The region's own AS number (1 to 4294967294). Without it the region announces nothing."`
	Neighbors   []Neighbor `json:"neighbors,omitempty" doc:"Routers that each node with the role bgp peers with."`
	Communities []string   `json:"communities,omitempty" doc:"Communities on every announcement, as ASN:VALUE."`
	HoldTime    Duration   `json:"hold_time,omitempty" doc:"BGP hold time (3s to 65535s)." default:"9s"`
	// GracefulRestart is the restart time of RFC 4724; 0: neighbors are not asked.
	GracefulRestart Duration `json:"graceful_restart,omitempty" doc:"How long neighbors keep the routes of a node whose session ends without a word (RFC 4724), as in an upgrade or a crash: 5s to 1h. Without it they take them back at once."`
}

// Neighbor is one BGP router.
type Neighbor struct {
	Address  netip.Addr `json:"address" doc:"The router's address."`
	ASN      uint32     `json:"asn" doc:"The router's AS number; equal to the region's own for iBGP."`
	Port     uint16     `json:"port,omitempty" doc:"TCP port of the router." default:"179"`
	Password Secret     `json:"password,omitempty" doc:"TCP MD5 password, as file:PATH (absolute, on each node) or env:NAME."`
	Nodes    []string   `json:"nodes,omitempty" doc:"Only these nodes peer with it." default:"all of the region's"`
}

// Node is one machine in a region.
type Node struct {
	Name      string     `json:"name" doc:"Unique name, as given to --node."`
	Region    string     `json:"region" doc:"Id of its region."`
	Roles     []Role     `json:"roles" doc:"What it does. gslb: dns, control, probe, dashboard; edge: l4, l7, bgp."`
	Addresses NodeAddrs  `json:"addresses" doc:"Its own addresses, used for tunnels, gossip and checks."`
	Weight    int        `json:"weight,omitempty" doc:"Share of the region's traffic relative to its peers (1 to 1000)." default:"100"`
	State     AdminState `json:"state,omitempty" doc:"active, draining or disabled." default:"active"`
	Zone      string     `json:"zone,omitempty" doc:"Part of the region that it stands in, as a rack or a data centre: a gateway prefers endpoints of its own zone." default:"none"`

	QUICServerID uint32 `json:"quic_server_id,omitempty" doc:"What stands for a gateway in the QUIC connection ids that it gives out (1 to 4294967295), other than any other gateway's." default:"made from the name"`
}

// NodeAddrs are a node's own addresses, one by family.
type NodeAddrs struct {
	V4 netip.Addr `json:"v4,omitzero" doc:"IPv4 address."`
	V6 netip.Addr `json:"v6,omitzero" doc:"IPv6 address."`
}

// Has says whether the node has that role.
func (n *Node) Has(r Role) bool {
	for _, have := range n.Roles {
		if have == r {
			return true
		}
	}
	return false
}

// Service is what users reach at the VIPs.
type Service struct {
	Service       string        `json:"service" doc:"Unique name of the service. Lower-case letters, digits and hyphens."`
	Protocol      Protocol      `json:"protocol" doc:"http and https pass the gateways; tcp and udp go from layer 4 straight to endpoints, unless forwarding is proxy."`
	Ports         []uint16      `json:"ports" doc:"Ports at the VIPs."`
	AllPorts      bool          `json:"all_ports,omitempty" doc:"A tcp or udp service gets all ports of the VIPs that no other service has. ports then names one, which checks and probes ask." default:"false"`
	HTTP3         bool          `json:"http3,omitempty" doc:"Clients get an https service by HTTP/3 too: gateways serve it at the same ports of UDP and tell clients so (Alt-Svc), and layer 4 forwards it by QUIC's connection ids: a connection stays with its gateway whatever address and port its client moves to." default:"false"`
	Hosts         []string      `json:"hosts,omitempty" doc:"Host names of an http or https service: exact, or *.DOMAIN. Of a tcp service with forwarding proxy: the server names of TLS connections that are passed on to it undecrypted; such services may share a port, and one without hosts gets what is left, clients without a server name and without TLS among it." default:"any host"`
	RoutingPolicy RoutingPolicy `json:"routing_policy,omitempty" doc:"How a gateway picks an endpoint." default:"round_robin"`
	Healthcheck   Healthcheck   `json:"healthcheck" doc:"How endpoints are checked."`
	Probe         ServiceProbe  `json:"probe,omitzero" doc:"What probers ask the service at the VIPs."`
	Balancing     Balancing     `json:"balancing,omitzero" doc:"How gateways share requests among the endpoints of a pool."`
	Outlier       Outlier       `json:"outlier,omitzero" doc:"When gateways leave an endpoint out because of how it has answered."`
	Limits        Limits        `json:"limits,omitzero" doc:"How much gateways let through."`
	ServerTiming  bool          `json:"server_timing,omitempty" doc:"Answers of an http or https service tell every client how long the gateway and the endpoint took (Server-Timing)." default:"false"`
	Retries       Retries       `json:"retries" doc:"How failed tries are repeated."`
	Timeouts      Timeouts      `json:"timeouts" doc:"Limits on time."`
	Steering      Steering      `json:"steering" doc:"How DNS picks the region for a client."`
	Routes        []Route       `json:"routes,omitempty" doc:"What is done with which requests. Of those that match, the host that says more wins, then the path: exact, regular expressions in order, the longest prefix." default:"everything to the first pool"`
	Filters       Filters       `json:"filters,omitzero" doc:"What gateways do with requests and answers on their way."`
	RedirectHTTP  *bool         `json:"redirect_http,omitempty" doc:"An https service at port 443: gateways answer requests for its hosts at port 80 with a redirect to https, unless an http service has the host there." default:"true, unless another service than http has port 80"`
	Pools         []Pool        `json:"pools" doc:"Groups of interchangeable endpoints. At least one."`
	Priority      Priority      `json:"priority,omitempty" doc:"Whose requests an overloaded gateway refuses first: low, then normal; never high." default:"normal"`
	Forwarding    Forwarding    `json:"forwarding,omitempty" doc:"How layer 4 forwards: ipip (in a tunnel, IPv4 or IPv6 in either), gue (the same with UDP between, port 6080, so that routers spread the flows) l2_dsr (to the MAC address, on one link), or for a tcp or udp service proxy: to a gateway, which ends the connection and makes one of its own to an endpoint of the first pool, at any port; of udp, what comes from one address and port is taken for a connection." default:"ipip"`
	Affinity      Affinity      `json:"affinity,omitzero" doc:"What of a client layer 4 chooses a gateway or endpoint by."`
	Ring          RingSize      `json:"ring,omitempty" doc:"Slots of the service's Maglev ring: normal (65537) or large (655373), for more than 600 or so gateways or endpoints, or weights that differ by more than 1 to 100." default:"normal"`
	ClientAuth    *ClientAuth   `json:"client_auth,omitempty" doc:"Ask clients of an https service for certificates (mutual TLS), by the server name that they ask for." default:"no certificate is asked for"`
	ClientIP      ClientIP      `json:"client_ip,omitempty" doc:"How an endpoint learns the client's address: preserved (packets keep it); header (X-Forwarded-For); proxy_v1 or proxy_v2 (the PROXY protocol, which the endpoint has to expect: for http and https, beside the header, and each client then has connections of its own to endpoints; or with forwarding proxy, tcp); with forwarding proxy also transparent (the gateway connects from the client's address, and needs routes for that: docs/resilience.md) or none." default:"header for http and https, none with forwarding proxy, else preserved"`
}

// Gateway says whether clients' connections end at the gateways.
func (s *Service) Gateway() bool { return s.Protocol.Gateway() || s.Forwarding == Proxy }

// Affinity is what of a client layer 4 chooses by.
type Affinity struct {
	By       AffinityBy `json:"by,omitempty" doc:"flow (address and port), or source: all connections of a client go to one gateway or endpoint." default:"flow"`
	V4Prefix int        `json:"v4_prefix,omitempty" doc:"With source: clients whose addresses begin with so many same bits count as one, IPv4 (8 to 32)." default:"32"`
	V6Prefix int        `json:"v6_prefix,omitempty" doc:"Likewise, IPv6 (16 to 128). A household has 56 or 64." default:"128"`
}

// Layer4 is how layer 4 keeps flows.
type Layer4 struct {
	FlowTimeout   FlowTimeout `json:"flow_timeout" doc:"When flows without packets are forgotten, where layer 4 keeps them."`
	FlowRetire    Duration    `json:"flow_retire,omitempty" doc:"How long flows of before a change of gateways or endpoints are reckoned with (1m to 720h): so long, gateways pass packets of connections that they do not have on to former owners." default:"24h0m0s"`
	LatencyOf     int         `json:"latency_of,omitempty" doc:"Gateways measure of one connection in so many (1 to 1000000) how long requests are on their way from the device to them: meridian_l7_arrival_seconds." default:"none"`
	StrangerLimit int         `json:"stranger_limit,omitempty" doc:"Packets a second, on each node, that one port of one VIP address gets under attack (defence.syn_cookies) of connections that layer 4 does not know, beside four times what is usual (1000 to 100000000): as many as its gateways bear of packets that they answer with resets." default:"100000"`
	Ramp          Duration    `json:"ramp,omitempty" doc:"A gateway or endpoint that joins, or comes back, gets its share of new flows over this time, in five steps; 0 (up to 1h) at once." default:"0s"`
}

// Gateway is what holds for all gateways.
type Gateway struct {
	Proxies []netip.Prefix `json:"proxies,omitempty" doc:"Networks of balancers before the gateways: what one of their connections begins with is taken for the PROXY protocol (version 1 or 2) where it looks so, and its word on the client's address is believed. From all others it is refused." default:"none"`

	TrustedProxies []netip.Prefix `json:"trusted_proxies,omitempty" doc:"Networks of proxies in front of the gateways, whose word about clients is believed: the rightmost address that is not among them is the client's." default:"none"`
	TrustedField   TrustedField   `json:"trusted_field,omitempty" doc:"The field that those proxies speak by: x_forwarded_for, or forwarded (RFC 7239)." default:"x_forwarded_for"`
	Forwarded      bool           `json:"forwarded,omitempty" doc:"Tell endpoints by Forwarded (RFC 7239) too." default:"false"`
	MaxConnections int            `json:"max_connections,omitempty" doc:"Clients' connections that each gateway is to have at most (0 to 10000000); near it the gateway sheds load, as near its limits of memory and files: docs/resilience.md." default:"as many as files allow"`
	Tracing        *Tracing       `json:"tracing,omitempty" doc:"How gateways take part in traces, and where they export spans and the access log." default:"traceparent passes as it came"`
}

// Tracing is how gateways take part in traces (W3C Trace Context), and where
// spans and records of requests go, by OTLP over gRPC.
type Tracing struct {
	Endpoint string     `json:"endpoint,omitempty" doc:"HOST:PORT of the collector that takes OTLP over gRPC." default:"none: traces are passed on, and nothing is exported"`
	TLS      bool       `json:"tls,omitempty" doc:"Speak TLS with the collector, verified by the system's authorities." default:"false"`
	Sample   int        `json:"sample,omitempty" doc:"Of the traces that begin at a gateway, one in so many is sampled (1 to 1000000): its spans are exported, and endpoints are told so. Those that a client began, who is trusted, go on as they are." default:"none"`
	Trust    TraceTrust `json:"trust,omitempty" doc:"Whose traceparent is continued, with its word on sampling: none, proxies (who connects from one of gateway.proxies or gateway.trusted_proxies), or all. All others' are replaced." default:"proxies"`
	Logs     int        `json:"logs,omitempty" doc:"Export a record of the access log for each request in so many (1 to 1000000)." default:"none"`
}

// FlowTimeout is when flows without packets are forgotten.
type FlowTimeout struct {
	TCP Duration `json:"tcp,omitempty" doc:"TCP (10s to 168h)." default:"1h0m0s"`
	UDP Duration `json:"udp,omitempty" doc:"UDP (5s to 168h)." default:"1m0s"`
}

// ServiceProbe is what every region's probers ask a service at its VIPs, after
// a TCP handshake: it decides where DNS sends clients.
type ServiceProbe struct {
	Type   ProbeType `json:"type,omitempty" doc:"tcp (a handshake and no more), http, https, grpc or grpcs (health checking of gRPC; over TLS). A udp service has none." default:"http or https for such services, else tcp"`
	Path   string    `json:"path,omitempty" doc:"Path of an http or https probe." default:"probes.path"`
	Name   string    `json:"name,omitempty" doc:"Name whose health a grpc or grpcs probe asks for." default:"the server as a whole"`
	Host   string    `json:"host,omitempty" doc:"Host header and TLS server name." default:"the service's first host"`
	Expect Expect    `json:"expect,omitzero" doc:"What a healthy answer to an http or https probe is."`
}

// Kind is the probe's type for a service of that protocol.
func (p *ServiceProbe) Kind(of Protocol) ProbeType {
	switch {
	case p.Type != "":
		return p.Type
	case of.Gateway():
		return ProbeType(of)
	}
	return ProbeTCP
}

// Healthcheck is how endpoints of a service are checked.
type Healthcheck struct {
	Type      CheckType `json:"type,omitempty" doc:"http, https, tcp or grpc (grpc.health.v1, over TLS to pools with tls; for an http or https service, or a tcp one with forwarding proxy); for a udp service also dns (a query for the SOA record of name, answered without an error) or udp (what send says, answered by anything, or by what expect.body says). A udp service without type or port is not checked." default:"tcp where the first pool has protocol h2, https where it uses TLS, http for other http and https services, else tcp"`
	Path      string    `json:"path,omitempty" doc:"Path of an http or https check; of a grpc one the name of the service whose health is asked for, or nothing for the server's." default:"/health; grpc: nothing"`
	ReadyPath string    `json:"ready_path,omitempty" doc:"Second path: while it fails the endpoint drains (keeps its connections, takes no new ones)." default:"none"`
	Host      string    `json:"host,omitempty" doc:"Host header (of a grpc check :authority) and TLS server name." default:"the service's first host"`
	Port      uint16    `json:"port,omitempty" doc:"Port to check. For a tcp or udp service layer 4 then checks it at the endpoint's own address; without a port it checks through the VIP, as clients' packets come." default:"the endpoint's"`
	Name      string    `json:"name,omitempty" doc:"Name that a dns check asks for: one for which the endpoints have an answer."`
	Send      string    `json:"send,omitempty" doc:"Text of the datagram of a udp check."`
	Interval  Duration  `json:"interval,omitempty" doc:"Time between checks (100ms to 1h)." default:"5s"`
	Timeout   Duration  `json:"timeout,omitempty" doc:"A check without an answer by then has failed; at most the interval." default:"2s"`
	Fall      int       `json:"fall,omitempty" doc:"Failures in a row that make it down (1 to 100)." default:"3"`
	Rise      int       `json:"rise,omitempty" doc:"Successes in a row that make it up (1 to 100)." default:"2"`
	Expect    Expect    `json:"expect" doc:"What a healthy answer is. Of a grpc check it is SERVING, and nothing else can be asked."`
}

// Expect is what a healthy answer to a check is.
type Expect struct {
	Status []string `json:"status,omitempty" doc:"Status codes: single (204) or a class (2xx)." default:"[2xx]"`
	Body   string   `json:"body,omitempty" doc:"Text that the first 5120 octets of the body must hold." default:"none"`
}

// Retries is how failed tries are repeated.
type Retries struct {
	Attempts      *int     `json:"attempts,omitempty" doc:"Further tries after the first (0 to 10)." default:"2"`
	PerTryTimeout Duration `json:"per_try_timeout,omitempty" doc:"Limit for one try up to the response header; 0 for none but the request's." default:"0s"`
	BudgetPercent *int     `json:"budget_percent,omitempty" doc:"Retries may add this share of requests, in percent (0 to 100), plus 10 a second." default:"20"`
	NextRegion    *bool    `json:"next_region,omitempty" doc:"A request of an http or https service that no endpoint of this region could answer, and that may be repeated, goes to the next region's gateways, once, within the same deadline and budget." default:"true"`
	RetryOn       []string `json:"retry_on,omitempty" doc:"connect_failure, reset, timeout, 502, 503, 504, unavailable (gRPC: an answer that is nothing but the status UNAVAILABLE, to any call). Else only GET, HEAD, OPTIONS, TRACE, PUT and DELETE, or with an Idempotency-Key, are tried again once sent." default:"[connect_failure, reset, 503]"`
}

// Timeouts are limits on time.
type Timeouts struct {
	Connect Duration  `json:"connect,omitempty" doc:"To connect to an endpoint." default:"1s"`
	Request *Duration `json:"request,omitempty" doc:"From the request's header to the response's end; 0 for no limit." default:"30s"`
	Idle    Duration  `json:"idle,omitempty" doc:"A client's connection without a request; with forwarding proxy, a udp client without a datagram (100ms to 1h)." default:"75s, udp 1m"`
	Drain   Duration  `json:"drain,omitempty" doc:"Requests in flight may take this long when the node stops." default:"20s"`
}

// Pool is a group of interchangeable endpoints.
type Pool struct {
	ID        string       `json:"id" doc:"Id, unique in the service."`
	TLS       *PoolTLS     `json:"tls,omitempty" doc:"Speak TLS to the endpoints." default:"plain"`
	Protocol  PoolProtocol `json:"protocol,omitempty" doc:"What a gateway speaks to the endpoints: http1 (HTTP/1.1) or h2 (HTTP/2, which gRPC needs; without tls it is spoken at once, as h2c with prior knowledge)." default:"http1"`
	Endpoints []Endpoint   `json:"endpoints" doc:"The endpoints."`
}

// PoolTLS is how the gateway verifies TLS endpoints.
type PoolTLS struct {
	ServerName string `json:"server_name,omitempty" doc:"Name to ask for and verify." default:"the request's host"`
	CA         string `json:"ca,omitempty" doc:"Certificate authorities to trust: file:PATH or PEM text." default:"the system's"`
	Insecure   bool   `json:"insecure,omitempty" doc:"Accept any certificate. For trials."`

	Certificate string `json:"certificate,omitempty" doc:"Id of the certificate that the gateways show to the endpoints (mutual TLS)." default:"none"`
}

// Endpoint is one address:port behind a pool.
type Endpoint struct {
	Address netip.AddrPort `json:"address" doc:"ADDRESS:PORT; IPv6 in brackets."`
	Region  string         `json:"region,omitempty" doc:"Only gateways of this region use it." default:"all regions"`
	Weight  int            `json:"weight,omitempty" doc:"Share relative to its peers (1 to 1000)." default:"100"`
	State   AdminState     `json:"state,omitempty" doc:"active, draining or disabled." default:"active"`

	Zone     string `json:"zone,omitempty" doc:"Part of the region that it stands in: gateways of that zone prefer it." default:"none"`
	Priority int    `json:"priority,omitempty" doc:"0 to 15. Endpoints get requests that those of lower numbers cannot bear (balancing.overprovision). A pool has at most 16 different pairs of zone and priority." default:"0"`
}

// Certificate is a TLS certificate of the gateways, from files or issued.
type Certificate struct {
	ID   string `json:"id" doc:"Unique id."`
	Cert string `json:"cert,omitempty" doc:"Certificate chain in PEM, leaf first: file:PATH, relative to the Spec."`
	Key  Secret `json:"key,omitempty" doc:"Private key in PEM: file:PATH (relative to the Spec) or env:NAME."`
	ACME *ACME  `json:"acme,omitempty" doc:"In place of cert and key: the control plane has certificates issued, and renews them."`
}

// Probes is how every region's prober watches the others.
type Probes struct {
	Interval     Duration `json:"interval,omitempty" doc:"Between full checks (DNS, TCP, HTTPS) of one target (100ms to 1h)." default:"1s"`
	FastInterval Duration `json:"fast_interval,omitempty" doc:"Between one-round-trip checks of one target (50ms to 1h)." default:"250ms"`
	Timeout      Duration `json:"timeout,omitempty" doc:"Limit of one check." default:"2s"`
	Fall         int      `json:"fall,omitempty" doc:"Failures in a row that make a target down (1 to 100)." default:"3"`
	Rise         int      `json:"rise,omitempty" doc:"Successes in a row that make it up (1 to 100)." default:"5"`
	Path         string   `json:"path,omitempty" doc:"Path of the HTTP checks of services that name none under probe." default:"/health"`
	CA           string   `json:"ca,omitempty" doc:"Certificate authorities that probers trust: file:PATH or PEM text." default:"the system's"`
}
