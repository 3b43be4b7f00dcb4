package health

import (
	"encoding/binary"
	"slices"
	"time"

	"meridian/fleet"
	"meridian/health/verdict"
)

// peerKey is one node in one capacity.
type peerKey struct {
	node     string
	observer verdict.Observer
}

// peer is the last that was heard of one node in one capacity. Its shards are
// all of one list.
type peer struct {
	head   verdict.Frame // the newest, without cells
	at     time.Time     // when the newest was sent, on this node's clock, less the time on the way
	shards map[int]shard // by offset
}

type shard struct {
	incarnation, seq uint64
	at               time.Time
	cells            []verdict.Cell
	raw              []byte // as received, for localState
}

// maxPeers bounds the nodes that are remembered, against a peer gone mad.
const maxPeers = 20000

// receive takes in a frame from the Transport.
func (h *Health) receive(raw []byte) {
	if len(raw) > 0 && raw[0] == verdict.HoldingsVersion {
		h.receiveHoldings(raw)
		return
	}
	f, err := verdict.ParseFrame(raw)
	if err != nil {
		h.count.frames.WithLabelValues("malformed").Inc()
		return
	}
	if h.own(f) {
		h.count.frames.WithLabelValues("own_name").Inc()
		return
	}
	h.mu.Lock()
	result, changed := h.accept(f, raw, time.Now())
	h.mu.Unlock()
	h.count.frames.WithLabelValues(result).Inc()
	if changed {
		poke(h.dirty)
	}
}

// own says whether a frame bears this node's name in a capacity of its own: it
// is an echo, or of a second node under this name, and then each must go by
// what it sees itself. The node's other program has other capacities.
func (h *Health) own(f *verdict.Frame) bool {
	return f.Node == h.cfg.Node && slices.Contains(h.observers, f.Observer)
}

// accept keeps a frame, sent at that time, if it is newer than what is held.
// changed says that the View may change by it. The caller holds mu.
func (h *Health) accept(f *verdict.Frame, raw []byte, at time.Time) (result string, changed bool) {
	key := peerKey{f.Node, f.Observer}
	p := h.peers[key]
	if p == nil {
		if len(h.peers) >= maxPeers {
			return "too_many", false
		}
		p = &peer{}
		h.peers[key] = p
		changed = true
	}
	dead := at.Sub(p.at) > silence
	newest := f.Newer(p.head.Incarnation, p.head.Seq)
	// A node whose clock was set back starts with a lower incarnation: once
	// its former self has fallen silent, it counts.
	if !newest && dead && f.Incarnation != p.head.Incarnation {
		newest = true
		p.shards = nil
	}
	if s, ok := p.shards[f.Offset]; ok && !f.Newer(s.incarnation, s.seq) {
		return "old", false
	}
	if f.List != p.head.List || f.Total != p.head.Total || p.shards == nil {
		if !newest {
			return "old", false
		}
		p.shards, changed = map[int]shard{}, true
	}
	if newest {
		p.head, p.at = *f, at
		p.head.Cells = nil
	}
	was, had := p.shards[f.Offset]
	changed = changed || dead || !had || !sameStates(was.cells, f.Cells)
	p.shards[f.Offset] = shard{f.Incarnation, f.Seq, at, f.Cells, append(was.raw[:0], raw...)}
	return "taken", changed
}

func sameStates(a, b []verdict.Cell) bool {
	for i := range a {
		if a[i].State != b[i].State || a[i].Cause != b[i].Cause {
			return false
		}
	}
	return len(a) == len(b)
}

