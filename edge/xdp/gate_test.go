package xdp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"meridian/fleet"
)

// under puts a machine's gates into another state, with nothing left to count on
// any CPU.
func (m *machine) under(t *testing.T, change func(*edgeGate)) {
	t.Helper()
	for k, v := range m.rec.vips {
		if v.Gate == uint8(edgeGateModeGATE_NONE) || !v.service() {
			continue
		}
		var g edgeGate
		if err := m.Gates.Lookup(v.Stats, &g); err != nil {
			t.Fatalf("%v: %v", k, err)
		}
		change(&g)
		if err := m.Gates.Put(v.Stats, &g); err != nil {
			t.Fatalf("%v: %v", k, err)
		}
		if err := m.Posts.Put(v.Stats, make([]edgePost, ebpf.MustPossibleCPU())); err != nil {
			t.Fatalf("%v: %v", k, err)
		}
	}
}

// Balancers answer SYNs or gateways do, by the Spec, and for VIPs of gateways
// alone.
func TestWhoAnswersSYNs(t *testing.T) {
	l4, l7 := Roles{L4: true}, Roles{L7: true}
	for _, c := range []struct {
		mode  string
		roles Roles
		want  edgeGateMode
	}{
		{"off", l4, edgeGateModeGATE_NONE}, {"off", l7, edgeGateModeGATE_NONE},
		{"auto", l4, edgeGateModeGATE_AUTO}, {"auto", l7, edgeGateModeGATE_NONE},
		{"always", l4, edgeGateModeGATE_SHUT}, {"always", l7, edgeGateModeGATE_NONE},
		{"kernel", l4, edgeGateModeGATE_NONE}, {"kernel", l7, edgeGateModeGATE_KERNEL},
	} {
		d, err := plan(worldOf(t, cookieSpec(c.mode, 100)), "lb", c.roles)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range d.frontends {
			want := c.want
			if f.service != "web" {
				want = edgeGateModeGATE_NONE
			}
			if got := edgeGateMode(d.gateAt(f)); got != want {
				t.Errorf("%s, %+v: %s of %s is met by %d, expected %d", c.mode, c.roles, f.label(), f.service, got, want)
			}
		}
	}
	d, err := plan(worldOf(t, programSpec), "lb", l4)
	if err != nil || d.gateMode() != edgeGateModeGATE_NONE {
		t.Errorf("a Spec without defence: %v, %v", d.gateMode(), err)
	}
}

// As long as a gateway that may live has not said that it takes cookies, none are
// made.
func TestNoCookiesUntilAllGatewaysTakeThem(t *testing.T) {
	m, _ := newCookieMachine(t, strings.Replace(members(true, 1, 2), "services:", "defence: {syn_cookies: {mode: always}}\nservices:", 1), "lb", Roles{L4: true})
	first := fromRouter(sealed{ipHeader: ipHeader{src: client4, dst: any4}, sport: 1, dport: 443, flags: syn}.bytes())
	for _, c := range []struct {
		takes string // names
		down  string
		want  string
	}{
		{"", "", "tx_tunnel"}, {"gw1", "", "tx_tunnel"}, {"gw1", "gw2", "tx_cookie"}, {"gw1 gw2", "", "tx_cookie"}, {"gw2", "", "tx_tunnel"},
	} {
		err := m.rec.reconcile(inputs{want: m.want, now: time.Unix(1_000_000, 0),
			state: func(t fleet.Target) fleet.State {
				if t.Node == c.down {
					return fleet.Down
				}
				return fleet.Up
			},
			takes: func(t fleet.Target) bool { return strings.Contains(c.takes, t.Node) },
			hop:   func(netip.Addr) hop { return m.next }})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, got := m.send(t, first); got[len(got)-1] != c.want {
			t.Errorf("%q take cookies, %q is down: %v, expected %s", c.takes, c.down, got, c.want)
		}
	}
}

