package xdp

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"meridian/fleet"
)

// Tens of thousands of packets of all kinds, sound, odd and broken, while
// members fail, drain, come and go: no verdict and no octet of what leaves
// differs from the reference's.
func TestAgainstReference(t *testing.T) {
	packets := 4000
	if testing.Short() {
		packets = 500
	}
	gateway := func(name string) fleet.Target {
		return fleet.Target{Kind: fleet.TargetGateway, Region: "fra", Node: name}
	}
	endpoint := func(service, address string) fleet.Target {
		return fleet.Target{Kind: fleet.TargetEndpoint, Region: "fra", Service: service, Pool: "main", Endpoint: address}
	}
	without := strings.Replace(againstSpec, "  - {name: gw2, region: fra, roles: [l7], addresses: {v4: 10.0.0.5, v6: \"fd00::5\"}}\n", "", 1)
	type step func(w *twin, apply func(spec string))
	set := func(states map[fleet.Target]fleet.State) step {
		return func(w *twin, _ func(string)) { maps.Copy(w.state, states) }
	}
	kinds := goldens[1].spec(t)
	for _, f := range []struct {
		name, spec string
		nodes      map[string]Roles
		steps      []step
	}{
		{"against", againstSpec, againstRoles, []step{
			set(nil),
			set(map[fleet.Target]fleet.State{gateway("gw2"): fleet.Drain, endpoint("two", "10.0.0.7:77"): fleet.Down}),
			set(map[fleet.Target]fleet.State{gateway("gw3"): fleet.Down, endpoint("six", "[fd00::9]:66"): fleet.Drain}),
			func(w *twin, apply func(string)) { clear(w.state); apply(without) },
			func(_ *twin, apply func(string)) { apply(againstSpec) },
			set(map[fleet.Target]fleet.State{gateway("gw2"): fleet.Up, gateway("gw3"): fleet.Up}),
		}},
		{"kinds", kinds, kindsRoles, []step{
			set(nil),
			set(map[fleet.Target]fleet.State{gateway("gw2"): fleet.Drain, endpoint("any", "10.0.0.7:25"): fleet.Drain, endpoint("game", "10.0.0.8:77"): fleet.Down}),
			set(map[fleet.Target]fleet.State{gateway("gw2"): fleet.Up, gateway("both"): fleet.Down}),
		}},
	} {
		for node, roles := range f.nodes {
			t.Run(f.name+" at "+node, func(t *testing.T) {
				defer oneCPU(t)()
				w := newTwin(t, f.spec, node, roles)
				d := newDice(1)
				met := map[string]int{}
				for _, change := range f.steps {
					change(w, func(spec string) { w.applyTwin(t, spec, node, roles) })
					w.reconcileTwin(t)
					for i := range packets {
						what, frame := d.frame()
						for _, r := range w.agree(t, fmt.Sprintf("packet %d, %s", i, what), frame).reasons() {
							met[r]++
						}
					}
				}
				w.sameTraffic(t)
				t.Log(met)
			})
		}
	}
}

// Whatever the packet, and whatever came before it.
func FuzzAgainstReference(f *testing.F) {
	var twins []*twin
	spec, err := os.ReadFile(goldens[1].file("yaml"))
	if err != nil {
		f.Fatal(err)
	}
	for _, node := range []string{"lb", "gw1", "both"} {
		twins = append(twins, newTwin(f, againstSpec, node, againstRoles[node]))
	}
	for _, node := range []string{"lb", "gw", "both"} {
		twins = append(twins, newTwin(f, string(spec), node, kindsRoles[node]))
	}
	for i, g := range goldens {
		for n, c := range g.cases() {
			f.Add(uint8(3*i+n%3), c.frame)
		}
	}
	f.Fuzz(func(t *testing.T, at uint8, frame []byte) {
		if len(frame) < 14 || len(frame) > 3000 {
			t.Skip("the kernel runs no such packet")
		}
		defer oneCPU(t)()
		i := int(at) % len(twins)
		twins[i].agree(t, fmt.Sprintf("twin %d", i), frame)
	})
}
