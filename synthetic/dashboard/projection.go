package dashboard

import "math"

// The map's plane: Width by Height units, x to the right and y downwards.
// South of about 58 degrees nothing is shown.
const (
	mapWidth  = 1000.0
	mapHeight = 436.0
)

// north is y in the projection's own units at 84 degrees north, the map's
// upper edge; halfWidth is its x at 180 degrees east on the equator.
var (
	north     = naturalEarthY(84 * math.Pi / 180)
	halfWidth = math.Pi * naturalEarthStretch(0)
)

// Project gives the place of a point on the map, by the Natural Earth
// projection in the polynomial form of Šavrič, Jenny et al., "A Polynomial
// Equation for the Natural Earth Projection" (2011). Latitude and longitude
// are in degrees; a place south of the map's edge has y beyond mapHeight.
func Project(latitude, longitude float64) (x, y float64) {
	phi, lambda := latitude*math.Pi/180, longitude*math.Pi/180
	unit := mapWidth / (2 * halfWidth)
	x = mapWidth/2 + lambda*naturalEarthStretch(phi)*unit
	y = (north - naturalEarthY(phi)) * unit
	return x, y
}

// naturalEarthStretch is the length of a parallel relative to its longitude.
func naturalEarthStretch(phi float64) float64 {
	p2 := phi * phi
	p4 := p2 * p2
	return 0.8707 - 0.131979*p2 + p4*(-0.013791+p4*(0.003971*p2-0.001529*p4))
}

// naturalEarthY is the distance of a parallel from the equator.
func naturalEarthY(phi float64) float64 {
	p2 := phi * phi
	p4 := p2 * p2
	return phi * (1.007226 + p2*(0.015085+p4*(-0.044475+0.028874*p2-0.005916*p4)))
}
