package fleet

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

var idForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

const idRule = "expected 1 to 63 lower-case letters, digits and hyphens"

// checker walks a complete Spec and notes what breaks fleet's own rules:
// ranges, uniqueness and references.
type checker struct {
	spec    *Spec
	errs    *Errors
	regions map[string]bool
	nodes   map[string]string // name to region
	vips    map[netip.Addr]string

	prefixes map[netip.Prefix]string
}

func (s *Spec) check(errs *Errors) {
	c := &checker{spec: s, errs: errs, regions: map[string]bool{}, nodes: map[string]string{},
		vips: map[netip.Addr]string{}, prefixes: map[netip.Prefix]string{}}
	if !idForm.MatchString(s.Fleet) {
		errs.Addf("fleet", "%q: %s", s.Fleet, idRule)
	}
	if len(s.Regions) == 0 {
		errs.Addf("regions", "expected at least one region")
	}
	for i := range s.Regions {
		c.region(&s.Regions[i], fmt.Sprintf("regions[%d]", i))
	}
	c.addresses(s.Anycast, "anycast")
	for i := range s.Nodes {
		c.node(&s.Nodes[i], fmt.Sprintf("nodes[%d]", i))
	}
	for i := range s.Regions {
		c.bgp(&s.Regions[i], fmt.Sprintf("regions[%d].bgp", i))
	}
	services := map[string]bool{}
	ports := map[string]string{}
	for i := range s.Services {
		svc, at := &s.Services[i], fmt.Sprintf("services[%d]", i)
		c.unique(services, svc.Service, at+".service")
		c.service(svc, at, ports)
	}
	maps := map[string]bool{}
	for i := range s.SubnetMaps {
		c.unique(maps, s.SubnetMaps[i].Map, fmt.Sprintf("subnet_maps[%d].map", i))
	}
	c.layer4()
	c.gateway()
	c.zones(services)
	c.certificates()
	c.probes()
	c.defence()
	c.dns()
}

func (c *checker) unique(seen map[string]bool, id, path string) {
	if !idForm.MatchString(id) {
		c.errs.Addf(path, "%q: %s", id, idRule)
	}
	if seen[id] {
		c.errs.Addf(path, "%q is already used", id)
	}
	seen[id] = true
}

func (c *checker) between(path string, v, lo, hi int) {
	if v < lo || v > hi {
		c.errs.Addf(path, "%d is not between %d and %d", v, lo, hi)
	}
}

func (c *checker) within(path string, v Duration, lo, hi time.Duration) {
	if v.D() < lo || v.D() > hi {
		c.errs.Addf(path, "%s is not between %s and %s", v, lo, hi)
	}
}

// path checks one that may be empty.
func (c *checker) path(at, p string) {
	if p != "" && !strings.HasPrefix(p, "/") {
		c.errs.Addf(at, "%q: expected a path that begins with /", p)
	}
}

func (c *checker) region(r *Region, at string) {
	c.unique(c.regions, r.ID, at+".id")
	if !(r.Location.Latitude >= -90 && r.Location.Latitude <= 90) {
		c.errs.Addf(at+".location.latitude", "%v is not between -90 and 90", r.Location.Latitude)
	}
	if !(r.Location.Longitude >= -180 && r.Location.Longitude <= 180) {
		c.errs.Addf(at+".location.longitude", "%v is not between -180 and 180", r.Location.Longitude)
	}
	if k := r.Location.Country; k != "" && !isCode(k) {
		c.errs.Addf(at+".location.country", "%q: expected a two-letter ISO 3166-1 code in capitals", k)
	}
	if k := r.Location.Continent; k != "" && !contains(continents, k) {
		c.errs.Addf(at+".location.continent", "%q is unknown; expected one of %s", k, strings.Join(continents, ", "))
	}
	c.between(at+".capacity", r.Capacity, 1, 1_000_000_000)
	c.addresses(r.VIPs, at+".vips")
}

var continents = []string{"AF", "AN", "AS", "EU", "NA", "OC", "SA"}

func isCode(s string) bool {
	return len(s) == 2 && 'A' <= s[0] && s[0] <= 'Z' && 'A' <= s[1] && s[1] <= 'Z'
}

