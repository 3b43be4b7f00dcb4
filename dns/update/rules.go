package update

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
)

// guarded are the types that a rule without types does not cover: what DNSSEC
// rests on.
var guarded = []uint16{dns.TypeNSEC, dns.TypeNSEC3, dns.TypeRRSIG, dns.TypeDNSKEY, dns.TypeCDS, dns.TypeCDNSKEY, dns.TypeNSEC3PARAM}

// Rules gives what a TSIG key may change in a zone, for Apply; nil where it
// may change nothing, so that its updates are refused without a look at them.
// Rules that cannot be read allow nothing; Check tells of them.
func Rules(apex fleet.Name, rules []fleet.UpdateRule, key fleet.Name) func(owner []byte, rtype uint16) bool {
	var mine []rule
	for _, r := range rules {
		if r.Key != key || key == "" {
			continue
		}
		if c, err := compile(apex, r); err == nil {
			mine = append(mine, c)
		}
	}
	if len(mine) == 0 {
		return nil
	}
	return func(owner []byte, rtype uint16) bool {
		return slices.ContainsFunc(mine, func(r rule) bool { return r.covers(owner, rtype) })
	}
}

// Check notes rules on updates that cannot be read; it is a fleet.Check.
func Check(spec *fleet.Spec, errs *fleet.Errors) {
	check := func(at string, apex fleet.Name, rules []fleet.UpdateRule) {
		for i, r := range rules {
			if _, err := compile(apex, r); err != nil {
				errs.Addf(fmt.Sprintf("%s.updates[%d]", at, i), "%s", err)
			}
		}
	}
	for i := range spec.Zones {
		check(fmt.Sprintf("zones[%d]", i), spec.Zones[i].Zone, spec.Zones[i].Updates)
	}
	for i := range spec.DNS.Templates {
		check(fmt.Sprintf("dns.templates[%d]", i), ".", spec.DNS.Templates[i].Updates)
	}
}

// rule is one UpdateRule, read.
type rule struct {
	names []string // wire form, lower case; none: all
	below []string // as names, and stands for all below
	types []uint16 // none: all but guarded
}

func compile(apex fleet.Name, r fleet.UpdateRule) (rule, error) {
	var out rule
	for _, label := range r.Names {
		rest, all := strings.CutPrefix(label, "*.")
		if label == "*" {
			rest, all = "@", true
		}
		n, err := fleet.Under(rest, apex)
		if err != nil {
			return rule{}, fmt.Errorf("names: %q: %w", label, err)
		}
		wire := string(zone.Wire(n))
		if all {
			out.below = append(out.below, wire)
		} else {
			out.names = append(out.names, wire)
		}
	}
	for _, text := range r.Types {
		t, ok := dns.StringToType[strings.ToUpper(text)]
		if digits, unknown := strings.CutPrefix(strings.ToUpper(text), "TYPE"); !ok && unknown {
			n, err := strconv.ParseUint(digits, 10, 16)
			t, ok = uint16(n), err == nil
		}
		if !ok || meta(t) {
			return rule{}, fmt.Errorf("types: %q is not a type of record", text)
		}
		out.types = append(out.types, t)
	}
	return out, nil
}

func (r rule) covers(owner []byte, t uint16) bool {
	if len(r.types) == 0 && slices.Contains(guarded, t) || len(r.types) > 0 && !slices.Contains(r.types, t) {
		return false
	}
	if len(r.names)+len(r.below) == 0 || slices.Contains(r.names, string(owner)) {
		return true
	}
	return slices.ContainsFunc(r.below, func(up string) bool { return len(owner) > len(up) && zone.Below(owner, up) })
}
