package keeper

import (
	"testing"
	"testing/synctest"
	"time"

	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
)

// A replica that has not made a zone for long uses the keys as they are now,
// and what another replica was told to roll is seen.
func TestReplicasShareKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newBench(t, "zones: [{zone: example.test, dynamic: true, dnssec: default}]")
		a.now = time.Now()
		text := "$ORIGIN example.test.\n" + plain
		a.content("example.test.", text)
		a.ok()
		b := &bench{t: t, store: a.store, net: a.net, now: a.now}
		b.restart()
		b.world, b.have, b.old = a.world, a.have, a.old
		b.ok()
		if len(b.put) > 0 {
			t.Error("another replica makes another zone of the same")
		}
		go func() { _ = a.k.Run(t.Context()) }()
		time.Sleep(24 * time.Hour)
		a.now = time.Now()
		a.ok()
		roller := &Admin{Store: b.store, Changed: b.k.Invalidate}
		if _, err := roller.Roll(t.Context(), "example.test.", sign.ZSK); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		select {
		case <-a.k.Woken():
		default:
			t.Fatal("the replica at work does not see that a key is to be rolled")
		}
		a.now = time.Now()
		if a.ok(); a.zone("example.test.").Apex().Get(zone.TypeDNSKEY).Count != 3 {
			t.Fatal("the roll-over has not begun")
		}
		b.old, b.now = a.old, time.Now() // now a client writes by the other one
		b.have = nil
		b.content("example.test.", text+"more A 192.0.2.1\n")
		b.ok()
		if z := b.zone("example.test."); z.Apex().Get(zone.TypeDNSKEY).Count != 3 {
			t.Error("made with keys that are no longer the latest")
		}
	})
}

// Nodes come to a new World one after another: what the old one can answer
// stays signed, until the one after that.
func TestVariantsOfTwoWorlds(t *testing.T) {
	b := newBench(t, steered("192.0.2.101"))
	have := func() int {
		b.now = b.now.Add(time.Hour)
		b.ok()
		return len(b.zone("example.test.").Variants(string(zone.Wire(fleet.Name("any.example.test."))), zone.TypeA))
	}
	one := have() // anycast, or a region
	for _, vip := range []string{"192.0.2.102", "192.0.2.103"} {
		b.spec(steered(vip))
		if n := have(); n != one+1 {
			t.Errorf("with %s: %d variants, want those of two Worlds", vip, n)
		}
	}
	b.restart() // a new process goes by what is published
	if n := have(); n != one+1 || len(b.put) > 0 {
		t.Errorf("after a restart: %d variants, %d made", n, len(b.put))
	}
}

func steered(vip string) string {
	return `
anycast: {v4: [` + vip + `]}
services:
- {service: web, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}], steering: {answer: anycast}}
zones:
- zone: example.test
  dnssec: default
  steered: [{name: any, service: web}]
  records: ` + records(plain)
}
