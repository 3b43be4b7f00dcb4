package outlier

import (
	"sync/atomic"
	"time"
)

// Outcome is what became of one try at an endpoint.
type Outcome uint8

// A failure is no answer (no connection, a reset, nothing in time) or a status
// from 500 on. What the client caused, as by leaving, is no outcome at all.
// Refused is the failure that shows that nobody is there: a host that refuses
// the connection.
const (
	Success Outcome = iota
	Failure
	Refused
)

// slots is in how many parts the window moves on.
const slots = 10

// Endpoint is the samples of one endpoint. It is shared by every generation
// that holds the endpoint. The zero Endpoint is ready. Record is safe for
// concurrent use; the rest is Judge's.
type Endpoint struct {
	answers, failures atomic.Uint32 // since Judge last looked
	took              atomic.Int64  // of these answers together, in ns
	row, longest      atomic.Int32  // failures in a row: now, and at most since Judge last looked
	refused           atomic.Int32  // of those in a row now the last so many were refused

	past   [slots]slot
	at     int           // slot that fills
	turned time.Duration // when it began to

	until  time.Duration // end of the last ejection
	length time.Duration // of it
	times  int           // ejections that count still
	out    bool          // it is ejected
}

// slot is the samples of one part of the window.
type slot struct {
	answers, failures uint32
	took              time.Duration
}

// Record notes a try and how long its answer took, up to the header. It gives
// the number of failures in a row up to this one, and how many of the last of them
// were refused: when either comes to Rules.Row it is worth to have the pool judged
// at once.
func (e *Endpoint) Record(o Outcome, took time.Duration) (row, refused int) {
	if o == Success {
		e.answers.Add(1)
		e.took.Add(int64(took))
		if e.row.Load() != 0 {
			e.row.Store(0)
			e.refused.Store(0)
		}
		return 0, 0
	}
	if o == Refused {
		refused = int(e.refused.Add(1))
	} else if e.refused.Load() != 0 {
		e.refused.Store(0)
	}
	e.failures.Add(1)
	n := e.row.Add(1)
	for most := e.longest.Load(); n > most && !e.longest.CompareAndSwap(most, n); {
		most = e.longest.Load()
	}
	return int(n), refused
}

// turn moves the window on and puts what came since into it.
func (e *Endpoint) turn(now, window time.Duration) {
	part := max(window/slots, 1)
	steps := int64((now - e.turned) / part)
	if steps > 0 {
		e.turned += time.Duration(steps) * part
	}
	for range min(steps, slots) {
		e.at = (e.at + 1) % slots
		e.past[e.at] = slot{}
	}
	s := &e.past[e.at]
	s.answers += e.answers.Swap(0)
	s.failures += e.failures.Swap(0)
	s.took += time.Duration(e.took.Swap(0))
}

// sum gives the window's samples.
func (e *Endpoint) sum() slot {
	var all slot
	for _, s := range e.past {
		all.answers += s.answers
		all.failures += s.failures
		all.took += s.took
	}
	return all
}

// forget drops all samples.
func (e *Endpoint) forget() {
	e.past = [slots]slot{}
	e.answers.Store(0)
	e.failures.Store(0)
	e.took.Store(0)
	e.row.Store(0)
	e.refused.Store(0)
	e.longest.Store(0)
}

func (s slot) share() float64 {
	return float64(s.failures) / float64(max(s.answers+s.failures, 1))
}

func (s slot) mean() time.Duration { return s.took / time.Duration(max(s.answers, 1)) }