func (c *checker) addresses(v VIPs, at string) {
	family := func(list []netip.Addr, key string, v4 bool) {
		for i, a := range list {
			path := fmt.Sprintf("%s.%s[%d]", at, key, i)
			switch {
			case a.Is4() != v4 || a.Is4In6() || a.Zone() != "":
				c.errs.Addf(path, "%s is not an IP%s address", a, key)
			case a.IsUnspecified() || a.IsMulticast():
				c.errs.Addf(path, "%s cannot be a VIP", a)
			case c.vips[a] != "":
				c.errs.Addf(path, "%s is already a VIP at %s", a, c.vips[a])
			default:
				c.vips[a] = path
			}
		}
	}
	family(v.V4, "v4", true)
	family(v.V6, "v6", false)
	for i, p := range v.Prefixes {
		path := fmt.Sprintf("%s.prefixes[%d]", at, i)
		switch {
		case !p.IsValid() || p.Addr().Is4In6():
			c.errs.Addf(path, "expected a network as 192.0.2.0/28 or 2001:db8:1::/64")
		case p != p.Masked():
			c.errs.Addf(path, "%s has bits beyond its length; expected %s", p, p.Masked())
		case p.Bits() < 8 || p.Addr().IsMulticast():
			c.errs.Addf(path, "%s cannot be a network of VIPs", p)
		case p.IsSingleIP():
			c.errs.Addf(path, "%s is one address: expected it under v4 or v6", p)
		}
		for other, where := range c.prefixes {
			if p.IsValid() && p.Overlaps(other) {
				c.errs.Addf(path, "%s overlaps %s at %s", p, other, where)
			}
		}
		c.prefixes[p] = path
	}
}

func (c *checker) bgp(r *Region, at string) {
	b := &r.BGP
	if b.ASN == 4294967295 {
		c.errs.Addf(at+".asn", "4294967295 is reserved (RFC 7300)")
	}
	if b.ASN == 0 && len(b.Neighbors) > 0 {
		c.errs.Addf(at+".asn", "expected the region's AS number, since it has neighbors")
	}
	c.within(at+".hold_time", b.HoldTime, 3*time.Second, 65535*time.Second)
	if b.GracefulRestart != 0 {
		c.within(at+".graceful_restart", b.GracefulRestart, 5*time.Second, time.Hour)
	}
	for i, n := range b.Neighbors {
		path := fmt.Sprintf("%s.neighbors[%d]", at, i)
		if !n.Address.IsValid() {
			c.errs.Addf(path+".address", "expected the router's address")
		}
		if n.ASN == 0 || n.ASN == 4294967295 {
			c.errs.Addf(path+".asn", "expected the router's AS number")
		}
		for j, name := range n.Nodes {
			if c.nodes[name] != r.ID {
				c.errs.Addf(fmt.Sprintf("%s.nodes[%d]", path, j), "%q is not a node of region %q", name, r.ID)
			}
		}
	}
	for i, s := range b.Communities {
		if _, err := ParseCommunity(s); err != nil {
			c.errs.Addf(fmt.Sprintf("%s.communities[%d]", at, i), "%s", err)
		}
	}
}

// ParseCommunity reads a community written ASN:VALUE, two numbers of 16 bits
// (RFC 1997).
func ParseCommunity(s string) (uint32, error) {
	a, v, ok := strings.Cut(s, ":")
	hi, err1 := strconv.ParseUint(a, 10, 16)
	lo, err2 := strconv.ParseUint(v, 10, 16)
	if !ok || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("%q is not a community such as 65000:100", s)
	}
	return uint32(hi)<<16 | uint32(lo), nil
}

func (c *checker) node(n *Node, at string) {
	seen := map[string]bool{}
	for k := range c.nodes {
		seen[k] = true
	}
	c.unique(seen, n.Name, at+".name")
	c.nodes[n.Name] = n.Region
	if !c.regions[n.Region] {
		c.errs.Addf(at+".region", "region %q does not exist", n.Region)
	}
	if len(n.Roles) == 0 {
		c.errs.Addf(at+".roles", "expected at least one role")
	}
	v4, v6 := n.Addresses.V4, n.Addresses.V6
	if !v4.IsValid() && !v6.IsValid() {
		c.errs.Addf(at+".addresses", "expected v4, v6 or both")
	}
	if v4.IsValid() && !v4.Is4() {
		c.errs.Addf(at+".addresses.v4", "%s is not an IPv4 address", v4)
	}
	if v6.IsValid() && (!v6.Is6() || v6.Is4In6()) {
		c.errs.Addf(at+".addresses.v6", "%s is not an IPv6 address", v6)
	}
	c.between(at+".weight", n.Weight, 1, 1000)
	if n.Zone != "" && !idForm.MatchString(n.Zone) {
		c.errs.Addf(at+".zone", "%q: %s", n.Zone, idRule)
	}
}

