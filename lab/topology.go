//go:build linux

package lab

import (
	"fmt"
	"net/netip"
	"time"

	"meridian/fleet"
)

// Topology is the shape of the lab's internet: what stands where, under which
// addresses. It holds no state.
type Topology struct {
	Anycast fleet.VIPs
	Regions []Region
	Cities  []City
	// Distance is the one-way delay between the core routers of two regions.
	Distance map[[2]string]time.Duration
	// Loopback means that everything stands on this machine's loopback, each
	// machine under its own address of 127.0.0.0/8, without routers or cities
	// of their own.
	Loopback bool

	DNSPort, HTTPSPort, BackendPort uint16
}

// Region is one site of the fleet and the core router of its continent.
type Region struct {
	Index    int // from 1; part of every address in it
	ID       string
	Location fleet.Location
	VIPs     fleet.VIPs
	Nodes    []Node
}

// Node is one machine of a region.
type Node struct {
	Index int    // part of its address
	Name  string // as --node
	Kind  Kind
	Roles []fleet.Role
}

// Kind is what a machine of a region runs.
type Kind string

// The kinds of machine.
const (
	Gslb    Kind = "gslb"
	Edge    Kind = "edge"
	Backend Kind = "backend"
)

// City is where clients are: their resolver asks the nameservers on behalf of
// Subnet, a network that is really theirs.
type City struct {
	Index    int
	ID       string
	Name     string
	Country  string
	Region   string // the core router that it hangs on
	Distance time.Duration
	Subnet   netip.Prefix
}

// Autonomous systems: the edge nodes of a region, its router and its core
// router each have their own.
func (r *Region) asnEdge() uint32   { return 64500 + uint32(r.Index) }
func (r *Region) asnRouter() uint32 { return 64600 + uint32(r.Index) }
func (r *Region) asnCore() uint32   { return 64700 + uint32(r.Index) }

// link is the pair of networks of one link; host 1 is the side nearer to the
// core.
type link struct{ v4, v6 string }

func (l link) host(n int) (v4, v6 netip.Addr) {
	return netip.MustParseAddr(fmt.Sprintf("%s.%d", l.v4, n)), netip.MustParseAddr(fmt.Sprintf("%s::%d", l.v6, n))
}

func (l link) prefixes(n int) []netip.Prefix {
	v4, v6 := l.host(n)
	return []netip.Prefix{netip.PrefixFrom(v4, 24), netip.PrefixFrom(v6, 64)}
}

func (r *Region) nodeLink(n *Node) link {
	return link{fmt.Sprintf("10.%d.%d", r.Index, n.Index), fmt.Sprintf("fd00:%d:%d", r.Index, n.Index)}
}

func (r *Region) uplink() link {
	return link{fmt.Sprintf("10.100.%d", r.Index), fmt.Sprintf("fd00:100:%d", r.Index)}
}

func coreLink(a, b *Region) link {
	return link{fmt.Sprintf("10.200.%d%d", a.Index, b.Index), fmt.Sprintf("fd00:200:%d%d", a.Index, b.Index)}
}

func (c *City) link() link {
	return link{fmt.Sprintf("10.50.%d", c.Index), fmt.Sprintf("fd00:50:%d", c.Index)}
}

// Addr gives the addresses of a node; on loopback it has no IPv6 one.
func (t *Topology) Addr(r *Region, n *Node) (v4, v6 netip.Addr) {
	if t.Loopback {
		return netip.AddrFrom4([4]byte{127, byte(r.Index), byte(n.Index), 2}), netip.Addr{}
	}
	return r.nodeLink(n).host(2)
}

// networks are what the region's router announces for itself: its machines.
func (r *Region) networks() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", r.Index)),
		netip.MustParsePrefix(fmt.Sprintf("fd00:%d::/32", r.Index)),
	}
}

// Region gives the region of that id, or nil.
func (t *Topology) Region(id string) *Region {
	for i := range t.Regions {
		if t.Regions[i].ID == id {
			return &t.Regions[i]
		}
	}
	return nil
}

// Of lists the nodes of a kind.
func (r *Region) Of(k Kind) []*Node {
	var out []*Node
	for i := range r.Nodes {
		if r.Nodes[i].Kind == k {
			out = append(out, &r.Nodes[i])
		}
	}
	return out
}

// between gives the delay between two core routers.
func (t *Topology) between(a, b string) time.Duration {
	if d, ok := t.Distance[[2]string{a, b}]; ok {
		return d
	}
	return t.Distance[[2]string{b, a}]
}

