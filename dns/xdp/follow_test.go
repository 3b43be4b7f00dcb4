package xdp

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/dns/answer"
	"meridian/dns/server"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/internal/testkit"
)

// pathway is a Path without a device, whose images the test holds up.
type pathway struct {
	*testing.T
	*machine
	path  *Path
	hold  chan struct{} // an image is ready only after one was sent here
	again chan struct{}
}

func newPathway(t *testing.T, p *answer.Plan) *pathway {
	t.Helper()
	testkit.Root(t)
	path, err := New(Config{Device: "none", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	w := &pathway{T: t, path: path, hold: make(chan struct{}), again: make(chan struct{}, 1)}
	compiled := path.make
	path.make = func(plan *answer.Plan) (*image, error) {
		<-w.hold
		return compiled(plan)
	}
	w.serve(p)
	w.ready()
	w.serve(p)
	t.Cleanup(func() { path.Close() })
	return w
}

// ready lets the image be ready that is being made.
func (w *pathway) ready() {
	w.Helper()
	for len(w.again) > 0 { // from before
		<-w.again
	}
	w.hold <- struct{}{}
	select {
	case <-w.again:
	case <-time.After(patience):
		w.Fatal("no image was made")
	}
}

// serve does what Serve does, but for the device.
func (w *pathway) serve(p *answer.Plan) {
	w.Helper()
	s := &server.Serving{Plan: p, Now: now, Again: func() {
		select {
		case w.again <- struct{}{}:
		default:
		}
	}}
	if err := errors.Join(w.path.follow(s), w.path.take(s)); err != nil {
		w.Fatal(err)
	}
	if im := w.path.image; im != nil {
		k := im.kernel
		if err := errors.Join(k.setDays(p.Fast(), now), k.tick(now), k.listen([]netip.AddrPort{server4, server6})); err != nil {
			w.Fatal(err)
		}
		w.machine = &machine{kernel: k, image: im, plan: p}
	}
	if err := w.path.mend(s); err != nil {
		w.Fatal(err)
	}
}

// answers says which names must be answered in the kernel and which must not.
// Those that are must have the sockets' answer.
func (w *pathway) answers(names map[string]bool) {
	w.Helper()
	for name, want := range names {
		for i := range 4 {
			if got := w.compare(w.T, withOptions(name, zone.TypeA, false, ecs4(10, byte(i), 7)...), nobodyPort); got != want {
				w.Errorf("%s: answered in the kernel: %v", name, got)
			}
		}
	}
}

// While an image is made, nothing is answered in the kernel that is older than
// what the sockets answer, and what has not changed is: zones change, health
// does, and both, before what is steered has changed, or the settings, and
// after. And the image, which is made of what was, then comes up to date.
func TestWhileAnImageIsMade(t *testing.T) {
	for _, c := range []struct {
		name    string
		old     string
		new     string
		plain   bool // names that are not steered stay in the kernel
		steered bool // so do those that are
	}{
		{"zone", "", "", true, true},
		{"region", "[192.0.2.3]", "[192.0.2.33]", true, false},
		{"service", "regions: [gru, fra]", "regions: [gru, tyo]", true, false},
		{"settings", "zones:", "dns: {errors_to: errors.example}\nzones:", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := newAtlas()
			compiled := func(doc string, v *fleet.View, old *answer.Plan) *answer.Plan {
				p, err := answer.Compile(id, newWorld(t, doc), source, v, now, old)
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			first := compiled(spec, nil, nil)
			w := newPathway(t, first)
			w.answers(map[string]bool{"mx1.demo.test": true, "x.other.test": true, "order.demo.test": true, "www.demo.test": true})

			doc := strings.Replace(spec, c.old, c.new, 1)
			second := compiled(doc, nil, first)
			if c.old == "" {
				w.image.wear("as the test says")
			}
			w.serve(second) // has another image made
			if !w.path.building {
				t.Fatal("no image is being made")
			}
			w.answers(map[string]bool{"mx1.demo.test": c.plain, "x.other.test": c.plain, "order.demo.test": c.steered, "www.demo.test": c.steered, "alias.demo.test": c.steered})
			third := second.WithView(down("order", "gru"), now)
			w.serve(third)
			w.answers(map[string]bool{"mx1.demo.test": c.plain, "x.other.test": c.plain, "order.demo.test": c.steered})
			w.serve(third.Settle())
			fourth := compiled(strings.Replace(doc, "x A 192.0.2.80", "x A 192.0.2.180", 1), down("web", "fra"), third)
			w.serve(fourth)
			w.answers(map[string]bool{"mx1.demo.test": false, "x.other.test": false, "order.demo.test": false, "www.sub.demo.test": c.plain})
			fifth := fourth.WithView(down("web", "tyo"), now)
			w.serve(fifth)
			w.ready()
			if w.image != w.path.image {
				t.Fatal("taken into use before its time")
			}
			w.answers(map[string]bool{"mx1.demo.test": false, "x.other.test": false})
			sixth := fifth.WithView(down("web", "fra", "tyo"), now)
			was := w.image
			w.serve(sixth)
			if w.image == was || w.image.worn != "" {
				t.Fatalf("not taken into use, or not for good: %s", w.image.worn)
			}
			if !w.mendAll(t) {
				t.Fatal(w.image.worn)
			}
			w.answers(map[string]bool{"mx1.demo.test": true, "x.other.test": true, "order.demo.test": true, "www.demo.test": true, "alias.demo.test": true, "cross.demo.test": true})
			w.agree(t, 5, 3000)
		})
	}
}

// A new image is not taken into use with what was decided when it was begun.
func TestAnImageTakesOverWithWhatIsDecided(t *testing.T) {
	first := newPlan(t, spec, nil)
	w := newPathway(t, first)
	w.image.wear("as the test says")
	w.serve(first)
	second := first.WithView(down("order", "gru"), now)
	w.serve(second)
	w.ready()
	b := <-w.path.built
	if err := b.image.follow(second); err != nil { // as take does before swap
		t.Fatal(err)
	}
	k := b.image.kernel
	if err := errors.Join(k.setDays(first.Fast(), now), k.tick(now), k.listen([]netip.AddrPort{server4, server6})); err != nil {
		t.Fatal(err)
	}
	fresh := &machine{kernel: k, image: b.image, plan: second}
	if !fresh.compare(t, withOptions("order.demo.test", zone.TypeA, false), nobodyPort) {
		t.Error("passed to the sockets")
	}
	w.path.built <- b
	w.serve(second)
	if w.image != b.image {
		t.Error("not taken into use")
	}
}

func smallZone(t testing.TB, i, version int) *zone.Zone {
	z, err := zone.Load(fleet.Name(fmt.Sprintf("z%d.test.", i)), fmt.Appendf(nil, "$TTL 300\n@ SOA ns1 admin %d 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\nwww A 10.0.%d.%d\n", version, version, i%250), "")
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// Of more zones than are counted one by one, those that change are the sockets'
// and no other.
func TestManyZones(t *testing.T) {
	var zones []*zone.Zone
	for i := range 3 * maxZones {
		zones = append(zones, smallZone(t, i, 1))
	}
	m := newMachine(t, answer.Zones(id, zones))
	p := m.plan
	for _, i := range []int{7, 2500, 2501} {
		p = p.WithZone(smallZone(t, i, 2))
	}
	m.follow(t, p.WithZone(smallZone(t, 5000, 1)).WithoutZone("z2600.test."))
	expect := func(names map[int]bool) {
		t.Helper()
		for i, want := range names {
			if got := m.compare(t, withOptions(fmt.Sprintf("www.z%d.test", i), zone.TypeA, false), nobodyPort); got != want {
				t.Errorf("zone %d: answered in the kernel: %v", i, got)
			}
		}
	}
	expect(map[int]bool{6: true, 7: false, 2499: true, 2500: false, 2501: false, 2502: true, 2600: false, 5000: false})
	if !m.mendAll(t) {
		t.Fatal(m.image.worn)
	}
	expect(map[int]bool{6: true, 7: true, 2499: true, 2500: true, 2501: true, 2502: true, 2600: false, 5000: true})
	sums, err := m.tallied()
	if err != nil {
		t.Fatal(err)
	}
	var counted uint64
	for _, n := range sums[tallyZones : tallyZones+maxZones] {
		counted += n
	}
	if counted != 10 {
		t.Errorf("%d answers counted by zone", counted)
	}
}

// A large zone is placed bit by bit: small ones are not held up, decisions come
// into force in between, and where it changes again it begins anew.
func TestLargeZonesAreMendedBitByBit(t *testing.T) {
	source := newAtlas()
	base, err := answer.Compile(id, newWorld(t, spec), source, nil, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := base.WithZone(benchZone(t, 3000)).WithZone(smallZone(t, 1, 1))
	m := newMachine(t, p)
	kernel := func(name string) bool { return m.compare(t, withOptions(name, zone.TypeA, false), nobodyPort) }
	mend := func() {
		t.Helper()
		if _, err := m.image.mend(); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 3 {
		p = p.WithZone(benchZone(t, 3001+round))
		m.follow(t, p)
		mend()
		if len(m.image.jobs) != 1 || kernel("host5.example.test") || !kernel("www.z1.test") {
			t.Fatalf("round %d: %d jobs, or the zone is answered as it was", round, len(m.image.jobs))
		}
		p = p.WithView([]*fleet.View{down("order", "gru"), nil, down("web", "fra")}[round], now).WithZone(smallZone(t, 1, 2+round))
		m.follow(t, p)
		if kernel("www.z1.test") || !kernel("order.demo.test") {
			t.Fatalf("round %d: a zone is answered as it was, or steered names are not", round)
		}
		mend()
		if len(m.image.jobs) != 1 || !kernel("www.z1.test") {
			t.Fatalf("round %d: a small zone is held up by a large one", round)
		}
	}
	if !m.mendAll(t) || !kernel("host5.example.test") || !kernel("host3002.example.test") || !kernel("no.example.test") {
		t.Fatalf("not answered in the kernel: %s", m.image.worn)
	}
	m.likeNew(t, 9)
}

// What zones no longer need is used again, however often they change.
func TestRoomIsUsedAgain(t *testing.T) {
	p := newPlan(t, spec, nil).WithZone(benchZone(t, 3000))
	m := newMachine(t, p)
	before, most := m.image.arena.used(), 0
	for i := range 30 {
		p = p.WithZone(benchZone(t, 3000+i%2)).WithZone(smallZone(t, i%5, i))
		m.follow(t, p)
		if !m.mendAll(t) {
			t.Fatalf("change %d: %s", i, m.image.worn)
		}
		most = max(most, m.image.arena.used())
	}
	t.Logf("%d blocks at first, at most %d, and %d in the end", before, most, m.image.arena.used())
	if most > 3*before+8 || len(m.image.arena.blocks) > 4*before+16 {
		t.Errorf("%d blocks in use, of %d, where %d were at first", most, len(m.image.arena.blocks), before)
	}
	m.likeNew(t, 4)
}

// Zones change, and health does, under load: every query is answered, with what
// was or what is, never with something of both, and when it is in force never
// with the old. No image is made anew for it.
func TestZonesMendUnderLoad(t *testing.T) {
	s := newSite(t, spec, Native)
	docs := []string{spec, strings.NewReplacer("mx1 A 192.0.2.25", "mx1 A 192.0.2.125\n    none A 192.0.2.126", "*.wild A", "*.wide A",
		"zone: sub.demo.test", "zone: new.demo.test", "ns1 A 192.0.2.53", "ns1 A 192.0.2.153").Replace(spec)}
	views := []*fleet.View{nil, down("order", "gru")}
	var worlds []*fleet.World
	var states []state
	order := [][2]int{{0, 0}, {1, 0}, {1, 1}, {0, 1}} // document and view
	for _, doc := range docs {
		worlds = append(worlds, newWorld(t, doc))
	}
	all := down("web", "fra", "tyo", "gru")
	maps.Copy(all.Verdicts, down("order", "fra", "tyo", "gru").Verdicts)
	for _, at := range order {
		base, err := answer.Compile(id, worlds[at[0]], newAtlas(), nil, now, nil)
		s.must(err)
		p := base.WithView(views[at[1]], now)
		states = append(states, state{p, p.Settle(), base.WithView(all, now).WithView(views[at[1]], now)})
	}
	queries := manyShapes()
	for _, name := range []string{"ns1.demo.test", "x.wild.demo.test", "x.wide.demo.test", "www.sub.demo.test", "www.new.demo.test", "old.demo.test", "demo.test"} {
		queries = append(queries, withOptions(name, zone.TypeA, false), withOptions(name, zone.TypeNS, true))
	}
	p, images := s.press(queries, states...), s.swaps()
	p.flow()
	for range 24 {
		p.change(func(next int) {
			if at, was := order[next], order[(next+3)%4]; at[0] != was[0] {
				s.must(s.server.Apply(worlds[at[0]]))
			} else {
				s.server.SetView(views[at[1]])
			}
		})
	}
	p.stop()
	s.path.mu.Lock()
	defer s.path.mu.Unlock()
	if s.path.swaps != images || s.path.mended == 0 {
		t.Errorf("%d images made, %d zones mended", s.path.swaps-images, s.path.mended)
	}
}

// texts has large records, so that a few names make much garbage.
func texts(t testing.TB, i, version int) *zone.Zone {
	var b strings.Builder
	fmt.Fprintf(&b, "$TTL 300\n@ SOA ns1 admin %d 3600 600 86400 60\n@ NS ns1\n", version)
	for n := range 5 {
		fmt.Fprintf(&b, "t%d TXT \"%d %d %d\" %s\n", n, i, n, version, strings.Repeat("\""+strings.Repeat("x", 200)+"\" ", 4))
	}
	z, err := zone.Load(fleet.Name(fmt.Sprintf("z%d.test.", i)), []byte(b.String()), "")
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// When too much of what was replaced stands between what is in use, all is made
// anew; until then what has changed is in force.
func TestGarbageWearsAnImage(t *testing.T) {
	var zones []*zone.Zone
	for i := range 2000 {
		zones = append(zones, texts(t, i, 1))
	}
	w := newPathway(t, answer.Zones(id, zones))
	p := w.plan
	change := func(nth int) {
		for i := nth; i < len(zones); i += 3 {
			p = p.WithZone(texts(t, i, 2))
		}
		w.image.slice = 1 << 20
		w.serve(p)
		w.answers(map[string]bool{"ns1.z0.test": true, "ns1.z1.test": true, "ns1.z2.test": true})
	}
	change(0)
	if worn := w.image.worn; worn != "" {
		t.Fatal(worn)
	}
	change(1)
	if w.image.worn != wornGarbage {
		t.Fatalf("%d octets are garbage, %d in use; worn: %q", w.image.arena.garbage(), w.image.arena.total, w.image.worn)
	}
	reg := prometheus.NewRegistry()
	w.path.Register(reg)
	w.serve(p) // has another made
	w.ready()
	w.serve(p)
	if w.image.worn != "" || w.image.arena.garbage() > 1<<20 {
		t.Fatalf("worn: %q, %d octets are garbage", w.image.worn, w.image.arena.garbage())
	}
	w.answers(map[string]bool{"ns1.z0.test": true, "ns1.z1.test": true, "ns1.z2.test": true})
	w.metrics(reg, map[string]float64{"meridian_dns_kernel_images_total": 2, "meridian_dns_kernel_zones_changed_total": 1334,
		"meridian_dns_kernel_zones_waiting": 0, "meridian_dns_kernel_zones_left": 0, "meridian_dns_kernel_names": float64(len(w.image.nodes)),
		"meridian_dns_kernel_answer_bytes": float64(w.image.arena.used()) * (32 << 10)})
}

// metrics says what must be read.
func (w *pathway) metrics(reg *prometheus.Registry, want map[string]float64) {
	w.Helper()
	families, err := reg.Gather()
	if err != nil {
		w.Fatal(err)
	}
	for _, f := range families {
		v, ok := want[f.GetName()]
		if got := f.Metric[0].GetGauge().GetValue() + f.Metric[0].GetCounter().GetValue(); ok && got != v {
			w.Errorf("%s: %v, expected %v", f.GetName(), got, v)
		}
		delete(want, f.GetName())
	}
	for name := range want {
		w.Errorf("no %s", name)
	}
}

// Changes without end take a share of one CPU's time, after what is free.
func TestWorkIsBounded(t *testing.T) {
	p, s := &Path{}, &server.Serving{Again: func() {}}
	for range 9 {
		p.pay(workFree / 10)
	}
	if !p.rested(s) {
		t.Error("no more work is done, though there is some that is free")
	}
	p.pay(workFree / 5)
	if wait := time.Until(p.paid); p.rested(s) || wait > workShare*workFree/10 || wait < workShare*workFree/20 {
		t.Errorf("more work is done after %v", wait)
	}
}
