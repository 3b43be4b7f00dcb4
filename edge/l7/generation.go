package l7

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"meridian/edge/l7/balance"
	"meridian/edge/l7/filter"
	"meridian/edge/l7/route"
	"meridian/fleet"
)

// generation is all that a request needs to know of one World. It is
// immutable, but for the endpoints' live parts and the budgets, which it
// shares with the generations before and after it.
type generation struct {
	world    *fleet.World
	table    *route.Table
	tls      *secure
	services []*service      // by index in Spec.Services; nil where the gateway has no part in it
	proxies  *filter.Proxies // whose word about clients is believed; nil: nobody's
	tells    bool            // endpoints are told by Forwarded too
	paused   bool            // the operator drains this node
	drain    time.Duration
	tracing  *tracing            // nil: none
	nodes    map[netip.Addr]bool // whose connections are taken whatever happens
	altSvc   map[uint16][]byte   // by port; where HTTP/3 is served
}

// service is one http or https service, or a tcp or udp one with forwarding proxy.
type service struct {
	spec   *fleet.Service
	pools  []*pool // by index in the Spec
	retry  *retryRules
	budget *budget
	stats  *serviceStats

	rates    []rate
	hashOn   fleet.KeyKind
	hashName string      // of the header or cookie
	ways     []*way      // by index in the service's Routes
	set      *filter.Set // of requests without a route
	stale    *staleStore // nil: none
}

// pool is one group of endpoints, those of this region.
type pool struct {
	id        string
	tls       *fleet.PoolTLS // nil: plain
	h2        bool           // its endpoints speak HTTP/2
	endpoints []*endpoint    // by index in the balancer
	balancer  *balance.Balancer
	stats     *poolStats
	guard
	next  map[uint16][]nextRegion // by port; those of other regions
	keeps map[*vital]bool         // those that draining leaves in place as well
}

// endpoint is one endpoint as one generation uses it.
type endpoint struct {
	address  string // ADDRESS:PORT
	region   string // whose gateway it is; "": it is none
	weight   int
	vital    *vital
	upstream *upstream // nil: of a tcp service
}

// live says whether an endpoint of any service is up.
func (gen *generation) live() bool {
	services := 0
	for _, s := range gen.services {
		if s == nil || !checked(s.spec) {
			continue
		}
		services++
		for _, p := range s.pools {
			for _, e := range p.endpoints {
				if e.vital.State() == fleet.Up {
					return true
				}
			}
		}
	}
	return services == 0
}

// idle is how long a client's connection at that port may stay without a
// request: the longest that any of its services allows.
func (gen *generation) idle(port uint16) time.Duration {
	var d time.Duration
	for _, s := range gen.services {
		if s != nil && s.spec.Protocol.Gateway() && (slices.Contains(s.spec.Ports, port) || s.spec.Twin() == port) {
			d = max(d, s.spec.Timeouts.Idle.D())
		}
	}
	return d
}

// stream gives the tcp service of a port for a server name, nil where there is
// none.
func (gen *generation) stream(port uint16, name string) *service {
	if i, ok := gen.table.Stream(port, name); ok {
		return gen.services[i]
	}
	return nil
}

// datagrams gives the udp service of a port, nil where there is none.
func (gen *generation) datagrams(port uint16) *service {
	if i, ok := gen.table.Datagrams(port); ok {
		return gen.services[i]
	}
	return nil
}

// builder compiles a generation. What endpoints of the old one may be used
// again is taken from the Gateway; nothing there is changed.
type builder struct {
	g         *Gateway
	world     *fleet.World
	vitals    map[fleet.Target]*vital
	upstreams map[upstreamKey]*upstream
	quotas    map[uint64]*quota
}

func (b *builder) generation() (*generation, error) {
	spec := b.world.Snapshot.Spec
	table, err := route.Compile(spec)
	if err != nil {
		return nil, err
	}
	var had *secure
	if old := b.g.gen.Load(); old != nil {
		had = old.tls
	}
	handshakes, err := b.g.secure(b.world, had)
	if err != nil {
		return nil, err
	}
	gen := &generation{world: b.world, table: table, tls: handshakes, services: make([]*service, len(spec.Services)), nodes: nodesOf(spec), tells: spec.Gateway.Forwarded, altSvc: map[uint16][]byte{}}
	if t := spec.Gateway.Tracing; t != nil {
		gen.tracing = &tracing{t}
	}
	if len(spec.Gateway.TrustedProxies) > 0 {
		gen.proxies = filter.NewProxies(&spec.Gateway)
	}
	if n := b.world.Snapshot.Node(b.g.cfg.Node); n != nil {
		gen.paused = n.State != fleet.Active
	}
	for i := range spec.Services {
		if s := &spec.Services[i]; s.Gateway() {
			if gen.services[i], err = b.service(s, gen, i); err != nil {
				return nil, fmt.Errorf("service %q: %w", s.Service, err)
			}
			gen.drain = max(gen.drain, s.Timeouts.Drain.D())
		}
	}
	gen.setAltSvc(gen.packetPorts(b.g.cfg.HTTP3 != nil))
	return gen, nil
}

