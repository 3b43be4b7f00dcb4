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

// five regions, two of them in Europe and two in America; each has a capacity
// of 100.
const five = `
regions:
- {id: fra, location: {latitude: 50.1, longitude: 8.7}, vips: {v4: [192.0.2.1], v6: ["2001:db8::1"]}}
- {id: ams, location: {latitude: 52.4, longitude: 4.9}, vips: {v4: [192.0.2.2], v6: ["2001:db8::2"]}}
- {id: iad, location: {latitude: 39, longitude: -77.5}, vips: {v4: [192.0.2.3], v6: ["2001:db8::3"]}}
- {id: sjc, location: {latitude: 37.4, longitude: -122}, vips: {v4: [192.0.2.4], v6: ["2001:db8::4"]}}
- {id: tyo, location: {latitude: 35.7, longitude: 139.7}, vips: {v4: [192.0.2.5]}}
subnet_maps:
- {map: offices, subnets: [{prefixes: [10.0.0.0/8, "fd00::/8"], regions: [iad]}, {prefixes: [10.9.0.0/16], regions: [tyo]}]}
services:
- service: web
  protocol: http
  ports: [80]
  pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}]
  steering: %s
`

func fleetOf(t testing.TB, steering string) *fleet.Snapshot {
	t.Helper()
	s, err := fleet.Compile(fmt.Appendf(nil, five, steering), 0, Check)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// at is a client somewhere, or of an address in no place.
func at(c *Classes, where string) Client {
	var p geo.Place
	var a netip.Addr
	if addr, err := netip.ParseAddr(where); err == nil {
		a = addr
	} else {
		p, a = country(where), netip.MustParseAddr("198.51.100.1")
	}
	slot, _ := SlotOf(a)
	return Client{Place: c.Locate(p, a), Slot: slot}
}

const (
	continents = `groups: [{group: eu, regions: [fra, ams]}, {group: us, regions: [iad, sjc]}]`
	picky      = `groups: [{group: eu, regions: [fra, ams], min_healthy: 1}, {group: us, regions: [iad, sjc]}]`
)

// Each line is a policy, a client, what health is, and where the client goes.
func TestPolicies(t *testing.T) {
	for _, c := range []struct{ what, steering, client, view, want, reason string }{
		{"subnet: the longest prefix wins", `{policy: subnet, subnet_map: offices}`, "10.9.1.1", "", "tyo", "10.9.0.0/16 names the client"},
		{"subnet: a shorter one where no longer one holds", `{policy: subnet, subnet_map: offices}`, "10.8.1.1", "", "iad", "10.0.0.0/8"},
		{"subnet: the service's own prefixes before its map's", `{policy: subnet, subnet_map: offices, subnets: [{prefixes: [10.0.0.0/7], regions: [sjc]}]}`, "10.9.1.1", "", "sjc", "10.0.0.0/7"},
		{"subnet: IPv6", `{policy: subnet, subnet_map: offices}`, "fd00::1", "", "iad", "fd00::/8"},
		{"subnet: an IPv6 address that carries an IPv4 one goes by that", `{policy: subnet, subnet_map: offices}`, "2002:a09:101::1", "", "tyo", "10.9.0.0/16"},
		{"subnet: no prefix, so by distance", `{policy: subnet, subnet_map: offices}`, "JP", "", "tyo", "no rule names the client"},
		{"subnet: the others follow", `{policy: subnet, subnet_map: offices}`, "10.8.1.1", "iad:down", "fra", "down"},
		{"all: every healthy region", `{policy: all, regions: [tyo, fra, iad]}`, "DE", "fra:down", "tyo iad", "the Spec's order"},
		{"all: up to records", `{policy: all, records: 2}`, "DE", "", "fra ams", ""},
		{"unmapped: clients of no known place", `{unmapped: [sjc, ams], records: 3}`, "203.0.113.1", "", "sjc ams fra", "the order of unmapped"},
		{"unmapped does not matter to the others", `{unmapped: [sjc]}`, "DE", "", "fra", ""},

		{"a group stands where a region may: by its nearest region", `{regions: [us, eu], ` + continents + `}`, "DE", "", "fra", "proximity"},
		{"failover of groups", `{policy: failover, regions: [us, eu], ` + continents + `}`, "DE", "", "iad", "failover"},
		{"failover of groups: within the group first", `{policy: failover, regions: [us, eu], ` + continents + `}`, "DE", "iad:down", "sjc", ""},
		{"failover of groups: then to the next group", `{policy: failover, regions: [us, eu], ` + continents + `}`, "DE", "iad:down sjc:down", "fra", "the group counts as down"},
		{"an answer does not mix groups", `{policy: failover, regions: [us, eu], records: 4, ` + continents + `}`, "DE", "iad:down", "sjc", ""},
		{"nor a group with regions beside it", `{policy: failover, regions: [eu, tyo], records: 4, groups: [{group: eu, regions: [fra, ams]}]}`, "DE", "", "fra ams", ""},
		{"regions side by side may share an answer", `{policy: failover, regions: [tyo, iad, eu], records: 4, groups: [{group: eu, regions: [fra, ams]}]}`, "DE", "", "tyo iad", ""},
		{"a group's own number of records", `{policy: failover, regions: [eu], records: 1, groups: [{group: eu, policy: all, regions: [fra, ams]}]}`, "DE", "", "fra ams", ""},
		{"geo to groups", `{policy: geo, regions: [eu, us, tyo], geo: [{continents: [NA], regions: [us]}, {continents: [EU], regions: [eu]}], ` + continents + `}`, "US", "", "iad", "rule 1"},
		{"a group below min_healthy counts as down", `{policy: failover, regions: [eu, us], ` + picky + `}`, "DE", "ams:down", "iad", "fewer than 2 of 2"},
		{"a group below min_healthy may fail open instead", `{policy: failover, regions: [eu, us], groups: [{group: eu, regions: [fra, ams], min_healthy: 1, all_down: fail_open}, {group: us, regions: [iad]}]}`, "DE", "fra:down", "fra", "fail_open"},
		{"or send to a fallback of its own", `{policy: failover, regions: [eu, us], groups: [{group: eu, regions: [fra, ams], min_healthy: 1, all_down: fallback, fallback: [tyo]}, {group: us, regions: [iad]}]}`, "DE", "fra:down", "tyo", "tyo instead"},
		{"min_healthy of the service: panic, all are served", `{min_healthy: 0.6}`, "DE", "fra:down ams:down iad:down", "fra", "fewer than 3 of 5"},
		{"min_healthy met", `{min_healthy: 0.6}`, "DE", "fra:down ams:down", "iad", ""},
		{"fallback of the service", `{regions: [fra, ams], all_down: fallback, fallback: [tyo, iad]}`, "DE", "fra:down ams:down", "tyo", "tyo, iad instead"},
		{"fallback goes by health too", `{regions: [fra, ams], all_down: fallback, fallback: [tyo, iad]}`, "DE", "fra:down ams:down tyo:down", "iad", "fallback"},
		{"where the fallback is down as well: fail open", `{regions: [fra, ams], all_down: fallback, fallback: [tyo]}`, "DE", "fra:down ams:down tyo:down", "fra", "fail_open"},
		{"fallback to a group", `{regions: [tyo], all_down: fallback, fallback: [us], groups: [{group: us, regions: [iad, sjc]}]}`, "JP", "tyo:down", "sjc", ""},
		{"all regions down: groups do not hide any from failing open", `{policy: failover, regions: [us, eu], ` + continents + `}`, "DE", "fra:down ams:down iad:forced sjc:down tyo:down", "sjc", "fail_open"},
		{"groups in groups", `{policy: failover, regions: [west], groups: [{group: west, policy: failover, regions: [us, eu]}, {group: eu, regions: [fra, ams]}, {group: us, regions: [iad, sjc], min_healthy: 0.6}]}`, "DE", "iad:down", "fra", "fewer than 2 of 2"},
	} {
		t.Run(c.what, func(t *testing.T) {
			classes := NewClasses(fleetOf(t, c.steering), nil)
			d := NewScene(classes, view(c.view), nil, now, nil).Decide(0, V4, at(classes, c.client), time.Minute)
			if got := strings.Join(d.Regions, " "); got != c.want {
				t.Errorf("got %q, want %q; reasons %+v", got, c.want, d.Reasons)
			}
			if text := fmt.Sprint(d.Reasons); !strings.Contains(text, c.reason) {
				t.Errorf("no %q in %s", c.reason, text)
			}
		})
	}
}

// The reasons of a group stand below what named it.
func TestReasonsAreATree(t *testing.T) {
	classes := NewClasses(fleetOf(t, `{policy: failover, regions: [west, tyo], groups: [{group: west, policy: failover, regions: [eu]}, {group: eu, policy: weighted, regions: [fra, ams], weights: {fra: 1}}]}`), nil)
	d := NewScene(classes, view("fra:down"), nil, now, nil).Decide(0, V4, at(classes, "DE"), time.Minute)
	var got []string
	for _, r := range d.Reasons {
		if r.Code != fleet.ReasonUnknown {
			got = append(got, fmt.Sprintf("%d %s %s %s", r.Depth, r.Group, r.Code, r.Region))
		}
	}
	want := []string{"0  policy ", "0  rank west", "0  rank tyo", "1 west policy ", "1 west rank eu",
		"2 eu policy ", "2 eu rank fra", "2 eu rank ams", "2 eu down fra", "0  chosen ams"}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Regions that the Spec takes out get no new clients, as long as another one
// is left.
func TestAdminStates(t *testing.T) {
	doc := fmt.Sprintf(five, "{}")
	for what, c := range map[string]struct{ old, new, want string }{
		"a region that drains":                    {"{id: fra,", "{id: fra, state: draining,", "ams"},
		"a region that is disabled":               {"{id: fra,", "{id: fra, state: disabled,", "ams"},
		"a region whose edge nodes all drain":     {"services:", "nodes:\n- {name: a, region: fra, roles: [l4, l7], addresses: {v4: 10.0.0.2}, state: draining}\nservices:", "ams"},
		"a region of which one edge node is left": {"services:", "nodes:\n- {name: a, region: fra, roles: [l7], addresses: {v4: 10.0.0.2}, state: draining}\n- {name: b, region: fra, roles: [l7], addresses: {v4: 10.0.0.3}}\nservices:", "fra"},
	} {
		s, err := fleet.Compile([]byte(strings.Replace(doc, c.old, c.new, 1)), 0, Check)
		if err != nil {
			t.Fatal(err)
		}
		classes := NewClasses(s, nil)
		if d := NewScene(classes, nil, nil, now, nil).Decide(0, V4, at(classes, "DE"), 0); d.Regions[0] != c.want {
			t.Errorf("%s: %v, want %s", what, d.Regions, c.want)
		}
	}
}

// latencies are what vantages measure, as "fra>tyo 240ms".
func measured(words ...string) *fleet.View {
	v := view("")
	for _, w := range words {
		pair, ms, _ := strings.Cut(w, " ")
		from, to, _ := strings.Cut(pair, ">")
		d, err := time.ParseDuration(ms)
		if err != nil {
			panic(err)
		}
		v.Vantages[fleet.VantageTarget{Vantage: from, Target: service(to)}] = fleet.Verdict{State: fleet.Up, Latency: d}
	}
	return v
}

func TestLatency(t *testing.T) {
	m, err := ParseLatencyMap([]byte("network,region,ms\n# a comment\n10.0.0.0/8,tyo,5\n10.1.0.0/16,iad,3\nAS64500,sjc,1\nBR,sjc,1\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := fleetOf(t, "{policy: latency, unmapped: [ams]}")
	classes := NewClasses(s, m)
	near := at(classes, "DE")
	near.Place.ASN = 64500
	for _, c := range []struct {
		what   string
		client Client
		view   *fleet.View
		want   string
	}{
		{"by distance where nothing is measured", at(classes, "DE"), nil, "fra"},
		{"by a map's network", at(classes, "10.2.0.1"), nil, "tyo"},
		{"by a longer network first", at(classes, "10.1.0.1"), nil, "iad"},
		{"by AS number", near, nil, "sjc"},
		{"by country", at(classes, "BR"), nil, "sjc"},
		{"nothing known: unmapped", at(classes, "203.0.113.1"), nil, "ams"},
		{"a bad path from the vantage nearest to the client counts", at(classes, "IE"), measured("ams>fra 9ms", "fra>ams 9ms", "fra>iad 90ms"), "ams"},
	} {
		d := NewScene(classes, c.view, nil, now, nil).Decide(0, V4, c.client, 0)
		if d.Regions[0] != c.want {
			t.Errorf("%s: %v, want %s; %v", c.what, d.Regions, c.want, d.Reasons)
		}
	}
}

// Small changes of what is measured move nobody: a step is left only when the
// measure is well past it, and then once, not to and fro.
func TestLatencyIsDamped(t *testing.T) {
	classes := NewClasses(fleetOf(t, "{policy: latency}"), nil)
	steps := func(s *Scene) int8 { return s.Latencies()["fra"]["iad"] }
	s := NewScene(classes, measured("fra>iad 90ms"), nil, now, nil)
	first := steps(s)
	for _, ms := range []string{"95ms", "86ms", "100ms", "84ms", "97ms"} {
		if s = NewScene(classes, measured("fra>iad "+ms), nil, now, s); steps(s) != first {
			t.Errorf("%s after 90ms is another step", ms)
		}
	}
	if s = NewScene(classes, measured("fra>iad 130ms"), nil, now, s); steps(s) == first {
		t.Error("130ms after 90ms is the same step")
	}
	second := steps(s)
	for _, ms := range []string{"120ms", "125ms", "115ms"} {
		if s = NewScene(classes, measured("fra>iad "+ms), nil, now, s); steps(s) != second {
			t.Errorf("%s goes back at once", ms)
		}
	}
	if got := NewScene(classes, nil, nil, now, Recalled(classes, s.Latencies())); steps(got) != second {
		t.Error("latencies that were noted down are not those that are recalled")
	}
}

func TestLatencyMapErrors(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8,fra":          "line 1: expected network,region,milliseconds",
		"\n10.0.0.0/8,fra,fast":   `line 2: "fast" is not a number of milliseconds`,
		"10.0.0.0/8,fra,-1":       "not a number of milliseconds",
		"10.0.0.0/33,fra,1":       "is not a prefix",
		"ASx,fra,1":               "is not an AS number",
		"Germany,fra,1":           "is not a prefix, an AS number or a country",
		"DE,,1":                   "expected a region",
		"::ffff:10.0.0.0/104,a,1": "is not a prefix",
	} {
		if _, err := ParseLatencyMap([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// FuzzLatencyMap: what parses is used without harm.
func FuzzLatencyMap(f *testing.F) {
	f.Add([]byte("network,region,ms\n10.0.0.0/8,fra,3\nAS1,fra,2\nDE,tyo,1.5\n::/0,iad,9\n"))
	s := fleetOf(f, "{policy: latency}")
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseLatencyMap(data)
		if err != nil {
			return
		}
		classes := NewClasses(s, m)
		for _, where := range []string{"DE", "10.1.1.1", "2001:db8::1"} {
			if d := NewScene(classes, nil, nil, now, nil).Decide(0, V4, at(classes, where), 0); len(d.Regions) != 1 {
				t.Fatalf("%q: %v", data, d)
			}
		}
	})
}

// shareOf gives what part of a country's clients each region gets, and where
// each slot goes.
func shareOf(s *Scene, c *Classes, where string) (map[string]float64, []string) {
	r, n, slots := c.Rank(0, country(where)), map[string]float64{}, make([]string, Slots)
	for slot := range slots {
		choice := s.Choose(0, V4, r, Slot(slot))
		slots[slot] = s.id(choice.Regions()[0])
		n[slots[slot]] += 1.0 / Slots
	}
	return n, slots
}

// Weights inside a group are as sticky as those of a service: 10 % to 15 %
// moves 5 % of networks, and no other.
func TestWeightsInGroupsAreSticky(t *testing.T) {
	const steering = `{policy: geo, regions: [eu, iad], geo: [{continents: [EU], regions: [eu]}], groups: [{group: eu, policy: weighted, regions: [fra, ams], weights: {fra: %d, ams: %d}}]}`
	get := func(fra, ams int) (map[string]float64, []string) {
		c := NewClasses(fleetOf(t, fmt.Sprintf(steering, fra, ams)), nil)
		return shareOf(NewScene(c, nil, nil, now, nil), c, "DE")
	}
	n, before := get(90, 10)
	m, after := get(85, 15)
	if math.Abs(n["ams"]-0.10) > 0.01 || math.Abs(m["ams"]-0.15) > 0.01 {
		t.Errorf("%v, then %v", n, m)
	}
	for i := range before {
		if before[i] != after[i] && after[i] != "ams" {
			t.Fatalf("slot %d moved from %s to %s", i, before[i], after[i])
		}
	}
}

// Where health leaves less capacity than there is load, what does not fit
// spills to the next region in order, and no more; while it lasts a network
// stays where it is.
func TestSpillOver(t *testing.T) {
	c := NewClasses(fleetOf(t, `{demand: {fra: 80, ams: 60, iad: 50, sjc: 20, tyo: 20}}`), nil)
	n, _ := shareOf(NewScene(c, view(""), nil, now, nil), c, "DE")
	if n["fra"] != 1 {
		t.Errorf("there is room for all, and Germany goes to %v", n)
	}
	// fra's 80 come to ams, which has 60 of its own and room for 100; 40 go on
	// to iad, which has 50 of its own.
	s := NewScene(c, view("fra:down"), nil, now, nil)
	n, before := shareOf(s, c, "DE")
	if math.Abs(n["ams"]-100.0/140) > 0.02 || math.Abs(n["iad"]-40.0/140) > 0.02 {
		t.Errorf("Germany goes to %v", n)
	}
	if choice := s.Choose(0, V4, c.Rank(0, country("DE")), 0); !choice.Sliced {
		t.Error("the choice does not say that it depends on the slot")
	}
	if n, _ := shareOf(s, c, "US"); n["iad"] != 1 {
		t.Errorf("iad has room, and the United States go to %v", n)
	}
	c2 := NewClasses(fleetOf(t, `{demand: {fra: 90, ams: 60, iad: 50, sjc: 20, tyo: 20}}`), nil)
	_, after := shareOf(NewScene(c2, view("fra:down"), nil, now, nil), c2, "DE")
	for i := range before {
		if before[i] == "iad" && after[i] != "iad" {
			t.Fatalf("slot %d comes back to ams, though there is more load", i)
		}
	}
	// More load than all can take: nobody is left without an answer.
	c3 := NewClasses(fleetOf(t, `{demand: {fra: 900, ams: 900}}`), nil)
	if n, _ := shareOf(NewScene(c3, view(""), nil, now, nil), c3, "DE"); math.Abs(n["fra"]+n["ams"]+n["iad"]+n["sjc"]+n["tyo"]-1) > 1e-9 || n["fra"] < 0.1 {
		t.Errorf("%v", n)
	}
}

// What changed is enough to know: a scene made from the one before and what
// the View says has changed is the scene made from the whole View.
func TestScenesFollowEachOther(t *testing.T) {
	c := NewClasses(fleetOf(t, "{}"), nil)
	v := view("fra:down iad@fra:down")
	v.Revision = 1
	s := NewScene(c, v, nil, now, nil)
	next := view("ams:forced iad@fra:down tyo@ams:down")
	next.Revision = 2
	for _, r := range []string{"fra", "ams"} {
		next.Changed = append(next.Changed, changed(next, "", service(r)))
	}
	next.Changed = append(next.Changed, changed(next, "ams", service("tyo")))
	got := NewScene(c, next, nil, now, s)
	next.Changed = nil
	if want := NewScene(c, next, nil, now, nil); got.health[0] != want.health[0] {
		t.Errorf("got %+v, want %+v", got.health[0], want.health[0])
	}
}

func changed(v *fleet.View, vantage string, t fleet.Target) fleet.VantageVerdict {
	out := fleet.VantageVerdict{VantageTarget: fleet.VantageTarget{Vantage: vantage, Target: t}, Verdict: v.Get(t)}
	if vantage != "" {
		out.Verdict = v.From(vantage, t)
	}
	return out
}