// World is the demo's internet: three regions on three continents and clients
// in six cities. VIPs are of the documentation networks, machines of private
// ones; the clients' subnets are allocations of their countries.
func World() *Topology {
	t := &Topology{
		Anycast: fleet.VIPs{
			V4: []netip.Addr{netip.MustParseAddr("198.51.100.1")},
			V6: []netip.Addr{netip.MustParseAddr("2001:db8:ca57::1")},
		},
		DNSPort: 53, HTTPSPort: 443, BackendPort: 8443,
	}
	t.settle()
	return t
}

// Home is the same fleet for a user without rights: on loopback, with one
// gateway in each region and ports that anybody may open.
func Home() *Topology {
	t := &Topology{Loopback: true, DNSPort: 5300, HTTPSPort: 8443, BackendPort: 9443}
	t.settle()
	return t
}

// settle fills in the regions and cities.
func (t *Topology) settle() {
	t.Distance = map[[2]string]time.Duration{
		{"fra", "iad"}: 44 * time.Millisecond,
		{"iad", "nrt"}: 80 * time.Millisecond,
		{"fra", "nrt"}: 115 * time.Millisecond,
	}
	t.region("fra", fleet.Location{Latitude: 50.11, Longitude: 8.68, City: "Frankfurt", Country: "DE", Continent: "EU"}, false)
	t.region("iad", fleet.Location{Latitude: 39.04, Longitude: -77.49, City: "Ashburn", Country: "US", Continent: "NA"}, false)
	t.region("nrt", fleet.Location{Latitude: 35.68, Longitude: 139.69, City: "Tokyo", Country: "JP", Continent: "AS"}, true)
	t.city("berlin", "Berlin", "DE", "fra", 4*time.Millisecond, "84.128.0.0/24")
	t.city("london", "London", "GB", "fra", 7*time.Millisecond, "81.128.0.0/24")
	t.city("new-york", "New York", "US", "iad", 4*time.Millisecond, "72.229.28.0/24")
	t.city("sao-paulo", "São Paulo", "BR", "iad", 55*time.Millisecond, "177.32.0.0/24")
	t.city("tokyo", "Tokyo", "JP", "nrt", 2*time.Millisecond, "133.11.0.0/24")
	t.city("sydney", "Sydney", "AU", "nrt", 52*time.Millisecond, "1.128.0.0/24")
}

// region adds a region with one gslb node, two edge nodes and two backends.
// Where the tiers stand apart, the first edge node balances and speaks BGP and
// the second is the gateway; else each does all.
func (t *Topology) region(id string, at fleet.Location, apart bool) {
	i := len(t.Regions) + 1
	r := Region{Index: i, ID: id, Location: at, Nodes: []Node{
		{1, id + "-gslb", Gslb, []fleet.Role{fleet.RoleDNS, fleet.RoleControl, fleet.RoleProbe, fleet.RoleDashboard}},
		{21, id + "-backend-1", Backend, nil},
		{22, id + "-backend-2", Backend, nil},
	}}
	edge := func(index int, name string, roles ...fleet.Role) {
		r.Nodes = append(r.Nodes, Node{index, id + name, Edge, roles})
	}
	switch {
	case t.Loopback:
		edge(11, "-edge-1", fleet.RoleL7)
		r.VIPs.V4 = []netip.Addr{netip.AddrFrom4([4]byte{127, byte(i), 100, 1})}
		t.Regions = append(t.Regions, r)
		return
	case apart:
		edge(11, "-edge-1", fleet.RoleL4, fleet.RoleBGP)
		edge(12, "-edge-2", fleet.RoleL7)
	default:
		edge(11, "-edge-1", fleet.RoleL4, fleet.RoleL7, fleet.RoleBGP)
		edge(12, "-edge-2", fleet.RoleL4, fleet.RoleL7, fleet.RoleBGP)
	}
	r.VIPs.V4 = []netip.Addr{netip.MustParseAddr(fmt.Sprintf("203.0.113.%d", i))}
	r.VIPs.V6 = []netip.Addr{netip.MustParseAddr(fmt.Sprintf("2001:db8:%d::1", i))}
	t.Regions = append(t.Regions, r)
}

func (t *Topology) city(id, name, country, region string, d time.Duration, subnet string) {
	t.Cities = append(t.Cities, City{
		Index: len(t.Cities) + 1, ID: id, Name: name, Country: country, Region: region, Distance: d,
		Subnet: netip.MustParsePrefix(subnet),
	})
}

// CitiesOf lists the cities that hang on the region's core router.
func (t *Topology) CitiesOf(region string) []*City {
	var out []*City
	for i := range t.Cities {
		if t.Cities[i].Region == region {
			out = append(out, &t.Cities[i])
		}
	}
	return out
}
