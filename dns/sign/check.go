package sign

import (
	"fmt"

	"meridian/fleet"
)

// Check notes what cannot be signed as the Spec wants it; it is a fleet.Check.
func Check(spec *fleet.Spec, errs *fleet.Errors) {
	for i := range spec.DNS.DNSSEC {
		p, at := &spec.DNS.DNSSEC[i], fmt.Sprintf("dns.dnssec[%d]", i)
		if life := p.ZSKLifetime; life != nil && *life > 0 && !p.SingleKey && life.D() < 2*(p.Propagation.D()+p.TTL.D()) {
			errs.Addf(at+".zsk_lifetime", "%s is less than twice propagation and ttl (%s): a roll-over would not end before the next is due", life, 2*(p.Propagation+p.TTL))
		}
		if life := p.KSKLifetime; life != nil && *life > 0 && life.D() < p.ParentTTL.D()+2*(p.Propagation.D()+p.TTL.D()) {
			errs.Addf(at+".ksk_lifetime", "%s is less than parent_ttl and twice propagation and ttl: a roll-over would not end before the next is due", life)
		} else if life != nil && *life > 0 && p.Revoke && life.D() < 2*holdDown+2*(p.Propagation.D()+p.TTL.D()) {
			errs.Addf(at+".ksk_lifetime", "%s is less than a roll-over with revoke takes: 1440h, and twice propagation and ttl", life)
		}
	}
	for i := range spec.Zones {
		z, at := &spec.Zones[i], fmt.Sprintf("zones[%d]", i)
		set := spec.Settings(z)
		if set.DNSSEC != "" && set.Serial == fleet.SerialKeep && len(set.Transfer)+len(set.Notify) > 0 {
			errs.Addf(at+".serial", "keep does not go with dnssec and transfers: secondaries would not see that signatures are made anew")
		}
	}
}
