package health

import (
	"time"

	"meridian/fleet"
	"meridian/health/verdict"
)

// holdings are what gateways say of limits that they hold together. Guarded by
// Health.mu.
type holdings struct {
	own  []fleet.Holding
	seq  uint64
	told map[string]*told // by node
}

type told struct {
	frame *verdict.HoldingsFrame
	at    time.Time
}

// Hold says what this gateway tells the others of the limits that they hold
// together, each Period from now on: the first MaxHoldings of list. It is safe for
// concurrent use; list is copied.
func (h *Health) Hold(list []fleet.Holding) {
	own := append([]fleet.Holding(nil), list[:min(len(list), fleet.MaxHoldings)]...)
	h.mu.Lock()
	h.holdings.own = own
	h.mu.Unlock()
}

// Holdings gives the last that the fleet's other nodes have said so, by name. It is
// safe for concurrent use; the lists are not to be changed.
func (h *Health) Holdings() map[string]fleet.Holdings {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[string]fleet.Holdings{}
	for node, t := range h.holdings.told {
		if h.intent.snapshot != nil && h.intent.snapshot.Node(node) != nil {
			out[node] = fleet.Holdings{Age: now.Sub(t.at), List: t.frame.List}
		}
	}
	return out
}

// sendHoldings tells everybody what this gateway holds, if it holds anything.
func (h *Health) sendHoldings() {
	h.mu.Lock()
	if len(h.holdings.own) == 0 || h.cfg.Transport == nil {
		h.mu.Unlock()
		return
	}
	h.holdings.seq++
	f := verdict.HoldingsFrame{Node: h.cfg.Node, Incarnation: h.incarnation, Seq: h.holdings.seq, List: h.holdings.own}
	raw := f.Append(nil)
	h.mu.Unlock()
	h.cfg.Transport.Broadcast(raw)
	h.count.frames.WithLabelValues("sent").Inc()
}

// receiveHoldings takes in what another gateway says.
func (h *Health) receiveHoldings(raw []byte) {
	f, err := verdict.ParseHoldings(raw)
	result := "malformed"
	switch {
	case err != nil:
	case f.Node == h.cfg.Node:
		result = "own_name"
	default:
		h.mu.Lock()
		result = h.holdings.accept(f, time.Now())
		h.mu.Unlock()
	}
	h.count.frames.WithLabelValues(result).Inc()
}

func (s *holdings) accept(f *verdict.HoldingsFrame, now time.Time) string {
	was := s.told[f.Node]
	switch {
	case was == nil && len(s.told) >= maxPeers:
		return "too_many"
	case was != nil && now.Sub(was.at) <= silence && (f.Incarnation < was.frame.Incarnation ||
		f.Incarnation == was.frame.Incarnation && f.Seq <= was.frame.Seq):
		return "old" // one whose clock was set back counts once its former self is silent
	}
	if s.told == nil {
		s.told = map[string]*told{}
	}
	s.told[f.Node] = &told{f, now}
	return "taken"
}

// sweep forgets nodes that are long gone.
func (s *holdings) sweep(now time.Time) {
	for node, t := range s.told {
		if now.Sub(t.at) > forget {
			delete(s.told, node)
		}
	}
}
