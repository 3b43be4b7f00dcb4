package steer

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"

	"meridian/fleet"
	"meridian/geo"
)

// Limits on what one service may ask for.
const (
	maxRegions = 250   // that a fleet can have
	maxGroups  = 100   // of one service
	maxDepth   = 8     // of groups in groups
	maxBias    = 20038 // half the earth's circumference, in kilometres
)

var subdivision = regexp.MustCompile(`^[A-Z]{2}-[A-Z0-9]{1,3}$`)

// Check notes what steering could not work with; it is a fleet.Check.
func Check(spec *fleet.Spec, errs *fleet.Errors) {
	if len(spec.Regions) > maxRegions {
		errs.Addf("regions", "expected at most %d", maxRegions)
		return
	}
	groups := map[string]bool{}
	for i := range spec.Services {
		st := &spec.Services[i].Steering
		at := fmt.Sprintf("services[%d].steering", i)
		for _, g := range st.Groups {
			groups[g.Group] = true
		}
		checkSteering(spec, st, errs, at)
	}
	for i := range spec.SubnetMaps {
		checkMap(spec, &spec.SubnetMaps[i], groups, errs, fmt.Sprintf("subnet_maps[%d]", i))
	}
	if errs.Len() == 0 {
		checkSigned(spec, errs)
	}
}

func checkSteering(spec *fleet.Spec, st *fleet.Steering, errs *fleet.Errors, at string) {
	if len(st.Groups) > maxGroups {
		errs.Addf(at+".groups", "expected at most %d", maxGroups)
		return
	}
	checkGroups(st, errs, at)
	top := checker{spec: spec, st: st, sel: &st.Selection, errs: errs, at: at}
	top.selection()
	top.answer()
	for i := range st.Groups {
		c := checker{spec: spec, st: st, sel: &st.Groups[i].Selection, errs: errs, at: fmt.Sprintf("%s.groups[%d]", at, i), group: true}
		if len(c.sel.Regions) == 0 {
			errs.Addf(c.at+".regions", "expected at least one region or group")
		}
		c.selection()
	}
}

// checkGroups refuses cycles, groups too deep, and groups that nothing names.
func checkGroups(st *fleet.Steering, errs *fleet.Errors, at string) {
	index := map[string]int{}
	for i := range st.Groups {
		index[st.Groups[i].Group] = i
	}
	named := map[int]bool{}
	broken := false
	var walk func(sel *fleet.Selection, depth int, path []int)
	walk = func(sel *fleet.Selection, depth int, path []int) {
		for _, id := range slices.Concat(sel.Regions, sel.Fallback) {
			i, ok := index[id]
			if !ok || broken {
				continue
			}
			field := fmt.Sprintf("%s.groups[%d]", at, i)
			if named[i] = true; slices.Contains(path, i) {
				errs.Addf(field, "group %q contains itself", id)
				broken = true
				return
			}
			if depth == maxDepth {
				errs.Addf(field, "group %q is more than %d groups deep", id, maxDepth)
				broken = true
				return
			}
			walk(&st.Groups[i].Selection, depth+1, append(slices.Clone(path), i))
		}
	}
	walk(&st.Selection, 0, nil)
	for i := range st.Groups {
		if !named[i] && !broken {
			errs.Addf(fmt.Sprintf("%s.groups[%d]", at, i), "group %q is named by nothing", st.Groups[i].Group)
		}
	}
}

// checker is one selection under check.
type checker struct {
	spec  *fleet.Spec
	st    *fleet.Steering
	sel   *fleet.Selection
	errs  *fleet.Errors
	at    string
	group bool
}

func (c *checker) selection() {
	c.candidates()
	c.geo()
	c.subnets()
	c.weights()
	c.bias()
	c.health()
	c.list("unmapped", c.sel.Unmapped)
	switch c.sel.Policy {
	case fleet.Weighted, fleet.Failover, fleet.All:
		if len(c.sel.Unmapped) > 0 {
			c.errs.Addf(c.at+".unmapped", "has no effect with policy %s", c.sel.Policy)
		}
	}
}

// member asks for a candidate of this selection.
func (c *checker) member(path, id string) {
	exists := slices.ContainsFunc(c.spec.Regions, func(r fleet.Region) bool { return r.ID == id }) ||
		slices.ContainsFunc(c.st.Groups, func(g fleet.Group) bool { return g.Group == id })
	isGroup := !slices.ContainsFunc(c.spec.Regions, func(r fleet.Region) bool { return r.ID == id })
	switch {
	case !exists:
		c.errs.Addf(path, "region %q does not exist", id)
	case (len(c.sel.Regions) > 0 || isGroup) && !slices.Contains(c.sel.Regions, id):
		where := "steering.regions"
		if c.group {
			where = "the group's regions"
		}
		c.errs.Addf(path, "region %q is not among %s", id, where)
	}
}

