package l7

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"time"

	"meridian/fleet"
)

const (
	// conferEvery is how often what the region's other gateways say is looked at.
	conferEvery = 100 * time.Millisecond
	// ownFor is for how many intervals a gateway checks an endpoint itself that it had
	// cause to doubt.
	ownFor = 5
)

// colleagues says what the region's other live gateways think of its endpoints, and
// keeps quiet of those that they check; health.Health is one.
type colleagues interface {
	Colleagues() (targets []fleet.Target, states map[string][]fleet.State)
	Forget(t fleet.Target)
}

// shared is what others check: the states of endpoints, by the word of the one
// gateway whose turn each is.
type shared map[fleet.Target]fleet.State

// confer keeps shared current until ctx ends.
func (g *Gateway) confer(ctx context.Context) {
	for pauseFor(ctx, conferEvery) {
		targets, states := g.cfg.Colleagues.Colleagues()
		out := divide(g.cfg.Node, targets, states)
		g.shared.Store(&out)
	}
}

// divide gives the endpoints that other gateways check, and have a word on. Each
// endpoint is one gateway's, by rendezvous hashing over those that are live: where one
// goes its endpoints alone move, to all others alike. What the one has no word on yet,
// everybody checks.
func divide(own string, targets []fleet.Target, states map[string][]fleet.State) shared {
	out := shared{}
	for i, t := range targets {
		name := t.String()
		best, most := own, weigh(own, name)
		for node := range states {
			if w := weigh(node, name); w > most || w == most && node > best {
				best, most = node, w
			}
		}
		if best != own && states[best][i] != fleet.Unknown {
			out[t] = states[best][i]
		}
	}
	return out
}

func weigh(node, target string) uint64 {
	h := fnv.New64a()
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(node))))
	h.Write([]byte(node))
	h.Write([]byte(target))
	x := h.Sum64() // whose high bits differ little for names that differ at the end
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// told takes over another gateway's verdict; false: this one is to check.
func (c *check) told(suspected bool) bool {
	if c.g.cfg.Colleagues == nil {
		return false
	}
	if suspected {
		c.ownUntil = time.Now().Add(ownFor * c.rules.interval)
	}
	states := c.g.shared.Load()
	if states == nil || time.Now().Before(c.ownUntil) {
		c.forgot = false
		return false
	}
	state, ok := (*states)[c.target]
	if !ok {
		c.forgot = false
		return false
	}
	if !c.forgot {
		c.g.cfg.Colleagues.Forget(c.target)
		c.forgot = true
	}
	if was := c.vital.State(); was != state {
		c.g.cfg.Logger.Info("gateway: endpoint", "target", c.target.String(), "was", was.String(), "is", state.String(), "cause", "another gateway's check")
	}
	c.vital.SetState(state, time.Duration(c.g.now()))
	return true
}
