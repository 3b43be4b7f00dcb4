package balance

import (
	"strings"
	"testing"
	"time"

	"meridian/fleet"
)

// What Explain says is chosen is what Pick then takes, in any situation.
func TestExplainTellsWhatPickDoes(t *testing.T) {
	states := []fleet.State{fleet.Up, fleet.Up, fleet.Unknown, fleet.Drain, fleet.Down}
	for _, p := range policies {
		cases := 2000
		if p == fleet.ConsistentHash {
			cases = 100 // each makes a ring
		}
		for k := range cases {
			members := placed("a0", "b0", "a1", "b1", "a0", "c0")
			h := mix(uint64(k))
			for i := range members {
				members[i].Live.SetState(states[h>>(8*i)&255%5], 1)
				members[i].Weight = 100 + int(h>>i&3)*50
				for range h >> (4 * i) & 3 {
					members[i].Live.Begin()
				}
				members[i].Live.Observe(2, time.Duration(h>>(5*i)&63)*time.Millisecond)
			}
			members[k%6].Live.Eject(time.Duration(k % 20))
			b := made(t, Config{Policy: p, Zone: strings.Trim("-ab"[k%3:k%3+1], "-"), Gateways: even, Panic: k % 2 * 50, SlowStart: time.Duration(k % 30), HashBound: k % 3 * 110}, members)
			a := drawn(k)
			a.Now, a.Held = 10, k%9
			var tried Tried
			tried.Add(k % 7)
			said := b.Explain(a, &tried)
			got := b.Pick(a, &tried)
			for i, c := range said {
				if chosen := c.Reason == ReasonChosen || c.Reason == ReasonHeld; chosen != (i == got) || c.Reason == "" {
					t.Fatalf("%s, case %d: picked %d, and of %d is said: %s", p, k, got, i, c.Reason)
				}
			}
		}
	}
}

func reasons(list []Candidate) string {
	var out []string
	for _, c := range list {
		out = append(out, string(c.Reason))
	}
	return strings.Join(out, " ")
}

func TestReasons(t *testing.T) {
	members := placed("a0", "b0", "a0", "a0", "a0", "a1", "a0")
	members[2].Live.SetState(fleet.Down, 1)
	members[3].Live.SetState(fleet.Drain, 1)
	members[4].Live.Eject(time.Hour)
	members[6].Live.SetState(fleet.Unknown, 1)
	members[0].Live.Begin()
	members[0].Live.Observe(1, 250*time.Millisecond)
	b := made(t, Config{Policy: fleet.PeakEWMA, Zone: "a", Overprovision: 1000, Gateways: even}, members)
	got := b.Explain(Ask{Now: 1}, &Tried{})
	if r := reasons(got); r != "chosen zone down draining ejected priority unproven" {
		t.Error(r)
	}
	if c := got[0]; c.Active != 1 || c.Latency.Round(time.Millisecond) != 250*time.Millisecond || c.Score < 0.499 || c.Score > 0.501 || c.Weight != 1 {
		t.Errorf("%+v", c) // 0.25 s x 2 requests
	}
	if c := got[4]; c.Ejected != time.Hour-1 {
		t.Errorf("%+v", c)
	}
	var tried Tried
	tried.Add(0)
	if r := reasons(b.Explain(Ask{Now: 1}, &tried)); r != "tried chosen down draining ejected priority unproven" && !strings.HasPrefix(r, "tried ") {
		t.Error(r)
	}
	hash := made(t, Config{Policy: fleet.ConsistentHash, HashBound: 110}, fresh(3))
	a := drawn(1)
	i := hash.Pick(a, &Tried{})
	for range 10 {
		hash.members[i].Live.Begin()
	}
	if c := hash.Explain(a, &Tried{})[i]; c.Reason != ReasonFull {
		t.Errorf("a full member: %s", c.Reason)
	}
	if made(t, Config{Policy: fleet.Random}, nil).Explain(a, &Tried{}) != nil {
		t.Error("candidates of none")
	}
}

