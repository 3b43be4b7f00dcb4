package server

import (
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
)

// A socket that waits keeps no zone in memory that is served no longer: neither
// the one that it answered from last nor any other of that plan.
func TestIdleSocketsHoldNoOldZones(t *testing.T) {
	s := start(t, func(c *Config) { c.Sockets = 1 })
	put := func(name fleet.Name) weak.Pointer[zone.Zone] {
		b := zone.NewBuilder(name)
		apex := zone.Wire(name)
		soa := append([]byte{0, 0}, make([]byte, 20)...)
		for rtype, rdata := range map[uint16][]byte{zone.TypeSOA: soa, zone.TypeNS: apex, zone.TypeA: {192, 0, 2, 1}} {
			if err := b.Add(apex, rtype, 300, rdata); err != nil {
				t.Fatal(err)
			}
		}
		z, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		s.SetZone(z)
		return weak.Make(z)
	}
	asked, other := put("asked.test."), put("other.test.")
	if r := exchange1(t, "udp", s.Addrs()[0], "asked.test.", dns.TypeA); len(r.Answer) != 1 {
		t.Fatal(r)
	}
	put("asked.test.")
	put("other.test.")
	for end := time.Now().Add(5 * time.Second); asked.Value() != nil || other.Value() != nil; {
		runtime.GC()
		if time.Now().After(end) {
			t.Fatalf("in memory still: the zone asked for %v, another %v", asked.Value() != nil, other.Value() != nil)
		}
	}
}
