package server

import (
	"context"
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
	Plan   *answer.Plan
	Now    time.Time
	Listen []netip.AddrPort // for UDP; an unspecified address stands for all of the machine's
	Off    string           // why the sockets must see all queries; empty where they need not
	Limit  *limit.Limiter   // of answers; nil for none
	Again  func()           // asks for another call; safe for concurrent use
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
	out.Limit = set.limiter
	if len(set.proxies) > 0 {
		out.Off = "dns.proxies: PROXY headers are read by the sockets"
	}
	return out
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