func TestCookieNamesAnEndpoint(t *testing.T) {
	members := fresh(4)
	a := NewAffinity([]byte("key"), "web/main", members)
	b := made(t, Config{Policy: fleet.RoundRobin}, members)
	for i, m := range members {
		v := a.Value(i)
		if len(v) != 16 || strings.Contains(v, m.Name) {
			t.Errorf("value %q", v)
		}
		for range 5 {
			if got := b.Pick(Ask{Held: a.Held([]byte(v)), Now: 1}, &Tried{}); got != i {
				t.Errorf("the client of %d went to %d", i, got)
			}
		}
	}
	for _, v := range []string{"", "x", a.Value(0) + "x", NewAffinity([]byte("other"), "web/main", members).Value(0), NewAffinity([]byte("key"), "web/other", members).Value(0)} {
		if h := a.Held([]byte(v)); h != 0 {
			t.Errorf("%q names %d", v, h)
		}
	}
	// The same on every gateway, in any order, whoever else is there.
	if other := NewAffinity([]byte("key"), "web/main", members[2:]); other.Value(0) != a.Value(2) || other.Held([]byte(a.Value(0))) != 0 {
		t.Error("a value depends on the other members")
	}
	value := []byte(a.Value(2))
	if n := testing.AllocsPerRun(100, func() { a.Held(value) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The client goes elsewhere while its endpoint cannot serve it, and only then.
func TestAHeldClientLeavesAnEndpointThatIsNotUsable(t *testing.T) {
	members := fresh(3)
	b := made(t, Config{Policy: fleet.RoundRobin}, members)
	stays := func(tried *Tried) bool {
		for range 3 {
			if b.Pick(Ask{Held: 2, Now: 10}, tried) != 1 {
				return false
			}
		}
		return true
	}
	members[1].Live.SetState(fleet.Drain, 1)
	if !stays(&Tried{}) {
		t.Error("it left one that drains, whose clients finish there")
	}
	members[1].Live.SetState(fleet.Down, 1)
	if stays(&Tried{}) {
		t.Error("it stayed with one that is down")
	}
	members[1].Live.SetState(fleet.Up, 1)
	members[1].Live.Eject(20)
	if stays(&Tried{}) {
		t.Error("it stayed with one that is ejected")
	}
	members[1].Live.Eject(5)
	var tried Tried
	tried.Add(1)
	if stays(&tried) || !stays(&Tried{}) {
		t.Error("a retry goes elsewhere, the next request back")
	}
}

// One that leaves finishes what clients have begun with it, and gets no others.
func TestOneThatLeavesKeepsItsClientsAlone(t *testing.T) {
	for _, p := range policies {
		members := fresh(3)
		members[1].Leaving = true
		b := made(t, Config{Policy: p, Panic: 50}, members)
		if got := shares(b, 600, 1); got[1] != 0 {
			t.Errorf("%s: it gets %v", p, got[1])
		}
		if i := b.Pick(Ask{Held: 2, Now: 1}, &Tried{}); i != 1 {
			t.Errorf("%s: its client went to %d", p, i)
		}
		if c := b.Explain(Ask{Now: 1}, &Tried{})[1]; c.Reason != ReasonDraining {
			t.Errorf("%s: %s", p, c.Reason)
		}
	}
}

func TestConfigOfASpec(t *testing.T) {
	snap, err := fleet.Compile([]byte(`
regions:
- {id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.1]}}
- {id: ams, location: {latitude: 52, longitude: 5}, vips: {v4: [192.0.2.2]}}
nodes:
- {name: one, region: fra, zone: a, roles: [l7], weight: 50, addresses: {v4: 10.0.0.1}}
- {name: two, region: fra, zone: b, roles: [l7], addresses: {v4: 10.0.0.2}}
- {name: three, region: fra, zone: b, roles: [l7], addresses: {v4: 10.0.0.3}}
- {name: four, region: fra, zone: b, roles: [l7], state: draining, addresses: {v4: 10.0.0.4}}
- {name: five, region: ams, zone: b, roles: [l7], addresses: {v4: 10.0.0.5}}
- {name: six, region: fra, zone: c, roles: [l4], addresses: {v4: 10.0.0.6}}
services:
- {service: web, protocol: http, ports: [80], routing_policy: consistent_hash, balancing: {hash_bound: 150, slow_start: 30s, panic_threshold: 20, overprovision: 200}, pools: [{id: main, endpoints: [{address: "10.1.0.1:80"}]}]}
`), 0)
	if err != nil {
		t.Fatal(err)
	}
	got := Of(snap.Service("web"), snap, "one")
	if got.Policy != fleet.ConsistentHash || got.HashBound != 150 || got.SlowStart != 30*time.Second || got.Panic != 20 || got.Overprovision != 200 || got.Zone != "a" {
		t.Errorf("%+v", got)
	}
	if len(got.Gateways) != 2 || got.Gateways["a"] != 50 || got.Gateways["b"] != 200 {
		t.Errorf("gateways %v", got.Gateways)
	}
	if got := Of(snap.Service("web"), snap, "nobody"); got.Zone != "" {
		t.Errorf("an unknown node has zone %q", got.Zone)
	}
}
