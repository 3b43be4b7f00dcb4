package health

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"meridian/fleet"
	"meridian/health/verdict"
)

// keptLists is of how many Snapshots the lists of targets are kept: the
// current one and some before, whose frames still arrive while a change
// spreads.
const keptLists = 4

// intent is what health takes from the Snapshot. It is replaced as a whole.
type intent struct {
	snapshot *fleet.Snapshot
	hash     [8]byte
	targets  []fleet.Target // all that the View may speak of
	own      map[verdict.Observer]list
	history  []map[[8]byte][]fleet.Target // the lists of each kept Snapshot, newest first
}

type list struct {
	hash    [8]byte
	targets []fleet.Target
}

// find gives the list of targets that a frame is about.
func (in *intent) find(hash [8]byte) ([]fleet.Target, bool) {
	for _, lists := range in.history {
		if l, ok := lists[hash]; ok {
			return l, true
		}
	}
	return nil, false
}

// Apply installs what the Snapshot says is to be watched. What is known of
// targets that stay is kept; all else is forgotten.
func (h *Health) Apply(w *fleet.World) error {
	if w == nil || w.Snapshot == nil {
		return fmt.Errorf("health: the world has no snapshot")
	}
	next := intent{snapshot: w.Snapshot, own: map[verdict.Observer]list{}}
	raw, err := hex.DecodeString(w.Snapshot.Hash)
	if err != nil || len(raw) < len(next.hash) {
		return fmt.Errorf("health: the snapshot's hash %q is not one", w.Snapshot.Hash)
	}
	copy(next.hash[:], raw)
	lists, err := next.compile(h.cfg.Region, h.observers)
	if err != nil {
		return err
	}
	trackers, err := next.trackers()
	if err != nil {
		return err
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	for t, tr := range trackers {
		if had, ok := h.trackers[t]; ok {
			tr.Tracker = had.Tracker
		}
	}
	next.history = append([]map[[8]byte][]fleet.Target{lists}, h.intent.history...)
	next.history = next.history[:min(len(next.history), keptLists)]
	h.intent, h.trackers = next, trackers
	poke(h.changed)
	poke(h.dirty)
	return nil
}

// compile lists, for every region and capacity, what is observed.
func (in *intent) compile(region string, own []verdict.Observer) (map[[8]byte][]fleet.Target, error) {
	lists := map[[8]byte][]fleet.Target{}
	all := map[fleet.Target]bool{}
	// A node may stand in a region that the Snapshot does not have (any more).
	regions := map[string]bool{region: true}
	for _, r := range in.snapshot.Spec.Regions {
		regions[r.ID] = true
	}
	for _, r := range slices.Sorted(maps.Keys(regions)) {
		for _, o := range []verdict.Observer{verdict.Presence, verdict.Prober, verdict.Layer4, verdict.Gateway} {
			l := list{targets: dedupe(o.Targets(in.snapshot, r))}
			if n := len(l.targets); n > verdict.MaxTargets {
				return nil, fmt.Errorf("health: %d targets for the observers of kind %s in region %s, at most %d", n, o, r, verdict.MaxTargets)
			}
			l.hash = verdict.HashTargets(l.targets)
			lists[l.hash] = l.targets
			for _, t := range l.targets {
				if !all[t] {
					all[t] = true
					in.targets = append(in.targets, t)
				}
			}
			if r == region && slices.Contains(own, o) {
				in.own[o] = l
			}
		}
	}
	return lists, nil
}

// dedupe drops repeats: an endpoint may stand in its pool once for all regions
// and once for one.
func dedupe(ts []fleet.Target) []fleet.Target {
	seen := make(map[fleet.Target]bool, len(ts))
	out := ts[:0]
	for _, t := range ts {
		if !seen[t] {
			seen[t] = true
			out = append(out, t)
		}
	}
	return out
}

// trackers makes a fresh tracker for each target that this node watches.
func (in *intent) trackers() (map[fleet.Target]*tracked, error) {
	out := map[fleet.Target]*tracked{}
	for _, l := range in.own {
		for _, t := range l.targets {
			p, ok := verdict.ParamsOf(in.snapshot, t)
			if !ok {
				return nil, fmt.Errorf("health: target %s: its service does not exist", t)
			}
			out[t] = &tracked{params: p}
		}
	}
	return out, nil
}
