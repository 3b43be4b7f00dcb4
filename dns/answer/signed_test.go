package answer

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
)

const steeredSigned = `
regions:
- {id: fra, location: {latitude: 50.1, longitude: 8.7}, vips: {v4: [192.0.2.1], v6: ["2001:db8::1"]}}
- {id: tyo, location: {latitude: 35.7, longitude: 139.7}, vips: {v4: [192.0.2.2, 192.0.2.22], v6: ["2001:db8::2"]}}
- {id: gru, location: {latitude: -23.5, longitude: -46.6}, vips: {v4: [192.0.2.3]}}
services:
- {service: web, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}]}
- {service: split, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}],
   steering: {policy: weighted, weights: {fra: 50, tyo: 50}}}
- {service: order, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}],
   steering: {policy: failover, regions: [gru, fra], all_down: fail_closed}}
dns:
  dnssec: [{policy: hashed, denial: nsec3}]
zones:
- zone: signed.test
  dnssec: default
  records: |
    $TTL 300
    @ SOA ns1 admin 7 3600 600 86400 60
    @ NS ns1
    ns1 A 192.0.2.53
    alias CNAME www
    plain TXT "x"
  steered:
  - {name: www, service: web, https: {second: true}}
  - {name: split, service: split}
  - {name: order, service: order, https: {}}
  - {name: "*.any", service: web}
`

// signedWorld gives a World whose zone is signed as the fleet signs it, with
// every variant; where variants is false, without them.
func signedWorld(t testing.TB, policy string, variants bool) *fleet.World {
	t.Helper()
	w := newWorld(t, steeredSigned)
	publish(w, signedBy(t, w, policy, variants))
	return w
}

