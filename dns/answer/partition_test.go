package answer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/geo"
)

// everyPolicy has one steered name for each policy and manner of answering.
const everyPolicy = `
regions:
- {id: fra, location: {latitude: 50.1, longitude: 8.7}, vips: {v4: [192.0.2.1], v6: ["2001:db8::1"]}}
- {id: tyo, location: {latitude: 35.7, longitude: 139.7}, vips: {v4: [192.0.2.2], v6: ["2001:db8::2"]}}
- {id: gru, location: {latitude: -23.5, longitude: -46.6}, vips: {v4: [192.0.2.3]}, capacity: 50}
- {id: iad, location: {latitude: 39, longitude: -77.5}, vips: {v4: [192.0.2.4], v6: ["2001:db8::4"]}}
anycast: {v4: [198.51.100.1], v6: ["2001:db8:f::1"]}
subnet_maps:
- {map: offices, subnets: [{prefixes: [10.0.0.0/9, "2001:db8:100::/44"], regions: [iad]}, {prefixes: [10.64.0.0/10], regions: [tyo]}, {prefixes: [10.64.3.128/25, 192.168.0.0/16], regions: [gru]}]}
services:
- {service: near, protocol: http, ports: [80], pools: &p [{id: main, endpoints: [{address: "10.0.0.1:80"}]}]}
`

// policies are the steerings of everyPolicy's names p0, p1, …
var policies = []string{
	`{}`,
	`{records: 2, rotate: client}`,
	`{answer: anycast}`,
	`{policy: failover, regions: [gru, fra], all_down: fail_closed}`,
	`{policy: weighted, weights: {fra: 50, tyo: 50, gru: 0}}`,
	`{policy: geo, geo: [{countries: [JP], regions: [gru]}, {continents: [EU], regions: [tyo, fra]}], unmapped: [iad]}`,
	`{policy: subnet, subnet_map: offices, subnets: [{prefixes: [10.64.0.0/11, 10.3.0.7/32], regions: [fra]}]}`,
	`{policy: latency, unmapped: [tyo]}`,
	`{policy: all, regions: [tyo, gru, iad]}`,
	`{policy: failover, regions: [eu, us], groups: [{group: eu, policy: weighted, regions: [fra, tyo], weights: {fra: 3, tyo: 1}, min_healthy: 1}, {group: us, regions: [iad, gru]}]}`,
	`{policy: geo, geo: [{continents: [EU], regions: [split]}], groups: [{group: split, policy: weighted, regions: [fra, iad], weights: {fra: 1, iad: 1}}], regions: [split, tyo, gru]}`,
	`{demand: {fra: 60, tyo: 30, gru: 40, iad: 90}, all_down: fallback, fallback: [iad]}`,
}

const latencies = `network,region,ms
10.3.0.0/16,iad,10
10.3.0.0/16,tyo,5
10.3.77.0/24,gru,1
2001:db8:300::/40,gru,1
JP,iad,20
`

func policyWorld(t testing.TB, shifts ...fleet.Shift) *fleet.World {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(everyPolicy[:bytes.Index([]byte(everyPolicy), []byte("- {service: near"))])
	for i, p := range policies {
		fmt.Fprintf(&b, "- {service: s%d, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: \"10.0.0.1:80\"}]}], steering: %s}\n", i, p)
	}
	b.WriteString("dns: {latency_map: map.csv}\nzones:\n- zone: p.test\n  records: |\n    $TTL 300\n    @ SOA ns1 a 1 1 1 1 60\n    @ NS ns1\n    ns1 A 192.0.2.53\n  steered:\n")
	for i := range policies {
		fmt.Fprintf(&b, "  - {name: p%d, service: s%d, https: {second: %v}}\n", i, i, i%2 == 0)
	}
	w := newWorld(t, b.String(), shifts...)
	key := fleet.ObjectKey{Kind: fleet.ObjectLatency, ID: "map.csv"}
	w.Objects = map[fleet.ObjectKey]fleet.Object{key: {Key: key, Data: []byte(latencies)}}
	return w
}

