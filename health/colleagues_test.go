package health

import (
	"testing"
	"testing/synctest"
	"time"

	"meridian/fleet"
)

const gateways = `
regions: [{id: a, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.1]}}, {id: b, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.2]}}]
nodes:
- {name: a-1, region: a, roles: [l7], addresses: {v4: 10.0.0.1}}
- {name: a-2, region: a, roles: [l7], addresses: {v4: 10.0.0.2}}
- {name: b-1, region: b, roles: [l7], addresses: {v4: 10.0.0.3}}
services:
- {service: web, protocol: http, ports: [80], pools: [{id: app, endpoints: [{address: "10.1.0.1:80"}, {address: "10.1.0.2:80"}]}]}
`

// A gateway hears what the other one of its region says of their endpoints, and that
// it says nothing of what it has forgotten; of other regions' gateways, and of one
// that has fallen silent, it hears nothing.
func TestColleagues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, w := &hub{mute: map[string]bool{}}, world(t, gateways, 1)
		one := start(t, h, "a-1", w, fleet.RoleL7)
		two := start(t, h, "a-2", w, fleet.RoleL7)
		three := start(t, h, "b-1", w, fleet.RoleL7)
		for _, n := range []*node{one, two, three} {
			defer n.stop()
		}
		at := w.Snapshot.EndpointTargets("a")[1]
		two.see(at, true, 5)
		time.Sleep(2 * time.Second)
		says := func(want fleet.State) {
			t.Helper()
			targets, states := one.Colleagues()
			if len(states) != 1 || len(targets) != 2 || targets[1] != at || states["a-2"][0] != fleet.Unknown || states["a-2"][1] != want {
				t.Errorf("%v of %v, expected %s", states, targets, want)
			}
		}
		says(fleet.Up)
		two.Forget(at)
		time.Sleep(2 * time.Second)
		says(fleet.Unknown)
		h.mu.Lock()
		h.mute["a-2"] = true
		h.mu.Unlock()
		time.Sleep(time.Minute)
		if _, states := one.Colleagues(); len(states) != 0 {
			t.Errorf("of one that has fallen silent: %v", states)
		}
	})
}