func (c *checker) list(key string, ids []string) {
	for i, id := range ids {
		path := fmt.Sprintf("%s.%s[%d]", c.at, key, i)
		c.member(path, id)
		if slices.Index(ids, id) < i {
			c.errs.Addf(path, "region %q is given twice", id)
		}
	}
}

// only says that a field belongs to one policy.
func (c *checker) only(key string, given bool, policy fleet.SteeringPolicy) {
	if given && c.sel.Policy != policy {
		c.errs.Addf(c.at+"."+key, "has no effect with policy %s; it is for policy %s", c.sel.Policy, policy)
	}
}

func (c *checker) candidates() {
	for i, id := range c.sel.Regions {
		if slices.Index(c.sel.Regions, id) < i {
			c.errs.Addf(fmt.Sprintf("%s.regions[%d]", c.at, i), "region %q is given twice", id)
		}
	}
	if len(c.sel.Regions) > maxRegions {
		c.errs.Addf(c.at+".regions", "expected at most %d", maxRegions)
	}
}

func (c *checker) geo() {
	c.only("geo", len(c.sel.Geo) > 0, fleet.Geo)
	if c.sel.Policy == fleet.Geo && len(c.sel.Geo) == 0 {
		c.errs.Addf(c.at+".geo", "expected at least one rule for policy geo")
	}
	for i, r := range c.sel.Geo {
		at := fmt.Sprintf("%s.geo[%d]", c.at, i)
		if len(r.Continents)+len(r.Countries)+len(r.Subdivisions)+len(r.ASNs) == 0 {
			c.errs.Addf(at, "expected continents, countries, subdivisions or asns")
		}
		for j, k := range r.Continents {
			if !slices.Contains([]string{"AF", "AN", "AS", "EU", "NA", "OC", "SA"}, k) {
				c.errs.Addf(fmt.Sprintf("%s.continents[%d]", at, j), "%q is not one of AF, AN, AS, EU, NA, OC, SA", k)
			}
		}
		for j, k := range r.Countries {
			if _, ok := geo.FindCountry(k); !ok {
				c.errs.Addf(fmt.Sprintf("%s.countries[%d]", at, j), "%q is not an ISO 3166-1 two-letter code in capitals", k)
			}
		}
		for j, k := range r.Subdivisions {
			if !subdivision.MatchString(k) {
				c.errs.Addf(fmt.Sprintf("%s.subdivisions[%d]", at, j), "%q is not an ISO 3166-2 code such as US-CA", k)
			}
		}
		if len(r.Regions) == 0 {
			c.errs.Addf(at+".regions", "expected at least one region")
		}
		for j, id := range r.Regions {
			c.member(fmt.Sprintf("%s.regions[%d]", at, j), id)
		}
	}
}

func (c *checker) subnets() {
	c.only("subnets", len(c.sel.Subnets) > 0, fleet.Subnet)
	c.only("subnet_map", c.sel.SubnetMap != "", fleet.Subnet)
	if c.sel.Policy == fleet.Subnet && len(c.sel.Subnets) == 0 && c.sel.SubnetMap == "" {
		c.errs.Addf(c.at+".subnets", "expected subnets or subnet_map for policy subnet")
	}
	if name := c.sel.SubnetMap; name != "" &&
		!slices.ContainsFunc(c.spec.SubnetMaps, func(m fleet.SubnetMap) bool { return m.Map == name }) {
		c.errs.Addf(c.at+".subnet_map", "map %q does not exist", name)
	}
	checkSubnets(c.sel.Subnets, c.errs, c.at+".subnets", c.member)
}

func checkMap(spec *fleet.Spec, m *fleet.SubnetMap, groups map[string]bool, errs *fleet.Errors, at string) {
	if len(m.Subnets) == 0 {
		errs.Addf(at+".subnets", "expected at least one rule")
	}
	checkSubnets(m.Subnets, errs, at+".subnets", func(path, id string) {
		if !groups[id] && !slices.ContainsFunc(spec.Regions, func(r fleet.Region) bool { return r.ID == id }) {
			errs.Addf(path, "region %q does not exist", id)
		}
	})
}

