package xdp

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"meridian/fleet"
)

const desiredSpec = `
anycast: {v4: [198.51.100.1]}
regions:
  - {id: fra, location: {latitude: 50, longitude: 8}, vips: {v6: ["2001:db8::10"]}}
  - {id: nrt, location: {latitude: 35, longitude: 139}, vips: {v4: [192.0.2.20]}}
nodes:
  - {name: lb, region: fra, roles: [l4, bgp], addresses: {v4: 10.0.0.1}}
  - {name: both, region: fra, roles: [l4, l7], addresses: {v4: 10.0.0.2, v6: "fd00::2"}, weight: 50}
  - {name: gw, region: fra, roles: [l7], addresses: {v4: 10.0.0.3, v6: "fd00::3"}, state: draining}
  - {name: off, region: fra, roles: [l7], addresses: {v4: 10.0.0.4}, state: disabled}
  - {name: far, region: nrt, roles: [l4, l7], addresses: {v4: 10.1.0.1}}
services:
  - {service: web, protocol: https, ports: [443], hosts: [a.test], pools: [{id: p, endpoints: [{address: "10.9.0.1:443"}]}]}
  - {service: api, protocol: https, ports: [443, 8443], hosts: [b.test], pools: [{id: p, endpoints: [{address: "10.9.0.1:443"}]}]}
  - service: mail
    protocol: tcp
    ports: [25, 465]
    forwarding: l2_dsr
    healthcheck: {interval: 1s, timeout: 500ms}
    pools:
      - id: p
        endpoints:
          - {address: "10.0.0.7:25"}
          - {address: "10.0.0.7:465", state: draining}
          - {address: "10.0.0.8:25", region: nrt}
          - {address: "10.0.0.9:25", state: disabled}
`

// describe writes a desired state for people to compare.
func (d *desired) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "balancers %v\naddresses %v\n", d.balancers, d.addresses)
	for _, f := range d.frontends {
		fmt.Fprintf(&b, "%s %s -> %s\n", f.label(), f.service, d.groups[f.group].id)
	}
	hows := []string{"none", "local", "tunnel4", "tunnel6", "l2"}
	for _, g := range d.groups {
		fmt.Fprintf(&b, "%s:", g.id)
		for _, m := range g.members {
			fmt.Fprintf(&b, " [%s %d %s %s %s]", m.name, m.weight, m.admin, hows[m.key.how], m.key.addr)
		}
		b.WriteString("\n")
	}
	for _, c := range d.checks {
		fmt.Fprintf(&b, "check %s: %s every %s by", c.target, c.kind, c.interval)
		for _, w := range c.ways {
			fmt.Fprintf(&b, " %s", w.vip)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func compare(t *testing.T, got, want string) {
	t.Helper()
	if want = strings.TrimPrefix(want, "\n"); got != want {
		t.Errorf("got:\n%s\nexpected:\n%s", got, want)
	}
}

func TestPlanOfABalancer(t *testing.T) {
	d, err := plan(worldOf(t, desiredSpec), "lb", Roles{L4: true})
	if err != nil {
		t.Fatal(err)
	}
	// lb has no IPv6 address: what has one is reached by IPv4, and no check
	// goes by an IPv6 VIP.
	compare(t, d.describe(), `
balancers [10.0.0.1 10.0.0.2 fd00::2 10.0.0.3 fd00::3 10.0.0.4]
addresses [198.51.100.1 2001:db8::10]
tcp/198.51.100.1:443 web -> gateways/ipip/v4
tcp/[2001:db8::10]:443 web -> gateways/ipip/v6
tcp/198.51.100.1:8443 api -> gateways/ipip/v4
tcp/[2001:db8::10]:8443 api -> gateways/ipip/v6
tcp/198.51.100.1:25 mail -> mail/25/v4
tcp/[2001:db8::10]:25 mail -> mail/25/v6
tcp/198.51.100.1:465 mail -> mail/465/v4
tcp/[2001:db8::10]:465 mail -> mail/465/v6
tcp/198.51.100.1:80 web -> gateways/ipip/v4
tcp/[2001:db8::10]:80 web -> gateways/ipip/v6
gateways/ipip/v4: [both 50 active tunnel4 10.0.0.2] [gw 100 draining tunnel4 10.0.0.3]
gateways/ipip/v6: [both 50 active tunnel4 10.0.0.2] [gw 100 draining tunnel4 10.0.0.3]
mail/25/v4: [10.0.0.7:25 100 active l2 10.0.0.7]
mail/25/v6: [10.0.0.7:25 100 active l2 10.0.0.7]
mail/465/v4: [10.0.0.7:465 100 draining l2 10.0.0.7]
mail/465/v6: [10.0.0.7:465 100 draining l2 10.0.0.7]
check gateway/both@fra: https every 150ms by 198.51.100.1:443
check gateway/gw@fra: https every 150ms by 198.51.100.1:443
check endpoint/mail/p/10.0.0.7:25@fra: tcp every 1s by 198.51.100.1:25
check endpoint/mail/p/10.0.0.7:465@fra: tcp every 1s by 198.51.100.1:465
`)
}

func TestPlanOfANodeWithBothRoles(t *testing.T) {
	d, err := plan(worldOf(t, desiredSpec), "both", Roles{L4: true, L7: true})
	if err != nil {
		t.Fatal(err)
	}
	got := d.describe()
	for _, want := range []string{
		"gateways/ipip/v4: [both 50 active local 10.0.0.2] [gw 100 draining tunnel4 10.0.0.3]\n",
		"gateways/ipip/v6: [both 50 active local fd00::2] [gw 100 draining tunnel6 fd00::3]\n",
		"check gateway/gw@fra: https every 150ms by 198.51.100.1:443 [2001:db8::10]:443\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got:\n%s\nexpected in it: %s", got, want)
		}
	}
}

