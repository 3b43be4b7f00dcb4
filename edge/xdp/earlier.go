package xdp

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"meridian/edge/maglev"
	"meridian/fleet"
)

// earlierSets reads which gateways a region had in revisions before the World's, the
// oldest first.
func earlierSets(w *fleet.World, region string) ([]fleet.GatewaySet, error) {
	id := fleet.LiveID(fleet.LiveGateways, region)
	o, ok := w.Live.Get(id)
	if !ok {
		return nil, nil
	}
	var e fleet.EarlierGateways
	err := json.Unmarshal(o.Data, &e)
	if err == nil {
		err = e.Check()
	}
	if err != nil {
		return nil, fmt.Errorf("live object %s: %w", id, err)
	}
	// It may be here before the revision that it came with.
	return slices.DeleteFunc(e.Sets, func(s fleet.GatewaySet) bool { return s.Revision >= w.Snapshot.Revision }), nil
}

// learn brings a history the rings of the sets that it does not know, oldest first,
// and says whether there were any, and when the last of them ended. A gateway that is
// new, or was away, has no other way to know where older connections may be.
func (g *group) learn(e *ringEntry, in inputs) (learned bool, ended time.Time, err error) {
	history, ended := e.history.Clone(), in.now
	for _, set := range g.unknown(e.learned, in) {
		was := history.Members()
		if err := history.Next(g.ringOf(set), ended); err != nil {
			return false, in.now, fmt.Errorf("gateways of revision %d: %w", set.Revision, err)
		}
		if !slices.Equal(was, history.Members()) {
			learned, ended = true, set.Until
		}
		e.learned = set.Revision
	}
	e.history = history
	return learned, ended, nil
}

// unknown gives the sets of later revisions than one, but for those whose connections
// are taken to have ended. Nobody passes on what is not gateways'.
func (g *group) unknown(revision uint64, in inputs) (out []fleet.GatewaySet) {
	retired := in.now.Add(-in.want.keep.retire)
	for _, set := range in.want.earlier {
		if g.gateways && set.Revision > revision && !set.Until.Before(retired) {
			out = append(out, set)
		}
	}
	return out
}

// ringOf gives the members of the ring that a set stands for: no ring has one that
// this node cannot reach.
func (g *group) ringOf(set fleet.GatewaySet) (out []maglev.Member) {
	for _, w := range set.Gateways {
		beyond := func(m member) bool { return m.name == w.Name && m.key.how == edgeForwardFORWARD_NONE }
		if !slices.ContainsFunc(g.members, beyond) {
			out = append(out, maglev.Member{Name: w.Name, Weight: w.Weight})
		}
	}
	return out
}

// others gives those of the members that are not this node.
func (g *group) others(members []maglev.Member) (out []maglev.Member) {
	for _, m := range members {
		local := func(o member) bool { return o.name == m.Name && o.key.how == edgeForwardFORWARD_LOCAL }
		if !slices.ContainsFunc(g.members, local) {
			out = append(out, m)
		}
	}
	return out
}
