// Package fleet is the ground floor: Meridian's words as types.
//
// It holds the Spec (what the operator writes), the strict decoder and the
// rules that need no other room's knowledge, the immutable Snapshot compiled
// from it, and the facts and conclusions that rooms hand to each other:
// Observation, Verdict, View, Decision, Advertisement, Shift.
//
// It imports the standard library and one YAML decoder, nothing else; every
// room may import it. It does no I/O, reads no clock and starts no goroutine.
package fleet