func (c *checker) service(s *Service, at string, ports map[string]string) {
	if len(s.Ports) == 0 {
		c.errs.Addf(at+".ports", "expected at least one port")
	}
	c.ports(s, at, ports)
	c.affinity(s, at+".affinity")
	c.clientIP(s, at)
	for i, h := range s.Hosts {
		if _, err := ParseName(strings.TrimPrefix(h, "*.")); err != nil || !s.Gateway() || s.Protocol == UDP {
			c.errs.Addf(fmt.Sprintf("%s.hosts[%d]", at, i), "%q: expected a host name or *.DOMAIN, on an http or https service, or a tcp one with forwarding proxy", h)
		}
	}
	c.healthcheck(s, at+".healthcheck")
	c.probe(s, at+".probe")
	c.balance(s, at)
	c.retries(&s.Retries, at+".retries")
	c.pools(s, at)
	c.routes(s, at)
	c.steering(&s.Steering, at+".steering")
}

func (c *checker) healthcheck(s *Service, at string) {
	h, of := &s.Healthcheck, s.Protocol
	switch _, err := ParseName(h.Name); {
	case h.Type.Datagram() && of != UDP:
		c.errs.Addf(at+".type", "%s is for a udp service, and this is %s", h.Type, of)
	case h.Type.Datagram() && h.ReadyPath != "":
		c.errs.Addf(at+".ready_path", "a %s check asks for no path", h.Type)
	case h.Type != CheckDNS && h.Name != "":
		c.errs.Addf(at+".name", "is for a dns check, and this is %s", h.Type)
	case h.Type == CheckDNS && err != nil:
		c.errs.Addf(at+".name", "%q: expected a name", h.Name)
	case (h.Type == CheckUDP) != (h.Send != "") || len(h.Send) > 512:
		c.errs.Addf(at+".send", "expected 1 to 512 octets for a udp check, and none for another")
	}
	c.within(at+".interval", h.Interval, 100*time.Millisecond, time.Hour)
	c.within(at+".timeout", h.Timeout, time.Millisecond, h.Interval.D())
	c.between(at+".fall", h.Fall, 1, 100)
	c.between(at+".rise", h.Rise, 1, 100)
	if h.Type == CheckGRPC {
		c.rpcCheck(s, at)
		return
	}
	c.path(at+".path", h.Path)
	c.path(at+".ready_path", h.ReadyPath)
	c.expect(&h.Expect, at+".expect")
}

// maxRPCName bounds the name that a grpc check asks for, in octets.
const maxRPCName = 512

// rpcCheck refuses what a grpc check does not go by.
func (c *checker) rpcCheck(s *Service, at string) {
	h := &s.Healthcheck
	if !s.Gateway() || s.Protocol == UDP {
		c.errs.Addf(at+".type", "grpc is for an http or https service, or a tcp one with forwarding proxy")
	}
	if len(h.Path) > maxRPCName || !utf8.ValidString(h.Path) {
		c.errs.Addf(at+".path", "expected the name of a gRPC service, of at most %d octets", maxRPCName)
	}
	if h.ReadyPath != "" {
		c.errs.Addf(at+".ready_path", "a grpc check asks for one name alone")
	}
	if len(h.Expect.Status) > 0 || h.Expect.Body != "" {
		c.errs.Addf(at+".expect", "a grpc check expects SERVING")
	}
}

func (c *checker) expect(e *Expect, at string) {
	for i, s := range e.Status {
		if _, _, err := ParseStatus(s); err != nil {
			c.errs.Addf(fmt.Sprintf("%s.status[%d]", at, i), "%s", err)
		}
	}
}

// probe refuses what the probe's type does not go by.
func (c *checker) probe(s *Service, at string) {
	p, kind := &s.Probe, s.Probe.Kind(s.Protocol)
	web, rpc := kind == ProbeHTTP || kind == ProbeHTTPS, kind == ProbeGRPC || kind == ProbeGRPCS
	c.path(at+".path", p.Path)
	c.expect(&p.Expect, at+".expect")
	switch {
	case s.Protocol == UDP && p.Type != "":
		c.errs.Addf(at+".type", "a udp service has no probe of its own")
	case !web && (p.Path != "" || len(p.Expect.Status) > 0 || p.Expect.Body != ""):
		c.errs.Addf(at, "path and expect are for an http or https probe, and this is %s", kind)
	case !rpc && p.Name != "":
		c.errs.Addf(at+".name", "is for a grpc or grpcs probe, and this is %s", kind)
	case !web && !rpc && p.Host != "":
		c.errs.Addf(at+".host", "a tcp probe names no host")
	}
}

