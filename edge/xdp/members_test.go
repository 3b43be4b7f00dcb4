package xdp

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"meridian/fleet"
)

// The states follow health, the Spec and ramps, with since when; and a member is
// drained when it has nothing left that this node knows of.
func TestMembersStates(t *testing.T) {
	const keeping = "layer4: {ramp: 10s, flow_retire: 1h}\n"
	spec := keeping + members(false, 1, 2)
	m := newMachine(t, spec, "lb", Roles{L4: true})
	l := &Layer4{cfg: Config{Key: Key{7}, Node: "lb", Roles: Roles{L4: true}}, state: newStates()}
	now := time.Unix(1_000_000, 0)
	expect := func(when string, want ...string) {
		t.Helper()
		err := m.rec.reconcile(inputs{want: m.want, state: func(t fleet.Target) fleet.State { return m.state[t] },
			hop: func(netip.Addr) hop { return m.next }, now: now})
		if err != nil {
			t.Fatal(err)
		}
		orders := map[memberKey]order{}
		for key, index := range m.rec.endpoints {
			orders[key] = order{index, m.rec.records[index].Generation}
		}
		l.orders.Store(&orders)
		l.members.Store(&m.rec.members)
		l.tables.show(m.kernel, m.want)
		list, err := l.Members()
		if err != nil || len(list) != len(want) {
			t.Fatalf("%s: %+v, %v", when, list, err)
		}
		for i, have := range list {
			got := strings.Join([]string{have.Name, string(have.State), now.Sub(have.Since).String()}, " ")
			takes := have.State == MemberActive || have.State == MemberJoining && m.state[m.want.groups[0].members[i].key.target] == fleet.Up
			if takes != (have.Weight > 0) || have.Flows == nil {
				t.Errorf("%s: %+v", when, have)
			}
			if got != want[i] {
				t.Errorf("%s: %s, expected %s", when, got, want[i])
			}
		}
	}
	gw1, gw2, gw3 := endpointTarget(1), endpointTarget(2), endpointTarget(3)
	expect("at first", "10.0.1.1:443 active 0s", "10.0.1.2:443 active 0s")
	now = now.Add(time.Minute)
	m.sent(t, 1000, syn)
	m.state[gw1] = fleet.Drain
	expect("gw1 drains, and has flows", "10.0.1.1:443 draining 0s", "10.0.1.2:443 active 1m0s")
	m.state[gw1], m.state[gw2] = fleet.Up, fleet.Down
	now = now.Add(time.Second)
	expect("gw2 fails, gw1 is back and gets its share by and by", "10.0.1.1:443 active 0s", "10.0.1.2:443 failed 0s")

	var err error
	if m.want, err = plan(worldOf(t, keeping+members(false, 1, 2, 3)), "lb", Roles{L4: true}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Second)
	expect("gw3 comes, and nobody knows it", "10.0.1.1:443 active 1s", "10.0.1.2:443 failed 1s", "10.0.1.3:443 joining 0s")
	m.state[gw3] = fleet.Up
	now = now.Add(time.Second)
	expect("it is up and gets a part", "10.0.1.1:443 active 2s", "10.0.1.2:443 failed 2s", "10.0.1.3:443 joining 1s")
	now = now.Add(10 * time.Second)
	expect("it gets its share", "10.0.1.1:443 active 12s", "10.0.1.2:443 failed 12s", "10.0.1.3:443 active 0s")
	m.state[gw3] = fleet.Drain
	expect("it drains before it had any flow", "10.0.1.1:443 active 12s", "10.0.1.2:443 failed 12s", "10.0.1.3:443 drained 0s")
}

// When a member that drains counts as drained.
func TestDrained(t *testing.T) {
	n := func(i int) *int { return &i }
	long := time.Now().Add(-2 * time.Hour)
	for _, c := range []struct {
		name    string
		member  Member
		gateway bool
		own     bool
		since   time.Time
		want    bool
	}{
		{"endpoint with flows", Member{Flows: n(1)}, false, false, long, false},
		{"endpoint without", Member{Flows: n(0)}, false, false, time.Now(), true},
		{"endpoint, by a node that keeps none", Member{}, false, false, long, false},
		{"gateway with flows", Member{Flows: n(1)}, true, false, long, false},
		{"gateway without, lately", Member{Flows: n(0)}, true, false, time.Now(), false},
		{"gateway without, for long", Member{Flows: n(0)}, true, false, long, true},
		{"gateway, by another", Member{}, true, false, time.Now(), false},
		{"gateway, by another, for long", Member{}, true, false, long, true},
		{"this gateway with connections", Member{Connections: n(1)}, true, true, long, false},
		{"this gateway without", Member{Connections: n(0), Flows: n(3)}, true, true, time.Now(), true},
		{"this gateway, whose kernel does not tell", Member{}, true, true, long, false},
	} {
		if got := c.member.empty(memberStatus{gateway: c.gateway, since: c.since}, c.own, time.Hour); got != c.want {
			t.Errorf("%s: %v, expected %v", c.name, got, c.want)
		}
	}
}

// A gateway knows its own connections: it is drained when the last one has ended.
func TestGatewayIsDrainedWithItsLastConnection(t *testing.T) {
	r := newRegion(t, regionSpec, 1600)
	lb := r.start(Native)
	held := r.held(vip4)["gw1"]
	if len(held) == 0 {
		t.Fatal("no connection went to gw1")
	}
	draining := worldOf(t, strings.Replace(regionSpec, `v6: "fd07:2::2"}}`, `v6: "fd07:2::2"}, state: draining}`, 1))
	for _, l := range []*Layer4{lb, r.nodes["gw1"]} {
		r.must(l.Apply(draining))
	}
	gw1 := func(l *Layer4) Member {
		list, err := l.Members()
		r.must(err)
		for _, m := range list {
			if m.Name == "gw1" && m.Ring == "gateways/ipip/v4" {
				return m
			}
		}
		t.Fatalf("gw1 is not among %+v", list)
		return Member{}
	}
	eventually(t, "the balancer to have gw1 drain", func() bool { return gw1(lb).State == MemberDraining })
	eventually(t, "gw1 to drain", func() bool { return gw1(r.nodes["gw1"]).State != MemberActive })
	if m := gw1(r.nodes["gw1"]); m.State != MemberDraining || m.Connections == nil || *m.Connections < len(held) {
		t.Errorf("with %d connections: %+v", len(held), m)
	}
	for _, c := range held {
		c.Close()
	}
	eventually(t, "gw1 to be drained", func() bool { return gw1(r.nodes["gw1"]).State == MemberDrained })
}
