package keeper

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
)

// aliases adds the addresses that are known of the zone's aliases. Targets
// that have never been looked up are looked up now, for a short time: a zone
// should not be served without them.
func (j *job) aliases() {
	if j.k.cfg.Resolver == nil {
		return
	}
	var wg sync.WaitGroup
	for _, a := range j.spec.Aliases {
		for _, v6 := range []bool{false, true} {
			if key := (nameKey{a.Target, v6}); j.k.look.want(j.name, key) == nil {
				wg.Go(func() { j.k.lookUp(j.ctx, key, firstWait, j.name) })
			}
		}
	}
	wg.Wait()
	for _, a := range j.spec.Aliases {
		owner, err := fleet.Under(a.Name, j.name)
		if err != nil {
			continue // fleet's rules have refused it
		}
		for _, v6 := range []bool{false, true} {
			if r := j.k.look.want(j.name, nameKey{a.Target, v6}); r != nil && r.known {
				j.addAddrs(owner, a.TTL, r.addrs)
			}
		}
	}
}

func (j *job) addAddrs(owner fleet.Name, ttl fleet.Duration, addrs []netip.Addr) {
	for _, a := range addrs {
		t := uint16(zone.TypeA)
		if a.Is6() {
			t = zone.TypeAAAA
		}
		j.records = append(j.records, sign.Record{Owner: zone.Wire(owner), Type: t, TTL: uint32(ttl.D() / time.Second), Data: a.AsSlice()})
	}
}

// keepAliases gives an alias of which nothing is known now the addresses that
// it was last served with: what is unknown since this process began, or has
// gone from its target altogether.
func (j *job) keepAliases(base *zone.Zone) error {
	for _, a := range j.spec.Aliases {
		owner, err := fleet.Under(a.Name, j.name)
		if err != nil {
			continue
		}
		wire := zone.Wire(owner)
		if n := base.Node(wire); n != nil {
			for _, t := range []uint16{zone.TypeA, zone.TypeAAAA, zone.TypeCNAME} {
				if n.Get(t) != nil {
					return fmt.Errorf("alias %s: the zone holds %s there", owner, zone.TypeName(t))
				}
			}
		}
		if j.old == nil || j.hasRecords(wire, zone.TypeA) || j.hasRecords(wire, zone.TypeAAAA) {
			continue
		}
		n := j.old.Node(wire)
		if n == nil {
			continue
		}
		for _, t := range []uint16{zone.TypeA, zone.TypeAAAA} {
			if set := n.Get(t); set != nil {
				for rest := set.Data; len(rest) > 0; {
					var rdata []byte
					rdata, rest = zone.Next(rest)
					j.records = append(j.records, sign.Record{Owner: wire, Type: t, TTL: set.TTL, Data: rdata})
				}
			}
		}
	}
	return nil
}

func (j *job) hasRecords(owner []byte, t uint16) bool {
	for _, r := range j.records {
		if r.Type == t && string(r.Owner) == string(owner) {
			return true
		}
	}
	return false
}
