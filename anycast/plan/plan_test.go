package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"meridian/fleet"
)

const doc = `
regions:
  - {id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [203.0.113.1]}, bgp: {asn: 64501, communities: ["64501:7"]}}
  - {id: iad, location: {latitude: 39, longitude: -77}, vips: {v4: [203.0.113.2]}, bgp: {asn: 64502}}
anycast: {v4: [198.51.100.1], v6: ["2001:db8:ca57::1"]}
nodes:
  - {name: fra-1, region: fra, roles: [l4, l7, bgp], addresses: {v4: 10.1.0.1, v6: "fd00::1"}}
  - {name: fra-2, region: fra, roles: [l7], addresses: {v4: 10.1.0.2}}
  - {name: off, region: fra, roles: [bgp], state: disabled, addresses: {v4: 10.1.0.3, v6: "fd00::3"}}
  - {name: leaving, region: fra, roles: [bgp], state: draining, addresses: {v4: 10.1.0.4, v6: "fd00::4"}}
services:
  - {service: web, protocol: https, ports: [443], pools: [{id: main, endpoints: [{address: "10.1.1.1:443"}]}]}
  - {service: api, protocol: https, ports: [443], hosts: [api.test], pools: [{id: main, endpoints: [{address: "10.1.1.1:443"}]}]}
`

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func snapshot(t *testing.T, doc string) *fleet.Snapshot {
	t.Helper()
	s, err := fleet.Compile([]byte(doc), 1, Check)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func service(region, name string) fleet.Target {
	return fleet.Target{Kind: fleet.TargetService, Region: region, Service: name}
}

func gateway(node string) fleet.Target {
	return fleet.Target{Kind: fleet.TargetGateway, Region: "fra", Node: node}
}

func down(targets ...fleet.Target) *fleet.View { return viewOf(fleet.Down, targets) }
func up(targets ...fleet.Target) *fleet.View   { return viewOf(fleet.Up, targets) }

func viewOf(s fleet.State, targets []fleet.Target) *fleet.View {
	v := &fleet.View{Verdicts: map[fleet.Target]fleet.Verdict{}}
	for _, t := range targets {
		v.Verdicts[t] = fleet.Verdict{State: s}
	}
	return v
}

// show gives an announcement as PREFIX MED/PREPEND and "gshut".
func show(p Plan) string {
	if len(p.Ads) == 0 {
		return "none: " + p.Silent
	}
	var out []string
	for _, ad := range p.Ads {
		s := fmt.Sprintf("%s %d/%d", ad.Prefix, ad.MED, ad.Prepend)
		if slices.Contains(ad.Communities, GracefulShutdown) {
			s += " gshut"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

func TestPlan(t *testing.T) {
	const (
		full = "203.0.113.1/32 100/0, 198.51.100.1/32 100/0, 2001:db8:ca57::1/128 100/0"
		soft = "203.0.113.1/32 100/0, 198.51.100.1/32 1000/0, 2001:db8:ca57::1/128 1000/0"
		hard = "203.0.113.1/32 100/0, 198.51.100.1/32 1000/3 gshut, 2001:db8:ca57::1/128 1000/3 gshut"
		all  = "203.0.113.1/32 1000/3 gshut, 198.51.100.1/32 1000/3 gshut, 2001:db8:ca57::1/128 1000/3 gshut"
	)
	drain := fleet.Shift{ID: "1", From: "fra", Share: 1, Drain: true, Expires: t0.Add(time.Minute)}
	for _, c := range []struct {
		why  string
		in   Input
		want string
	}{
		{"a node that can serve announces its region's VIPs and the anycast ones", Input{Node: "fra-1"}, full},
		{"a node that cannot forward withdraws all", Input{Node: "fra-1", Local: errors.New("no program on eth0")},
			"none: the node cannot serve: no program on eth0"},
		{"a node without the role announces nothing", Input{Node: "fra-2"}, "none: the node has not the role bgp"},
		{"nor does one that is disabled", Input{Node: "off"}, "none: the node is disabled"},
		{"nor one that the Spec does not know", Input{Node: "who"}, `none: node "who" is not in the Spec`},
		{"a draining node asks neighbors to prefer its peers, for every VIP", Input{Node: "leaving"}, all},

		{"one service down raises the MED, no more", Input{Node: "fra-1", View: down(service("fra", "web"))}, soft},
		{"every service down degrades the anycast VIPs; the regional ones have nowhere to go",
			Input{Node: "fra-1", View: down(service("fra", "web"), service("fra", "api"))}, hard},
		{"every region down at once moves nothing",
			Input{Node: "fra-1", View: down(service("fra", "web"), service("fra", "api"), service("iad", "web"), service("iad", "api"))}, full},
		{"no gateway left degrades, and never withdraws", Input{Node: "fra-1", View: down(gateway("fra-1"), gateway("fra-2"))}, hard},
		{"one gateway left is enough", Input{Node: "fra-1", View: down(gateway("fra-1"))}, full},
		{"another region's fault is not ours", Input{Node: "fra-1", View: down(service("iad", "web"), service("iad", "api"))}, full},

		{"a node that has just become ready begins softly", Input{Node: "fra-1", Ready: t0.Add(-time.Second)}, hard},
		{"until the probes find its region up", Input{Node: "fra-1", Ready: t0.Add(-time.Second), View: up(service("fra", "web"), service("fra", "api"))}, full},
		{"or until they have said nothing for long", Input{Node: "fra-1", Ready: t0.Add(-time.Minute)}, full},

		{"a drain degrades", Input{Node: "fra-1", Shifts: []fleet.Shift{drain}}, hard},
		{"until it expires", Input{Node: "fra-1", Shifts: []fleet.Shift{drain}, Now: t0.Add(time.Hour)}, full},
		{"a drain of one of several services leaves the shared VIPs",
			Input{Node: "fra-1", Shifts: []fleet.Shift{{From: "fra", Service: "web", Drain: true}}}, full},
		{"a shift without drain is DNS's alone", Input{Node: "fra-1", Shifts: []fleet.Shift{{From: "fra", Share: 1}}}, full},
	} {
		c.in.Snapshot = snapshot(t, doc)
		if c.in.Now.IsZero() {
			c.in.Now = t0
		}
		if got := show(Make(c.in)); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.why, got, c.want)
		}
	}
}

func TestPlanKeepsTheRegionsCommunities(t *testing.T) {
	p := Make(Input{Snapshot: snapshot(t, doc), Node: "fra-1", Now: t0})
	if got := p.Ads[0].Communities; !slices.Equal(got, []uint32{64501<<16 | 7}) {
		t.Errorf("communities %v", got)
	}
}

func TestCheck(t *testing.T) {
	bad := `
regions:
  - id: fra
    location: {latitude: 50, longitude: 8}
    vips: {v6: ["2001:db8::1"]}
    bgp:
      asn: 64501
      neighbors:
        - {address: 10.0.0.1, asn: 64601}
        - {address: 10.0.0.1, asn: 64602}
nodes:
  - {name: fra-1, region: fra, roles: [bgp], addresses: {v4: 10.1.0.1}}
`
	_, err := fleet.Compile([]byte(bad), 1, Check)
	var got []string
	for _, e := range fleet.FieldErrors(err) {
		got = append(got, e.Error())
	}
	want := []string{
		"line 10: regions[0].bgp.neighbors[1].address: 10.0.0.1 is already a neighbor of the same nodes",
		"line 12: nodes[0].addresses.v6: expected an IPv6 address, the next hop of the IPv6 VIPs that the node announces",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestHold(t *testing.T) {
	var h Hold
	now := t0
	broken := errors.New("broken")
	// lasts feeds one state every quarter of a second and says after how long
	// Hold takes it over.
	lasts := func(err error) time.Duration {
		for d := time.Duration(0); ; d += 250 * time.Millisecond {
			got := h.Update(err, now)
			now = now.Add(250 * time.Millisecond)
			if (got == nil) == (err == nil) {
				return d
			}
		}
	}
	if h.Update(nil, now) == nil {
		t.Error("ready before readiness has lasted")
	}
	for i, want := range []time.Duration{time.Second, time.Second, 2 * time.Second, 4 * time.Second} {
		if d := lasts(nil); d != want {
			t.Errorf("rise %d after %s, want %s", i, d, want)
		}
		h.Update(broken, now)
		if h.Update(nil, now.Add(100*time.Millisecond)) != nil {
			t.Error("a short failure counted")
		}
		if d := lasts(broken); d != 500*time.Millisecond {
			t.Errorf("fall %d after %s", i, d)
		}
	}
	now = now.Add(time.Hour)
	lasts(nil)
	now = now.Add(time.Hour)
	lasts(broken)
	if d := lasts(nil); d != time.Second {
		t.Errorf("after a quiet hour the rise takes %s", d)
	}
}
