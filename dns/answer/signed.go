package answer

import (
	"fmt"
	"slices"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
)

// checkSigned says what of all that a signed zone's steered names can answer
// has no signature: served, it would be taken for a forgery. Nothing is
// signed later.
func checkSigned(w *fleet.World, spec *fleet.Zone, z *zone.Zone) error {
	if !z.Signed || len(spec.Steered) == 0 {
		return nil
	}
	now, _ := echLists(w) // what comes next, a zone that is older need not have
	all, err := variants(w.Snapshot, spec, now)
	if err != nil {
		return err
	}
	for i := range all {
		if err := checkVariants(z, &all[i]); err != nil {
			return err
		}
	}
	return nil
}

func checkVariants(z *zone.Zone, v *NameVariants) error {
	owner := string(zone.Wire(v.Name))
	have := map[string]bool{}
	for _, h := range z.Variants(owner, v.Type) {
		have[string(h.Set.Data)] = len(h.Set.Sigs) > 0
	}
	for i := range v.Sets {
		if !have[string(v.Sets[i].Data)] {
			return fmt.Errorf("steered name %s: the zone is signed, and %s of one of the answers that it can give is not: have the fleet sign the zone (dnssec), or leave it unsigned",
				v.Name, dns.Type(v.Type))
		}
	}
	if v.Empty && len(v.Sets) > 0 && !deniable(z, owner, v.Type) {
		return fmt.Errorf("steered name %s: the zone is signed, and that it may have no %s is not: have the fleet sign the zone (dnssec), or leave it unsigned", v.Name, dns.Type(v.Type))
	}
	return nil
}

// deniable says whether there is an NSEC or NSEC3 of the name that lacks the
// type.
func deniable(z *zone.Zone, owner string, qtype uint16) bool {
	denial := uint16(zone.TypeNSEC)
	if z.Denial == zone.DenyNSEC3 {
		denial = zone.TypeNSEC3
		sum := z.Param.Hash([]byte(owner))
		rec, match := z.NSEC3(sum[:])
		if !match {
			return false
		}
		owner = rec.Name
	}
	return slices.ContainsFunc(z.Variants(owner, denial), func(v zone.Variant) bool { return slices.Contains(v.Lacks, qtype) })
}
