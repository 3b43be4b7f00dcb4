// Package dashboard shows the fleet in a browser: a world map with the
// regions' states and who is steered where, the matrix of probers and regions,
// the timeline of events, the nodes. It serves one page, its assets (all
// embedded: the page asks no other host for anything), the State as JSON, and
// one stream of server-sent events that keeps the page current.
//
// Adapter: HTTP out to browsers. It imports fleet alone of this module; only
// the roof imports it. The data comes through Source; Feed is the Source that
// works a fleet's World and View out to a State, by the pure function Show.
//
// The front end in assets/ is plain ES modules and CSS without a build step.
// The map's land and the typeface are generated, see generate.go.
package dashboard

//go:generate go run generate.go
