package steer

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	"meridian/fleet"
	"meridian/geo"
)

// maxRegions is how many regions a class can rank.
const maxRegions = 250

// maxBias is half the earth's circumference, in kilometres.
const maxBias = 20038

var subdivision = regexp.MustCompile(`^[A-Z]{2}-[A-Z0-9]{1,3}$`)

// Check notes what steering could not work with; it is a fleet.Check.
func Check(spec *fleet.Spec, errs *fleet.Errors) {
	if len(spec.Regions) > maxRegions {
		errs.Addf("regions", "expected at most %d", maxRegions)
	}
	for i := range spec.Services {
		c := checker{spec: spec, st: &spec.Services[i].Steering, errs: errs, at: fmt.Sprintf("services[%d].steering", i)}
		c.candidates()
		c.geo()
		c.weights()
		c.bias()
		c.answer()
	}
}

type checker struct {
	spec *fleet.Spec
	st   *fleet.Steering
	errs *fleet.Errors
	at   string
}

func (c *checker) region(path, id string) {
	exists := slices.ContainsFunc(c.spec.Regions, func(r fleet.Region) bool { return r.ID == id })
	switch {
	case !exists:
		c.errs.Addf(path, "region %q does not exist", id)
	case len(c.st.Regions) > 0 && !slices.Contains(c.st.Regions, id):
		c.errs.Addf(path, "region %q is not among steering.regions", id)
	}
}

// only says that a field belongs to one policy.
func (c *checker) only(key string, given bool, policy fleet.SteeringPolicy) {
	if given && c.st.Policy != policy {
		c.errs.Addf(c.at+"."+key, "has no effect with policy %s; it is for policy %s", c.st.Policy, policy)
	}
}

func (c *checker) candidates() {
	for i, id := range c.st.Regions {
		if slices.Index(c.st.Regions, id) < i {
			c.errs.Addf(fmt.Sprintf("%s.regions[%d]", c.at, i), "region %q is given twice", id)
		}
	}
}

func (c *checker) geo() {
	c.only("geo", len(c.st.Geo) > 0, fleet.Geo)
	if c.st.Policy == fleet.Geo && len(c.st.Geo) == 0 {
		c.errs.Addf(c.at+".geo", "expected at least one rule for policy geo")
	}
	for i, r := range c.st.Geo {
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
			c.region(fmt.Sprintf("%s.regions[%d]", at, j), id)
		}
	}
}

func (c *checker) weights() {
	c.only("weights", len(c.st.Weights) > 0, fleet.Weighted)
	for _, id := range slices.Sorted(maps.Keys(c.st.Weights)) {
		at := c.at + ".weights." + id
		c.region(at, id)
		if w := c.st.Weights[id]; w < 0 || w > 1_000_000 {
			c.errs.Addf(at, "%d is not between 0 and 1000000", w)
		}
	}
	if c.st.Policy == fleet.Weighted && positive(c.st.Weights) == 0 {
		c.errs.Addf(c.at+".weights", "expected at least one weight above 0 for policy weighted")
	}
}

func (c *checker) bias() {
	c.only("bias", len(c.st.Bias) > 0, fleet.Proximity)
	for _, id := range slices.Sorted(maps.Keys(c.st.Bias)) {
		at := c.at + ".bias." + id
		c.region(at, id)
		if b := c.st.Bias[id]; !(b >= -maxBias && b <= maxBias) {
			c.errs.Addf(at, "%v is not between %d and %d", b, -maxBias, maxBias)
		}
	}
}

// answer asks for an address to answer with. A service that no name steers to
// needs none.
func (c *checker) answer() {
	if c.st.Answer == fleet.Anycast && len(c.spec.Anycast.All()) == 0 {
		c.errs.Addf(c.at+".answer", "anycast needs addresses under the key anycast")
	}
}
