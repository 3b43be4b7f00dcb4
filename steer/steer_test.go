package steer

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"meridian/fleet"
	"meridian/geo"
)

const base = `
regions:
- {id: fra, location: {latitude: 50.1, longitude: 8.7}, vips: {v4: [192.0.2.1], v6: ["2001:db8::1"]}}
- {id: tyo, location: {latitude: 35.7, longitude: 139.7}, vips: {v4: [192.0.2.2], v6: ["2001:db8::2"]}}
- {id: gru, location: {latitude: -23.5, longitude: -46.6}, vips: {v4: [192.0.2.3]}}
anycast: {v4: [198.51.100.1], v6: ["2001:db8:f::1"]}
services:
- service: web
  protocol: http
  ports: [80]
  pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}]
  steering: %s
`

func snapshot(t testing.TB, steering string) *fleet.Snapshot {
	t.Helper()
	s, err := fleet.Compile(fmt.Appendf(nil, base, steering), 0, Check)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func country(code string) geo.Place {
	c, _ := geo.FindCountry(code)
	return c.Place()
}

func service(region string) fleet.Target {
	return fleet.Target{Kind: fleet.TargetService, Region: region, Service: "web"}
}

// view reads "fra:down tyo@fra:down anycast@fra:down": verdicts of the fleet,
// and as seen from the region behind the @.
func view(words string) *fleet.View {
	v := &fleet.View{Verdicts: map[fleet.Target]fleet.Verdict{}, Vantages: map[fleet.VantageTarget]fleet.Verdict{},
		Probers: map[string]bool{"fra": true, "tyo": true, "gru": true}}
	states := map[string]fleet.Verdict{"down": {State: fleet.Down, Cause: fleet.CauseTimeout}, "up": {State: fleet.Up},
		"drain": {State: fleet.Drain}, "forced": {State: fleet.Down, Forced: true}}
	for _, w := range strings.Fields(words) {
		what, state, _ := strings.Cut(w, ":")
		region, vantage, from := strings.Cut(what, "@")
		target := service(region)
		if region == "anycast" {
			target = fleet.Target{Kind: fleet.TargetAnycast, Service: "web"}
		}
		switch {
		case state == "noprober":
			delete(v.Probers, region)
		case from:
			v.Vantages[fleet.VantageTarget{Vantage: vantage, Target: target}] = states[state]
		default:
			v.Verdicts[target] = states[state]
		}
	}
	return v
}

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func TestDecisions(t *testing.T) {
	const geoRules = `{policy: geo, geo: [{countries: [JP], regions: [gru]}, {continents: [AS], regions: [tyo, fra]}, {asns: [64500], regions: [fra]}]}`
	for _, c := range []struct {
		name     string
		steering string
		place    geo.Place
		view     string
		shifts   []fleet.Shift
		family   Family
		want     string // regions, and the kind of answer where it is anycast
		reason   fleet.ReasonCode
	}{
		{"proximity sends to the nearest", `{}`, country("DE"), "", nil, V4, "fra", "policy"},
		{"proximity: another place", `{}`, country("JP"), "", nil, V4, "tyo", "rank"},
		{"proximity: bias draws clients", `{bias: {tyo: -9500}}`, country("DE"), "", nil, V4, "tyo", "rank"},
		{"a place not known takes the Spec's order", `{regions: [gru, fra]}`, geo.Place{}, "", nil, V4, "gru", "default"},
		{"several records, best first", `{records: 2}`, country("JP"), "", nil, V4, "tyo fra", "chosen"},
		{"a region without the family is passed over", `{}`, country("BR"), "", nil, V6, "fra", "no_vip"},
		{"geo: the first rule that matches wins", geoRules, country("JP"), "", nil, V4, "gru", "policy"},
		{"geo: by continent", geoRules, country("IN"), "", nil, V4, "tyo", "policy"},
		{"geo: by AS number", geoRules, geo.Place{ASN: 64500}, "", nil, V4, "fra", "policy"},
		{"geo: no rule, so by distance", geoRules, country("AR"), "", nil, V4, "gru", "policy"},
		{"geo: the others follow by distance", geoRules, country("JP"), "gru:down", nil, V4, "tyo", "down"},
		{"failover keeps the order", `{policy: failover, regions: [gru, tyo]}`, country("DE"), "", nil, V4, "gru", "policy"},
		{"failover moves on", `{policy: failover, regions: [gru, tyo]}`, country("DE"), "gru:down", nil, V4, "tyo", "down"},
		{"a draining region takes no new clients", `{}`, country("DE"), "fra:drain", nil, V4, "tyo", "down"},
		{"unknown is kept", `{}`, country("DE"), "tyo:up gru:up", nil, V4, "fra", "unknown"},
		{"all down fails open", `{}`, country("DE"), "fra:down tyo:down gru:down", nil, V4, "fra", "fail_open"},
		{"and says why each is down", `{}`, country("DE"), "fra:down tyo:down gru:down", nil, V4, "fra", "down"},
		{"failing open passes over what an operator took out", `{}`, country("DE"), "fra:forced tyo:down gru:down", nil, V4, "tyo", "fail_open"},
		{"all taken out by an operator: still served", `{}`, country("DE"), "fra:forced tyo:forced gru:drain", nil, V4, "fra", "fail_open"},
		{"all down may fail closed", `{all_down: fail_closed}`, country("DE"), "fra:down tyo:down gru:down", nil, V4, "", "fail_close"},
		{"down as seen from the client's vantage", `{}`, country("DE"), "fra@fra:down", nil, V4, "tyo", "down"},
		{"down as seen from elsewhere does not matter", `{}`, country("DE"), "fra@tyo:down", nil, V4, "fra", "chosen"},
		{"a vantage that sees all down is not heard", `{}`, country("DE"), "fra@fra:down tyo@fra:down gru@fra:down", nil, V4, "fra", "chosen"},
		{"the vantage is the nearest with a live prober", `{}`, country("DE"), "fra:noprober fra@tyo:down", nil, V4, "tyo", "down"},
		{"anycast", `{answer: anycast}`, country("DE"), "", nil, V4, "anycast fra", "chosen"},
		{"anycast also where the nearest region has no address of its own", `{answer: anycast}`, country("BR"), "", nil, V6, "anycast gru", "chosen"},
		{"anycast that fails for the vantage: regional", `{answer: anycast}`, country("DE"), "anycast@fra:down", nil, V4, "fra", "anycast"},
		{"anycast that fails for another vantage", `{answer: anycast}`, country("JP"), "anycast@fra:down", nil, V4, "anycast tyo", "chosen"},
		{"anycast stays when all regions are down", `{answer: anycast}`, country("DE"), "anycast@fra:down fra:down tyo:down gru:down", nil, V4, "anycast fra", "fail_open"},
		{"a shift moves clients by rank", `{}`, country("DE"), "", []fleet.Shift{{ID: "s", From: "fra", Share: 1}}, V4, "tyo", "shift"},
		{"a shift moves clients where it says", `{records: 2}`, country("DE"), "", []fleet.Shift{{ID: "s", From: "fra", To: []string{"gru"}, Share: 1}}, V4, "gru tyo", "shift"},
		{"a shift moves only its own region's clients", `{}`, country("JP"), "", []fleet.Shift{{ID: "s", From: "fra", Share: 1}}, V4, "tyo", "chosen"},
		{"a shift of another service", `{}`, country("DE"), "", []fleet.Shift{{ID: "s", From: "fra", Service: "mail", Share: 1}}, V4, "fra", "chosen"},
		{"a shift does not move to a region that is down", `{}`, country("DE"), "gru:down", []fleet.Shift{{ID: "s", From: "fra", To: []string{"gru"}, Share: 1}}, V4, "tyo", "shift"},
		{"a shift never takes the last region", `{}`, country("DE"), "tyo:down gru:down", []fleet.Shift{{ID: "s", From: "fra", Share: 1}}, V4, "fra", "chosen"},
		{"a shift that has expired", `{}`, country("DE"), "", []fleet.Shift{{ID: "s", From: "fra", Share: 1, Expires: now}}, V4, "fra", "chosen"},
		{"a shift leads anycast clients to a regional address", `{answer: anycast}`, country("DE"), "", []fleet.Shift{{ID: "s", From: "fra", Share: 1}}, V4, "tyo", "shift"},
		{"a drain leaves anycast to BGP", `{answer: anycast}`, country("DE"), "", []fleet.Shift{{ID: "s", From: "fra", Share: 1, Drain: true}}, V4, "anycast tyo", "shift"},
		{"weight 0 serves only when the others are down", `{policy: weighted, weights: {fra: 1, tyo: 0}}`, country("JP"), "fra:down", nil, V4, "tyo", "down"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := snapshot(t, c.steering)
			scene := NewScene(NewClasses(s, nil), view(c.view), c.shifts, now, nil)
			d := scene.Decide(0, c.family, Client{Place: c.place}, 30*time.Second)
			got := strings.Join(d.Regions, " ")
			if d.Answer == fleet.Anycast {
				got = "anycast " + got
			}
			if got != c.want {
				t.Errorf("got %q, want %q; reasons %+v", got, c.want, d.Reasons)
			}
			if !slices.ContainsFunc(d.Reasons, func(r fleet.Reason) bool { return r.Code == c.reason }) {
				t.Errorf("no reason %q in %+v", c.reason, d.Reasons)
			}
		})
	}
}

