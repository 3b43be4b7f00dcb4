package xdp

import (
	"fmt"
	"maps"
	"reflect"
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
	away, old := m.nodes["gw0"], m.world()
	delete(m.nodes, "gw0")
	m.spec = []modelGateway{{fleet.Active, 20, true}, {fleet.Active, 30, true}, off, on}
	m.apply()
	m.spec = []modelGateway{on, drains, on, on}
	delete(m.nodes, "gw2")
	m.apply()
	m.nodes["gw0"] = away
	early, swaps := *old, away.rec.swaps
	early.Live = m.world().Live
	m.reconcile(&early, "gw0", Roles{L7: true})
	if away.rec.swaps != swaps {
		t.Error("what comes before its revision counts already")
	}
	m.reconcile(m.world(), "gw0", Roles{L7: true})
	for _, gateway := range []string{"gw0", "gw2"} {
		if !m.knows(gateway, were...) {
			t.Errorf("%s does not know which gateways there were", gateway)
		}
	}
}

// Whatever there was before: a gateway that begins anew knows who had its slots while
// it was away.
func TestAGatewayKnowsWhoStoodInForIt(t *testing.T) {
	m := modelOf(t, make([]modelGateway, 8)...)
	for heavy := range m.spec {
		for i := range m.spec {
			m.spec[i] = modelGateway{fleet.Active, 1, true}
		}
		m.spec[heavy].weight = 100
		m.apply()
	}
	var others []maglev.Member
	for i, g := range m.spec[1:] {
		others = append(others, maglev.Member{Name: fmt.Sprintf("gw%d", 1+i), Weight: g.weight})
	}
	delete(m.nodes, "gw0")
	m.apply()
	if !m.knows("gw0", others...) {
		t.Error("it does not know which gateways there were without it")
	}
}

// restart gives a gateway a process that begins with what its tables hold.
func (m *model) restart(w *fleet.World, gateway string) {
	n := m.nodes[gateway]
	at := n.last()
	left := &live{endpoints: make([]edgeEndpoint, maxEndpoints), vips: maps.Clone(at.vips), rings: at.rings, balancers: slices.Collect(maps.Keys(at.balancers))}
	for i, e := range at.endpoints {
		left.endpoints[i] = e
	}
	d, err := plan(w, gateway, Roles{L7: true})
	if err != nil {
		m.t.Fatal(err)
	}
	n.rec = newReconciler(n.tables, Key{7})
	n.rec.restore(left, inputs{want: d, now: m.clock})
	m.reconcile(w, gateway, Roles{L7: true})
}

// A process that begins anew goes by the tables, and by what it is told behind them.
func TestWhatTheTablesSayComesBeforeWhatIsTold(t *testing.T) {
	on := modelGateway{fleet.Active, 100, true}
	m := modelOf(t, on, on, on, on, on)
	weights := func(weights ...int) (were []maglev.Member) {
		for i, w := range weights {
			m.spec[i].weight = w
			were = append(were, maglev.Member{Name: fmt.Sprintf("gw%d", i), Weight: w})
		}
		return were
	}
	for _, w := range [][]int{{9, 1, 1, 1, 1}, {1, 9, 1, 1, 1}, {1, 1, 9, 1, 1}, {1, 1, 1, 9, 1}, {1, 1, 1, 1, 9}} {
		weights(w...)
		m.apply()
	}
	for i, k := 0, len(m.earlier)-1; i < k; i, k = i+1, k-1 { // in another order than the tables have them
		m.earlier[i].Gateways, m.earlier[k].Gateways = m.earlier[k].Gateways, m.earlier[i].Gateways
	}
	before := m.nodes["gw0"].last().rings
	m.restart(m.world(), "gw0")
	if after := m.nodes["gw0"].last().rings; !reflect.DeepEqual(before, after) {
		t.Error("owners of slots are others after a restart")
	}

	m = modelOf(t, on, on, on)
	m.apply()
	away := m.nodes["gw0"]
	delete(m.nodes, "gw0")
	were := weights(1, 100, 1)
	m.apply()
	weights(100, 1, 100)
	m.apply()
	m.nodes["gw0"] = away
	m.restart(m.world(), "gw0")
	if !m.knows("gw0", were...) {
		t.Error("it does not know which gateways there were while it was away")
	}
}

// What was learned is forgotten when its connections have ended, however late it was
// learned.
func TestWhatAGatewayLearnedRetires(t *testing.T) {
	on, less := modelGateway{fleet.Active, 100, true}, modelGateway{fleet.Active, 30, true}
	m := modelOf(t, on, less, on)
	were := []maglev.Member{{Name: "gw0", Weight: 100}, {Name: "gw1", Weight: 30}, {Name: "gw2", Weight: 100}}
	m.apply()
	m.spec = []modelGateway{less, less, on}
	m.apply()
	delete(m.nodes, "gw0")
	m.clock = m.clock.Add(m.world().Snapshot.Spec.Layer4.FlowRetire.D() - 90*time.Second)
	m.apply()
	if !m.knows("gw0", were...) {
		t.Error("the gateway does not know which there were")
	}
	m.apply()
	if m.knows("gw0", were...) {
		t.Error("it knows of them still")
	}
}

// What the control plane says and nobody can read is told, by its name, and keeps
// no node from work.
func TestWrongEarlierGatewaysAreTold(t *testing.T) {
	for data, want := range map[string]string{
		`{"sets":7}`: "live object gateways/fra: json",
		`{"sets":[{"gateways":[{"name":"a","weight":1},{"name":"a","weight":1}]}]}`: `live object gateways/fra: sets[0].gateways[1].name: "a": expected another name for each`,
		`{"sets":[{"gateways":[{"name":"","weight":1}]}]}`:                          `live object gateways/fra: sets[0].gateways[0].name: "": expected another name for each`,
		`{"sets":[{"gateways":[{"name":"a","weight":0}]}]}`:                         `live object gateways/fra: sets[0].gateways[0].weight: 0: expected 1 or more`,
	} {
		w := newModel(t, 1, false).world()
		w.Live = w.Live.With([]fleet.Object{{Key: fleet.ObjectKey{ID: "gateways/fra"}, Data: []byte(data)}}, nil)
		if d, err := plan(w, "gw0", Roles{L7: true}); err != nil || d.unread == nil || !strings.Contains(d.unread.Error(), want) {
			t.Errorf("%s: %v, %v, expected %s", data, d.unread, err, want)
		}
		if d, err := plan(w, "lb", Roles{L4: true}); err != nil || d.unread != nil {
			t.Errorf("a balancer, which passes nothing on, reads %s: %v, %v", data, d.unread, err)
		}
	}
}
