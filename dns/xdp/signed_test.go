package xdp

import (
	"math/rand/v2"
	"strings"
	"testing"

	"meridian/dns/answer"
	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
)

const signedSpec = `
regions:
- {id: fra, location: {latitude: 50.1, longitude: 8.7}, vips: {v4: [192.0.2.1], v6: ["2001:db8::1"]}}
- {id: tyo, location: {latitude: 35.7, longitude: 139.7}, vips: {v4: [192.0.2.2, 192.0.2.22], v6: ["2001:db8::2"]}}
services:
- {service: web, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}]}
- {service: split, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}],
   steering: {policy: weighted, weights: {fra: 50, tyo: 50}}}
- {service: order, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}],
   steering: {policy: failover, regions: [tyo], all_down: fail_closed}}
dns:
  errors_to: errors.example
  dnssec: [{policy: nsec}, {policy: nsec3, denial: nsec3}, {policy: optout, denial: nsec3, opt_out: true}, {policy: compact, denial: compact}]
zones:
- zone: signed.test
  dnssec: POLICY
  records: |
    $TTL 300
    @ SOA ns1 admin 7 3600 600 86400 60
    @ NS ns1
    ns1 A 192.0.2.53
    mx1 A 192.0.2.54
    mx2 A 192.0.2.55
    alias CNAME nothing
    home CNAME www
    wild CNAME x.many
    plain TXT "x"
    mail MX 10 mx1
    old DNAME empty
    a.b.ent TXT "deep"
    *.many TXT "one"
    *.many TXT "two"
    *.to CNAME plain
    child NS ns.child
    ns.child A 192.0.2.54
    secure NS ns.child
    secure DS 1 13 2 00
  steered:
  - {name: www, service: web, https: {second: true}}
  - {name: split, service: split}
  - {name: order, service: order}
  - {name: "*.any", service: web}
`

// signedPlan gives a plan whose zone is signed by a policy, all variants among
// it.
func signedPlan(t testing.TB, policy string, v *fleet.View) *answer.Plan {
	t.Helper()
	w := newWorld(t, strings.ReplaceAll(signedSpec, "POLICY", policy))
	signWorld(t, w, policy)
	plan, err := answer.Compile(id, w, newAtlas(), v, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// signWorld signs the first zone of a World by a policy, all variants of its
// steered names among it, as the control plane does.
func signWorld(t testing.TB, w *fleet.World, policy string) {
	t.Helper()
	spec := &w.Snapshot.Spec.Zones[0]
	p := w.Snapshot.Spec.DNSSECPolicy(policy)
	state, _, _, err := sign.Step(sign.State{}, spec.Zone, p, now, sign.Facts{}, rand.NewChaCha8([32]byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	o := sign.Options{State: &state, Policy: p, Serial: 8, Now: now}
	list, err := answer.Variants(w, spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		o.Variants = append(o.Variants, sign.Variants{Owner: zone.Wire(v.Name), Type: v.Type, Empty: v.Empty, Sets: v.Sets})
	}
	base, err := zone.Load(spec.Zone, []byte(spec.Records), "")
	if err != nil {
		t.Fatal(err)
	}
	signed, _, err := sign.Sign(base, &o)
	if err != nil {
		t.Fatal(err)
	}
	key := fleet.ObjectKey{Kind: fleet.ObjectZone, ID: string(spec.Zone)}
	w.Zones = new(fleet.Zones).With([]fleet.Object{{Key: key, Data: signed.Encode(), Version: "signed"}}, nil)
}

// Signed zones are answered alike, by whatever denial, and through a change of
// health.
func TestSignedZones(t *testing.T) {
	for _, policy := range []string{"nsec", "nsec3", "optout", "compact"} {
		t.Run(policy, func(t *testing.T) {
			m := newMachine(t, signedPlan(t, policy, nil))
			m.agree(t, 5, many())
			for _, name := range []string{"www", "split", "mail", "home", "x.any", "x.child", "child", "secure"} {
				rtype := uint16(zone.TypeA)
				if name == "mail" {
					rtype = zone.TypeMX
				}
				do := name != "x.any" && !(policy == "compact" && strings.HasSuffix(name, "child")) // those have proofs of their own
				if !m.compare(t, withOptions(name+".signed.test", rtype, do, ecs4(10, 2, 3)...), nobodyPort) {
					t.Errorf("%s: passed to the sockets", name)
				}
			}
			for _, v := range []*fleet.View{down("order", "tyo"), down("web", "fra")} {
				p := m.plan.WithView(v, now).Settle()
				if ok, err := m.steer(m.image, p); err != nil || !ok {
					t.Fatal(ok, err)
				}
				m.plan = p
				m.agree(t, 6, many()/4)
			}
		})
	}
}
