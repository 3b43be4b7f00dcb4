//go:build linux

package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"meridian/fleet"
)

// Names that the demo serves.
const (
	zoneName = "demo.test"
	// RegionalName is answered with the chosen region's own address.
	RegionalName = "www.demo.test"
	// AnycastName is answered with the address that every region announces.
	AnycastName = "any.demo.test"
)

// Spec gives the fleet that runs in the topology, as an operator would write
// it. It refers to files beside it.
func (t *Topology) Spec() *fleet.Spec {
	s := &fleet.Spec{
		Fleet:   "demo",
		Anycast: t.Anycast,
		Probes:  fleet.Probes{CA: "file:" + caFile},
		DNS:     fleet.DNS{Listen: []string{fmt.Sprintf(":%d", t.DNSPort)}, TTL: fleet.TTL{Steered: fleet.Duration(demoTTL)}},
		Certificates: []fleet.Certificate{{ID: "demo", Cert: "file:" + certFile,
			Key: fleet.Secret("file:" + keyFile)}},
	}
	for i := range t.Regions {
		r := &t.Regions[i]
		region := fleet.Region{ID: r.ID, Name: r.Location.City, Location: r.Location, VIPs: r.VIPs}
		if !t.Loopback {
			region.BGP = t.bgp(r)
		}
		s.Regions = append(s.Regions, region)
		for j := range r.Nodes {
			n := &r.Nodes[j]
			if n.Kind == Backend {
				continue
			}
			v4, v6 := t.Addr(r, n)
			s.Nodes = append(s.Nodes, fleet.Node{Name: n.Name, Region: r.ID, Roles: n.Roles, Addresses: fleet.NodeAddrs{V4: v4, V6: v6}})
		}
	}
	s.Services = []fleet.Service{t.service("www", RegionalName, fleet.Regional)}
	steered := []fleet.Steered{{Name: "www", Service: "www"}}
	if len(t.Anycast.All()) > 0 {
		s.Services = append(s.Services, t.service("any", AnycastName, fleet.Anycast))
		steered = append(steered, fleet.Steered{Name: "any", Service: "any"})
	}
	s.Zones = []fleet.Zone{{Zone: zoneName + ".", Records: t.zone(), Steered: steered,
		ZoneSettings: fleet.ZoneSettings{DNSSEC: fleet.DefaultPolicy}}}
	// The zone's parent is not of this internet: whoever looks for it there asks
	// the fleet's own nameservers, and no one outside.
	for i := range t.Regions {
		v4, _ := t.Addr(&t.Regions[i], t.Regions[i].Of(Gslb)[0])
		s.DNS.Resolvers = append(s.DNS.Resolvers, netip.AddrPortFrom(v4, t.DNSPort))
	}
	return s
}

// demoTTL is short, so that a visitor sees clients move.
const demoTTL = 5 * time.Second

// bgp peers each edge node of the region with the region's router.
func (t *Topology) bgp(r *Region) fleet.BGP {
	b := fleet.BGP{ASN: r.asnEdge()}
	for _, n := range r.Of(Edge) {
		if !slices.Contains(n.Roles, fleet.RoleBGP) {
			continue
		}
		v4, _ := r.nodeLink(n).host(1)
		b.Neighbors = append(b.Neighbors, fleet.Neighbor{Address: v4, ASN: r.asnRouter(), Nodes: []string{n.Name}})
	}
	return b
}

// service is one of the demo's, with the backends of each region for the
// gateways of that region.
func (t *Topology) service(name, host string, answer fleet.AnswerKind) fleet.Service {
	pool := fleet.Pool{ID: "backends", TLS: &fleet.PoolTLS{ServerName: backendName, CA: "file:" + caFile}}
	for i := range t.Regions {
		r := &t.Regions[i]
		for _, n := range r.Of(Backend) {
			v4, _ := t.Addr(r, n)
			pool.Endpoints = append(pool.Endpoints, fleet.Endpoint{Address: netip.AddrPortFrom(v4, t.BackendPort), Region: r.ID})
		}
	}
	return fleet.Service{
		Service: name, Protocol: fleet.HTTPS, Ports: []uint16{t.HTTPSPort}, Hosts: []string{host},
		Healthcheck: fleet.Healthcheck{Interval: fleet.Duration(time.Second), Timeout: fleet.Duration(500 * time.Millisecond)},
		Steering:    fleet.Steering{Answer: answer},
		Pools:       []fleet.Pool{pool},
	}
}

// zone is the unsteered part of the demo's zone.
func (t *Topology) zone() string {
	var b strings.Builder
	b.WriteString("$TTL 1h\n@ SOA ns-" + t.Regions[0].ID + " hostmaster 1 1h 15m 30d 5m\n")
	for i := range t.Regions {
		r := &t.Regions[i]
		v4, v6 := t.Addr(r, r.Of(Gslb)[0])
		fmt.Fprintf(&b, "@ NS ns-%s\nns-%s A %s\n", r.ID, r.ID, v4)
		if v6.IsValid() {
			fmt.Fprintf(&b, "ns-%s AAAA %s\n", r.ID, v6)
		}
	}
	b.WriteString("@ TXT \"Meridian demo\"\n")
	return b.String()
}

// specYAML writes a Spec as people do: block style, nothing that is empty.
func specYAML(s *fleet.Spec) ([]byte, error) {
	doc, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(doc, &root); err != nil { // JSON is YAML
		return nil, fmt.Errorf("spec: %w", err)
	}
	tidy(root.Content[0])
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&root); err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	return b.Bytes(), nil
}

// tidy takes JSON's style off and leaves out keys without content.
func tidy(n *yaml.Node) {
	n.Style = 0
	if strings.Contains(n.Value, "\n") {
		n.Style = yaml.LiteralStyle
	}
	for _, c := range n.Content {
		tidy(c)
	}
	if n.Kind != yaml.MappingNode {
		return
	}
	kept := n.Content[:0]
	for i := 0; i+1 < len(n.Content); i += 2 {
		if v := n.Content[i+1]; v.Kind != yaml.MappingNode || len(v.Content) > 0 {
			kept = append(kept, n.Content[i], v)
		}
	}
	n.Content = kept
}