// counts gives how many slots each region gets.
func counts(t *testing.T, s *fleet.Snapshot, shifts ...fleet.Shift) ([]string, map[string]float64) {
	t.Helper()
	classes := NewClasses(s, nil)
	scene := NewScene(classes, nil, shifts, now, nil)
	class := classes.Rank(0, country("DE"))
	bySlot, n := make([]string, Slots), map[string]float64{}
	for slot := range Slot(Slots) {
		c := scene.Choose(0, V4, class, slot)
		if !c.Sliced {
			t.Fatal("the choice does not say that it depends on the slot")
		}
		id := s.Spec.Regions[c.Regions()[0]].ID
		bySlot[slot] = id
		n[id] += 1.0 / Slots
	}
	return bySlot, n
}

// A weight moves its own share of clients, and no other.
func TestWeightsAreSticky(t *testing.T) {
	before, n := counts(t, snapshot(t, "{policy: weighted, weights: {fra: 90, tyo: 10}}"))
	if math.Abs(n["tyo"]-0.10) > 0.01 {
		t.Errorf("a weight of 10 in 100 gets %.3f", n["tyo"])
	}
	after, n := counts(t, snapshot(t, "{policy: weighted, weights: {fra: 85, tyo: 15}}"))
	if math.Abs(n["tyo"]-0.15) > 0.01 {
		t.Errorf("a weight of 15 in 100 gets %.3f", n["tyo"])
	}
	for slot := range before {
		if before[slot] != after[slot] && (before[slot] != "fra" || after[slot] != "tyo") {
			t.Fatalf("slot %d moved from %s to %s", slot, before[slot], after[slot])
		}
	}
	three, n := counts(t, snapshot(t, "{policy: weighted, weights: {fra: 60, tyo: 30, gru: 10}}"))
	for id, want := range map[string]float64{"fra": 0.6, "tyo": 0.3, "gru": 0.1} {
		if math.Abs(n[id]-want) > 0.01 {
			t.Errorf("%s gets %.3f, want %.2f", id, n[id], want)
		}
	}
	four, _ := counts(t, snapshot(t, "{policy: weighted, weights: {fra: 60, tyo: 30, gru: 20}}"))
	for slot := range three {
		if three[slot] != four[slot] && four[slot] != "gru" {
			t.Fatalf("slot %d moved from %s to %s, though only gru's weight grew", slot, three[slot], four[slot])
		}
	}
}

