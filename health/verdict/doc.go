// Package verdict is the pure part of health: when a run of observations makes
// a target up or down (Tracker), what the vantages together conclude
// (Conclude), and how one node tells the others what it sees (Frame).
//
// It is a pure room: no clock, socket, goroutine or logger; now is an
// argument. It imports fleet alone. health drives it; the control plane's
// explanations and tests may call it; nothing on the ground does.
package verdict
