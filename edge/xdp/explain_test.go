package xdp

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"meridian/fleet"
)

func TestParseFlow(t *testing.T) {
	f, err := ParseFlow("tcp", "203.0.113.5:4711", "192.0.2.10:443")
	if err != nil || f.String() != "tcp 203.0.113.5:4711 192.0.2.10:443" {
		t.Errorf("%v, %v", f, err)
	}
	for _, c := range []struct{ proto, client, vip, want string }{
		{"icmp", "203.0.113.5:1", "192.0.2.10:443", `protocol "icmp": expected tcp or udp`},
		{"tcp", "203.0.113.5", "192.0.2.10:443", `client "203.0.113.5": expected ADDRESS:PORT`},
		{"tcp", "203.0.113.5:1", "here", `VIP "here": expected ADDRESS:PORT`},
		{"udp", "203.0.113.5:1", "[2001:db8::10]:443", "client 203.0.113.5 and VIP 2001:db8::10 are of different families"},
	} {
		if _, err := ParseFlow(c.proto, c.client, c.vip); err == nil || err.Error() != c.want {
			t.Errorf("%v: %v", c, err)
		}
	}
}

// flowOf is the flow of a client's connection.
func (c *conn) flow(t *testing.T) Flow {
	t.Helper()
	f, err := ParseFlow("tcp", c.LocalAddr().String(), c.RemoteAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Where edge explain says that a connection is, there it is: of either family,
// and while its gateway drains.
func TestExplainSaysWhereConnectionsAre(t *testing.T) {
	r := newRegion(t, regionSpec, 1600)
	lb := r.start(Native)
	explained := func(when string, c *conn, name string) *Explanation {
		t.Helper()
		e, err := lb.Explain(c.flow(t))
		if err != nil {
			t.Fatal(err)
		}
		places := append(placeNames(e.Former), e.GoesTo.Name)
		if when == "at rest" && e.GoesTo.Name != name || when != "at rest" && !strings.Contains(strings.Join(places, " "), name) {
			t.Errorf("%s: %s is with %s; explained as %+v", when, e.Flow, name, e)
		}
		return e
	}
	var held []map[string][]*conn
	for _, vip := range []netip.Addr{vip4, vip6} {
		held = append(held, r.held(vip))
	}
	all := func(when string) (last *Explanation) {
		for _, h := range held {
			for name, conns := range h {
				for _, c := range conns {
					last = explained(when, c, name)
				}
			}
		}
		return last
	}
	if e := all("at rest"); !e.Safe || !strings.Contains(e.Reason, "is safe") || e.GoesTo.NextHop == "" || e.GoesTo.MTU != 1600 {
		t.Errorf("%+v", e)
	}
	r.gateways["gw1"].ready.Store(false)
	eventually(t, "one in the ring", func() bool { return lb.ringMembers("gateways/ipip/v4") == 1 && lb.ringMembers("gateways/ipip/v6") == 1 })
	all("gw1 drains")

	r.checkUDP(vip4) // a flow to endpoints, which is kept in the table
	for _, c := range []struct{ proto, vip, want string }{
		{"tcp", "192.0.2.11:80", "is no VIP of this node"},
		{"tcp", "192.0.2.10:81", "has no service at tcp port 81: dropped (drop no_service)"},
		{"udp", "192.0.2.10:7", "the flow table does not have the flow; it goes to the slot's owner"},
	} {
		f, err := ParseFlow(c.proto, "10.7.0.2:1", c.vip)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := lb.Explain(f); err != nil || !strings.Contains(e.Reason, c.want) {
			t.Errorf("%s: %+v, %v", f, e, err)
		}
	}
	r.stop["lb"]()
	if _, err := lb.Explain(held[0]["gw2"][0].flow(t)); err == nil {
		t.Error("explained without tables")
	}
}

// A datagram's flow is in the table, and said to be where it is.
func TestExplainKnowsTheFlowTable(t *testing.T) {
	m := newMachine(t, members(false, 1, 2, 3), "lb", Roles{L4: true})
	l := &Layer4{cfg: Config{Key: Key{7}}, guard: newShield(nil, func() {}), stats: newStats()}
	orders := map[memberKey]order{}
	for key, index := range m.rec.endpoints {
		orders[key] = order{index, m.rec.records[index].Generation}
	}
	l.orders.Store(&orders)
	l.tables.show(m.kernel, m.want)
	f, err := ParseFlow("tcp", client4+":5000", any4+":443")
	if err != nil {
		t.Fatal(err)
	}
	explain := func() *Explanation {
		t.Helper()
		e, err := l.Explain(f)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	if e := explain(); e.Record != nil || e.Safe || e.Owner == nil {
		t.Errorf("before any packet: %+v", e)
	}
	_, out, _ := m.send(t, fromRouter(sides[0].packet(protoTCP, segment(5000, 443, syn))))
	went := fromAddress(toAddress(netip.AddrFrom4([4]byte(out[30:34])))).String()
	if e := explain(); e.Record == nil || e.Record.Expired || e.GoesTo.Address != went || e.GoesTo.Name != went+":443" || e.BeginAt.Address != went {
		t.Errorf("the program sent it to %s: %+v", went, e)
	}
	m.state[fleet.Target{Kind: fleet.TargetEndpoint, Region: "fra", Service: "web", Pool: "main", Endpoint: went + ":443"}] = fleet.Down
	m.reconcile(t)
	if e := explain(); e.Record == nil || e.Record.Endpoint != "" || e.GoesTo.Address == went || !strings.Contains(e.Reason, "its endpoint has gone") {
		t.Errorf("%s is down: %+v", went, e)
	}
}

// The plan of a change says what the change does to the program's slots, and
// counts the flows that it holds.
func TestChangesAreWhatTheyWillBe(t *testing.T) {
	m := newMachine(t, members(false, 1, 2, 3), "lb", Roles{L4: true})
	m.sent(t, 1000, syn)
	l := &Layer4{cfg: Config{Key: Key{7}, Node: "lb", Roles: Roles{L4: true}}, state: newStates()}
	orders := map[memberKey]order{}
	for key, index := range m.rec.endpoints {
		orders[key] = order{index, m.rec.records[index].Generation}
	}
	l.orders.Store(&orders)
	l.tables.show(m.kernel, m.want)
	before := m.slots(t)
	list, err := l.Changes(worldOf(t, members(false, 1, 2)))
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	c := list[0]
	if c.State != "changed" || c.Before != 3 || c.After != 2 || c.Chance || c.Gone == 0 || c.BrokenShare() < 0.3 || *c.Flows < flows/5 || *c.Broken < flows/5 {
		t.Errorf("one of three goes: %+v, flows %d, broken %d", c, *c.Flows, *c.Broken)
	}
	m.apply(t, members(false, 1, 2), "lb", Roles{L4: true})
	moved := 0
	for slot, owner := range m.slots(t) {
		if owner != before[slot] {
			moved++
		}
	}
	if moved != c.Moved {
		t.Errorf("%d slots moved, planned %d", moved, c.Moved)
	}
	if _, err := l.Changes(worldOf(t, strings.Replace(members(false, 1), "name: lb", "name: other", 1))); err == nil {
		t.Error("a Spec without this node is planned")
	}
}

// slots gives the endpoints that own the slots of the first VIP's ring.
func (m *machine) slots(t *testing.T) []uint16 {
	t.Helper()
	for _, v := range m.rec.vips {
		if v.service() {
			s, err := readInner[uint16](m.Rings, v.Ring, 65537)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	return nil
}

// By Specs alone: each region's rings, those that come and go among them.
func TestChangesBySpecs(t *testing.T) {
	key := func(string) Key { return Key{7} }
	state := func(list []RingChange) string {
		var out []string
		for _, c := range list {
			out = append(out, c.Region+" "+c.Ring+" "+c.State)
		}
		return strings.Join(out, ", ")
	}
	one, more := worldOf(t, members(true, 1, 2)), worldOf(t, members(true, 1, 2, 3))
	for _, c := range []struct {
		name      string
		old, next *fleet.World
		want      string
	}{
		{"the first Spec", nil, one, "fra gateways/ipip/v4 new"},
		{"the same", one, one, "fra gateways/ipip/v4 same"},
		{"one more", one, more, "fra gateways/ipip/v4 changed"},
		{"of another kind", one, worldOf(t, members(false, 1, 2)), "fra gateways/ipip/v4 removed, fra web/443/v4 new"},
	} {
		got, err := Changes(c.old, c.next, key)
		if err != nil || state(got) != c.want {
			t.Errorf("%s: %s, %v", c.name, state(got), err)
		}
	}
	got, err := Changes(one, more, key)
	if err != nil {
		t.Fatal(err)
	}
	if c := got[0]; !c.Chance || c.Gone != 0 || c.Unsafe != c.Moved || c.Share() < 0.3 || c.Gained["gw3"] == 0 {
		t.Errorf("one more: %+v", c)
	}
}

// What the defence may do with a flow's packets is said too.
func TestExplainKnowsTheDefence(t *testing.T) {
	m, _ := newCookieMachine(t, cookieSpec("always", 1), "lb", Roles{L4: true})
	m.defend(t, `
  reflection_ports: [123]
  allow: {prefixes: [203.0.113.128/25]}
  block: {prefixes: [203.0.113.64/26]}
  rules:
    - {name: web, match: {protocol: tcp, port: 443, flags: "syn,!ack"}, mode: count}
    - {name: elsewhere, match: {protocol: tcp, port: 80}}
    - {name: neighbours, match: {source: 203.0.113.0/28}, mode: rate, rate: 100}
    - {name: strangers, match: {source: 192.0.2.0/24}}
    - {name: six, match: {source: "::/0"}}
    - {name: datagrams, match: {protocol: udp}}`)
	l := &Layer4{cfg: Config{Key: Key{7}}, guard: newShield(nil, func() {}), stats: newStats()}
	later := *m.guard // with a rule that is not in the tables yet
	later.rules = slices.Concat([]rule{{PacketRule: fleet.PacketRule{Name: "added", Mode: fleet.RuleDrop}, added: true}}, later.rules)
	l.guard.guard.Store(&later)
	l.stats.applied(m.rec, m.want)
	l.orders.Store(&map[memberKey]order{})
	l.tables.show(m.kernel, m.want)
	explain := func(client string) *Explanation {
		t.Helper()
		proto, port, vip := "tcp", ":5000", ":443"
		if a, ok := strings.CutSuffix(client, " by NTP"); ok {
			client, proto, port, vip = a, "udp", ":123", ":53"
		}
		f, err := ParseFlow(proto, client+port, any4+vip)
		if err != nil {
			t.Fatal(err)
		}
		e, err := l.Explain(f)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := explain(client4)
	if got := strings.Join(e.Rules, ", "); got != "web (count), neighbours (rate)" || e.GoesTo == nil {
		t.Errorf("rules %s: %+v", got, e)
	}
	if !strings.Contains(e.Reason, "a SYN is answered with a cookie") {
		t.Errorf("no word of cookies: %s", e.Reason)
	}
	for client, why := range map[string]string{"203.0.113.70": "drop blocked", client4 + " by NTP": "drop reflected", "203.0.113.200 by NTP": "drop reflected"} {
		if e := explain(client); e.GoesTo != nil || !strings.Contains(e.Reason, why) {
			t.Errorf("%s: %+v, expected %s", client, e, why)
		}
	}
	if e := explain("203.0.113.200"); e.GoesTo == nil || len(e.Rules) > 0 || !strings.Contains(e.Reason, "allow list") {
		t.Errorf("an allowed client: %+v", e)
	}
}
