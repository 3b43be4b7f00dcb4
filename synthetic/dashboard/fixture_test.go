package dashboard

import (
	"testing"
	"time"

	"meridian/fleet"
)

// The fleet of these tests: three regions, one service with an anycast
// address, two gateways and two endpoints in each region.
const spec = `
fleet: test
anycast: {v4: [198.51.100.1]}
regions:
- {id: fra, name: Frankfurt, location: {latitude: 50.1, longitude: 8.7, city: Frankfurt, country: DE}, vips: {v4: [198.51.100.10]}}
- {id: iad, name: Ashburn, location: {latitude: 39.0, longitude: -77.5, city: Ashburn, country: US}, vips: {v4: [198.51.100.20]}}
- {id: nrt, name: Tokyo, location: {latitude: 35.7, longitude: 139.7, city: Tokyo, country: JP}, vips: {v4: [198.51.100.30]}}
nodes:
- {name: fra-1, region: fra, roles: [dns, control, probe], addresses: {v4: 10.1.0.1}}
- {name: fra-2, region: fra, roles: [l4, l7, bgp], addresses: {v4: 10.1.0.2}}
- {name: fra-3, region: fra, roles: [l4, l7, bgp], addresses: {v4: 10.1.0.3}}
- {name: iad-1, region: iad, roles: [dns, control, probe], addresses: {v4: 10.2.0.1}}
- {name: iad-2, region: iad, roles: [l4, l7, bgp], addresses: {v4: 10.2.0.2}}
- {name: nrt-1, region: nrt, roles: [dns, control, probe], addresses: {v4: 10.3.0.1}}
- {name: nrt-2, region: nrt, roles: [l4, l7, bgp], addresses: {v4: 10.3.0.2}}
services:
- service: web
  protocol: https
  ports: [443]
  hosts: [www.example.test]
  pools: [{id: main, endpoints: [{address: "10.9.0.1:8443"}, {address: "10.9.0.2:8443"}]}]
`

// noon lies before the start of synctest's clock.
var noon = time.Date(1999, 12, 31, 12, 0, 0, 0, time.UTC)

func testWorld(t testing.TB, shifts ...fleet.Shift) *fleet.World {
	t.Helper()
	snap, err := fleet.Compile([]byte(spec), 7)
	if err != nil {
		t.Fatal(err)
	}
	return &fleet.World{Snapshot: snap, Shifts: shifts}
}

func web(region string) fleet.Target {
	return fleet.Target{Kind: fleet.TargetService, Service: "web", Region: region}
}

func gateway(node, region string) fleet.Target {
	return fleet.Target{Kind: fleet.TargetGateway, Node: node, Region: region}
}

// healthy is the View in which everything is up, at 20 ms, since noon.
func healthy(w *fleet.World) *fleet.View {
	v := &fleet.View{At: noon, Verdicts: map[fleet.Target]fleet.Verdict{},
		Vantages: map[fleet.VantageTarget]fleet.Verdict{}, Probers: map[string]bool{}}
	up := fleet.Verdict{State: fleet.Up, Since: noon, Latency: 20 * time.Millisecond}
	for _, r := range w.Snapshot.Spec.Regions {
		v.Probers[r.ID] = true
		for _, t := range w.Snapshot.ProbedTargets(r.ID) {
			v.Verdicts[t] = up
			v.Vantages[fleet.VantageTarget{Vantage: r.ID, Target: t}] = up
		}
		for _, t := range append(w.Snapshot.GatewayTargets(r.ID), w.Snapshot.EndpointTargets(r.ID)...) {
			v.Verdicts[t] = up
		}
	}
	return v
}

// kill makes a region what its death makes it in a View.
func kill(w *fleet.World, v *fleet.View, region string, at time.Time) {
	down := fleet.Verdict{State: fleet.Down, Cause: fleet.CauseTimeout, Since: at}
	v.Probers[region] = false
	for k := range v.Vantages {
		if k.Vantage == region {
			delete(v.Vantages, k)
		} else if k.Target.Region == region {
			v.Vantages[k] = down
		}
	}
	for t := range v.Verdicts {
		switch {
		case t.Region != region:
		case t.Kind == fleet.TargetGateway || t.Kind == fleet.TargetEndpoint:
			v.Verdicts[t] = fleet.Verdict{Since: at}
		default:
			v.Verdicts[t] = down
		}
	}
}

// steering sends Germany, the United States and Japan to the nearest region
// that lives.
func steering(_ *fleet.World, v *fleet.View) []Steering {
	home := map[string]string{"DE": "fra", "FR": "fra", "US": "iad", "JP": "nrt"}
	st := Steering{Service: "web", Home: home, Chosen: map[string]string{}}
	for country, region := range home {
		if v.Get(web(region)).State == fleet.Down {
			region = map[string]string{"fra": "iad", "iad": "fra", "nrt": "iad"}[region]
		}
		st.Chosen[country] = region
	}
	return []Steering{st}
}

func shiftUntil(end time.Time) fleet.Shift {
	return fleet.Shift{ID: "s", From: "fra", Share: 0.5, Expires: end}
}
