package verdict

import (
	"maps"

	"meridian/fleet"
)

// Lone gives the View by which a node of the region goes that has not heard a
// prober of any other region for long. Where the region's own probers abstain,
// no vote is left, and the agreed View would keep dead regions up for good. So
// their word is taken for what it is, as long as they find their own region
// alive: whoever still reaches this node most likely reaches its region too,
// and the other regions, if they live, go by their own word likewise. Where
// the region has other than abstaining probers, or is itself down, it gives c.
//
// Conclude goes on from the agreed View, c.View, never from a lone one: with
// the first word of another region all is as if nobody had gone by his own.
func (c Conclusion) Lone(region string) Conclusion {
	voting, probing := c.View.Probers[region]
	if !probing || voting || len(c.View.Probers) > 1 || !c.alive(region) {
		return c
	}
	view := *c.View
	view.Changed = nil
	view.Verdicts, view.Probers = maps.Clone(view.Verdicts), map[string]bool{region: true}
	for k, v := range view.Vantages {
		if k.Vantage != region {
			continue
		}
		if v.State == fleet.Down || v.State == fleet.Drain {
			v.Detail = v.State.String() + " from " + region + " alone, which hears no other region"
		}
		view.Verdicts[k.Target] = v
	}
	c.View = &view
	return c
}

// alive says whether a region finds at least one of its own services alive, or
// its nameservers where it has no services.
func (c Conclusion) alive(region string) bool {
	services, some, nameservers := false, false, false
	for k, v := range c.View.Vantages {
		if k.Vantage != region || k.Target.Region != region {
			continue
		}
		up := v.State == fleet.Up || v.State == fleet.Drain
		switch k.Target.Kind {
		case fleet.TargetService:
			services, some = true, some || up
		case fleet.TargetNameserver:
			nameservers = up
		}
	}
	if services {
		return some
	}
	return nameservers
}

// After tells c against the View that was shown before it, where that is
// another than the one it was concluded from.
func (c Conclusion) After(shown *fleet.View) Conclusion {
	view := *c.View
	view.Revision = shown.Revision
	return compare(shown, &view, c.Abstaining)
}
