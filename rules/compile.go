// Package rules joins every room's rules: it compiles a Spec document with all
// of them in one call, joins a Snapshot with its objects and shifts to a World
// that every room can work with, and gives Worlds a form for disk and wire.
//
// Pure floor, its last room: it imports the other pure rooms for their rules.
// Runtimes, adapters and the roof import it; no pure room does.
package rules

import (
	"meridian/anycast/plan"
	"meridian/dns/sign"
	"meridian/dns/update"
	"meridian/dns/zone"
	"meridian/edge/defence"
	"meridian/edge/l7/filter"
	"meridian/edge/l7/route"
	"meridian/edge/maglev"
	"meridian/edge/quiclb"
	"meridian/fleet"
	"meridian/steer"
)

// Compile parses a Spec document and checks it by every room's rules. All
// errors of one stage are given at once; fleet.FieldErrors lists them. The
// revision is the store's, 0 for a Spec from a file.
func Compile(doc []byte, revision uint64) (*fleet.Snapshot, error) {
	return fleet.Compile(doc, revision, steer.Check, zone.Check, sign.Check, update.Check, route.Check, filter.Check, maglev.Check, quiclb.Check, defence.Check, plan.Check)
}
