package health

import (
	"time"

	"meridian/fleet"
	"meridian/health/verdict"
)

// Colleagues gives what the region's other live gateways say of its endpoints, as
// their frames have it: a state for each of targets by the gateway's name. A gateway
// with another list of endpoints, while a change spreads, is left out. It is safe for
// concurrent use; the caller may keep what it gets.
func (h *Health) Colleagues() (targets []fleet.Target, states map[string][]fleet.State) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	own := h.intent.own[verdict.Gateway]
	states = map[string][]fleet.State{}
	for key, p := range h.peers {
		if key.observer != verdict.Gateway || key.node == h.cfg.Node || p.head.Region != h.cfg.Region || p.head.List != own.hash ||
			now.Sub(p.at) > silence || !h.member(key.node, p.head.Region) {
			continue
		}
		of := make([]fleet.State, len(own.targets))
		for offset, s := range p.shards {
			if now.Sub(s.at) > silence {
				continue
			}
			for i, c := range s.cells {
				if offset+i < len(of) {
					of[offset+i] = c.State
				}
			}
		}
		states[key.node] = of
	}
	return own.targets, states
}

// Forget has this node say nothing of a target until it observes it again, since
// another does.
func (h *Health) Forget(t fleet.Target) {
	h.mu.Lock()
	tr := h.trackers[t]
	if tr != nil {
		tr.Tracker = verdict.Tracker{}
	}
	h.mu.Unlock()
	if tr != nil {
		poke(h.changed)
	}
}
