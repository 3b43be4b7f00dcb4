package server

import (
	"context"
	"encoding/binary"
	"net/netip"
	"time"

	"meridian/dns/answer"
	"meridian/dns/limit"
	"meridian/fleet"
)

// Fast answers queries over UDP ahead of the sockets, which get what it passes
// on; dns/xdp implements it. Serve and Close are called one after another.
type Fast interface {
	// Serve brings it in line with what is served: at each change, and each
	// second. The error says why the sockets are left alone with all queries.
	Serve(s *Serving) error
	// Close ends it.
	Close() error
	// Answered gives what it has done since it was made. It is safe for
	// concurrent use.
	Answered() Answered
	// Debts gives the table that its rate limit goes by, so that the sockets'
	// goes by it too; nil while it has none.
	Debts() *limit.Table
}

// Serving is what is served.
type Serving struct {
	Plan    *answer.Plan
	Now     time.Time
	Listen  []netip.AddrPort // for UDP; an unspecified address stands for all of the machine's
	Off     string           // why the sockets must see all queries; empty where they need not
	Limit   *limit.Limiter   // of answers; nil for none
	Proxies []netip.Prefix   // whose queries have PROXY headers: they are the sockets'
	Share   float64          // of queries that are wanted for the query log, 0 to 1; the first ones of each second are in any case
	Seen    func(*Seen)      // takes a query with its answer; safe for concurrent use, does not keep it
	Again   func()           // asks for another call; safe for concurrent use
}

// Seen is a query that never came to a socket.
type Seen struct {
	Query, Answer []byte // Answer is empty where none was sent
	Client        netip.AddrPort
	Rcode         uint16
	Limited       bool // the rate limit dropped the answer, or
	Slipped       bool // truncated it
	Note          bool // it is one of the first of its second
	Log           bool // it is in the query log's share
}

// Answered counts queries that never came to a socket.
type Answered struct {
	Queries uint64
	Rcodes  [16]uint64
	Types   map[uint16]uint64 // the rest in none
	Zones   map[fleet.Name]uint64
	Limited uint64 // of Queries, those whose answer the rate limit dropped
	Slipped uint64 // and truncated
}

// feedFast keeps cfg.Fast in line until ctx ends.
func (s *Server) feedFast(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	told := ""
	for {
		if err := s.cfg.Fast.Serve(s.serving()); err == nil {
			told = ""
			s.shareDebts()
		} else if told != err.Error() {
			told = err.Error()
			s.log.Warn("the kernel answers no queries; the sockets answer all", "error", err)
		}
		select {
		case <-ctx.Done():
			if err := s.cfg.Fast.Close(); err != nil {
				s.log.Error("ending answers in the kernel", "error", err)
			}
			return
		case <-tick.C:
		case <-s.fastChanged:
		}
	}
}

// serving gives what is served now.
func (s *Server) serving() *Serving {
	out := &Serving{Plan: s.Plan(), Now: time.Now(), Listen: s.Addrs(), Again: s.pokeFast}
	set := s.settings.Load()
	out.Limit, out.Proxies = set.limiter, set.proxies
	out.Seen = s.seenFast
	if s.cfg.Tap != nil {
		out.Share = s.cfg.Tap.Share()
	}
	return out
}

// seenFast takes note of a query that cfg.Fast has answered.
func (s *Server) seenFast(q *Seen) {
	o := observed{query: q.Query, answer: q.Answer, client: q.Client, transport: UDP, outcome: answer.Outcome{Rcode: q.Rcode}}
	if end := endOfQuestion(q.Query); end > 0 {
		o.outcome.Type = binary.BigEndian.Uint16(q.Query[end-4:])
		o.outcome.Class = binary.BigEndian.Uint16(q.Query[end-2:])
	}
	switch {
	case q.Limited:
		o.fate = limited
	case q.Slipped:
		o.fate = slipped
	}
	now := time.Now()
	if q.Note {
		s.fastRing.add(s.plan.Load(), &o, now)
	}
	if q.Log && s.cfg.Tap != nil {
		s.tap(&o, now)
	}
}

// shareDebts has the sockets' rate limit go by the debts of cfg.Fast.
func (s *Server) shareDebts() {
	table := s.cfg.Fast.Debts()
	s.opening.Lock()
	defer s.opening.Unlock()
	set := s.settings.Load()
	if table == nil || set.limiter == nil || set.limiter.Table() == table {
		return
	}
	next := *set
	next.limiter = limit.NewIn(set.limiter.Config(), table)
	s.settings.Store(&next)
}

// pokeFast has cfg.Fast brought in line.
func (s *Server) pokeFast() {
	select {
	case s.fastChanged <- struct{}{}:
	default:
	}
}

// addTo adds what was answered to a transport's counters.
func (a *Answered) addTo(c *counters) {
	c.queries.Add(a.Queries)
	c.classes[classIndex(1)].Add(a.Queries)
	c.limited.Add(a.Limited)
	c.slipped.Add(a.Slipped)
	for i, n := range a.Rcodes {
		c.rcode[i].Add(n)
	}
	rest := a.Queries
	for t, n := range a.Types {
		c.types[typeIndex(t)].Add(n)
		rest -= min(rest, n)
	}
	c.types[0].Add(rest)
	for name, n := range a.Zones {
		c.zones.add(name, n)
	}
}
