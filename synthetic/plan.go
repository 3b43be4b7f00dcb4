package synthetic

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"meridian/fleet"
)

// check is one thing to do again and again.
type check struct {
	key      checkKey
	interval time.Duration
	fast     bool          // a one-round-trip check: it waits as its pace says
	probes   []fleet.Probe // at least one, alike but for the address; it passes if any does
}

// checkKey names a check: its target, and its name in the Observations.
type checkKey struct {
	target fleet.Target
	name   string
}

func (c *check) equal(o *check) bool { return reflect.DeepEqual(c, o) }

// spread gives the check its place in the interval, 0 to 1, always the same on
// one node.
func (k checkKey) spread(node string) float64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s\x00%s", node, k.target, k.name)
	return float64(h.Sum64()>>11) / (1 << 53)
}

// run makes the check once. Several probes run side by side and the first that
// passes ends the others; where none passes, the last one's failure is told.
func (c *check) run(ctx context.Context, by Prober, p *pace) fleet.ProbeResult {
	if len(c.probes) == 1 {
		pr := c.probes[0]
		if c.fast {
			pr.Timeout = p.wait()
		}
		r := by.Probe(ctx, pr)
		if c.fast && ctx.Err() == nil {
			p.learn(r)
		}
		return r
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan fleet.ProbeResult)
	for _, pr := range c.probes {
		go func() { results <- by.Probe(ctx, pr) }()
	}
	var out fleet.ProbeResult
	for range c.probes {
		if r := <-results; !out.OK {
			if out = r; r.OK {
				cancel()
			}
		}
	}
	cancel()
	return out
}

// planner turns a World into checks.
type planner struct {
	s      *fleet.Snapshot
	ca     []byte
	v4, v6 bool // this node can reach that family
	reach  uint16
	out    []check
}

// planOf lists the checks of the prober on a node of the region. A family of
// addresses is checked where the node has an address of it.
func planOf(w *fleet.World, node, region string) ([]check, error) {
	p := planner{s: w.Snapshot, v4: true}
	if n := p.s.Node(node); n != nil {
		p.v4, p.v6 = n.Addresses.V4.IsValid(), n.Addresses.V6.IsValid()
	}
	if ref := p.s.Spec.Probes.CA; ref != "" {
		o, ok := w.Objects[fleet.ObjectKey{Kind: fleet.ObjectCA, ID: ref}]
		if !ok {
			return nil, errors.New("probes.ca: the authorities are missing")
		}
		if !x509.NewCertPool().AppendCertsFromPEM(o.Data) {
			return nil, fmt.Errorf("probes.ca: %s holds no certificate in PEM", o.File)
		}
		p.ca = bytes.Clone(o.Data)
	}
	for _, svc := range p.s.Spec.Services {
		if svc.Protocol != fleet.UDP && len(svc.Ports) > 0 {
			p.reach = svc.Ports[0]
			break
		}
	}
	for _, t := range p.s.ProbedTargets(region) {
		if t.Kind == fleet.TargetNameserver {
			if err := p.nameserver(t); err != nil {
				return nil, err
			}
			continue
		}
		vips := p.s.Spec.Anycast
		if t.Kind == fleet.TargetService {
			vips = p.s.Region(t.Region).VIPs
		}
		svc := p.s.Service(t.Service)
		if p.v4 {
			p.service(t, svc, "4", vips.V4)
		}
		if p.v6 {
			p.service(t, svc, "6", vips.V6)
		}
	}
	return p.out, nil
}

// service adds the checks of one service at VIPs of one family. A udp service
// has no answer of its own to wait for: whether its VIP can be reached is told by
// a tcp port there, where another service has one.
func (p *planner) service(t fleet.Target, svc *fleet.Service, family string, vips []netip.Addr) {
	pr := &p.s.Spec.Probes
	for i, vip := range vips {
		at := family
		if i > 0 {
			at += fmt.Sprintf("#%d", i+1)
		}
		if svc.Protocol == fleet.UDP {
			if p.reach != 0 {
				p.add(t, "rtt"+at, pr.FastInterval, fleet.Probe{Check: "rtt", Address: netip.AddrPortFrom(vip, p.reach)})
			}
			continue
		}
		for j, port := range svc.Ports {
			name, base := at, fleet.Probe{Address: netip.AddrPortFrom(vip, port)}
			if j > 0 {
				name += fmt.Sprintf(":%d", port)
			} else {
				base.Check = "rtt"
				p.add(t, "rtt"+name, pr.FastInterval, base)
			}
			base.Check = "tcp"
			p.add(t, "tcp"+name, pr.Interval, base)
			if p.ask(svc, &base) {
				p.add(t, base.Check+name, pr.Interval, base)
			}
		}
	}
}

// ask makes the probe one of what the service is asked; false where a
// handshake is all.
func (p *planner) ask(svc *fleet.Service, base *fleet.Probe) bool {
	own := &svc.Probe
	kind := own.Kind(svc.Protocol)
	base.Check, base.Host = string(kind), cmp.Or(own.Host, hostOf(svc))
	switch kind {
	case fleet.ProbeTCP:
		return false
	case fleet.ProbeHTTP, fleet.ProbeHTTPS:
		base.Path, base.Expect = cmp.Or(own.Path, p.s.Spec.Probes.Path), own.Expect
	default:
		base.Path = own.Name
	}
	if kind == fleet.ProbeHTTPS || kind == fleet.ProbeGRPCS {
		base.CA = p.ca
	}
	return true
}

// hostOf gives a host name that the service answers to: its first, with a
// label of ours in place of an asterisk; empty where any will do.
func hostOf(svc *fleet.Service) string {
	if len(svc.Hosts) == 0 {
		return ""
	}
	if rest, ok := strings.CutPrefix(svc.Hosts[0], "*."); ok {
		return "meridian-probe." + rest
	}
	return svc.Hosts[0]
}

// nameserver adds the checks of a region's nameservers: one for each family,
// which passes if any of them answers for the first zone.
func (p *planner) nameserver(t fleet.Target) error {
	if len(p.s.Spec.Zones) == 0 {
		return nil
	}
	listen, err := fleet.ParseListen(p.s.Spec.DNS.Listen[0])
	if err != nil {
		return fmt.Errorf("dns.listen[0]: %w", err)
	}
	var v4, v6 []fleet.Probe
	for _, n := range p.s.NodesWith(t.Region, fleet.RoleDNS) {
		probe := fleet.Probe{Check: "dns", Name: p.s.Spec.Zones[0].Zone}
		if a := n.Addresses.V4; a.IsValid() && p.v4 {
			probe.Address = netip.AddrPortFrom(a, listen.Port())
			v4 = append(v4, probe)
		}
		if a := n.Addresses.V6; a.IsValid() && p.v6 {
			probe.Address = netip.AddrPortFrom(a, listen.Port())
			v6 = append(v6, probe)
		}
	}
	interval := p.s.Spec.Probes.Interval
	p.add(t, "dns4", interval, v4...)
	p.add(t, "dns6", interval, v6...)
	return nil
}

func (p *planner) add(t fleet.Target, name string, every fleet.Duration, probes ...fleet.Probe) {
	if len(probes) == 0 {
		return
	}
	for i := range probes {
		probes[i].Timeout = p.s.Spec.Probes.Timeout.D()
	}
	p.out = append(p.out, check{checkKey{t, name}, every.D(), probes[0].Check == "rtt", probes})
}