// Datagrams of a udp service with forwarding proxy go to the gateways, which are
// checked by TCP at other services' ports alone.
func TestPlanOfDatagramsForGateways(t *testing.T) {
	more := "  - {service: game, protocol: udp, forwarding: proxy, ports: [5000], healthcheck: {type: udp, send: ping}, pools: [{id: p, endpoints: [{address: \"10.9.0.1:6000\"}]}]}\n"
	d, err := plan(worldOf(t, desiredSpec+more), "lb", Roles{L4: true})
	if err != nil {
		t.Fatal(err)
	}
	got := d.describe()
	if want := "udp/198.51.100.1:5000 game -> gateways/ipip/v4\n"; !strings.Contains(got, want) {
		t.Errorf("got:\n%s\nexpected in it: %s", got, want)
	}
	if strings.Contains(got, " 198.51.100.1:5000\n") || strings.Contains(got, "check endpoint/game") {
		t.Errorf("datagrams of gateways are checked:\n%s", got)
	}
}

// A gateway balances nothing and checks nobody, but knows the gateways' rings.
func TestPlanOfAGatewayBalancesNothing(t *testing.T) {
	d, err := plan(worldOf(t, desiredSpec), "gw", Roles{L7: true})
	if err != nil {
		t.Fatal(err)
	}
	compare(t, d.describe(), `
balancers [10.0.0.1 10.0.0.2 fd00::2 10.0.0.3 fd00::3 10.0.0.4]
addresses [198.51.100.1 2001:db8::10]
tcp/198.51.100.1:443 web -> gateways/ipip/v4
tcp/[2001:db8::10]:443 web -> gateways/ipip/v6
tcp/198.51.100.1:8443 api -> gateways/ipip/v4
tcp/[2001:db8::10]:8443 api -> gateways/ipip/v6
tcp/198.51.100.1:80 web -> gateways/ipip/v4
tcp/[2001:db8::10]:80 web -> gateways/ipip/v6
gateways/ipip/v4: [both 50 active tunnel4 10.0.0.2] [gw 100 draining local 10.0.0.3]
gateways/ipip/v6: [both 50 active tunnel6 fd00::2] [gw 100 draining local fd00::3]
`)
	if err := d.serving(func(fleet.Target) fleet.State { return fleet.Unknown }); err != nil {
		t.Errorf("a gateway's layer 4 serves as soon as it is attached: %v", err)
	}
}

// A port for checks is one of the endpoint's own address, whichever VIPs lead
// there; udp endpoints are checked there or not at all.
func TestPlanOfChecksAtAPortOfTheirOwn(t *testing.T) {
	spec := strings.Replace(desiredSpec, "healthcheck: {", "healthcheck: {type: http, port: 8080, ", 1) + `
  - {service: dns, protocol: udp, ports: [53], healthcheck: {port: 8081}, pools: [{id: p, endpoints: [{address: "10.0.0.5:53"}]}]}
  - {service: ntp, protocol: udp, ports: [123], pools: [{id: p, endpoints: [{address: "10.0.0.5:123"}]}]}
`
	d, err := plan(worldOf(t, spec), "lb", Roles{L4: true})
	if err != nil {
		t.Fatal(err)
	}
	_, got, _ := strings.Cut(d.describe(), "check gateway/gw@fra: https every 150ms by 198.51.100.1:443\n")
	compare(t, got, `
check endpoint/mail/p/10.0.0.7:25@fra: http every 1s by 10.0.0.7:8080
check endpoint/mail/p/10.0.0.7:465@fra: http every 1s by 10.0.0.7:8080
check endpoint/dns/p/10.0.0.5:53@fra: tcp every 5s by 10.0.0.5:8081
`)
}

