package xdp

import (
	"strings"
	"testing"

	"meridian/dns/answer"
	"meridian/dns/zone"
	"meridian/fleet"
)

// What health brings is signed for each name, also where there was nothing to
// tell the names apart before.
func TestFlipToWhatNoNameHad(t *testing.T) {
	doc := signedSpec + "  - {name: other, service: order}\n  - {name: third, service: order}\n"
	for _, policy := range []string{"nsec", "nsec3"} {
		t.Run(policy, func(t *testing.T) {
			w := newWorld(t, strings.ReplaceAll(doc, "POLICY", policy))
			signWorld(t, w, policy)
			plan, err := answer.Compile(id, w, newAtlas(), down("order", "tyo"), now, nil)
			if err != nil {
				t.Fatal(err)
			}
			m := newMachine(t, plan)
			check := func() {
				t.Helper()
				for _, name := range []string{"order", "other", "third"} {
					for _, rtype := range []uint16{zone.TypeA, zone.TypeAAAA} {
						for _, do := range []bool{false, true} {
							m.compare(t, withOptions(name+".signed.test", rtype, do), nobodyPort)
						}
					}
				}
			}
			check()
			p := m.plan.WithView(&fleet.View{Revision: 10}, now).Settle()
			if ok, err := m.steer(m.image, p); err != nil || !ok {
				t.Fatal(ok, err)
			}
			m.plan = p
			check()
		})
	}
}

// Names that answers mention have answers of their own when they are steered.
func TestSteeredNamesThatAnswersMention(t *testing.T) {
	doc := strings.Replace(spec, "steered:\n", "steered:\n  - {name: a.order, service: order}\n  - {name: ns1, service: order}\n  - {name: below.ns1, service: order}\n  - {name: admin.staff, service: order}\n", 1)
	doc = strings.Replace(doc, "    ns1 A 192.0.2.53\n    ns1 AAAA 2001:db8::53\n", "", 1)
	m := newMachine(t, newPlan(t, doc, down("order", "gru", "fra")))
	for _, name := range []string{"order", "a.order", "ns1", "below.ns1", "admin.staff", "staff", "x.staff"} {
		for _, rtype := range []uint16{zone.TypeA, zone.TypeAAAA, zone.TypeHTTPS, zone.TypeTXT} {
			for _, do := range []bool{false, true} {
				m.compare(t, withOptions(name+".demo.test", rtype, do), nobodyPort)
			}
		}
	}
}

// Names are told apart where the same is decided of them, but they are answered
// otherwise.
func TestSteeredAlikeAnsweredOtherwise(t *testing.T) {
	doc := strings.Replace(spec, "    caa CAA", "    zalias CNAME www\n    zother CNAME order\n    caa CAA", 1)
	doc = strings.Replace(doc, ", ttl: 60s", "", 1)
	doc = strings.Replace(doc, "steered:\n", "steered:\n  - {name: \"*.staff\", service: web}\n", 1)
	m := newMachine(t, newPlan(t, doc, nil))
	check := func() {
		t.Helper()
		for _, name := range []string{"", "www.", "zalias.", "order.", "zother.", "x.geo.", "x.staff.", "x.y.staff."} {
			for _, rtype := range []uint16{zone.TypeA, zone.TypeAAAA, zone.TypeHTTPS, zone.TypeTXT} {
				for _, do := range []bool{false, true} {
					if !m.compare(t, withOptions(name+"demo.test", rtype, do), nobodyPort) {
						t.Errorf("%s %d: passed to the sockets", name, rtype)
					}
				}
			}
		}
	}
	check()
	for _, v := range []*fleet.View{down("order", "gru", "fra"), down("web", "fra", "tyo"), {Revision: 10}} {
		p := m.plan.WithView(v, now).Settle()
		if ok, err := m.steer(m.image, p); err != nil || !ok {
			t.Fatal(ok, err)
		}
		m.plan = p
		check()
	}
}

// Service records do not rotate, however many there are: their scope is not the
// rotation's.
func TestServiceRecordsDoNotRotate(t *testing.T) {
	for _, rotate := range []string{"client", "none"} {
		doc := strings.Replace(signedSpec, "- {service: web, protocol: http, ports: [80],", "- {service: web, protocol: http, steering: {rotate: "+rotate+"}, ports: [80],", 1)
		doc = strings.Replace(doc, "  dnssec: POLICY\n", "", 1)
		m := newMachine(t, newPlan(t, doc, nil))
		for _, rtype := range []uint16{zone.TypeHTTPS, zone.TypeA, zone.TypeAAAA} {
			for i := range byte(40) {
				if !m.compare(t, withOptions("www.signed.test", rtype, false, ecs4(10, i%5, i)...), nobodyPort) {
					t.Errorf("type %d: passed to the sockets", rtype)
				}
			}
		}
	}
}
