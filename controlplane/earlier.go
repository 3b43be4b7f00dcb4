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
		data := withSet(have.Data, fleet.GatewaySet{Until: now.UTC(), Gateways: was}, now.Add(-next.Snapshot.Spec.Layer4.FlowRetire.D()))
		items = append(items, ItemWrite{Kind: LiveItem, Name: id, Data: data, Expect: have.Version})
		put = append(put, LiveItem.Object(id, data))
	}
	for o := range live.All() {
		id := fleet.Name(o.Key.ID)
		if k, region := fleet.ParseLiveID(o.Key.ID); k == fleet.LiveGateways && next.Snapshot.Region(region) == nil {
			items = append(items, ItemWrite{Kind: LiveItem, Name: id, Expect: o.Version})
			gone = append(gone, id)
		}
	}
	if len(items) == 0 {
		return nil, live
	}
	return items, live.With(put, gone)
}

// withSet adds a set that ends later than those before, and leaves out those that
// ended before a time. What cannot be read is of another version of this program,
// and begins anew.
func withSet(data []byte, set fleet.GatewaySet, before time.Time) []byte {
	var e fleet.EarlierGateways
	if json.Unmarshal(data, &e) != nil {
		e = fleet.EarlierGateways{}
	}
	if n := len(e.Sets); n > 0 && !set.Until.After(e.Sets[n-1].Until) { // by another replica's clock
		set.Until = e.Sets[n-1].Until.Add(1)
	}
	e.Sets = slices.DeleteFunc(append(e.Sets, set), func(s fleet.GatewaySet) bool { return s.Until.Before(before) })
	e.Sets = e.Sets[max(len(e.Sets)-maxEarlier, 0):]
	out, err := json.Marshal(e)
	if err != nil {
		panic("control plane: these types marshal: " + err.Error())
	}
	return out
}