// randomAtlas draws networks of all sizes, side by side and in each other's
// neighbourhood, in both families, in private space and in spaces of IPv6
// that carry IPv4.
func randomAtlas(r *rand.Rand) *atlas {
	codes := []string{"DE", "JP", "BR", "US", "FR", "ZA"}
	var a atlas
	at := uint64(0x0a000000)
	for range 60 {
		bits := 9 + r.IntN(24)
		size := uint64(1) << (32 - bits)
		at = (at + size - 1) &^ (size - 1)
		if at+size > 1<<32 {
			break
		}
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(at))
		a = append(a, struct {
			prefix netip.Prefix
			place  geo.Place
		}{netip.PrefixFrom(netip.AddrFrom4(b), bits), country(codes[r.IntN(len(codes))])})
		at += size * uint64(1+r.IntN(3))
	}
	v6 := netip.MustParseAddr("2001:db8::").As16()
	n := binary.BigEndian.Uint64(v6[:8])
	for range 30 {
		bits := 33 + r.IntN(28)
		size := uint64(1) << (64 - bits)
		n = (n + size - 1) &^ (size - 1)
		var b [16]byte
		binary.BigEndian.PutUint64(b[:8], n)
		a = append(a, struct {
			prefix netip.Prefix
			place  geo.Place
		}{netip.PrefixFrom(netip.AddrFrom16(b), bits), country(codes[r.IntN(len(codes))])})
		n += size * uint64(1+r.IntN(3))
	}
	return &a
}

// randomView draws verdicts of the fleet and of vantages, with latencies.
func randomView(r *rand.Rand, s *fleet.Snapshot) *fleet.View {
	v := &fleet.View{Revision: 1, Verdicts: map[fleet.Target]fleet.Verdict{}, Vantages: map[fleet.VantageTarget]fleet.Verdict{}, Probers: map[string]bool{}}
	state := func(odds int) fleet.Verdict {
		d := fleet.Verdict{State: fleet.Up, Latency: 1e6 * 1 << r.IntN(8)}
		if r.IntN(odds) == 0 {
			d.State, d.Forced = fleet.Down, r.IntN(3) == 0
		}
		return d
	}
	for _, reg := range s.Spec.Regions {
		if r.IntN(4) > 0 {
			v.Probers[reg.ID] = true
		}
		for _, svc := range s.Spec.Services {
			t := fleet.Target{Kind: fleet.TargetService, Region: reg.ID, Service: svc.Service}
			v.Verdicts[t] = state(4)
			for _, from := range s.Spec.Regions {
				v.Vantages[fleet.VantageTarget{Vantage: from.ID, Target: t}] = state(6)
			}
			v.Vantages[fleet.VantageTarget{Vantage: reg.ID, Target: fleet.Target{Kind: fleet.TargetAnycast, Service: svc.Service}}] = state(4)
		}
	}
	return v
}

func randomShifts(r *rand.Rand) []fleet.Shift {
	var out []fleet.Shift
	for i := range r.IntN(3) {
		sh := fleet.Shift{ID: fmt.Sprint(i), From: []string{"fra", "tyo", "iad"}[r.IntN(3)], Share: float64(1+r.IntN(4)) / 4}
		if r.IntN(2) == 0 {
			sh.To = []string{"gru"}
		}
		if r.IntN(3) == 0 {
			sh.Service = "s0"
		}
		out = append(out, sh)
	}
	return out
}

