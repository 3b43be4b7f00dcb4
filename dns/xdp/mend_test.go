package xdp

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"meridian/dns/answer"
	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/geo"
)

// mendedSpec steers names of zones whose content comes later.
const mendedSpec = `
regions:
- {id: fra, location: {latitude: 50.1, longitude: 8.7}, vips: {v4: [192.0.2.1], v6: ["2001:db8::1"]}}
- {id: tyo, location: {latitude: 35.7, longitude: 139.7}, vips: {v4: [192.0.2.2, 192.0.2.22], v6: ["2001:db8::2"]}}
services:
- {service: web, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}]}
- {service: order, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}],
   steering: {policy: failover, regions: [tyo], all_down: fail_closed}}
dns:
  dnssec: [{policy: nsec}, {policy: nsec3, denial: nsec3}]
zones:
- zone: t
  records: "$TTL 300\n@ SOA ns1 admin 1 3600 600 86400 60\n@ NS ns1\nNOTE TXT x\n"
  steered: [{name: www, service: web}, {name: "*.geo", service: web}, {name: order, service: order}]
- zone: signed.t
  dnssec: POLICY
  records: |
    $TTL 300
    @ SOA ns1 admin 7 3600 600 86400 60
    @ NS ns1
    ns1 A 192.0.2.53
    alias CNAME www
    away CNAME www.t.
    *.many TXT "one"
    child NS ns.child
    ns.child A 192.0.2.54
  steered: [{name: www, service: web}, {name: order, service: order}]
`

// history makes plans, each of which follows from the one before.
type history struct {
	testing.TB
	*rand.Rand
	source geo.Source
	world  *fleet.World
	view   *fleet.View
	plan   *answer.Plan
	serial uint32
	policy string // of the signed zone
	base   *zone.Zone
	state  sign.State
}

var mendedTypes = []uint16{1, 1, 1, 28, 2, 5, 6, 15, 16, 33, 39, 43, 43, 65}

var historyApexes = []string{"t.", "a.t.", "b.a.t.", "c.b.a.t.", "o.u.", "x.o.u.", "u.", "."}

func newHistory(t testing.TB, seed uint64) *history {
	policy := []string{"nsec", "nsec3"}[seed/2%2]
	h := &history{TB: t, Rand: rand.New(rand.NewPCG(seed, 3)), source: newAtlas(), world: newWorld(t, strings.Replace(mendedSpec, "POLICY", policy, 1)),
		policy: policy, serial: 10}
	spec := &h.world.Snapshot.Spec.Zones[1]
	var err error
	if h.base, err = zone.Load(spec.Zone, []byte(spec.Records), ""); err != nil {
		t.Fatal(err)
	}
	if h.state, _, _, err = sign.Step(sign.State{}, spec.Zone, h.world.Snapshot.Spec.DNSSECPolicy(h.policy), now, sign.Facts{}, rand.NewChaCha8([32]byte{1})); err != nil {
		t.Fatal(err)
	}
	h.put(h.resigned())
	return h
}

// resigned gives the signed zone with another serial.
func (h *history) resigned() fleet.Object {
	h.serial++
	spec := &h.world.Snapshot.Spec.Zones[1]
	o := sign.Options{State: &h.state, Policy: h.world.Snapshot.Spec.DNSSECPolicy(h.policy), Serial: h.serial, Now: now}
	list, err := answer.Variants(h.world, spec)
	if err != nil {
		h.Fatal(err)
	}
	for _, v := range list {
		o.Variants = append(o.Variants, sign.Variants{Owner: zone.Wire(v.Name), Type: v.Type, Empty: v.Empty, Sets: v.Sets})
	}
	z, _, err := sign.Sign(h.base, &o)
	if err != nil {
		h.Fatal(err)
	}
	return zoneObject(spec.Zone, z.Encode(), h.serial)
}

func zoneObject(name fleet.Name, data []byte, version uint32) fleet.Object {
	return fleet.Object{Key: fleet.ObjectKey{Kind: fleet.ObjectZone, ID: string(name)}, Data: data, Version: fmt.Sprint(version)}
}

// put adds an object to the World, where it is one that can be served.
func (h *history) put(obj fleet.Object, gone ...fleet.Name) bool {
	next := *h.world
	var objects []fleet.Object
	if obj.Data != nil {
		objects = append(objects, obj)
	}
	if next.Zones == nil {
		next.Zones = new(fleet.Zones)
	}
	next.Zones = next.Zones.With(objects, gone)
	p, err := answer.Compile(id, &next, h.source, h.view, now, h.plan)
	if err == nil {
		h.world, h.plan = &next, p
	}
	return err == nil
}

// change makes one change at random.
func (h *history) change() {
	apex := fleet.Name(historyApexes[h.IntN(len(historyApexes))])
	switch h.IntN(12) {
	case 0:
		h.put(h.resigned())
	case 1, 2:
		h.put(fleet.Object{}, apex)
	case 3:
		h.plan = h.plan.WithUnavailable(apex)
	case 4:
		h.plan = h.plan.WithoutZone(apex)
	case 5, 6:
		h.view = []*fleet.View{nil, down("web", "fra"), down("web", "tyo"), down("order", "tyo"), down("web", "fra", "tyo")}[h.IntN(5)]
		if h.plan = h.plan.WithView(h.view, now); h.IntN(2) == 0 {
			h.plan = h.plan.Settle()
		}
	case 7: // the Spec's own zone, and how is decided
		h.serial++
		next := *h.world
		doc := strings.NewReplacer("POLICY", h.policy, "NOTE", fmt.Sprintf("note%d", h.serial), "fail_closed", []string{"fail_closed", "fail_open"}[h.IntN(2)]).Replace(mendedSpec)
		next.Snapshot = newWorld(h, doc).Snapshot
		if p, err := answer.Compile(id, &next, h.source, h.view, now, h.plan); err == nil { // else what it needs is not signed
			h.world, h.plan = &next, p
		}
	default:
		h.serial++
		for !h.put(zoneObject(apex, []byte(randomZone(h.Rand, string(apex), historyApexes)), h.serial)) {
		}
	}
}

