package defence

import (
	"iter"
	"net/netip"
	"strings"
	"testing"

	"meridian/fleet"
	"meridian/geo"
)

type source map[string]geo.Place

func (s source) String() string { return "test" }

func (s source) Networks() iter.Seq2[netip.Prefix, geo.Place] {
	return func(yield func(netip.Prefix, geo.Place) bool) {
		for _, n := range []string{"192.0.2.0/24", "198.51.100.0/24", "2002::/16"} {
			if p, ok := s[n]; ok && !yield(netip.MustParsePrefix(n), p) {
				return
			}
		}
	}
}

func (s source) Lookup(netip.Addr) (geo.Place, bool) { return geo.Place{}, false }

func compile(t *testing.T, section string, from geo.Source, named ...Place) (*Table, error) {
	t.Helper()
	s, err := fleet.Compile([]byte("regions: [{id: fra, location: {latitude: 1, longitude: 1}}]\ndefence: "+section), 0, Check)
	if err != nil {
		t.Fatal(err)
	}
	return Lists(s.Spec.Defence, []netip.Prefix{netip.MustParsePrefix("203.0.113.1/32"), netip.MustParsePrefix("203.0.113.128/28")}, named, from)
}

// The strongest class counts, whatever the sizes of the networks: what no
// client has, then allow, then block; a place counts as a network does.
func TestClasses(t *testing.T) {
	places := source{"192.0.2.0/24": {Country: "DE", ASN: 64500}, "198.51.100.0/24": {Country: "FR"}, "2002::/16": {Country: "FR"}}
	for _, c := range []struct {
		section string
		want    map[string]geo.Class
	}{
		{"{}", map[string]geo.Class{"127.0.0.1": Martian, "203.0.113.1": Martian, "203.0.113.2": None, "203.0.113.130": Martian, "203.0.113.144": None, "::1": Martian, "2001:db8::1": None}},
		{"{static: false}", map[string]geo.Class{"127.0.0.1": None, "203.0.113.1": None}},
		{"{allow: {prefixes: [0.0.0.0/0]}, block: {prefixes: [10.0.0.0/8]}}", map[string]geo.Class{"127.0.0.1": Martian, "10.1.2.3": Allowed, "::2": None}},
		{"{allow: {prefixes: [10.1.0.0/16]}, block: {prefixes: [10.0.0.0/8, 10.1.2.0/24, 10.1.0.0/16]}}",
			map[string]geo.Class{"10.1.2.3": Allowed, "10.1.0.0": Allowed, "10.2.0.0": Blocked, "11.0.0.0": None}},
		{"{allow: {countries: [DE]}, block: {asns: [64500], prefixes: [192.0.2.7/32]}}", map[string]geo.Class{"192.0.2.1": Allowed, "192.0.2.7": Allowed}},
		{"{allow: {asns: [64500]}, block: {countries: [DE, FR]}}", map[string]geo.Class{"192.0.2.1": Allowed, "198.51.100.1": BlockedCountry}},
		{"{block: {asns: [64500], countries: [DE]}}", map[string]geo.Class{"192.0.2.1": BlockedCountry}},
		{"{block: {asns: [64500], prefixes: [192.0.2.0/25]}}", map[string]geo.Class{"192.0.2.1": Blocked, "192.0.2.200": BlockedASN}},
		{"{block: {prefixes: ['2001::/32'], countries: [FR]}}", // as they are, whatever IPv4 address they carry
			map[string]geo.Class{"2001::1": Blocked, "2002:c000:201::1": BlockedCountry, "64:ff9b::c633:6401": None}},
	} {
		table, err := compile(t, c.section, places)
		if err != nil {
			t.Errorf("%s: %v", c.section, err)
			continue
		}
		for a, want := range c.want {
			if got, _ := table.Lookup(netip.MustParseAddr(a)); got != want {
				t.Errorf("%s: %s is of class %d, expected %d", c.section, a, got, want)
			}
		}
	}
}

// Places that rules name are told by the class of those that are on no list.
func TestNamedPlaces(t *testing.T) {
	from := source{"192.0.2.0/24": {Country: "DE", ASN: 64500}, "198.51.100.0/24": {Country: "DE"}, "2002::/16": {Country: "FR", ASN: 64500}}
	table, err := compile(t, "{block: {prefixes: [192.0.2.0/25]}, allow: {countries: [FR]}}", from, Place{ASN: 64500}, Place{}, Place{Country: "DE"})
	if err != nil {
		t.Fatal(err)
	}
	for a, want := range map[string]uint64{"192.0.2.200": 5, "198.51.100.1": 4, "203.0.113.9": 0, "192.0.2.1": 0, "2002::1": 0} {
		class, _ := table.Lookup(netip.MustParseAddr(a))
		got := uint64(0)
		if class >= Named {
			got = table.Places[class-Named]
		}
		if got != want {
			t.Errorf("%s is of class %d, in the places %b, expected %b", a, class, got, want)
		}
	}
	if _, err := compile(t, "{}", source{"192.0.2.0/24": {Country: "DE"}}, Place{ASN: 64500}); err == nil {
		t.Error("an AS number is taken by a database that has none")
	}
	if _, err := Lists(nil, nil, []Place{{Country: "DE"}}, nil); err == nil {
		t.Error("a country is taken without a database")
	}
}

func TestMissingPlaces(t *testing.T) {
	for section, from := range map[string]source{
		"{block: {asns: [1]}}":       {"192.0.2.0/24": {Country: "DE"}},
		"{block: {countries: [DE]}}": {"192.0.2.0/24": {ASN: 1}},
	} {
		if _, err := compile(t, section, from); err == nil {
			t.Errorf("%s: taken by a database that cannot tell", section)
		}
	}
	if _, err := compile(t, "{block: {asns: [1]}}", nil); err == nil {
		t.Error("AS numbers are taken without a database")
	}
}

func TestCheck(t *testing.T) {
	rule := "{name: r, match: {vip: 192.0.2.1}}"
	for section, want := range map[string]string{
		"{rules: [{name: r, match: {source_country: XX}}]}":                     "defence.rules[0].match.source_country",
		"{block: {countries: [XX]}}":                                            "defence.block.countries[0]",
		"{rules: [" + rule + "]}":                                               "is no VIP of the fleet",
		"{rules: [" + strings.Repeat("{name: r, match: {ttl: 1}}, ", 49) + "]}": "the limit is 48",
	} {
		_, err := fleet.Compile([]byte("regions: [{id: fra, location: {latitude: 1, longitude: 1}}]\ndefence: "+section), 0, Check)
		if err == nil || !strings.Contains(err.Error(), want) && !strings.Contains(err.Error(), "already used") {
			t.Errorf("%.60s: %v, expected %q", section, err, want)
		}
	}
}
