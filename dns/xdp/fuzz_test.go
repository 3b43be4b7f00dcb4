package xdp

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"meridian/dns/answer"
	"meridian/dns/limit"
	"meridian/dns/zone"
	"meridian/fleet"
)

// fuzzed are the nameservers that FuzzProgram asks.
type fuzzed struct {
	*machine
	limited bool
	proxies []netip.Prefix // from where all is the sockets'
}

func newFuzzed(t testing.TB) []fuzzed {
	settings := func(dns string) *machine {
		return newMachine(t, newPlan(t, strings.Replace(spec, "zones:\n", "dns: {"+dns+"}\nzones:\n", 1), down("web", "fra")))
	}
	out := []fuzzed{
		{machine: settings("whoami: whoami.demo.test, errors_to: errors.example")},
		{machine: settings("cookies: {require: true}, nsid: here")},
		{machine: settings("ecs: false, cookies: {off: true}, any: hinfo")},
		{machine: newMachine(t, newPlan(t, strings.Replace(rotateSpec, "ROTATE", "client", 1), nil))},
	}
	for _, policy := range []string{"nsec", "nsec3", "optout", "compact"} {
		out = append(out, fuzzed{machine: newMachine(t, signedPlan(t, policy, down("order", "tyo")))})
	}
	r, apexes := rand.New(rand.NewPCG(17, 18)), []string{"t.", "a.t.", "b.a.t.", "o.u."}
	for range 3 {
		var zones []*zone.Zone
		for _, apex := range apexes {
			if z, err := zone.Load(fleet.Name(apex), []byte(randomZone(r, apex, apexes)), ""); err == nil {
				zones = append(zones, z)
			}
		}
		out = append(out, fuzzed{machine: newMachine(t, answer.Zones(id, zones))})
	}
	out = append(out, fuzzed{machine: newMachine(t, answer.Zones(id, []*zone.Zone{signZone(t, "g.test.", gapZone(r, 100), "nsec")}))})
	behind := fuzzed{machine: settings(""), proxies: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/15"), netip.MustParsePrefix("2001:db8:1::/48"), netip.MustParsePrefix("2001:db8:200::/40")}}
	if err := behind.setProxies(behind.proxies); err != nil {
		t.Fatal(err)
	}
	out = append(out, behind)
	m := newMachine(t, newPlan(t, spec, nil))
	table, err := m.debtTable()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.setLimit(limit.NewIn(limit.Config{PerSecond: 20, Slip: 2}, table), table); err != nil {
		t.Fatal(err)
	}
	return append(out, fuzzed{machine: m, limited: true})
}

// ask puts a message from a client into a packet, spoils that by a recipe, and
// has the program's answer checked, twice where something stands behind the
// packet, which must not matter.
func (f *fuzzed) ask(t testing.TB, q []byte, from uint32, recipe []byte) bool {
	t.Helper()
	client, server := clientOf(from), server4
	if client.Addr().Is6() {
		server = server6
	}
	p := newPacket(client, server, q)
	p.spoil(recipe)
	in := p.frame()
	if len(in) < 14 || len(in) > 1600 {
		return false // no frame
	}
	answered := f.check(t, in, f.limited)
	if p, ok := find(in); ok && answered && slices.ContainsFunc(f.proxies, func(n netip.Prefix) bool { return n.Contains(p.client.Addr()) }) {
		t.Fatalf("%x\nis from a proxy, and was answered", in)
	}
	if len(p.behind) > p.cut && !f.limited {
		with := in[:len(in)-len(p.behind)+p.cut]
		with = append(with[:len(with):len(with)], bytes.Repeat([]byte{0xc3}, len(p.behind)-p.cut)...)
		if f.check(t, with, false) != answered {
			t.Fatalf("%x\nis answered or not by what stands behind it", with)
		}
	}
	return answered
}

// FuzzProgram: whatever comes in, in whatever frame, the kernel answers it
// octet for octet as the sockets do, or passes it on as it came.
func FuzzProgram(f *testing.F) {
	machines := newFuzzed(f)
	for i := range machines {
		a := newAsker(machines[i].plan, 3)
		for n := range 60 {
			var recipe []byte
			if n%2 == 0 {
				recipe = a.recipe()
			}
			f.Add(uint8(i), a.query(), a.Uint32(), recipe)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, q []byte, from uint32, recipe []byte) {
		if len(q) > 1200 || len(recipe) > 16 {
			t.Skip()
		}
		machines[int(which)%len(machines)].ask(t, q, from, recipe)
	})
}

// recipe draws one that mostly spoils one thing.
func (a *asker) recipe() []byte {
	var out []byte
	for ok := true; ok; ok = a.IntN(3) == 0 {
		out = append(out, byte(a.IntN(23)), byte(a.Uint32()))
	}
	return out
}

// Frames of all kinds, each with one thing or more that is not as it ought to
// be: the program answers what the sockets answer, or passes it on. Only the
// spoilt frames are so many; the queries in them are mostly right.
func TestSpoiltFrames(t *testing.T) {
	machines := newFuzzed(t)
	for i := range machines {
		m := &machines[i]
		a, answered := newAsker(m.plan, 9), 0
		for range many() / 10 {
			q := a.query()
			if a.IntN(8) == 0 {
				q = a.mutate(q)
			}
			if m.ask(t, q, a.Uint32(), a.recipe()) {
				answered++
			}
		}
		if answered == 0 {
			t.Errorf("server %d: none was answered in the kernel", i)
		}
	}
}