// mendAll mends until nothing waits; false where all is to be made anew.
func (m *machine) mendAll(t testing.TB) bool {
	t.Helper()
	for len(m.image.waiting) > 0 && m.image.worn == "" {
		if _, err := m.image.mend(); err != nil {
			t.Fatal(err)
		}
	}
	return m.image.worn == ""
}

func (m *machine) follow(t testing.TB, p *answer.Plan) {
	t.Helper()
	if err := m.image.follow(p); err != nil {
		t.Fatal(err)
	}
	m.plan = p
}

// askAbout asks both queries about a plan's names, and gives how many the
// kernel has answered.
func (m *machine) askAbout(t testing.TB, seed uint64, total int) (answered int) {
	t.Helper()
	a := newAsker(m.plan, seed)
	a.types = mendedTypes
	if len(a.names) == 0 {
		return 0
	}
	for range total {
		if m.compare(t, a.query(), a.client()) {
			answered++
		}
	}
	return answered
}

// Whatever changes, one thing after the other or several at once, the kernel
// answers as the sockets do: before zones are mended, between one and the next,
// and after; and then all that it would answer if all were made anew.
func TestMending(t *testing.T) {
	histories := 8
	if testing.Short() {
		histories = 3
	}
	for seed := range uint64(histories) {
		h := newHistory(t, seed)
		m := newMachine(t, h.plan)
		slice := []int{mendNames, 3}[seed%2] // or zones are half placed at the next change
		m.image.slice = slice
		zones, again := 0, 0
		for step := range 40 {
			for range 1 + h.IntN(3)*h.IntN(2) {
				h.change()
			}
			m.follow(t, h.plan)
			m.askAbout(t, seed<<16|uint64(step), 40)
			turns := []int{0, 1, 2, 1000, 1000, 1000}[h.IntN(6)] // the next change may come first
			if step%20 == 19 {
				turns = 1000
			}
			for ; turns > 0 && len(m.image.waiting) > 0 && m.image.worn == ""; turns-- {
				n, err := m.image.mend()
				if err != nil {
					t.Fatal(err)
				}
				zones += n
				m.askAbout(t, seed<<16|uint64(step)|1<<8, 20)
			}
			if m.image.worn != "" {
				t.Logf("history %d, step %d: %s", seed, step, m.image.worn)
				m.kernel.Close()
				m = newMachine(t, h.plan)
				m.image.slice = slice
				again++
			}
			if step%20 == 19 {
				m.likeNew(t, seed<<16|uint64(step)|2<<8)
			}
		}
		t.Logf("history %d: %d zones mended, %d times all made anew", seed, zones, again)
		m.kernel.Close()
	}
}

// likeNew asks for the same of the machine and of one that was made for its
// plan, and looks through what the former keeps.
func (m *machine) likeNew(t *testing.T, seed uint64) {
	t.Helper()
	fresh := newMachine(t, m.plan)
	defer fresh.kernel.Close()
	a := newAsker(m.plan, seed)
	a.types = mendedTypes
	for range 300 {
		q, client := a.query(), a.client()
		if got, want := m.compare(t, q, client), fresh.compare(t, q, client); got != want {
			t.Errorf("query from %s answered in the kernel: %v, when made anew: %v\n%s", client, got, want, text(q))
		}
	}
	im, anew := m.image, fresh.image
	if got, want := slices.Sorted(maps.Keys(im.parts)), slices.Sorted(maps.Keys(anew.parts)); !slices.Equal(got, want) {
		t.Errorf("parts %q, expected %q", got, want)
	}
	if len(im.nodes) != len(anew.nodes) {
		t.Errorf("%d names, %d when made anew", len(im.nodes), len(anew.nodes))
	}
	for h, r := range im.nodes {
		if at := im.directory.find(h, r); at < 0 || im.kernel.entries[at] != entryOf(h, r) {
			t.Errorf("name %q is not in the directory", im.arena.name(r))
		}
	}
	total := -8 * int(dnsSpecialRefFIRST_REF)
	for i, n := range im.arena.live {
		if n < 0 || i > 0 && n > 0 && im.arena.blocks[i] == nil {
			t.Errorf("block %d has %d octets in use", i, n)
		}
		total += n
	}
	if total != im.arena.total {
		t.Errorf("%d octets in use by block, %d in all", total, im.arena.total)
	}
	if slack := im.arena.total - anew.arena.total; slack > anew.arena.total/4+4096 {
		t.Errorf("%d octets in use, %d when made anew", im.arena.total, anew.arena.total)
	}
	if got, want := len(im.dependents), len(anew.dependents); got != want {
		t.Errorf("answers depend on %d apexes, %d when made anew", got, want)
	}
}