// A greater share of a shift moves the same clients and more.
func TestShiftsAreSticky(t *testing.T) {
	s := snapshot(t, "{}")
	small, n := counts(t, s, fleet.Shift{ID: "a", From: "fra", To: []string{"tyo"}, Share: 0.10})
	if math.Abs(n["tyo"]-0.10) > 0.01 {
		t.Errorf("a share of 0.10 moves %.3f", n["tyo"])
	}
	large, n := counts(t, s, fleet.Shift{ID: "a", From: "fra", To: []string{"tyo"}, Share: 0.15})
	if math.Abs(n["tyo"]-0.15) > 0.01 {
		t.Errorf("a share of 0.15 moves %.3f", n["tyo"])
	}
	for slot := range small {
		if small[slot] == "tyo" && large[slot] != "tyo" {
			t.Fatalf("slot %d came back", slot)
		}
	}
}

// All of a /24, and all of a /48, is one client.
func TestSlotOfPrefix(t *testing.T) {
	same := func(a, b string) bool {
		x, _ := SlotOf(netip.MustParseAddr(a))
		y, _ := SlotOf(netip.MustParseAddr(b))
		return x == y
	}
	if !same("192.0.2.1", "192.0.2.255") || !same("2001:db8:1::", "2001:db8:1:ffff::1") {
		t.Error("clients of one prefix are told apart")
	}
	if same("192.0.2.1", "192.0.3.1") || same("2001:db8:1::", "2001:db8:2::") {
		t.Error("neighbours fall together: bad luck, or a hash that ignores its input")
	}
}

