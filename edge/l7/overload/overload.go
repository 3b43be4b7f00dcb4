// Package overload decides what a gateway does without when it runs short of
// memory, file descriptors, processor time or room for connections.
//
// Each resource has a pressure, the share of its limit that is in use; the highest
// counts. The levels are entered in a stated order, each at its own pressure, and
// each takes in those before it. A level is entered at once, and left one at a time,
// only after the pressure has been clearly below it for a while.
//
// Pure floor: it imports the standard library alone. No I/O, clock, goroutine or
// logger. edge/l7 measures and does what is decided.
package overload

import "time"

// Level is how much is shed; each takes in those before it.
type Level uint8

// The levels, in the order in which they are entered.
const (
	None      Level = iota
	Mirror          // no copies of requests
	Compress        // answers go uncompressed
	Idle            // connections without a request are closed, the longest idle first
	Refuse          // new connections are refused
	RejectLow       // requests of services of low priority are refused
	Reject          // those of normal priority too
	levels
)

var names = [levels]string{"none", "mirror", "compress", "idle", "refuse", "reject_low", "reject"}

// String is the level's word, as logs have it.
func (l Level) String() string { return names[min(l, Reject)] }

// enter is the pressure at which each level is entered.
var enter = [levels]float64{0, 0.70, 0.75, 0.80, 0.90, 0.95, 0.98}

const (
	// margin is how far below a level's entry the pressure must be for it to be left.
	margin = 0.05
	// Calm is how long it must stay there.
	Calm = 2 * time.Second
)

// Resource is what may run short.
type Resource uint8

// The resources.
const (
	Memory Resource = iota
	Files
	Processor
	Connections
	Resources
)

var resources = [Resources]string{"memory", "files", "processor", "connections"}

// String is the resource's word, as metrics have it.
func (r Resource) String() string { return resources[min(r, Connections)] }

// Measures are the share of its limit that is in use of each resource, 0 where it
// has none. They may be over 1.
type Measures [Resources]float64

// Worst gives the resource that is shortest, and its pressure.
func (m Measures) Worst() (Resource, float64) {
	worst := Memory
	for r := range Resources {
		if m[r] > m[worst] {
			worst = r
		}
	}
	return worst, m[worst]
}

// State is what the next decision goes by. The zero State sheds nothing.
type State struct {
	Level Level
	calm  time.Time // since when the pressure has been low enough to leave the level
}

// Next decides at a moment what is to be shed under a pressure.
func (s State) Next(pressure float64, now time.Time) State {
	for l := Reject; l > s.Level; l-- {
		if pressure >= enter[l] {
			return State{Level: l}
		}
	}
	switch {
	case s.Level == None:
	case pressure > enter[s.Level]-margin:
		s.calm = time.Time{}
	case s.calm.IsZero():
		s.calm = now
	case now.Sub(s.calm) >= Calm:
		return State{Level: s.Level - 1, calm: now}
	}
	return s
}