// A gateway has to live for the node to announce VIPs; endpoints of tcp and udp
// services are dependencies and have no say.
func TestServing(t *testing.T) {
	d, err := plan(worldOf(t, desiredSpec), "lb", Roles{L4: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		gateways, endpoints fleet.State
		want                bool
	}{
		{fleet.Unknown, fleet.Up, false},
		{fleet.Down, fleet.Up, false},
		{fleet.Up, fleet.Down, true},
		{fleet.Drain, fleet.Unknown, true},
	} {
		err := d.serving(func(t fleet.Target) fleet.State {
			if t.Kind == fleet.TargetGateway {
				return c.gateways
			}
			return c.endpoints
		})
		if (err == nil) != c.want {
			t.Errorf("gateways %s, endpoints %s: %v", c.gateways, c.endpoints, err)
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	for spec, want := range map[string]string{
		strings.Replace(desiredSpec, "name: lb", "name: lb9", 1):      `node "lb" is not in the Spec`,
		strings.Replace(desiredSpec, "10.0.0.7:25", "10.0.0.7:26", 1): "services[2].pools[0].endpoints[0].address: port 26 is none of the service's",
	} {
		if _, err := plan(worldOf(t, spec), "lb", Roles{L4: true}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, expected %q", err, want)
		}
	}
}

func TestApplyKeepsTheLastWorldOnError(t *testing.T) {
	l, err := New(Config{Node: "gw", Roles: Roles{L7: true}})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Apply(worldOf(t, desiredSpec)); err != nil {
		t.Fatal(err)
	}
	was := l.want.Load()
	if err := l.Apply(worldOf(t, strings.Replace(desiredSpec, "name: gw,", "name: gw2,", 1))); err == nil {
		t.Error("a World without the node was taken")
	}
	if l.want.Load() != was {
		t.Error("a World that was refused has changed what is wanted")
	}
	if err := l.Ready(); err == nil {
		t.Error("ready before it is attached")
	}
}

func TestNewRefuses(t *testing.T) {
	for want, cfg := range map[string]Config{
		"expected the node's name":        {Roles: Roles{L7: true}},
		"neither role l4 nor role l7":     {Node: "a"},
		"role l4 needs Health":            {Node: "a", Roles: Roles{L4: true}},
		`mode "fast": expected auto`:      {Node: "a", Roles: Roles{L7: true}, Mode: "fast"},
		"3 flows: expected 4 to 67108864": {Node: "a", Roles: Roles{L7: true}, Flows: 3},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, expected %q", err, want)
		}
	}
}

// Health and the operator's word, member by member: u unknown, U up, D down,
// R draining by its own word, O draining by the operator's, O up.
func TestChoiceOfMembers(t *testing.T) {
	states := map[rune]fleet.State{'u': fleet.Unknown, 'U': fleet.Up, 'D': fleet.Down, 'R': fleet.Drain, 'o': fleet.Up, 'd': fleet.Down}
	for _, c := range []struct {
		members    string
		ring, keep []int
	}{
		{"UUU", []int{0, 1, 2}, []int{0, 1, 2}},
		{"uUD", []int{0, 1}, []int{0, 1}},
		{"URD", []int{0}, []int{0, 1}},
		{"UoD", []int{0}, []int{0, 1}},
		{"Ud", []int{0}, []int{0}},
		{"RoD", []int{0, 1}, []int{0, 1}},
		{"DdD", []int{0, 1, 2}, []int{0, 1, 2}},
		{"", nil, nil},
	} {
		g := group{}
		state, joined := map[fleet.Target]fleet.State{}, map[memberKey]bool{}
		for i, k := range c.members {
			m := member{key: memberKey{target: fleet.Target{Kind: fleet.TargetGateway, Node: fmt.Sprint(i)}, how: edgeForwardFORWARD_L2}, admin: fleet.Active}
			if k == 'o' || k == 'd' {
				m.admin = fleet.Draining
			}
			g.members = append(g.members, m)
			state[m.key.target], joined[m.key] = states[k], true
		}
		got := g.choose(func(t fleet.Target) fleet.State { return state[t] }, joined)
		var keep []int
		for i := range g.members {
			if got.keep[i] {
				keep = append(keep, i)
			}
		}
		if !slices.Equal(got.ring, c.ring) || !slices.Equal(keep, c.keep) {
			t.Errorf("%s: ring %v, kept %v; expected %v, %v", c.members, got.ring, keep, c.ring, c.keep)
		}
	}
}

// Whatever the phase and the network's latency, three failures in a row fit
// into a second.
func TestThreeFailuresFitASecond(t *testing.T) {
	for _, latency := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 200 * time.Millisecond, time.Minute} {
		if worst := 3*gatewayInterval + checkTimeout(latency); worst >= time.Second-20*time.Millisecond {
			t.Errorf("latency %s: up to %s from death to verdict", latency, worst)
		}
	}
}
