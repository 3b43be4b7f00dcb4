package outlier

import (
	"slices"
	"time"

	"meridian/fleet"
)

// Rules are when an endpoint is ejected, and for how long.
type Rules struct {
	Row        int           // failures in a row; 0: not for that
	Percent    int           // of tries in the window that fail; 0: not for that
	Factor     float64       // times as slow as the median of the others; 0: not for that
	Least      time.Duration // and so much slower
	Min        int           // tries in the window, below which Percent and Factor say nothing
	Window     time.Duration
	First      time.Duration // length of the first ejection
	Longest    time.Duration
	MaxPercent int // of the pool's endpoints ejected at a time, but one may be; 0: none
	Panic      int // percent of the pool's weight that stays healthy
}

// Of gives the rules of a service.
func Of(s *fleet.Service) Rules {
	o := &s.Outlier
	return Rules{
		Row: *o.ConsecutiveErrors, Percent: *o.ErrorPercent, Factor: *o.LatencyFactor, Least: o.LatencyLeast.D(),
		Min: o.MinRequests, Window: o.Window.D(), First: o.Ejection.D(), Longest: o.MaxEjection.D(),
		MaxPercent: *o.MaxEjectedPercent, Panic: *s.Balancing.PanicThreshold,
	}
}

// Peer is one endpoint of the pool that is judged. Endpoints that drain are no
// peers.
type Peer struct {
	*Endpoint
	Weight  int  // 1 or more
	Healthy bool // by its checks
}

// Reason is why an endpoint is ejected, or that it is back.
type Reason string

// The reasons.
const (
	Row      Reason = "failures_in_a_row"
	Share    Reason = "share_of_failures"
	Slow     Reason = "slow"
	Returned Reason = "returned"
	// Spared would be ejected, but too many are already, or too few healthy.
	Spared Reason = "spared"
)

// Decision is what becomes of one peer.
type Decision struct {
	Index  int // of the peer
	Reason Reason
	Until  time.Duration // end of the ejection; 0 for Returned and Spared

	// What was seen: failures in a row; the share of failures, and the mean time
	// of answers beside the others' median.
	InARow       int
	Failed       float64
	Mean, Median time.Duration
}

// Judge decides which peers are ejected now and which are back; those of whom
// nothing is said stay as they are. It is called each second or so, always with
// the pool's peers of the moment, and not concurrently for one endpoint.
func (r *Rules) Judge(now time.Duration, peers []Peer) []Decision {
	var out []Decision
	seen := make([]slot, len(peers))
	rows := make([]int, len(peers))
	for i, p := range peers {
		p.turn(now, r.Window)
		seen[i], rows[i] = p.sum(), int(p.longest.Swap(p.row.Load()))
		if p.out && now >= p.until {
			p.out = false
			p.forget() // what it did before says nothing of how it comes back
			seen[i], rows[i] = slot{}, 0
			out = append(out, Decision{Index: i, Reason: Returned})
		}
		p.mend(now)
	}
	room := r.room(peers)
	for _, d := range r.suspects(peers, seen, rows) {
		p := peers[d.Index]
		// One that is down already takes nothing of the room; one at which nobody
		// is bears nothing, so to keep it helps nobody.
		gone := r.Row > 0 && int(p.refused.Load()) >= r.Row
		if p.Healthy && !room.take(p.Weight, gone) {
			d.Reason = Spared
		} else {
			d.Until = p.eject(now, r)
		}
		out = append(out, d)
	}
	return out
}

// suspects lists who would be ejected, those that fail before those that are
// slow.
func (r *Rules) suspects(peers []Peer, seen []slot, rows []int) []Decision {
	var list []Decision
	for i, p := range peers {
		if p.out {
			continue
		}
		d := Decision{Index: i, InARow: rows[i], Failed: seen[i].share(), Mean: seen[i].mean()}
		others, share := r.others(peers, seen, i)
		d.Median = others
		enough := int(seen[i].answers+seen[i].failures) >= r.Min
		switch {
		case r.Row > 0 && rows[i] >= r.Row:
			d.Reason = Row
		case !p.Healthy:
			continue // gets requests in a panic alone
		// One among many that fail alike is no outlier: what fails is behind them.
		case r.Percent > 0 && enough && d.Failed*100 >= float64(r.Percent) && d.Failed >= 2*share:
			d.Reason = Share
		case r.Factor > 0 && int(seen[i].answers) >= r.Min && others > 0 &&
			float64(d.Mean) >= r.Factor*float64(others) && d.Mean-others >= r.Least:
			d.Reason = Slow
		default:
			continue
		}
		list = append(list, d)
	}
	slices.SortStableFunc(list, func(a, b Decision) int { return order(a.Reason) - order(b.Reason) })
	return list
}

func order(r Reason) int { return slices.Index([]Reason{Row, Share, Slow}, r) }

// others gives the medians of how long the other peers' answers take, and of
// their shares of failures; 0 where none has samples enough.
func (r *Rules) others(peers []Peer, seen []slot, but int) (time.Duration, float64) {
	var means []time.Duration
	var shares []float64
	for i, p := range peers {
		if i == but || p.out {
			continue
		}
		if int(seen[i].answers) >= r.Min {
			means = append(means, seen[i].mean())
		}
		if int(seen[i].answers+seen[i].failures) >= r.Min {
			shares = append(shares, seen[i].share())
		}
	}
	return median(means), median(shares)
}

// median gives the lower one of an even number, 0 of none.
func median[T time.Duration | float64](list []T) T {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[(len(list)-1)/2]
}

// room is how many more may be ejected.
type room struct {
	left    int
	healthy int // weight
	floor   int // weight that must stay healthy, but for endpoints that are gone
}

func (r *Rules) room(peers []Peer) room {
	var m room
	total, ejected := 0, 0
	for _, p := range peers {
		total += p.Weight
		switch {
		case p.out && p.Healthy:
			ejected++
		case p.out:
		case p.Healthy:
			m.healthy += p.Weight
		}
	}
	if r.MaxPercent > 0 {
		m.left = max(len(peers)*r.MaxPercent/100, 1) - ejected
	}
	m.floor = max((total*r.Panic+99)/100, 1)
	return m
}

// take says whether one more may be ejected: one that is gone always, but for the
// last.
func (m *room) take(weight int, gone bool) bool {
	switch {
	case gone && m.healthy > weight:
	case m.left <= 0 || m.healthy-weight < m.floor:
		return false
	}
	m.left--
	m.healthy -= weight
	return true
}

// eject gives the end of the ejection: each is twice as long as the one before.
func (e *Endpoint) eject(now time.Duration, r *Rules) time.Duration {
	e.length = r.First
	for range min(e.times, 40) {
		e.length = min(e.length*2, r.Longest)
	}
	e.times++
	e.until, e.out = now+e.length, true
	e.forget()
	return e.until
}

// mend forgets one ejection for each time as long as the last one that the
// endpoint has been back.
func (e *Endpoint) mend(now time.Duration) {
	if e.times > 0 && !e.out && now >= e.until+e.length {
		e.times--
		e.until = now
	}
}
