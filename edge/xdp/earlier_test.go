package xdp

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"meridian/edge/maglev"
	"meridian/fleet"
)

// knows says whether a gateway's tables name, at each slot, the gateway that had it
// when these were in force.
func (m *model) knows(gateway string, were ...maglev.Member) bool {
	ring, err := maglev.Owners(were, maglev.Slots, Key{7}.ringSeed())
	if err != nil {
		m.t.Fatal(err)
	}
	at := m.nodes[gateway].last()
	for _, table := range at.rings {
		for slot, name := range ring {
			owners := []uint16{table.slots[slot] &^ slotUnsafe}
			if table.owners != nil {
				owners = table.owners[slot][:]
			}
			if !slices.ContainsFunc(owners, func(i uint16) bool { return at.gateway(i) == name }) {
				return false
			}
		}
	}
	return true
}

// gateway names the one that an endpoint is.
func (r *reference) gateway(i uint16) string {
	if e := r.endpoint(i); e != nil {
		return fmt.Sprintf("gw%d", fromAddress(e.Addr).As4()[3])
	}
	return ""
}

func modelOf(t *testing.T, gateways ...modelGateway) *model {
	m := newModel(t, 1, true)
	m.spec = gateways
	return m
}

// A gateway that no longer had the control plane's ear while others came and went
// learns of them, and so does one that is new.
func TestAGatewayLearnsWhatItHasNotSeen(t *testing.T) {
	on, drains, off := modelGateway{fleet.Active, 100, true}, modelGateway{fleet.Draining, 100, true}, modelGateway{fleet.Disabled, 100, false}
	m := modelOf(t, on, off, off, on)
	m.apply()
	were := []maglev.Member{{Name: "gw0", Weight: 20}, {Name: "gw1", Weight: 30}, {Name: "gw3", Weight: 100}}
	if m.knows("gw0", were...) {
		t.Fatal("the gateway knows of a change that is to come")
	}
	away := m.nodes["gw0"]
	delete(m.nodes, "gw0")
	m.spec = []modelGateway{{fleet.Active, 20, true}, {fleet.Active, 30, true}, off, on}
	m.apply()
	m.spec = []modelGateway{on, drains, on, on}
	m.nodes["gw0"] = away
	delete(m.nodes, "gw2")
	m.apply()
	for _, gateway := range []string{"gw0", "gw2"} {
		if !m.knows(gateway, were...) {
			t.Errorf("%s does not know which gateways there were", gateway)
		}
	}
}

// What was learned is forgotten when its connections have ended.
func TestWhatAGatewayLearnedRetires(t *testing.T) {
	on, less := modelGateway{fleet.Active, 100, true}, modelGateway{fleet.Active, 30, true}
	m := modelOf(t, on, less, on)
	were := []maglev.Member{{Name: "gw0", Weight: 100}, {Name: "gw1", Weight: 30}, {Name: "gw2", Weight: 100}}
	m.apply()
	m.spec = []modelGateway{less, less, on}
	m.apply()
	if !m.knows("gw0", were...) {
		t.Error("the gateway does not know which there were")
	}
	delete(m.nodes, "gw0")
	m.clock = m.clock.Add(m.world().Snapshot.Spec.Layer4.FlowRetire.D() + time.Second)
	m.apply()
	if m.knows("gw0", were...) {
		t.Error("a gateway that begins later is told of them still")
	}
}

// What the control plane says and nobody can read is refused, by its name.
func TestWrongEarlierGatewaysAreRefused(t *testing.T) {
	for data, want := range map[string]string{
		`{"sets":7}`: "live object gateways/fra: json",
		`{"sets":[{"gateways":[{"name":"a","weight":1},{"name":"a","weight":1}]}]}`: `live object gateways/fra: sets[0].gateways[1].name: "a": expected another name for each`,
		`{"sets":[{"gateways":[{"name":"","weight":1}]}]}`:                          `live object gateways/fra: sets[0].gateways[0].name: "": expected another name for each`,
		`{"sets":[{"gateways":[{"name":"a","weight":0}]}]}`:                         `live object gateways/fra: sets[0].gateways[0].weight: 0: expected 1 or more`,
	} {
		w := newModel(t, 1, false).world()
		w.Live = w.Live.With([]fleet.Object{{Key: fleet.ObjectKey{ID: "gateways/fra"}, Data: []byte(data)}}, nil)
		if _, err := plan(w, "gw0", Roles{L7: true}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, expected %s", data, err, want)
		}
		if _, err := plan(w, "lb", Roles{L4: true}); err != nil {
			t.Errorf("a balancer, which passes nothing on, refuses %s: %v", data, err)
		}
	}
}
