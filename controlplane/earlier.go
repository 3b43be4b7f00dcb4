package controlplane

import (
	"encoding/json"
	"slices"
	"time"

	"meridian/fleet"
)

// maxEarlier is how many sets of gateways a region's live object has at most.
const maxEarlier = 12

// noteGateways gives the writes that come with a change from one World to the next:
// to each region whose gateways are others, or weigh otherwise, it is noted which
// there were until now. It gives the live objects after them too.
func noteGateways(old, next *fleet.World, live *fleet.Zones, now time.Time) ([]ItemWrite, *fleet.Zones) {
	if old == nil {
		return nil, live
	}
	var items []ItemWrite
	var put []fleet.Object
	var gone []fleet.Name
	for i := range next.Snapshot.Spec.Regions {
		region := next.Snapshot.Spec.Regions[i].ID
		was := old.Snapshot.Gateways(region)
		if len(was) == 0 || slices.Equal(was, next.Snapshot.Gateways(region)) {
			continue
		}
		id := fleet.LiveID(fleet.LiveGateways, region)
		have, _ := live.Get(id)
		set := fleet.GatewaySet{Revision: old.Snapshot.Revision, Until: now.UTC(), Gateways: was}
		data := withSet(have.Data, set, now.Add(-next.Snapshot.Spec.Layer4.FlowRetire.D()))
		items = append(items, ItemWrite{Kind: LiveItem, Name: id, Data: data, Expect: AnyVersion}) // the revision's is expected
		put = append(put, LiveItem.Object(id, data))
	}
	for o := range live.All() {
		id := fleet.Name(o.Key.ID)
		if k, region := fleet.ParseLiveID(o.Key.ID); k == fleet.LiveGateways && next.Snapshot.Region(region) == nil {
			items = append(items, ItemWrite{Kind: LiveItem, Name: id, Expect: AnyVersion})
			gone = append(gone, id)
		}
	}
	if len(items) == 0 {
		return nil, live
	}
	return items, live.With(put, gone)
}

// withSet adds a set in the place of an equal one, and leaves out those that ended
// before a time. What cannot be read is of another version of this program, and
// begins anew.
func withSet(data []byte, set fleet.GatewaySet, before time.Time) []byte {
	var e fleet.EarlierGateways
	if json.Unmarshal(data, &e) != nil || e.Check() != nil {
		e = fleet.EarlierGateways{}
	}
	e.Sets = slices.DeleteFunc(e.Sets, func(s fleet.GatewaySet) bool {
		return s.Until.Before(before) || s.Revision >= set.Revision || slices.Equal(s.Gateways, set.Gateways)
	})
	e.Sets = append(e.Sets, set)
	e.Sets = e.Sets[max(len(e.Sets)-maxEarlier, 0):]
	out, err := json.Marshal(e)
	if err != nil {
		panic("control plane: these types marshal: " + err.Error())
	}
	return out
}