func checkSubnets(rules []fleet.SubnetRule, errs *fleet.Errors, at string, member func(path, id string)) {
	seen := map[netip.Prefix]string{}
	for i, r := range rules {
		path := fmt.Sprintf("%s[%d]", at, i)
		if len(r.Prefixes) == 0 {
			errs.Addf(path+".prefixes", "expected at least one prefix")
		}
		if len(r.Regions) == 0 {
			errs.Addf(path+".regions", "expected at least one region")
		}
		for j, p := range r.Prefixes {
			field := fmt.Sprintf("%s.prefixes[%d]", path, j)
			switch had := seen[p.Masked()]; {
			case !p.IsValid():
				errs.Addf(field, "expected a prefix such as 192.0.2.0/24")
			case p != p.Masked():
				errs.Addf(field, "%s has bits set beyond its length: expected %s", p, p.Masked())
			case geo.Carried(p.Addr()) != p.Addr() || p.Addr().Is4In6():
				errs.Addf(field, "%s holds IPv6 addresses that carry IPv4 ones: give the IPv4 prefix", p)
			case had != "":
				errs.Addf(field, "%s is already given at %s", p, had)
			}
			seen[p.Masked()] = field
		}
		for j, id := range r.Regions {
			member(fmt.Sprintf("%s.regions[%d]", path, j), id)
		}
	}
}

func (c *checker) weights() {
	c.only("weights", len(c.sel.Weights) > 0, fleet.Weighted)
	positive := 0
	for _, id := range slices.Sorted(maps.Keys(c.sel.Weights)) {
		at := c.at + ".weights." + id
		c.member(at, id)
		w := c.sel.Weights[id]
		if w < 0 || w > 1_000_000 {
			c.errs.Addf(at, "%d is not between 0 and 1000000", w)
		}
		if w > 0 {
			positive++
		}
	}
	if c.sel.Policy == fleet.Weighted && positive == 0 {
		c.errs.Addf(c.at+".weights", "expected at least one weight above 0 for policy weighted")
	}
}

func (c *checker) bias() {
	c.only("bias", len(c.sel.Bias) > 0, fleet.Proximity)
	for _, id := range slices.Sorted(maps.Keys(c.sel.Bias)) {
		at := c.at + ".bias." + id
		c.member(at, id)
		if b := c.sel.Bias[id]; !(b >= -maxBias && b <= maxBias) {
			c.errs.Addf(at, "%v is not between %d and %d", b, -maxBias, maxBias)
		}
	}
}

func (c *checker) health() {
	if m := c.sel.MinHealthy; !(m >= 0 && m <= 1) {
		c.errs.Addf(c.at+".min_healthy", "%v is not between 0 and 1", m)
	}
	switch {
	case c.sel.AllDown == fleet.Fallback && len(c.sel.Fallback) == 0:
		c.errs.Addf(c.at+".fallback", "expected regions or groups for all_down fallback")
	case c.sel.AllDown != fleet.Fallback && len(c.sel.Fallback) > 0:
		c.errs.Addf(c.at+".fallback", "has no effect with all_down %s; it is for fallback", c.sel.AllDown)
	}
	for i, id := range c.sel.Fallback {
		if slices.Index(c.sel.Fallback, id) < i {
			c.errs.Addf(fmt.Sprintf("%s.fallback[%d]", c.at, i), "region %q is given twice", id)
		}
	}
}

// answer asks for an address to answer with. A service that no name steers to
// needs none.
func (c *checker) answer() {
	if c.st.Answer == fleet.Anycast && len(c.spec.Anycast.All()) == 0 {
		c.errs.Addf(c.at+".answer", "anycast needs addresses under the key anycast")
	}
	if c.st.Answer == fleet.Anycast && len(c.st.Demand) > 0 {
		c.errs.Addf(c.at+".demand", "has no effect with answer anycast")
	}
	for _, id := range slices.Sorted(maps.Keys(c.st.Demand)) {
		at := c.at + ".demand." + id
		if !slices.ContainsFunc(c.spec.Regions, func(r fleet.Region) bool { return r.ID == id }) {
			c.errs.Addf(at, "region %q does not exist", id)
		}
		if d := c.st.Demand[id]; d < 0 || d > 1_000_000_000 {
			c.errs.Addf(at, "%d is not between 0 and 1000000000", d)
		}
	}
}

// checkSigned refuses steered names of signed zones that can answer in more
// ways than can be signed ahead of the query.
func checkSigned(spec *fleet.Spec, errs *fleet.Errors) {
	for i := range spec.Zones {
		z := &spec.Zones[i]
		if spec.Settings(z).DNSSEC == "" {
			continue
		}
		for j := range z.Steered {
			st := &z.Steered[j]
			service := slices.IndexFunc(spec.Services, func(s fleet.Service) bool { return s.Service == st.Service })
			if service < 0 {
				continue
			}
			o := outcomesOf(spec, service)
			n := max(o.count(V4), o.count(V6))
			if st.HTTPS != nil && n <= MaxOutcomes {
				var many *TooManyOutcomes
				if _, err := o.joint(st.HTTPS.Second); errors.As(err, &many) {
					n = many.Count
				}
			}
			if n > MaxOutcomes {
				errs.Addf(fmt.Sprintf("zones[%d].steered[%d]", i, j), "the zone is signed, and %s", &TooManyOutcomes{n})
			}
		}
	}
}