// borders are the addresses at which answers may change, one before and one
// behind: of every network of the database, the Spec and the latency map; as
// they are, and carried in IPv6.
func borders(a *atlas) []netip.Addr {
	var out []netip.Addr
	add := func(p netip.Prefix) {
		first, last := p.Masked().Addr(), lastOf(p)
		for _, x := range []netip.Addr{first.Prev(), first, first.Next(), last.Prev(), last, last.Next()} {
			if x.IsValid() {
				out = append(out, x)
			}
		}
	}
	for _, n := range *a {
		add(n.prefix)
	}
	for _, p := range []string{"10.0.0.0/9", "10.64.0.0/10", "10.64.0.0/11", "10.64.3.128/25", "192.168.0.0/16", "10.3.0.7/32", "10.3.0.0/16",
		"10.3.77.0/24", "2001:db8:100::/44", "2001:db8:300::/40", "0.0.0.0/0", "::/0", "2002::/16", "2001::/32", "64:ff9b::/96", "::ffff:0:0/96"} {
		add(netip.MustParsePrefix(p))
	}
	for _, x := range slices.Clone(out) {
		if x.Is4() {
			b := x.As4()
			out = append(out, netip.AddrFrom16(x.As16()))
			sixToFour := [16]byte{0x20, 0x02, b[0], b[1], b[2], b[3], 0, 1}
			nat64 := [16]byte{0, 0x64, 0xff, 0x9b, 12: b[0], 13: b[1], 14: b[2], 15: b[3]}
			teredo := [16]byte{0x20, 0x01, 12: ^b[0], 13: ^b[1], 14: ^b[2], 15: ^b[3]}
			out = append(out, netip.AddrFrom16(sixToFour), netip.AddrFrom16(nat64), netip.AddrFrom16(teredo))
		}
	}
	return out
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// checkPartition asks for one name and type from many clients in random order,
// as a resolver does that keeps every answer for its scope.
func checkPartition(t *testing.T, p *Plan, target *target, qtype uint16, clients []netip.Addr) {
	t.Helper()
	var w scratch
	cache := map[netip.Prefix]string{}
	answer := func(a netip.Addr) (string, int) {
		set, scope, ok := p.pick(&w, target, qtype, a)
		if !ok {
			t.Fatalf("type %d is not steered", qtype)
		}
		return string(set.Data), scope
	}
	split := func(a netip.Addr) bool {
		kind := map[uint16]answerKind{zone.TypeA: kindA, zone.TypeAAAA: kindAAAA}[qtype]
		if qtype == zone.TypeHTTPS {
			kind = httpsKind(target.https)
		}
		_, index, _ := p.lookup(&w, p.steering.states[target.service][kind], a)
		return index < 0 || target.rotate == fleet.RotateClient
	}
	for _, a := range clients {
		data, scope := answer(a)
		own := netip.PrefixFrom(a, scope).Masked()
		for bits := 0; bits <= a.BitLen(); bits++ {
			had, ok := cache[netip.PrefixFrom(a, bits).Masked()]
			if ok && had != data {
				t.Fatalf("%s is answered %x, and what is kept for /%d says %x", a, data, bits, had)
			}
			if ok && bits != scope {
				t.Fatalf("%s has scope %d, and lies in a block of /%d", a, scope, bits)
			}
		}
		cache[own] = data
		if scope == 0 {
			continue
		}
		// The widest: the sibling is not one block of the same answer, unless
		// one of them is split by shares, and so is each /24 or /48 for itself.
		sib := sibling(own)
		if other, s := answer(sib.Addr()); s == scope && other == data && !split(a) && !split(sib.Addr()) {
			t.Fatalf("%s and its sibling %s are both answered %x", own, sib, data)
		}
	}
}

func sibling(p netip.Prefix) netip.Prefix {
	b := p.Addr().AsSlice()
	b[(p.Bits()-1)/8] ^= 0x80 >> ((p.Bits() - 1) % 8)
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, p.Bits())
}

// partitioned is a plan without health, and what its partitions are held
// against.
type partitioned struct {
	plan     *Plan
	snapshot *fleet.Snapshot
	borders  []netip.Addr // in order, so that neighbours stand side by side
	variants []NameVariants
}

func newPartitioned(t testing.TB, r *rand.Rand) *partitioned {
	t.Helper()
	source := randomAtlas(r)
	w := policyWorld(t, randomShifts(r)...)
	p, err := Compile(id, w, source, nil, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	variants, err := Variants(w, w.Snapshot.Spec.Zone("p.test."))
	if err != nil {
		t.Fatal(err)
	}
	at := borders(source)
	slices.SortFunc(at, netip.Addr.Compare)
	return &partitioned{p, w.Snapshot, at, variants}
}

// withHealth draws the health of the fleet. What has not settled yet is right
// too, only not the widest.
func (w *partitioned) withHealth(r *rand.Rand) *Plan {
	p := w.plan.WithView(randomView(r, w.snapshot), now)
	if r.IntN(4) > 0 {
		p = p.Settle()
	}
	return p
}

// check asks for one type of the name p<i> from the clients in random order.
func (w *partitioned) check(t *testing.T, p *Plan, r *rand.Rand, i int, qtype uint16, clients []netip.Addr) {
	t.Helper()
	target := &p.find(zone.Wire("p.test."), zone.TypeA).steered[i]
	r.Shuffle(len(clients), func(i, j int) { clients[i], clients[j] = clients[j], clients[i] })
	if p.Settled() {
		checkPartition(t, p, target, qtype, clients)
	}
	checkSettling(t, p, target, qtype, clients)
	checkKnown(t, p, target, qtype, clients, w.variants[3*i:3*i+3])
}

// random4 draws n addresses of 10.0.0.0/8.
func random4(r *rand.Rand, n int) []netip.Addr {
	var out []netip.Addr
	for range n {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 0x0a000000|r.Uint32()>>8)
		out = append(out, netip.AddrFrom4(b))
	}
	return out
}

// checkSettling holds a plan against itself settled: the answers are the same,
// and the scopes no wider before than after.
func checkSettling(t *testing.T, p *Plan, target *target, qtype uint16, clients []netip.Addr) {
	t.Helper()
	q := p.Settle()
	var w, x scratch
	for _, a := range clients {
		before, s1, _ := p.pick(&w, target, qtype, a)
		after, s2, _ := q.pick(&x, target, qtype, a)
		if string(before.Data) != string(after.Data) || s2 > s1 {
			t.Fatalf("%s: %x scope %d before settling, %x scope %d after", a, before.Data, s1, after.Data, s2)
		}
	}
}

