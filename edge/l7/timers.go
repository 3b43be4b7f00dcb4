package l7

import "time"

// moment is a time in nanoseconds since the Gateway was made: cheap to take and
// to compare. 0 is none.
type moment int64

func (g *Gateway) now() moment { return moment(time.Since(g.epoch)) }

func (g *Gateway) time(m moment) time.Time {
	if m == 0 {
		return time.Time{}
	}
	return g.epoch.Add(time.Duration(m))
}

func (m moment) add(d time.Duration) moment { return m + moment(d) }

func (m moment) since(before moment) time.Duration { return time.Duration(m - before) }

// passed says whether m is a time, and not in the future of now.
func (m moment) passed(now moment) bool { return m != 0 && m <= now }

// sooner gives the earlier one of two, of which either may be none.
func sooner(a, b moment) moment {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// arm is one of a connection's deadlines. To set one costs a change in the
// runtime's heap of timers, so it is set late by an eighth of the time that is
// left, and stays while it is late by no more than twice that.
type arm struct {
	at, slack int64 // UnixNano; nanoseconds
}

// set sees to it that the deadline is at want or somewhat later; the zero time
// means none.
func (a *arm) set(want time.Time, set func(time.Time) error) {
	if want.IsZero() {
		if a.at != 0 {
			a.at, a.slack = 0, 0
			set(want)
		}
		return
	}
	w := want.UnixNano()
	if a.at != 0 && w <= a.at && a.at-w <= 2*a.slack {
		return
	}
	late := max(time.Until(want)/8, 0)
	a.at, a.slack = w+int64(late), int64(late)
	set(want.Add(late))
}

// forget notes that the deadline is not what set made it.
func (a *arm) forget() { a.at, a.slack = -1, -1 }

// past is a deadline that ends waiting at once.
var past = time.Unix(1, 0)