// signedBy signs the World's first zone by a policy, with everything that it
// can answer; where variants is false, without what is steered.
func signedBy(t testing.TB, w *fleet.World, policy string, variants bool) *zone.Zone {
	t.Helper()
	spec := &w.Snapshot.Spec.Zones[0]
	p := w.Snapshot.Spec.DNSSECPolicy(policy)
	state, _, _, err := sign.Step(sign.State{}, spec.Zone, p, now, sign.Facts{}, rand.NewChaCha8([32]byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	o := sign.Options{State: &state, Policy: p, Serial: 8, Now: now}
	if variants {
		exports, err := NewExports(w)
		if err != nil {
			t.Fatal(err)
		}
		all, err := exports.Variants(spec, true)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range all {
			o.Variants = append(o.Variants, sign.Variants{Owner: zone.Wire(v.Name), Type: v.Type, Empty: v.Empty, Sets: v.Sets, Export: v.Export})
		}
	}
	z, _, err := sign.Sign(mustZone(t, spec.Zone, spec.Records), &o)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// publish puts a signed zone into the World.
func publish(w *fleet.World, z *zone.Zone) {
	data := z.Encode()
	w.Zones = w.Zones.With([]fleet.Object{{Key: fleet.ObjectKey{Kind: fleet.ObjectZone, ID: string(z.Name)}, Version: fmt.Sprintf("%x", sha256.Sum256(data)), Data: data}}, nil)
}

// RFC 4035 §3.1.1: whatever health is and whoever asks, a steered answer comes with a signature that was made before.
func TestRFC4035SteeredAnswersVerify(t *testing.T) {
	for _, policy := range []string{"default", "hashed"} {
		t.Run(policy, func(t *testing.T) {
			p, err := Compile(id, signedWorld(t, policy, true), newAtlas(), nil, now, nil)
			if err != nil {
				t.Fatal(err)
			}
			z := p.Zone("signed.test.")
			for mask := range 8 {
				var regions []string
				for i, r := range []string{"fra", "tyo", "gru"} {
					if mask&(1<<i) != 0 {
						regions = append(regions, r)
					}
				}
				v := down("web", regions...)
				for _, s := range []string{"split", "order"} {
					for target, verdict := range down(s, regions...).Verdicts {
						v.Verdicts[target] = verdict
					}
				}
				q := p.WithView(v, now)
				for _, subnet := range []string{"10.1.0.0/24", "10.1.7.0/24", "10.2.0.0/24", "10.3.0.0/24", "2001:db8:100::/48"} {
					for _, name := range []string{"www", "split", "order", "x.any", "alias"} {
						for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeANY, dns.TypeMX} {
							m := askStream(t, q, name+".signed.test.", qtype, subnetOf(subnet), func(m *dns.Msg) { m.IsEdns0().SetDo() })
							verify(t, z, m)
							if t.Failed() {
								t.Fatalf("down %v, %s: %v", regions, subnet, m)
							}
						}
					}
				}
			}
		})
	}
}

// RFC 4035 §3.1.3.1: a steered name that has no region for a client just now is NODATA, proven by an NSEC or NSEC3 that lacks the type, made before.
// RFC 2308 §5: and not for longer than its addresses would have been kept.
func TestRFC4035SteeredNoData(t *testing.T) {
	for _, policy := range []string{"default", "hashed"} {
		p, err := Compile(id, signedWorld(t, policy, true), newAtlas(), down("order", "gru", "fra"), now, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS} {
			m := ask(t, p, "order.signed.test.", qtype, do)
			types, ok := matched(m, "order.signed.test.")
			if !ok || slices.Contains(types, dns.TypeA) || slices.Contains(types, dns.TypeAAAA) || slices.Contains(types, dns.TypeHTTPS) || m.Rcode != 0 || len(m.Answer) != 0 {
				t.Errorf("%s: %v", policy, m)
			}
			for _, rr := range m.Ns {
				if rr.Header().Ttl > 30 {
					t.Errorf("%s: kept for too long: %v", policy, rr)
				}
			}
			verify(t, p.Zone("signed.test."), m)
		}
		if types, ok := matched(ask(t, p, "order.signed.test.", dns.TypeMX, do), "order.signed.test."); !ok || !slices.Contains(types, dns.TypeA) {
			t.Errorf("%s: what is absent for all is denied by %v", policy, types)
		}
		if types, ok := matched(ask(t, p.WithView(nil, now), "order.signed.test.", dns.TypeMX, do), "order.signed.test."); !ok || !slices.Contains(types, dns.TypeA) || !slices.Contains(types, dns.TypeHTTPS) {
			t.Errorf("%s: all is well, and types are %v", policy, types)
		}
	}
}

// A World whose signed zone could answer without a signature is refused, and
// the plan before stays; a zone from outside leaves such names as they are.
func TestSignedZoneWithoutVariantsIsRefused(t *testing.T) {
	w := signedWorld(t, "default", false)
	_, err := Compile(id, w, newAtlas(), nil, now, nil)
	if err == nil || !strings.Contains(err.Error(), "zone signed.test.: steered name www.signed.test.: the zone is signed") {
		t.Errorf("%v", err)
	}
	before, rest, _ := strings.Cut(steeredSigned, "  dnssec: default\n")
	_, steered, _ := strings.Cut(rest, "  steered:")
	secondary := newWorld(t, before+"  primaries: [{address: \"192.0.2.9:53\"}]\n  steered:"+steered)
	p, err := Compile(id, secondary, newAtlas(), nil, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	obj, _ := w.Zones.Get("signed.test.")
	z, err := zone.Load("signed.test.", obj.Data, "")
	if err != nil {
		t.Fatal(err)
	}
	p = p.WithZone(z)
	if m := ask(t, p, "www.signed.test.", dns.TypeA, do); len(m.Answer) != 0 || m.Rcode != dns.RcodeNameError {
		t.Errorf("%v", m)
	}
}

func TestSignedSteeredAnswersDoNotAllocate(t *testing.T) {
	p, err := Compile(id, signedWorld(t, "hashed", true), newAtlas(), down("order", "gru", "fra"), now, nil)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, MaxStream)
	var w Worker
	for _, name := range []string{"www", "split", "order", "x.any"} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeHTTPS, dns.TypeMX} {
			q := pack(t, query(name+".signed.test.", qtype, subnetOf("10.1.0.0/24"), func(m *dns.Msg) { m.IsEdns0().SetDo() }))
			p.Answer(&w, q, Client{Addr: resolver}, out)
			if n := testing.AllocsPerRun(20, func() { p.Answer(&w, q, Client{Addr: resolver}, out) }); n != 0 {
				t.Errorf("%s %s: %v allocations", name, dns.Type(qtype), n)
			}
		}
	}
}