func (b *builder) service(s *fleet.Service, gen *generation, index int) (*service, error) {
	out := &service{spec: s, retry: newRetryRules(s.Retries.RetryOn, *s.Retries.Attempts, s.Retries.PerTryTimeout.D()), stats: b.g.metrics.service(s.Service)}
	var err error
	if out.hashOn, out.hashName, err = s.Balancing.HashOn.Parse(); err != nil {
		return nil, fmt.Errorf("hash_on: %w", err)
	}
	if out.rates, err = b.rates(s); err != nil {
		return nil, fmt.Errorf("rates: %w", err)
	}
	out.budget = newBudget(*s.Retries.BudgetPercent, out.stats.classes.total())
	if had := b.g.gen.Load().service(s.Service); had != nil && had.budget.percent == out.budget.percent {
		out.budget = had.budget
	}
	for i := range s.Pools {
		p, err := b.pool(s, &s.Pools[i])
		if err != nil {
			return nil, fmt.Errorf("pool %q: %w", s.Pools[i].ID, err)
		}
		out.pools = append(out.pools, p)
	}
	return out, b.ways(s, out, gen, index)
}

// service finds a service by name, nil where there is none.
func (gen *generation) service(name string) *service {
	if gen == nil {
		return nil
	}
	for _, s := range gen.services {
		if s != nil && s.spec.Service == name {
			return s
		}
	}
	return nil
}

func (b *builder) pool(s *fleet.Service, p *fleet.Pool) (*pool, error) {
	out := &pool{id: p.ID, tls: p.TLS, h2: p.Protocol == fleet.PoolH2, stats: b.poolStats(s.Service, p.ID), keeps: map[*vital]bool{}}
	if out.h2 && b.g.cfg.Mux == nil {
		return nil, errNoMux
	}
	trust, err := b.trust(p)
	if err != nil {
		return nil, err
	}
	circuit := b.circuit(s.Service, p.ID)
	out.next = b.regions(s, p, s.Timeouts.Connect.D())
	var members []balance.Member
	for _, e := range inRegion(p.Endpoints, b.g.cfg.Region) {
		target := b.g.target(s, p, e.Address)
		if e.State == fleet.Disabled {
			continue
		}
		vital := b.vital(target)
		out.keeps[vital] = true
		if e.State == fleet.Draining && s.Balancing.Cookie == nil {
			continue // checked, so that the operator sees it, but given nothing new
		}
		key := upstreamKey{target: target, tls: p.TLS != nil, trust: trust.id, connect: s.Timeouts.Connect.D(), proxy: proxyVersion(s), h2: p.Protocol == fleet.PoolH2}
		at := &endpoint{address: target.Endpoint, weight: e.Weight, vital: vital}
		if s.Protocol.Gateway() {
			at.upstream = b.upstream(key, trust, connGates{circuit, &vital.circuit})
		}
		out.endpoints = append(out.endpoints, at)
		members = append(members, balance.Member{Name: target.Endpoint, Weight: e.Weight, Zone: e.Zone, Priority: e.Priority, Leaving: e.State == fleet.Draining, Live: &vital.Live})
	}
	out.guard = b.guard(s, p.ID, circuit, members)
	out.balancer, err = balance.New(balance.Of(s, b.world.Snapshot, b.g.cfg.Node), members)
	return out, err
}

// inRegion lists the endpoints that gateways of the region use, each address
// once; an entry for the region goes before one for all regions.
func inRegion(list []fleet.Endpoint, region string) []fleet.Endpoint {
	var out []fleet.Endpoint
	for _, e := range list {
		if e.Region != "" && e.Region != region {
			continue
		}
		i := slices.IndexFunc(out, func(o fleet.Endpoint) bool { return o.Address == e.Address })
		switch {
		case i < 0:
			out = append(out, e)
		case out[i].Region == "":
			out[i] = e
		}
	}
	return out
}

func (g *Gateway) target(s *fleet.Service, p *fleet.Pool, at netip.AddrPort) fleet.Target {
	return fleet.Target{Kind: fleet.TargetEndpoint, Region: g.cfg.Region, Service: s.Service,
		Pool: p.ID, Endpoint: at.String()}
}

func (b *builder) vital(t fleet.Target) *vital {
	v := cmp.Or(b.vitals[t], b.g.vitals[t])
	if v == nil {
		v = &vital{suspect: make(chan struct{}, 1)}
	}
	b.vitals[t] = v
	return v
}

func (b *builder) upstream(key upstreamKey, trust trust, gates connGates) *upstream {
	u := cmp.Or(b.upstreams[key], b.g.upstreams[key])
	if u == nil {
		u = newUpstream(b.g, key, trust, gates)
	}
	b.upstreams[key] = u
	return u
}

// proxyVersion is the version of the PROXY protocol that tells endpoints of
// clients, 0 for none.
func proxyVersion(s *fleet.Service) byte {
	switch s.ClientIP {
	case fleet.ClientIPProxyV1:
		return 1
	case fleet.ClientIPProxyV2:
		return 2
	}
	return 0
}

// upstreamKey is all that makes two upstreams the same one.
type upstreamKey struct {
	target  fleet.Target
	tls     bool
	trust   [sha256.Size]byte
	connect time.Duration
	proxy   byte
	h2      bool
}

// addresses lists what to bind: the VIPs of the region and the anycast ones,
// or those that cfg names.
func (g *Gateway) addresses(w *fleet.World) []netip.Addr {
	if len(g.cfg.Addresses) > 0 {
		return g.cfg.Addresses
	}
	out := w.Snapshot.Spec.Anycast.All()
	if r := w.Snapshot.Region(g.cfg.Region); r != nil {
		out = append(out, r.VIPs.All()...)
	}
	return out
}
