package imports

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"meridian/fleet"
)

// pick is one node of a tree of choices: an address set, or a choice among
// picks by a policy.
type pick struct {
	label   string
	v4, v6  []netip.Addr // of a leaf
	policy  fleet.SteeringPolicy
	of      []*pick
	weights []int     // for weighted, of each in of
	geo     []geoRule // for geo
	subnets []netRule // for subnet
	min     float64   // share that must be up
	records int
	where   *[2]float64 // latitude and longitude of a leaf or of all below
}

type geoRule struct {
	fleet.GeoRule       // without regions
	to            []int // indices into of
}

type netRule struct {
	prefixes []netip.Prefix
	to       []int
}

func (p *pick) leaf() bool { return len(p.of) == 0 }

// merge joins a tree of IPv4 with one of IPv6 of the same shape; false where
// they differ.
func (p *pick) merge(q *pick) bool {
	if p.leaf() != q.leaf() || p.policy != q.policy || len(p.of) != len(q.of) ||
		!slices.Equal(p.weights, q.weights) || len(p.geo) != len(q.geo) || len(p.subnets) != len(q.subnets) {
		return false
	}
	for i := range p.geo {
		if !slices.Equal(p.geo[i].to, q.geo[i].to) || fmt.Sprint(p.geo[i].GeoRule) != fmt.Sprint(q.geo[i].GeoRule) {
			return false
		}
	}
	for i := range p.of {
		if !p.of[i].merge(q.of[i]) {
			return false
		}
	}
	p.v4, p.v6 = append(p.v4, q.v4...), append(p.v6, q.v6...)
	return true
}

// check is how the members of a service are checked.
type check struct {
	kind     fleet.CheckType // "" for not known
	port     uint16
	path     string
	host     string
	interval fleet.Duration
	timeout  fleet.Duration
}

// steering collects the regions and services of one import.
type steering struct {
	r       *Result
	regions map[string]string // a set of addresses to its region
	owner   map[netip.Addr]string
	ids     map[string]bool
	names   map[string]bool // of services
	ports   map[uint16]fleet.Protocol
}

func newSteering(r *Result) *steering {
	return &steering{r: r, regions: map[string]string{}, owner: map[netip.Addr]string{}, ids: map[string]bool{}, names: map[string]bool{}, ports: map[uint16]fleet.Protocol{}}
}

// identifier makes an id out of a label: lower-case letters, digits, hyphens.
func identifier(label string, used map[string]bool) string {
	var b strings.Builder
	for _, c := range strings.ToLower(label) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			b.WriteRune(c)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	id := strings.Trim(b.String(), "-")
	if id == "" {
		id = "x"
	}
	if len(id) > 50 {
		id = strings.Trim(id[:50], "-")
	}
	base := id
	for i := 2; used[id]; i++ {
		id = fmt.Sprintf("%s-%d", base, i)
	}
	used[id] = true
	return id
}

// region gives the region that stands for a set of addresses; "" where it has
// none of its own.
func (s *steering) region(at string, p *pick) string {
	key := fmt.Sprint(p.v4, p.v6)
	if id, ok := s.regions[key]; ok {
		return id
	}
	label := p.label
	if label == "" && len(p.v4)+len(p.v6) > 0 {
		label = append(slices.Clone(p.v4), p.v6...)[0].String()
	}
	var r fleet.Region
	for _, a := range slices.Concat(p.v4, p.v6) {
		if other, taken := s.owner[a]; taken {
			if len(p.v4)+len(p.v6) == 1 { // the set is part of another
				s.regions[key] = other
				return other
			}
			s.r.note(at, a.String(), "is in several sets of addresses; it stays with region %s alone", other)
			continue
		}
		if a.Is4() {
			r.VIPs.V4 = append(r.VIPs.V4, a)
		} else {
			r.VIPs.V6 = append(r.VIPs.V6, a)
		}
	}
	if len(r.VIPs.V4)+len(r.VIPs.V6) == 0 {
		return ""
	}
	r.ID = identifier(label, s.ids)
	for _, a := range r.VIPs.All() {
		s.owner[a] = r.ID
	}
	if p.where != nil {
		r.Location.Latitude, r.Location.Longitude = p.where[0], p.where[1]
	} else {
		s.r.note("region "+r.ID, "location", "is not known: 0, 0 is written; set where %s is", r.VIPs.All()[0])
	}
	s.regions[key] = r.ID
	s.r.Spec.Regions = append(s.r.Spec.Regions, r)
	return r.ID
}

