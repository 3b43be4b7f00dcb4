package xdp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"meridian/fleet"
)

// crowd is four services with an endpoint each, at ports and addresses from a
// number on, and a gateway of that number, which QUIC's connection ids say.
func crowd(first int) string {
	var b strings.Builder
	b.WriteString("regions: [{id: fra, location: {latitude: 1, longitude: 1}, vips: {v4: [192.0.2.1]}}]\n")
	fmt.Fprintf(&b, "nodes: [{name: lb, region: fra, roles: [l4], addresses: {v4: 10.0.0.1}}, {name: gw%d, region: fra, roles: [l7], addresses: {v4: 10.0.1.%d}}]\n", first, first)
	b.WriteString("services:\n  - {service: web, protocol: https, http3: true, ports: [443], pools: [{id: main, endpoints: [{address: '10.9.0.1:443'}]}]}\n")
	for i := range 4 {
		n := first + i
		fmt.Fprintf(&b, "  - {service: s%d, protocol: tcp, ports: [%d], pools: [{id: main, endpoints: [{address: '10.5.0.%d:%d'}]}]}\n", n, 1000+n, n, 1000+n)
	}
	return b.String()
}

// Tables that cannot hold the old beside the new come to hold the new all the
// same, whatever fails on the way, and no packet meets a half state.
func TestTablesWithoutRoomForAChange(t *testing.T) {
	for _, room := range []struct{ rings, endpoints int }{{5, 100}, {100, 5}, {5, 5}, {6, 7}} {
		t.Run(fmt.Sprint(room), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(1, 2))
			m := newMemory(t, func() bool { return rnd.IntN(10) == 0 })
			r := newReconciler(m, Key{})
			r.room = room
			for _, first := range []int{1, 11, 12, 1, 30, 33} {
				d, err := plan(worldOf(t, crowd(first)), "lb", Roles{L4: true})
				if err != nil {
					t.Fatal(err)
				}
				in := inputs{want: d, state: func(fleet.Target) fleet.State { return fleet.Up }, hop: func(netip.Addr) hop { return hop{} }}
				for err = errInjected; err != nil; {
					if err = r.reconcile(in); err != nil && !errors.Is(err, errInjected) {
						t.Fatal(err)
					}
				}
				m.holds(r, d, in.state)
			}
		})
	}
}

// What fits beside the old takes nothing away first: a port whose service is
// another now, with another ring, is never without its VIP.
func TestTablesWithRoomKeepWhatStays(t *testing.T) {
	m := newMemory(t, func() bool { return false })
	r := newReconciler(m, Key{})
	r.room.rings, r.room.endpoints = 9, 9
	stays := frontend{addr: netip.MustParseAddr("192.0.2.1"), port: 1001, proto: protoTCP}.key()
	for i, spec := range []string{crowd(1), strings.ReplaceAll(crowd(1), "service: s", "service: other")} {
		d, err := plan(worldOf(t, spec), "lb", Roles{L4: true})
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			m.fail = func() bool {
				if _, ok := m.vips[stays]; !ok {
					t.Fatal("a VIP that stays was taken away")
				}
				return false
			}
		}
		if err := r.reconcile(inputs{want: d, state: func(fleet.Target) fleet.State { return fleet.Up }, hop: func(netip.Addr) hop { return hop{} }}); err != nil {
			t.Fatal(err)
		}
	}
}
