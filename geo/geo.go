// Package geo says where an address is, and compiles a geo database against a
// fleet into client classes: which prefixes are steered alike.
//
// Pure floor: it imports the standard library only; health, stores and sockets
// are no business of it. The databases themselves are read by geo/mmdb.
package geo

import (
	"iter"
	"math"
	"net/netip"
	"slices"
	"strings"
)

// Place is where a network is, as far as a database knows. It is comparable;
// the zero Place is nowhere.
type Place struct {
	Continent   string  `json:"continent,omitempty"`   // AF, AN, AS, EU, NA, OC, SA
	Country     string  `json:"country,omitempty"`     // ISO 3166-1 alpha-2
	Subdivision string  `json:"subdivision,omitempty"` // ISO 3166-2, as US-CA
	City        string  `json:"city,omitempty"`        // in English, to show to people
	Latitude    float64 `json:"latitude"`              // degrees north; only where Located
	Longitude   float64 `json:"longitude"`             // degrees east; only where Located
	Located     bool    `json:"located"`               // Latitude and Longitude are known
	ASN         uint32  `json:"asn,omitempty"`         // AS number of the network, 0 where not known
	Mark        uint32  `json:"-"`                     // of the Spec's own networks; see Marks
}

// String names the place for people: Berlin, DE-BE, Germany, EU, AS64500.
func (p Place) String() string {
	var parts []string
	for _, s := range []string{p.City, p.Subdivision, CountryName(p.Country), p.Continent} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if p.ASN != 0 {
		parts = append(parts, "AS"+uitoa(p.ASN))
	}
	if len(parts) == 0 {
		return "nowhere known"
	}
	return strings.Join(parts, ", ")
}

func uitoa(v uint32) string {
	var b [10]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + v%10)
		if v /= 10; v == 0 {
			return string(b[i:])
		}
	}
}

// Source is a geo database at one moment. It is immutable and safe for
// concurrent use.
type Source interface {
	// Networks gives every network that has data, in ascending order within
	// each family and without overlaps; IPv4 networks as IPv4.
	Networks() iter.Seq2[netip.Prefix, Place]
	// Lookup gives the place of one address; false where there is no data.
	Lookup(netip.Addr) (Place, bool)
	// String names the database and its date, to show to people.
	String() string
}

// earthRadius is the mean radius of the earth in kilometres.
const earthRadius = 6371.0088

// Distance is the great-circle distance in kilometres between two points in
// degrees, by the haversine formula.
func Distance(lat1, lon1, lat2, lon2 float64) float64 {
	const rad = math.Pi / 180
	s1 := math.Sin((lat2 - lat1) * rad / 2)
	s2 := math.Sin((lon2 - lon1) * rad / 2)
	h := s1*s1 + math.Cos(lat1*rad)*math.Cos(lat2*rad)*s2*s2
	return 2 * earthRadius * math.Asin(math.Sqrt(min(1, h)))
}

// Country is one country or territory of ISO 3166-1, and a point where its
// people may be taken to be.
type Country struct {
	Code      string
	Continent string
	Name      string
	Latitude  float64
	Longitude float64
}

// Place is the country as a place.
func (c Country) Place() Place {
	return Place{Continent: c.Continent, Country: c.Code, Latitude: c.Latitude, Longitude: c.Longitude, Located: true}
}

// Countries lists all countries in order of code. The caller may keep it.
func Countries() []Country { return slices.Clone(countryTable[:]) }

// FindCountry gives the country with that code; false where there is none.
func FindCountry(code string) (Country, bool) {
	i, ok := slices.BinarySearchFunc(countryTable[:], code, func(c Country, code string) int {
		return strings.Compare(c.Code, code)
	})
	if !ok {
		return Country{}, false
	}
	return countryTable[i], true
}

// CountryName gives the country's name in English, or the code itself where
// it is not known.
func CountryName(code string) string {
	if c, ok := FindCountry(code); ok {
		return c.Name
	}
	return code
}
