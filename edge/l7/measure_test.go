package l7

import "testing"

// A machine that pauses is not short of processor time; one that makes everybody
// wait for ten seconds is.
func TestOnlyLastingDelaysCount(t *testing.T) {
	var m gauge
	for range delayReadings {
		if got := m.lasting(0.01); got > 0.01 {
			t.Fatalf("%v without a delay", got)
		}
	}
	if got := m.lasting(5); got != 0.01 {
		t.Errorf("a pause counts as %v", got)
	}
	for range delayReadings - 2 {
		if got := m.lasting(0.3); got != 0.01 {
			t.Fatalf("%v before it has lasted", got)
		}
	}
	if got := m.lasting(0.3); got != 0.3 {
		t.Errorf("delays that last count as %v", got)
	}
}
