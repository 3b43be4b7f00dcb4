package xdp

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"meridian/dns/answer"
	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
)

// signZone signs a zone in the manner of a policy.
func signZone(t testing.TB, name fleet.Name, text, policy string) *zone.Zone {
	t.Helper()
	base, err := zone.Load(name, []byte(text), "")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, strings.ReplaceAll(signedSpec, "POLICY", policy))
	p := w.Snapshot.Spec.DNSSECPolicy(policy)
	state, _, _, err := sign.Step(sign.State{}, name, p, now, sign.Facts{}, rand.NewChaCha8([32]byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	z, _, err := sign.Sign(base, &sign.Options{State: &state, Policy: p, Serial: 8, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// closeLabel draws a label that falls near to others.
func closeLabel(r *rand.Rand) string {
	octets := []byte{'a', 'b', '-', 'z', 0x01, 0x20, 0x7f, 0xff}
	common := strings.Repeat("same", 1+r.IntN(15))
	label := []byte(common[:r.IntN(min(len(common), 58))])
	for range 1 + r.IntN(4) {
		label = append(label, octets[r.IntN(len(octets))])
	}
	return string(label)
}

// gapZone has names whose labels stand close together, wildcards, delegations
// and empty non-terminals among them.
func gapZone(r *rand.Rand, names int) string {
	var b strings.Builder
	b.WriteString("$ORIGIN g.test.\n$TTL 300\n@ SOA ns1 admin.not.there 1 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\n")
	b.WriteString("*.one A 192.0.2.1\n*.two CNAME x.one\nsub NS ns.example.\n*.away CNAME x.sub\n*.dead CNAME not.there\nold DNAME one\n*.far CNAME x.old\n")
	text := func() string {
		var out strings.Builder
		for _, c := range []byte(closeLabel(r)) {
			fmt.Fprintf(&out, "\\%03d", c)
		}
		if r.IntN(20) == 0 {
			return out.String() + "\\000"
		}
		return out.String()
	}
	for i := range names {
		n := text()
		for r.IntN(4) == 0 && len(n) < 300 {
			n += "." + text()
		}
		switch r.IntN(12) {
		case 0:
			fmt.Fprintf(&b, "*.%s TXT \"w\"\n*.%s A 192.0.2.9\n", n, n)
		case 1:
			fmt.Fprintf(&b, "%s NS ns.example.\n", n)
		case 2:
			fmt.Fprintf(&b, "*.c%d.%s CNAME ns1\n", i, n)
		default:
			fmt.Fprintf(&b, "%s A 192.0.2.%d\n", n, i%256)
		}
	}
	return b.String()
}

// Names that do not exist, and those that wildcards stand for, have their NSEC
// from the kernel, wherever in the order they stand, and their NSEC3.
func TestGaps(t *testing.T) {
	for _, policy := range []string{"nsec", "nsec3", "optout"} {
		t.Run(policy, func(t *testing.T) {
			for _, size := range []int{0, 5, 70, 6000} {
				testGaps(t, size, policy)
			}
		})
	}
}

func testGaps(t *testing.T, size int, policy string) {
	r := rand.New(rand.NewPCG(21, uint64(size)))
	{
		z := signZone(t, "g.test.", gapZone(r, size), policy)
		m := newMachine(t, answer.Zones(id, []*zone.Zone{z}))
		if len(m.image.left()) > 0 || m.image.compiler.plain {
			t.Fatal("no room")
		}
		var names []string
		for n := range z.Nodes() {
			names = append(names, n.Name)
		}
		asked, answered := 0, 0
		for range many() / 20 {
			name := names[r.IntN(len(names))]
			at := 0
			for r.IntN(2) == 0 && len(name[at:]) > len(z.Apex().Name) {
				at += 1 + int(name[at])
			}
			var label string
			switch label = closeLabel(r); {
			case at > 0 && r.IntN(2) == 0: // the neighbours of one that exists
				label = near(r, name, at)
			case r.IntN(3) == 0:
				label = "Nothing"
			}
			if strings.IndexByte(label, 0) >= 0 || label == "" || len(label) > 63 {
				continue
			}
			q := []byte(string([]byte{byte(len(label))}) + label + name[at:])
			if r.IntN(3) == 0 {
				q = append([]byte("\x04deep"), q...)
			}
			if len(q) > maxName || labels(q) > maxCuts || strings.IndexByte(string(q[:len(q)-1]), 0) >= 0 {
				continue
			}
			rtype := []uint16{zone.TypeA, zone.TypeTXT, zone.TypeAAAA, zone.TypeDS, zone.TypeSOA}[r.IntN(5)]
			asked++
			if m.compare(t, question(q, rtype, true), clientOf(r.Uint32())) {
				answered++
			} else if policy == "nsec" && !zone.Below(q, string(zone.Wire("old.g.test."))) {
				t.Errorf("among %d names, passed to the sockets: %q, type %d", len(names), q, rtype)
			}
		}
		if asked < many()/40 {
			t.Errorf("among %d names only %d queries", len(names), asked)
		}
		if t.Logf("%d names: %d of %d answered in the kernel", len(names), answered, asked); answered < asked*2/3 {
			t.Error("those are few")
		}
		m.kernel.Close()
	}
}

// near gives a label close to the one that ends at an octet of a name.
func near(r *rand.Rand, name string, end int) string {
	at := 0
	for at+1+int(name[at]) < end {
		at += 1 + int(name[at])
	}
	label := []byte(name[at+1 : end])
	switch r.IntN(4) {
	case 0:
		label = label[:len(label)-1]
	case 1:
		label = append(label, 1)
	case 2:
		label[len(label)-1]++
	case 3:
		label[r.IntN(len(label))]--
	}
	return string(label)
}

// Where proofs have no room, the zone's names still have.
func TestGapsWithoutRoom(t *testing.T) {
	z := signZone(t, "g.test.", gapZone(rand.New(rand.NewPCG(1, 2)), 500), "nsec")
	whole := newMachine(t, answer.Zones(id, []*zone.Zone{z}))
	m := newSmallMachine(t, answer.Zones(id, []*zone.Zone{z}), len(whole.image.arena.blocks)/2+1)
	if len(m.image.left()) > 0 || !m.image.compiler.plain {
		t.Fatalf("%d blocks with proofs, %d without, %v left", len(whole.image.arena.blocks), len(m.image.arena.blocks), m.image.left())
	}
	if !m.compare(t, question(zone.Wire("ns1.g.test."), zone.TypeA, true), nobodyPort) {
		t.Error("a name was passed to the sockets")
	}
	if m.compare(t, question(zone.Wire("nothing.g.test."), zone.TypeA, true), nobodyPort) {
		t.Error("a proof was found")
	}
}

// proofs gives what names cost that do not exist in a signed zone, with DO:
// right below the apex, where there are as many gaps as names, and below names.
func proofs(b *testing.B) {
	const names = 10_000
	for _, c := range []struct{ policy, what, format string }{
		{"nsec", "NSEC/NXDOMAIN", "host%dx.example.test."}, {"nsec", "NSEC/NXDOMAIN, deeper", "x.host%d.example.test."},
		{"nsec3", "NSEC3/NXDOMAIN", "host%dx.example.test."},
	} {
		m := newMachine(b, answer.Zones(id, []*zone.Zone{signZone(b, "example.test.", benchText(names), c.policy)}))
		for _, queries := range []int{1, 65536} {
			frames := make([][]byte, queries)
			r := rand.New(rand.NewPCG(1, 1))
			for i := range frames {
				name := zone.Wire(fleet.Name(fmt.Sprintf(c.format, r.IntN(names))))
				frames[i] = frame(nobodyPort, server4, question(name, zone.TypeA, true))
			}
			b.Run(fmt.Sprintf("names=%d/%s/queries=%d", names, c.what, queries), func(b *testing.B) { m.measure(b, frames) })
		}
	}
}
