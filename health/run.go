package health

import (
	"context"
	"maps"
	"slices"
	"time"

	"meridian/fleet"
	"meridian/health/verdict"
)

// A change of a local verdict is told after coalesce, so that verdicts that
// change together go in one frame, and again after each of the repeats: one
// lost packet must not cost a whole Period.
const coalesce = 5 * time.Millisecond

var repeats = [...]time.Duration{60 * time.Millisecond, 180 * time.Millisecond}

// forget is how long a silent node that the Snapshot does not know is listed.
const forget = 10 * time.Minute

// Run sends this node's frames each Period and at once on a change, and
// concludes the View whenever something that it rests on is new. It returns
// nil when ctx ends.
func (h *Health) Run(ctx context.Context) error {
	tick := time.NewTicker(Period)
	defer tick.Stop()
	again := time.NewTimer(0) // send at the start, and when due by a change
	defer again.Stop()
	pending := true         // a first send is due
	var due []time.Duration // waits until the further sends that a change caused
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			h.sweep(time.Now())
			h.send()
			h.sendHoldings()
			h.conclude(time.Now())
		case <-h.changed:
			if !pending { // or else a stream of changes would put it off for ever
				again.Reset(coalesce)
			}
			pending, due = true, repeats[:]
		case <-again.C:
			pending = false
			h.send()
			h.conclude(time.Now())
			if len(due) > 0 {
				again.Reset(due[0])
				due = due[1:]
			}
		case <-h.dirty:
			h.conclude(time.Now())
		}
	}
}

// send makes this node's frames and gives them to everybody.
func (h *Health) send() {
	frames := h.emit(time.Now())
	if h.cfg.Transport == nil {
		return
	}
	for _, f := range frames {
		h.cfg.Transport.Broadcast(f)
		h.count.frames.WithLabelValues("sent").Inc()
	}
}

// sweep forgets checks that are made no more and nodes that are long gone.
func (h *Health) sweep(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.holdings.sweep(now)
	for _, t := range h.trackers {
		t.Expire(now, t.params)
	}
	for key, p := range h.peers {
		if now.Sub(p.at) > forget {
			delete(h.peers, key)
		}
	}
}

// conclude makes the View of now, shows it, and tells the subscribers and the
// events where it is news. Only Run calls it, so that Views come in order.
func (h *Health) conclude(now time.Time) {
	prev := h.view.Load()
	h.mu.Lock()
	if h.intent.snapshot == nil {
		h.mu.Unlock()
		return
	}
	reports, unresolved := h.reports(now)
	targets, was := h.intent.targets, h.abstain
	h.hear(now)
	live := h.liveNodes(now)
	nodeEvents := nodeEvents(h.live, live, now)
	h.live = live
	h.mu.Unlock()

	c := h.judge(prev, reports, targets, now)
	h.mu.Lock()
	h.abstain = c.Abstaining
	h.mu.Unlock()
	h.count.unresolved.Set(float64(unresolved))
	h.count.abstaining.Set(float64(len(c.Abstaining)))
	h.view.Store(c.View)
	h.events.add(nodeEvents, proberEvents(was, c.Abstaining, now), h.verdictEvents(c.Changes, now))
	if c.View.Revision != prev.Revision {
		for _, f := range h.subscribers {
			f(c.View)
		}
	}
}

// judge makes the Conclusion to show after prev: the fleet's, or that of this
// region alone where no other has been heard of for long.
func (h *Health) judge(prev *fleet.View, reports []verdict.Report, targets []fleet.Target, now time.Time) verdict.Conclusion {
	was := h.agreed
	c := verdict.Conclude(was, reports, targets, now)
	h.agreed = c.View
	if now.Sub(h.heard) > loneAfter {
		c = c.Lone(h.cfg.Region)
	}
	lone := c.View != h.agreed
	if lone || prev != was {
		c = c.After(prev)
	}
	if !lone {
		h.agreed = c.View
	}
	return c
}

// hear notes when a prober of another region was last heard of. The caller
// holds mu.
func (h *Health) hear(now time.Time) {
	if h.heard.IsZero() {
		h.heard = now
	}
	for key, p := range h.peers {
		if key.observer == verdict.Prober && p.head.Region != h.cfg.Region && h.member(key.node, p.head.Region) && p.at.After(h.heard) {
			h.heard = p.at
		}
	}
}

// liveNodes are the nodes heard of lately. The caller holds mu.
func (h *Health) liveNodes(now time.Time) map[string]bool {
	out := make(map[string]bool, len(h.live))
	for key, p := range h.peers {
		if now.Sub(p.at) <= silence {
			out[key.node] = true
		}
	}
	return out
}

func (h *Health) verdictEvents(changes []verdict.Change, now time.Time) (out []Event) {
	for _, c := range changes {
		e := Event{Time: now, Kind: EventVerdict, Target: c.Target.String(), Region: c.Target.Region, Vantage: c.Vantage,
			From: c.From, To: c.To, Cause: c.Cause, Detail: c.Detail}
		if c.Vantage == "" {
			if c.From != fleet.Unknown && c.To != fleet.Unknown {
				h.count.flips.WithLabelValues(kindName(c.Target.Kind)).Inc()
			}
		} else {
			e.Kind = EventVantage
			// Coming and going of vantages is told by node events; only what
			// they see go bad or well again is news.
			if c.From == fleet.Unknown && c.To == fleet.Up || c.To == fleet.Unknown {
				continue
			}
		}
		out = append(out, e)
	}
	return out
}

func nodeEvents(was, is map[string]bool, now time.Time) (out []Event) {
	for _, n := range slices.Sorted(maps.Keys(is)) {
		if !was[n] {
			out = append(out, Event{Time: now, Kind: EventNode, Node: n, From: fleet.Unknown, To: fleet.Up, Detail: "heard of"})
		}
	}
	for _, n := range slices.Sorted(maps.Keys(was)) {
		if !is[n] {
			out = append(out, Event{Time: now, Kind: EventNode, Node: n, From: fleet.Up, To: fleet.Unknown, Detail: "silent"})
		}
	}
	return out
}

func proberEvents(was, is []string, now time.Time) (out []Event) {
	for _, n := range is {
		if !slices.Contains(was, n) {
			out = append(out, Event{Time: now, Kind: EventProber, Node: n, From: fleet.Up, To: fleet.Down,
				Cause: fleet.CauseQuorum, Detail: "sees every other region down, so it abstains"})
		}
	}
	for _, n := range was {
		if !slices.Contains(is, n) {
			out = append(out, Event{Time: now, Kind: EventProber, Node: n, From: fleet.Down, To: fleet.Up, Detail: "votes again"})
		}
	}
	return out
}
