package defence

import (
	"fmt"
	"net/netip"
	"slices"

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
	vips := networksOf(spec)
	for i := range d.Rules {
		m, at := &d.Rules[i].Match, fmt.Sprintf("defence.rules[%d].match", i)
		if m.VIP.IsValid() && !slices.ContainsFunc(vips, func(p netip.Prefix) bool { return p.Overlaps(m.VIP.Prefix) && p.Bits() <= m.VIP.Bits() }) {
			errs.Addf(at+".vip", "%s is no VIP of the fleet, nor within a network of VIPs", m.VIP)
		}
		if _, ok := geo.FindCountry(m.Country); m.Country != "" && !ok {
			errs.Addf(at+".source_country", "%q is no country's code", m.Country)
		}
	}
}

// networksOf gives the fleet's VIPs: addresses and networks.
func networksOf(spec *fleet.Spec) []netip.Prefix {
	out := spec.Anycast.Networks()
	for i := range spec.Regions {
		out = append(out, spec.Regions[i].VIPs.Networks()...)
	}
	return out
}
