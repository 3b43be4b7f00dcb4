package defence

import (
	"fmt"

	"meridian/fleet"
	"meridian/geo"
)

// Limits of what a Spec may ask for.
const (
	MaxRules    = 64                 // in force at a time
	MaxSpec     = 48                 // of them the Spec's
	MaxAdded    = MaxRules - MaxSpec // added in need, on a node
	MaxNetworks = 100_000            // on both lists together
)

// Check is the defence's rules on a Spec.
func Check(spec *fleet.Spec, errs *fleet.Errors) {
	d := spec.Defence
	if d == nil {
		return
	}
	if n := len(d.Rules); n > MaxSpec {
		errs.Addf("defence.rules", "%d rules; the limit is %d", n, MaxSpec)
	}
	if n := len(d.Allow.Prefixes) + len(d.Block.Prefixes); n > MaxNetworks {
		errs.Addf("defence", "allow and block have %d prefixes; the limit is %d", n, MaxNetworks)
	}
	for key, list := range map[string][]string{"allow": d.Allow.Countries, "block": d.Block.Countries} {
		for i, k := range list {
			if _, ok := geo.FindCountry(k); !ok {
				errs.Addf(fmt.Sprintf("defence.%s.countries[%d]", key, i), "%q is no country's code", k)
			}
		}
	}
	vips := map[string]bool{}
	for _, a := range spec.Anycast.All() {
		vips[a.String()] = true
	}
	for _, r := range spec.Regions {
		for _, a := range r.VIPs.All() {
			vips[a.String()] = true
		}
	}
	for i, r := range d.Rules {
		if r.Match.VIP.IsValid() && !vips[r.Match.VIP.String()] {
			errs.Addf(fmt.Sprintf("defence.rules[%d].match.vip", i), "%s is no VIP of the fleet", r.Match.VIP)
		}
	}
}