// SYNs go on as long as there are few, and are answered when there are many; it
// is over ten seconds after they have become few.
func TestAttackBeginsAndEnds(t *testing.T) {
	const threshold = 200 // 53 in a window
	m, _ := newCookieMachine(t, cookieSpec("auto", threshold), "lb", Roles{L4: true})
	p := sealed{ipHeader: ipHeader{src: client4, dst: any4}, dport: 443, flags: syn}
	send := func() string {
		p.sport++
		_, _, reasons := m.send(t, fromRouter(p.bytes()))
		return strings.Join(reasons, " ")
	}
	stranger := sealed{ipHeader: ipHeader{src: "203.0.113.77", dst: any4}, sport: 1, dport: 443, flags: ack}
	knows := func() string {
		_, _, reasons := m.send(t, fromRouter(stranger.bytes()))
		return strings.Join(reasons, " ")
	}
	const through = "flow_safe tx_tunnel"
	for range 10 {
		if got := send(); got != through {
			t.Fatalf("one of few: %s", got)
		}
	}
	if got := knows(); got != through {
		t.Errorf("in peace: %s", got)
	}
	n := 0
	for began := time.Now(); send() == through; n++ {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("%d SYNs and none is answered", n)
		}
	}
	t.Logf("answered after %d SYNs", n)
	for range 200 {
		if got := send(); got != "tx_cookie" {
			t.Fatalf("under attack: %s", got)
		}
	}
	if got := knows(); got != "cookie_stranger "+through {
		t.Errorf("under attack, of no known flow: %s", got)
	}
	m.under(t, func(g *edgeGate) {
		if g.Until == 0 {
			return // the other VIPs are not under attack
		}
		if left := int64(g.Until) - int64(uint64(monotonic())>>28); left < 30 || left > 37 {
			t.Errorf("the attack goes on for %d windows", left)
		}
		g.Until, g.Syns = 1, 0 // as after ten seconds
	})
	if got := knows(); got != through {
		t.Errorf("after the attack: %s", got)
	}
	if got := send(); got != through {
		t.Errorf("a SYN after the attack: %s", got)
	}
}

// SYNs for one VIP are no attack on another.
func TestAttackIsOnOneVIP(t *testing.T) {
	m, _ := newCookieMachine(t, cookieSpec("auto", 1), "lb", Roles{L4: true})
	first := fromRouter(sealed{ipHeader: ipHeader{src: client4, dst: any4}, sport: 1, dport: 443, flags: syn}.bytes())
	if _, _, got := m.send(t, first); got[0] != "tx_cookie" {
		t.Fatalf("attacked: %v", got)
	}
	other := fromRouter(sealed{ipHeader: ipHeader{src: client6, dst: any6}, sport: 1, dport: 443, flags: ack}.bytes())
	if _, _, got := m.send(t, other); strings.Join(got, " ") != "flow_safe tx_tunnel" {
		t.Errorf("not attacked: %v", got)
	}
}

// Under attack packets of no known flow are let through up to what was usual,
// and a little in any case; beyond that they are dropped, until the next window.
func TestStrangersBeyondTheUsual(t *testing.T) {
	m, _ := newCookieMachine(t, cookieSpec("auto", 1), "lb", Roles{L4: true})
	attack := fromRouter(sealed{ipHeader: ipHeader{src: client4, dst: any4}, sport: 1, dport: 443, flags: syn}.bytes())
	if _, _, got := m.send(t, attack); got[0] != "tx_cookie" {
		t.Fatalf("attacked: %v", got)
	}
	ask := func() string {
		in := fromRouter(sealed{ipHeader: ipHeader{src: "203.0.113.77", dst: any4}, sport: 1, dport: 443, flags: ack}.bytes())
		_, _, got := m.send(t, in)
		return strings.Join(got, " ")
	}
	set := func(usual, strangers uint64) {
		var n edgeNode
		if err := m.Self.Lookup(uint32(0), &n); err != nil {
			t.Fatal(err)
		}
		n.Strangers = uint32(strangers)
		if err := m.Self.Put(uint32(0), &n); err != nil {
			t.Fatal(err)
		}
		m.under(t, func(g *edgeGate) { g.Until, g.Usual, g.Strangers = 1<<40, usual, 1000 })
	}
	set(0, 0)
	if got := ask(); got != "drop_no_cookie" {
		t.Errorf("nothing is usual: %s", got)
	}
	set(0, 2000)
	if got := ask(); got != "cookie_stranger flow_safe tx_tunnel" {
		t.Errorf("less than what passes in any case: %s", got)
	}
	set(251, 0)
	if got := ask(); got != "cookie_stranger flow_safe tx_tunnel" {
		t.Errorf("less than four times the usual: %s", got)
	}
}

// The cost of answering a SYN, by the number of clients.
func BenchmarkCookie(b *testing.B) {
	m, _ := newCookieMachine(b, cookieSpec("always", 1), "lb", Roles{L4: true})
	frame := fromRouter(sealed{ipHeader: ipHeader{src: "0.0.0.0", dst: any4}, dport: 443, flags: syn, options: synOptions}.bytes())
	for _, clients := range []uint32{1, 65536, 0} {
		name := fmt.Sprintf("SYN/flows=%d", clients)
		if clients == 0 {
			name = "SYN/flows=new"
		}
		b.Run(name, func(b *testing.B) {
			benchmarkIn(b, m, map[string]uint32{"flow_count_mask": clients - 1, "expected": 3, "restored": uint32(len(frame))}, frame)
		})
	}
}
