package geo

import (
	"math"
	"testing"
)

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		name                   string
		lat1, lon1, lat2, lon2 float64
		km                     float64
	}{
		{"a place to itself", 50, 8, 50, 8, 0},
		{"Frankfurt to Tokyo", 50.11, 8.68, 35.68, 139.69, 9333},
		{"across the date line", 0, 179.5, 0, -179.5, 111},
		{"pole to pole", 90, 0, -90, 0, 20015},
	} {
		if got := Distance(c.lat1, c.lon1, c.lat2, c.lon2); math.Abs(got-c.km) > 10 {
			t.Errorf("%s: %.0f km, want about %.0f", c.name, got, c.km)
		}
	}
}

func TestCountries(t *testing.T) {
	for _, c := range Countries() {
		if got, ok := FindCountry(c.Code); !ok || got != c {
			t.Errorf("FindCountry(%q) = %v, %v", c.Code, got, ok)
		}
		if math.Abs(c.Latitude) > 90 || math.Abs(c.Longitude) > 180 || len(c.Continent) != 2 {
			t.Errorf("%+v is not on the earth", c)
		}
	}
	if _, ok := FindCountry("ZZ"); ok {
		t.Error("ZZ is a country")
	}
}

func TestPlaceForPeople(t *testing.T) {
	p := Place{Country: "DE", Continent: "EU", City: "Berlin", ASN: 64500}
	if got, want := p.String(), "Berlin, Germany, EU, AS64500"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := (Place{}).String(), "nowhere known"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