// ParseStatus reads a status code or class, 204 or 2xx, as its lowest and
// highest code.
func ParseStatus(s string) (lo, hi int, err error) {
	if len(s) == 3 && s[0] >= '1' && s[0] <= '5' {
		if s[1:] == "xx" {
			lo = int(s[0]-'0') * 100
			return lo, lo + 99, nil
		}
		if n, err := strconv.Atoi(s); err == nil {
			return n, n, nil
		}
	}
	return 0, 0, fmt.Errorf("%q is not a status code such as 204 or a class such as 2xx", s)
}

func (c *checker) pools(s *Service, at string) {
	if len(s.Pools) == 0 {
		c.errs.Addf(at+".pools", "expected at least one pool")
	}
	ids := map[string]bool{}
	for i := range s.Pools {
		p, path := &s.Pools[i], fmt.Sprintf("%s.pools[%d]", at, i)
		switch {
		case p.Protocol == PoolH2 && (s.ClientIP == ClientIPProxyV1 || s.ClientIP == ClientIPProxyV2):
			c.errs.Addf(path+".protocol", "h2 carries the requests of many clients on one connection, which client_ip: %s tells of one", s.ClientIP)
		case p.Protocol != "" && !s.Protocol.Gateway():
			c.errs.Addf(path+".protocol", "is for an http or https service, and this is %s", s.Protocol)
		}
		c.unique(ids, p.ID, path+".id")
		if len(p.Endpoints) == 0 {
			c.errs.Addf(path+".endpoints", "expected at least one endpoint")
		}
		type member struct {
			address netip.AddrPort
			region  string
		}
		seen := map[member]bool{}
		groups := map[[2]string]bool{}
		for j, e := range p.Endpoints {
			ep := fmt.Sprintf("%s.endpoints[%d]", path, j)
			if !e.Address.IsValid() || e.Address.Port() == 0 {
				c.errs.Addf(ep+".address", "expected ADDRESS:PORT")
			}
			if e.Region != "" && !c.regions[e.Region] {
				c.errs.Addf(ep+".region", "region %q does not exist", e.Region)
			}
			if seen[member{e.Address, e.Region}] {
				c.errs.Addf(ep+".address", "%s is already in the pool", e.Address)
			}
			seen[member{e.Address, e.Region}] = true
			c.between(ep+".weight", e.Weight, 1, 1000)
			c.place(s, &e, ep, groups)
		}
		if len(groups) > MaxGroups {
			c.errs.Addf(path+".endpoints", "%d different pairs of zone and priority; expected at most %d", len(groups), MaxGroups)
		}
	}
}

// steering checks ranges, and that candidates exist; the rest is for the room
// steer.
func (c *checker) steering(st *Steering, at string) {
	groups := map[string]bool{}
	for i := range st.Groups {
		g, path := &st.Groups[i], fmt.Sprintf("%s.groups[%d]", at, i)
		c.unique(groups, g.Group, path+".group")
		if c.regions[g.Group] {
			c.errs.Addf(path+".group", "%q is a region's id", g.Group)
		}
		c.between(path+".records", g.Records, 0, 8)
	}
	c.between(at+".records", st.Records, 1, 8)
	exist := func(list []string, at string) {
		for i, id := range list {
			if !c.regions[id] && !groups[id] {
				c.errs.Addf(fmt.Sprintf("%s[%d]", at, i), "region %q does not exist", id)
			}
		}
	}
	exist(st.Regions, at+".regions")
	exist(st.Fallback, at+".fallback")
	for i := range st.Groups {
		exist(st.Groups[i].Regions, fmt.Sprintf("%s.groups[%d].regions", at, i))
		exist(st.Groups[i].Fallback, fmt.Sprintf("%s.groups[%d].fallback", at, i))
	}
}

func (c *checker) probes() {
	p := &c.spec.Probes
	c.within("probes.interval", p.Interval, 100*time.Millisecond, time.Hour)
	c.within("probes.fast_interval", p.FastInterval, 50*time.Millisecond, time.Hour)
	c.within("probes.timeout", p.Timeout, 10*time.Millisecond, time.Hour)
	c.between("probes.fall", p.Fall, 1, 100)
	c.between("probes.rise", p.Rise, 1, 100)
	c.path("probes.path", p.Path)
}

// ParseListen reads ADDRESS:PORT or :PORT; the address of the latter is the
// unspecified IPv6 one, which stands for both families.
func ParseListen(s string) (netip.AddrPort, error) {
	if strings.HasPrefix(s, ":") {
		s = "[::]" + s
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return ap, fmt.Errorf("%q is not ADDRESS:PORT or :PORT", s)
	}
	return ap, nil
}
