package xdp

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"meridian/dns/answer"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/steer"
)

// randomZone writes a zone of few labels, so that names fall together: below
// delegations, wildcards and aliases, and in what answers mention.
func randomZone(r *rand.Rand, apex string, others []string) string {
	labels := []string{"a", "b", "c", "ns", "*", "mx", "x"}
	name := func() string {
		var parts []string
		for range 1 + r.IntN(3) {
			parts = append(parts, labels[r.IntN(len(labels))])
		}
		return strings.Join(parts, ".")
	}
	target := func() string {
		switch r.IntN(5) {
		case 0:
			return name() + "." + others[r.IntN(len(others))]
		case 1:
			return name() + ".example."
		}
		return strings.ReplaceAll(name(), "*.", "") + "." + apex
	}
	var b strings.Builder
	fmt.Fprintf(&b, "$ORIGIN %s\n$TTL %d\n@ SOA %s %s 7 3600 600 86400 60\n@ NS %s\n", apex, 60+r.IntN(1000), target(), target(), target())
	for range 4 + r.IntN(14) {
		n := name()
		switch r.IntN(10) {
		case 0, 1:
			fmt.Fprintf(&b, "%s A 192.0.2.%d\n", n, r.IntN(256))
		case 2:
			fmt.Fprintf(&b, "%s AAAA 2001:db8::%d\n", n, r.IntN(256))
		case 3:
			fmt.Fprintf(&b, "%s MX %d %s\n%s TXT \"x\"\n", n, r.IntN(20), target(), n)
		case 4:
			fmt.Fprintf(&b, "%s CNAME %s\n", n, target())
		case 5:
			if !strings.HasPrefix(n, "*") {
				fmt.Fprintf(&b, "%s NS %s\n%s NS %s\n", n, target(), n, target())
			}
		case 6:
			fmt.Fprintf(&b, "%s SRV 0 0 80 %s\n", n, target())
		case 7:
			if !strings.HasPrefix(n, "*") {
				fmt.Fprintf(&b, "%s DNAME %s\n", n, target())
			}
		case 8:
			fmt.Fprintf(&b, "%s PTR %s\n", n, target())
		case 9:
			fmt.Fprintf(&b, "%s HTTPS 1 %s alpn=h2\n", n, target())
		}
	}
	return b.String()
}

// In zones of all kinds of trouble the kernel answers as the sockets do.
func TestRandomZones(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	worlds, answered, total := 60, 0, 0
	if testing.Short() {
		worlds = 10
	}
	apexes := []string{"t.", "a.t.", "b.a.t.", "o.u."}
	for world := 0; world < worlds; {
		var zones []*zone.Zone
		for _, apex := range apexes {
			z, err := zone.Load(fleet.Name(apex), []byte(randomZone(r, apex, apexes)), "")
			if err == nil && r.IntN(4) > 0 {
				zones = append(zones, z)
			}
		}
		if len(zones) == 0 {
			continue
		}
		m := newMachine(t, answer.Zones(id, zones))
		a := newAsker(m.plan, uint64(world))
		a.types = []uint16{1, 1, 28, 2, 5, 6, 15, 16, 12, 33, 39, 43, 65, 99}
		for range 300 {
			total++
			if m.compare(t, a.query(), a.client()) {
				answered++
			}
		}
		m.kernel.Close()
		world++
	}
	t.Logf("%d of %d answered in the kernel", answered, total)
}

// Names that an answer mentions lie in a zone below, and what is above them
// does not exist here: it is told apart all the same.
func TestNamesMentionedFromAZoneBelow(t *testing.T) {
	var zones []*zone.Zone
	for apex, text := range map[fleet.Name]string{
		"u.":     "$TTL 300\n@ SOA c.a.x.o mx.x 7 3600 600 86400 60\n@ NS ns.example.\n* A 192.0.2.1\n",
		"x.o.u.": "$TTL 300\n@ SOA ns.example. admin 7 3600 600 86400 60\n@ NS ns.example.\n",
	} {
		z, err := zone.Load(apex, []byte(text), "")
		if err != nil {
			t.Fatal(err)
		}
		zones = append(zones, z)
	}
	m := newMachine(t, answer.Zones(id, zones))
	for _, name := range []string{"mx.o.u", "o.u", "y.u", "a.x.o.u", "mx.x.u", "y.x.u", "y.y.o.u"} {
		for _, rtype := range []uint16{zone.TypeA, zone.TypeHTTPS} {
			if !m.compare(t, withOptions(name, rtype, false), nobodyPort) {
				t.Errorf("%s %d: passed to the sockets", name, rtype)
			}
		}
	}
}

// randomWorld writes a Spec with such zones, in which names of few services are
// steered.
func randomWorld(r *rand.Rand, policy string) string {
	head, _, _ := strings.Cut(signedSpec, "zones:\n")
	var b strings.Builder
	b.WriteString(head + "zones:\n")
	apexes := []string{"t.", "a.t.", "b.a.t.", "o.u."}
	for i, apex := range apexes {
		if i > 0 && r.IntN(3) == 0 {
			continue
		}
		fmt.Fprintf(&b, "- zone: %s\n", apex)
		if i == 0 && policy != "" {
			fmt.Fprintf(&b, "  dnssec: %s\n", policy)
		}
		b.WriteString("  records: |\n    " + strings.ReplaceAll(strings.TrimSpace(randomZone(r, apex, apexes)), "\n", "\n    ") + "\n  steered:\n")
		used := map[string]bool{}
		for range 1 + r.IntN(6) {
			name := []string{"@", "a", "b", "c", "ns", "mx", "x", "*.a", "*.ns", "*", "x.ns", "a.b", "ns.mx"}[r.IntN(13)]
			if !used[name] {
				used[name] = true
				fmt.Fprintf(&b, "  - {name: %q, service: %s%s}\n", name, []string{"web", "order", "split"}[r.IntN(3)], []string{"", ", https: {second: true}"}[r.IntN(2)])
			}
		}
	}
	return b.String()
}

// So does it where names of such zones are steered, whatever health says.
func TestRandomSteeredZones(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	worlds, answered, total := 24, 0, 0
	if testing.Short() {
		worlds = 4
	}
	views := []*fleet.View{nil, down("order", "tyo"), down("web", "fra"), down("web", "fra", "tyo"), {Revision: 10}}
	for world := 0; world < worlds; {
		policy := []string{"", "nsec", "nsec3", "optout"}[world%4]
		s, err := fleet.Compile([]byte(randomWorld(r, policy)), 3, zone.Check, steer.Check)
		if err != nil {
			continue
		}
		w := &fleet.World{Snapshot: s}
		if policy != "" {
			signWorld(t, w, policy)
		}
		plan, err := answer.Compile(id, w, newAtlas(), views[r.IntN(len(views))], now, nil)
		if err != nil {
			t.Fatal(err)
		}
		m := newMachine(t, plan)
		a := newAsker(m.plan, uint64(world))
		a.types = []uint16{1, 1, 28, 65, 65, 2, 5, 6, 15, 16, 43}
		for range 3 {
			for range 300 {
				total++
				if m.compare(t, a.query(), a.client()) {
					answered++
				}
			}
			m.plan = m.plan.WithView(views[r.IntN(len(views))], now).Settle()
			if err := m.image.follow(m.plan); err != nil {
				t.Fatal(err)
			}
		}
		m.kernel.Close()
		world++
	}
	t.Logf("%d of %d answered in the kernel", answered, total)
}