// service makes a service out of a tree of choices and gives its name; ""
// where nothing is left to steer to.
func (s *steering) service(at, name string, hosts []string, root *pick, c check) string {
	b := building{s: s, at: at, groups: map[string]bool{}}
	sel, ok := b.selection(root)
	if !ok {
		s.r.note(at, name, "has no address to steer to")
		return ""
	}
	svc := fleet.Service{Service: identifier(name, s.names), Protocol: fleet.HTTP, Ports: []uint16{80}, Hosts: hosts}
	if c.port != 0 {
		svc.Ports = []uint16{c.port}
	}
	if first := s.ports[svc.Ports[0]]; c.kind == fleet.CheckTCP && first == "" {
		svc.Protocol, svc.Hosts = fleet.TCP, nil
	} else if first == fleet.TCP { // a port has one service that is not told apart by host
		svc.Ports = []uint16{80}
	}
	s.ports[svc.Ports[0]] = svc.Protocol
	s.r.note("service "+svc.Service, "protocol", "%s at port %d is written; it matters only where the fleet's own gateways are to serve it", svc.Protocol, svc.Ports[0])
	svc.Healthcheck = fleet.Healthcheck{Type: c.kind, Path: c.path, Port: c.port, Host: c.host, Interval: c.interval, Timeout: c.timeout}
	if c.kind == "" {
		s.r.note("service "+svc.Service, "health check", "none is known: every service is checked, this one as %s services are at port %d", svc.Protocol, svc.Ports[0])
	}
	svc.Steering.Selection, svc.Steering.Groups = sel, b.list
	svc.Pools = []fleet.Pool{{ID: "imported", Endpoints: b.endpoints(svc.Ports[0])}}
	s.r.Spec.Services = append(s.r.Spec.Services, svc)
	return svc.Service
}

// building is one service in the making.
type building struct {
	s       *steering
	at      string
	groups  map[string]bool
	list    []fleet.Group
	regions []string
}

// member gives the region or group of a pick; "" for none.
func (b *building) member(p *pick) string {
	if p.leaf() {
		id := b.s.region(b.at, p)
		if id != "" && !slices.Contains(b.regions, id) {
			b.regions = append(b.regions, id)
		}
		return id
	}
	if len(p.of) == 1 {
		return b.member(p.of[0])
	}
	at := len(b.list)
	b.list = append(b.list, fleet.Group{}) // outer groups first
	sel, ok := b.selection(p)
	if !ok {
		b.list = slices.Delete(b.list, at, at+1)
		return ""
	}
	id := identifier("group-"+p.label, b.groups)
	b.list[at] = fleet.Group{Group: id, Selection: sel}
	return id
}

func (b *building) selection(p *pick) (fleet.Selection, bool) {
	if p.leaf() {
		id := b.member(p)
		return fleet.Selection{Policy: fleet.All, Regions: []string{id}}, id != ""
	}
	sel := fleet.Selection{Policy: p.policy, MinHealthy: p.min, Records: p.records}
	ids := make([]string, len(p.of))
	for i, m := range p.of {
		id := b.member(m)
		if id == "" {
			continue
		}
		if ids[i] = id; slices.Contains(sel.Regions, id) {
			if p.policy == fleet.Weighted {
				sel.Weights[id] += p.weights[i]
			}
			continue
		}
		sel.Regions = append(sel.Regions, id)
		if p.policy == fleet.Weighted {
			if sel.Weights == nil {
				sel.Weights = map[string]int{}
			}
			sel.Weights[id] = p.weights[i]
		}
	}
	named := func(to []int) (out []string) {
		for _, i := range to {
			if ids[i] != "" && !slices.Contains(out, ids[i]) {
				out = append(out, ids[i])
			}
		}
		return out
	}
	for _, g := range p.geo {
		if rule := g.GeoRule; len(named(g.to)) > 0 {
			rule.Regions = named(g.to)
			sel.Geo = append(sel.Geo, rule)
		}
	}
	for _, n := range p.subnets {
		if len(named(n.to)) > 0 {
			sel.Subnets = append(sel.Subnets, fleet.SubnetRule{Prefixes: n.prefixes, Regions: named(n.to)})
		}
	}
	if p.policy == fleet.Geo && len(sel.Geo) == 0 || p.policy == fleet.Subnet && len(sel.Subnets) == 0 {
		sel.Policy = fleet.Failover
	}
	return sel, len(sel.Regions) > 0
}

// endpoints lists the addresses of all regions that the service uses.
func (b *building) endpoints(port uint16) []fleet.Endpoint {
	var out []fleet.Endpoint
	for i := range b.s.r.Spec.Regions {
		r := &b.s.r.Spec.Regions[i]
		if !slices.Contains(b.regions, r.ID) {
			continue
		}
		for _, a := range r.VIPs.All() {
			out = append(out, fleet.Endpoint{Address: netip.AddrPortFrom(a, port), Region: r.ID})
		}
	}
	return out
}

// addresses parses a list of addresses by family; what is none is noted.
func (r *Result) addresses(at string, list []string) (v4, v6 []netip.Addr) {
	for _, text := range list {
		a, err := netip.ParseAddr(strings.TrimSpace(text))
		switch {
		case err != nil || a.Zone() != "":
			r.note(at, text, "is not an address; it is left out")
		case a.Unmap().Is4():
			v4 = append(v4, a.Unmap())
		default:
			v6 = append(v6, a)
		}
	}
	return v4, v6
}