// Places that every service ranks alike share a class, and no others do.
func TestClasses(t *testing.T) {
	c := NewClasses(snapshot(t, "{}"), nil)
	if c.Of(geo.Place{}) != 0 {
		t.Error("the place not known is not class 0")
	}
	if c.Of(country("DE")) != c.Of(country("AT")) {
		t.Error("Germany and Austria are ranked alike and have two classes")
	}
	if c.Of(country("DE")) == c.Of(country("JP")) {
		t.Error("Germany and Japan share a class")
	}
	if a, b := snapshot(t, "{}"), snapshot(t, "{records: 2}"); Intent(a, nil) != Intent(b, nil) {
		t.Error("the number of records changes the classes")
	}
	if a, b := snapshot(t, "{}"), snapshot(t, "{bias: {fra: 10}}"); Intent(a, nil) == Intent(b, nil) {
		t.Error("a bias does not change the classes")
	}
}

func TestCheck(t *testing.T) {
	for steering, want := range map[string]string{
		`{policy: geo}`:                                              "steering.geo: expected at least one rule",
		`{policy: geo, geo: [{regions: [fra]}]}`:                     "steering.geo[0]: expected continents",
		`{policy: geo, geo: [{countries: [XX], regions: [fra]}]}`:    `"XX" is not an ISO 3166-1`,
		`{policy: geo, geo: [{continents: [XX], regions: [fra]}]}`:   `"XX" is not one of AF`,
		`{policy: geo, geo: [{subdivisions: [CA], regions: [fra]}]}`: `"CA" is not an ISO 3166-2 code`,
		`{policy: geo, geo: [{countries: [DE]}]}`:                    "geo[0].regions: expected at least one",
		`{policy: geo, geo: [{countries: [DE], regions: [mars]}]}`:   `geo[0].regions[0]: region "mars" does not exist`,
		`{policy: weighted}`:                                         "weights: expected at least one weight above 0",
		`{policy: weighted, weights: {fra: -1, tyo: 1}}`:             "weights.fra: -1 is not between",
		`{policy: weighted, weights: {mars: 1}}`:                     `weights.mars: region "mars" does not exist`,
		`{policy: weighted, regions: [fra], weights: {tyo: 1}}`:      `"tyo" is not among steering.regions`,
		`{weights: {fra: 1}}`:                                        "weights: has no effect with policy proximity",
		`{bias: {mars: 1}}`:                                          `bias.mars: region "mars" does not exist`,
		`{bias: {fra: 1e9}}`:                                         "bias.fra: 1e+09 is not between",
		`{regions: [fra, fra]}`:                                      `regions[1]: region "fra" is given twice`,
	} {
		_, err := fleet.Compile(fmt.Appendf(nil, base, steering), 0, Check)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", steering, err, want)
		}
	}
	doc := strings.Replace(fmt.Sprintf(base, "{answer: anycast}"), "anycast: {v4: [198.51.100.1], v6: [\"2001:db8:f::1\"]}", "", 1)
	if _, err := fleet.Compile([]byte(doc), 0, Check); err == nil || !strings.Contains(err.Error(), "anycast needs addresses") {
		t.Errorf("anycast without addresses: %v", err)
	}
}

func BenchmarkChoose(b *testing.B) {
	classes := NewClasses(snapshot(b, "{}"), nil)
	scene := NewScene(classes, view("fra:down"), nil, now, nil)
	class := classes.Rank(0, country("DE"))
	b.ReportAllocs()
	for b.Loop() {
		scene.Choose(0, V4, class, 0)
	}
}
