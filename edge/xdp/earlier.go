package xdp

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"meridian/edge/maglev"
	"meridian/fleet"
)

// earlierSets reads which gateways a region had before, the oldest first.
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
	return e.Sets, nil
}

// learn brings a history of gateways' rings the rings of those sets that it has not
// learned, but for those that ended before a time, and says whether there were any.
// A gateway that saw them come and go knows them, and nothing changes; one that is
// new, or was away, has no other way to know where older connections may be.
func (g *group) learn(e *ringEntry, sets []fleet.GatewaySet, before, now time.Time) (learned bool, err error) {
	if !g.gateways {
		return false, nil
	}
	history, ended := e.history.Clone(), now
	for _, set := range sets {
		if set.Until.Before(before) || !set.Until.After(e.learned) {
			continue
		}
		var members []maglev.Member
		for _, m := range set.Gateways {
			if !g.beyond(m.Name) {
				members = append(members, maglev.Member{Name: m.Name, Weight: m.Weight})
			}
		}
		was := history.Members()
		if err := history.Next(members, ended); err != nil {
			return false, fmt.Errorf("gateways until %s: %w", set.Until.Format(time.RFC3339), err)
		}
		learned = learned || !slices.Equal(was, history.Members())
		ended, e.learned = set.Until, set.Until
	}
	e.history = history
	return learned, nil
}

// beyond says whether a member is one that this node cannot reach, so that no ring
// has it.
func (g *group) beyond(name string) bool {
	return slices.ContainsFunc(g.members, func(m member) bool { return m.name == name && m.key.how == edgeForwardFORWARD_NONE })
}