// checkKnown: every answer is among those that a signer is told of.
func checkKnown(t *testing.T, p *Plan, target *target, qtype uint16, clients []netip.Addr, all []NameVariants) {
	t.Helper()
	var w scratch
	known := map[string]bool{}
	v := all[slices.IndexFunc(all, func(v NameVariants) bool { return v.Type == qtype })]
	known[""] = v.Empty
	for _, set := range v.Sets {
		known[string(set.Data)] = true
	}
	for _, a := range clients {
		if set, _, _ := p.pick(&w, target, qtype, a); !known[string(canonical(set.Data))] || set.TTL != target.ttl {
			t.Fatalf("%s is answered %x (TTL %d), which %s %d is not known to hold", a, set.Data, set.TTL, v.Name, qtype)
		}
	}
}

// RFC 7871 §7.2.1: the prefixes that answers are tailored for never overlap, whatever the policy, health and shifts.
// RFC 7871 §7.3.1: a resolver that keeps each answer for its scope, asked in random order, never hands a client another answer than its own.
// RFC 7871 §7.2.1: an answer that all clients get has scope 0.
func TestRFC7871PartitionsAreDisjointExactAndWidest(t *testing.T) {
	for _, seed := range []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 31} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			w := newPartitioned(t, r)
			p := w.withHealth(r)
			clients := append(random4(r, 200), w.borders...)
			for i := range policies {
				for _, qtype := range steeredTypes {
					w.check(t, p, r, i, qtype, clients)
				}
			}
		})
	}
}

// RFC 7871 §7.2.1: a response with several tailored RRsets has the longest scope of theirs.
func TestRFC7871ScopeOfSeveralRRsets(t *testing.T) {
	w := policyWorld(t)
	source := randomAtlas(rand.New(rand.NewPCG(1, 7)))
	p, err := Compile(id, w, source, nil, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	p = p.Settle()
	target := &p.find(zone.Wire("p.test."), zone.TypeA).steered[0]
	differ := 0
	for _, a := range borders(source) {
		want, alike := 0, true
		for i, qtype := range steeredTypes {
			_, scope, _ := p.pick(&scratch{}, target, qtype, a)
			alike = alike && (i == 0 || scope == want)
			want = max(want, scope)
		}
		if !alike {
			differ++
		}
		m := askStream(t, p, "p0.p.test", dns.TypeANY, subnetOf(netip.PrefixFrom(a, a.BitLen()).String()))
		if got := ecsOf(m); got == nil || int(got.SourceScope) != want {
			t.Fatalf("%s: %v, want scope %d", a, got, want)
		}
	}
	if differ == 0 {
		t.Error("no client for whom the scopes differ")
	}
}

// FuzzPartition is the same for one name and type of any fleet, health and
// clients: those of the input (four octets each, or eight and no more than a
// /64 of IPv6), a hundred at borders next to each other, and a few at random.
// Fleets take long to compile and are kept.
func FuzzPartition(f *testing.F) {
	const fleets = 64
	var kept [fleets]*partitioned
	f.Add(uint8(1), uint64(1), uint8(0), []byte{10, 64, 3, 128, 10, 64, 3, 127})
	f.Add(uint8(2), uint64(2), uint8(18), []byte{0x20, 1, 0xd, 0xb8, 3, 0, 0, 0})
	f.Fuzz(func(t *testing.T, which uint8, seed uint64, name uint8, addrs []byte) {
		w := kept[which%fleets]
		if w == nil {
			w = newPartitioned(t, rand.New(rand.NewPCG(uint64(which%fleets), 7)))
			kept[which%fleets] = w
		}
		r := rand.New(rand.NewPCG(seed, 8))
		at := r.IntN(len(w.borders) - 100)
		clients := append(random4(r, 30), w.borders[at:at+100]...)
		for b := addrs[:min(len(addrs), 400)]; len(b) >= 4; {
			if b[0] == 0x20 && len(b) >= 8 {
				clients = append(clients, netip.AddrFrom16([16]byte(append(slices.Clone(b[:8]), make([]byte, 8)...))))
				b = b[8:]
			} else {
				clients = append(clients, netip.AddrFrom4([4]byte(b)))
				b = b[4:]
			}
		}
		i, qtype := int(name)%len(policies), steeredTypes[int(name)/len(policies)%len(steeredTypes)]
		w.check(t, w.withHealth(r), r, i, qtype, clients)
	})
}
