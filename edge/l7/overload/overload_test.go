package overload

import (
	"testing"
	"time"
)

var start = time.Unix(1000, 0)

// Levels are entered in the stated order, at once and from any other.
func TestLevelsAreEnteredInOrder(t *testing.T) {
	order := []Level{None, Mirror, Compress, Idle, Refuse, RejectLow, Reject}
	var s State
	for i, p := range []float64{0.69, 0.70, 0.75, 0.80, 0.90, 0.95, 0.98} {
		s = s.Next(p, start)
		if s.Level != order[i] {
			t.Errorf("at %v: %s, expected %s", p, s.Level, order[i])
		}
		if at := (State{}).Next(p, start); at.Level != order[i] {
			t.Errorf("at %v from none: %s", p, at.Level)
		}
	}
	if s = s.Next(5, start); s.Level != Reject {
		t.Errorf("beyond all limits: %s", s.Level)
	}
}

// A level is left only after the pressure was below it by the margin for all of
// Calm, and the next one only after as long again.
func TestLevelsAreLeftSlowly(t *testing.T) {
	s := State{}.Next(0.85, start)
	for _, step := range []struct {
		after    time.Duration
		pressure float64
		want     Level
	}{
		{1 * time.Second, 0.78, Idle}, // below the entry, not by the margin
		{10 * time.Second, 0.78, Idle},
		{11 * time.Second, 0.74, Idle},
		{12 * time.Second, 0.76, Idle}, // from now on all over again
		{12500 * time.Millisecond, 0.1, Idle},
		{14400 * time.Millisecond, 0.1, Idle},
		{14500 * time.Millisecond, 0.1, Compress},
		{16400 * time.Millisecond, 0.1, Compress},
		{16500 * time.Millisecond, 0.1, Mirror},
		{17 * time.Second, 0.97, RejectLow}, // up at once
		{18 * time.Second, 0.1, RejectLow},
		{20 * time.Second, 0.1, Refuse},
	} {
		if s = s.Next(step.pressure, start.Add(step.after)); s.Level != step.want {
			t.Errorf("after %s at %v: %s, expected %s", step.after, step.pressure, s.Level, step.want)
		}
	}
}

// Pressure that goes to and fro around an entry does not make the level flap.
func TestLevelsDoNotFlap(t *testing.T) {
	s, changes := State{}, 0
	for i := range 1000 {
		next := s.Next(0.88+0.03*float64(i%2), start.Add(time.Duration(i)*time.Second))
		if next.Level != s.Level {
			changes++
		}
		s = next
	}
	if s.Level != Refuse || changes > 2 {
		t.Errorf("%s after %d changes", s.Level, changes)
	}
}

// The resource that is shortest counts.
func TestWorst(t *testing.T) {
	m := Measures{Memory: 0.2, Files: 0.1, Processor: 1.5, Connections: 0.9}
	if r, p := m.Worst(); r != Processor || p != 1.5 {
		t.Errorf("%s at %v", r, p)
	}
	if r, p := (Measures{}).Worst(); p != 0 {
		t.Errorf("%s at %v of nothing", r, p)
	}
}
