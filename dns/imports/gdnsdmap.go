package imports

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"meridian/fleet"
)

var continents = []string{"AF", "AN", "AS", "EU", "NA", "OC", "SA"}

// world turns a geoip map into the root's policy: nets to subnets, the map of
// places to geo rules, auto to proximity.
func (g *gdnsd) world(where, name string, m *hash, root *pick, order []string, index map[string]int) {
	to := func(dcs []string) []int {
		var out []int
		for _, dc := range dcs {
			if i, ok := index[dc]; ok && !slices.Contains(out, i) {
				out = append(out, i)
			}
		}
		return out
	}
	auto := m.sub("auto_dc_coords") != nil
	var rules []geoRule
	g.places(where, name, m.sub("map"), nil, to, &rules)
	fallback := list(m.sub("map").get("default"))
	switch {
	case auto && (len(fallback) == 0 || fallback[0] == "auto"):
		root.policy = fleet.Proximity
		if n := m.text("auto_dc_limit"); n != "" {
			g.r.note(where, "map "+name+" auto_dc_limit "+n, "all datacenters are in order of distance")
		}
	default:
		if len(fallback) == 0 {
			fallback = order
		}
		if len(rules) > 0 { // clients of no rule go by the default, not by distance
			rules = append(rules, geoRule{GeoRule: fleet.GeoRule{Continents: continents}, to: to(fallback)})
		}
	}
	nets := m.sub("nets")
	if f := m.text("nets"); f != "" {
		g.r.note(where, "map "+name+" nets "+f, "networks in a file of their own: write them as a subnet_map")
	}
	var nr []netRule
	for _, net := range nets.sorted() {
		p, err := netip.ParsePrefix(net)
		if err != nil {
			g.r.note(where, "map "+name+" nets "+net, "is not a network")
			continue
		}
		nr = append(nr, netRule{[]netip.Prefix{p.Masked()}, to(list(nets.get(net)))})
	}
	if len(rules) > 0 {
		root.policy, root.geo = fleet.Geo, rules
	}
	if len(nr) == 0 {
		return
	}
	// Networks go first; all others by the choice made so far, as a group.
	places := *root
	places.label = name + "-places"
	root.policy, root.geo = fleet.Subnet, nil
	root.of = append(slices.Clone(root.of), &places)
	root.subnets = append(nr, netRule{[]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}, []int{len(root.of) - 1}})
}

func (h *hash) sorted() []string {
	if h == nil {
		return nil
	}
	return slices.Sorted(slices.Values(h.keys))
}

var subdivisionCode = regexp.MustCompile(`^[A-Z0-9]{1,3}$`)

// places walks a map of places, the deeper rules first: path is continent,
// country and subdivision.
func (g *gdnsd) places(where, name string, h *hash, path []string, to func([]string) []int, out *[]geoRule) {
	if h == nil {
		return
	}
	for _, key := range h.keys {
		here := append(slices.Clone(path), key)
		what := "map " + name + " " + strings.Join(here, "/")
		if sub, ok := h.vals[key].(*hash); ok {
			g.places(where, name, sub, here, to, out)
			continue
		}
		dcs := list(h.vals[key])
		if key == "default" {
			if len(path) == 0 {
				continue // the caller's
			}
			here = path
		}
		rule := geoRule{to: to(dcs)}
		switch {
		case len(dcs) > 0 && dcs[0] == "auto":
			g.r.note(where, what, "auto for a part of the world has no counterpart; it goes by the rule around it")
			continue
		case len(rule.to) == 0:
			g.r.note(where, what, "an empty list (no answer) has no counterpart")
			continue
		case len(here) == 1 && slices.Contains(continents, here[0]):
			rule.Continents = here
		case len(here) == 2 && len(here[1]) == 2:
			rule.Countries = here[1:]
		case len(here) == 3 && subdivisionCode.MatchString(here[2]):
			rule.Subdivisions = []string{here[1] + "-" + here[2]}
		default:
			g.r.note(where, what, "places other than continents, countries and subdivisions have no counterpart")
			continue
		}
		*out = append(*out, rule)
	}
	if len(path) == 0 { // narrow rules win
		slices.SortStableFunc(*out, func(a, b geoRule) int { return narrow(b) - narrow(a) })
	}
}

func narrow(g geoRule) int {
	switch {
	case len(g.Subdivisions) > 0:
		return 3
	case len(g.Countries) > 0:
		return 2
	}
	return 1
}
