package limit

import "time"

// Times after which less is made of a holder's word.
const (
	// Fresh is for how long a holder that is unheard still has a say.
	Fresh = 3 * time.Second
	// Lapse is after how long without a word what a holder held is lent to the others.
	Lapse = 30 * time.Second
)

// Claim is what another holder of a quota last said.
type Claim struct {
	Demand int64         // what it could use, in the quota's unit
	Held   int64         // what it takes as its part
	Age    time.Duration // since it said so
}

// Portion is the part of a quota that one of its holders is to have next, by demand
// (see Shares), where all tell each other each second or so. It grows into what
// nobody else says to hold: what one gets, others have given up before. So what all
// hold is the quota, but for a second or two while they do not yet know the same.
//
// What an unheard holder held stays reserved for it until Lapse, and then is lent to
// the rest, if these hear more than half of all: if it is dead its part is not lost; if
// it is only cut off it goes on with what it has, and all together may hold that much
// more than the quota: never more than twice the quota. Whoever hears half or less keeps
// what it held. When they hear each other again, they are at once back within the
// quota.
func Portion(quota int64, self string, demand, held int64, others map[string]Claim) int64 {
	wants, left, taken := map[string]int64{self: demand}, quota, int64(0)
	for name, c := range others {
		switch {
		case c.Age < Fresh:
			wants[name] = c.Demand
			taken += c.Held
		case c.Age < Lapse:
			left -= c.Held
			taken += c.Held
		}
	}
	if 2*len(wants) <= len(others)+1 {
		return held
	}
	due := Shares(wants, max(left, 0))[self]
	if due <= held {
		return due
	}
	return max(held, min(due, quota-taken))
}

// Steady is the least of a portion over a while, so that a burst that has moved to
// another holder is not there twice: with the burst in proportion to it, all bursts
// together are one.
type Steady struct {
	since     time.Duration
	was, here int64
	begun     bool
}

// Of notes the portion held now, and gives the least that was held for at least the
// while before, and for at most twice as long.
func (s *Steady) Of(now, while time.Duration, held int64) int64 {
	switch {
	case !s.begun:
		*s = Steady{since: now, was: held, here: held, begun: true}
	case now-s.since >= while:
		s.since, s.was, s.here = now, s.here, held
	}
	s.here = min(s.here, held)
	return min(s.was, s.here)
}