// emit makes this node's frames of now, keeps them as it keeps those of
// others, and returns their wire form.
func (h *Health) emit(now time.Time) [][]byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.intent.snapshot == nil {
		return nil
	}
	var out [][]byte
	for _, o := range h.observers {
		l := h.intent.own[o]
		head := verdict.Frame{
			Node: h.cfg.Node, Region: h.cfg.Region, Roles: h.cfg.Roles, Observer: o,
			Incarnation: h.incarnation, Revision: h.intent.snapshot.Revision, Hash: h.intent.hash, List: l.hash,
		}
		cells := make([]verdict.Cell, len(l.targets))
		for i, t := range l.targets {
			v := h.trackers[t].Verdict()
			cells[i] = verdict.Cell{State: v.State, Cause: v.Cause, Latency: v.Latency}
		}
		for _, f := range head.Shards(cells) {
			h.seq++
			f.Seq = h.seq
			raw := f.Append(nil)
			h.accept(&f, raw, now)
			out = append(out, raw)
		}
	}
	return out
}

// reports puts the frames of all live observers together. Cells of a list that
// is not known (a Snapshot that has not arrived yet) are left out; they count
// as soon as it is. The caller holds mu.
func (h *Health) reports(now time.Time) (out []verdict.Report, unresolved int) {
	for key, p := range h.peers {
		if key.observer == verdict.Presence || now.Sub(p.at) > silence || !h.member(key.node, p.head.Region) {
			continue
		}
		targets, ok := h.intent.find(p.head.List)
		if !ok || len(targets) != p.head.Total {
			unresolved++
			continue
		}
		r := verdict.Report{Node: key.node, Region: p.head.Region, Observer: key.observer,
			Targets: targets, Cells: make([]verdict.Cell, len(targets))}
		for offset, s := range p.shards {
			if now.Sub(s.at) <= silence {
				copy(r.Cells[offset:], s.cells)
			}
		}
		if key.node == h.cfg.Node {
			r.Details = h.details(targets)
		}
		out = append(out, r)
	}
	return out, unresolved
}

// member says whether a node's word counts: this node's own does, and that of
// the nodes that the Snapshot knows.
func (h *Health) member(node, region string) bool {
	if node == h.cfg.Node {
		return true
	}
	n := h.intent.snapshot.Node(node)
	return n != nil && n.Region == region && n.State != fleet.Disabled
}

// details gives this node's own words on what does not pass.
func (h *Health) details(targets []fleet.Target) map[fleet.Target]string {
	out := map[fleet.Target]string{}
	for _, t := range targets {
		if tr, ok := h.trackers[t]; ok {
			if d := tr.Verdict().Detail; d != "" {
				out[t] = d
			}
		}
	}
	return out
}

// localState is every frame held, each with its age, for a member met anew:
// age in milliseconds (4 octets), length (2), frame.
func (h *Health) localState() []byte {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	var b []byte
	for _, p := range h.peers {
		for _, s := range p.shards {
			age := now.Sub(s.at)
			if age > silence {
				continue
			}
			b = binary.BigEndian.AppendUint32(b, uint32(max(age, 0).Milliseconds()))
			b = binary.BigEndian.AppendUint16(b, uint16(len(s.raw)))
			b = append(b, s.raw...)
		}
	}
	return b
}

// mergeState takes in another member's localState.
func (h *Health) mergeState(b []byte) {
	now := time.Now()
	changed := false
	for len(b) > 0 {
		if len(b) < 6 || len(b) < 6+int(binary.BigEndian.Uint16(b[4:])) {
			h.count.frames.WithLabelValues("malformed").Inc()
			break
		}
		age := time.Duration(binary.BigEndian.Uint32(b)) * time.Millisecond
		raw := b[6 : 6+int(binary.BigEndian.Uint16(b[4:]))]
		b = b[6+len(raw):]
		f, err := verdict.ParseFrame(raw)
		switch {
		case err != nil:
			h.count.frames.WithLabelValues("malformed").Inc()
		case age <= silence && !h.own(f):
			h.mu.Lock()
			_, c := h.accept(f, raw, now.Add(-age))
			h.mu.Unlock()
			changed = changed || c
		}
	}
	if changed {
		poke(h.dirty)
	}
}
