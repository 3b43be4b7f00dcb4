package xds

import (
	"errors"
	"fmt"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"meridian/fleet"
)

// takeLive applies live objects without waiting for a Snapshot. One that is
// refused keeps none of the others out.
func (h *holding) takeLive(r *discovery.DeltaDiscoveryResponse) error {
	var errs []error
	var put []fleet.Object
	for _, w := range r.GetResources() {
		res, err := unwire(typeLive, w)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		put = append(put, fleet.Object{Key: fleet.ObjectKey{Kind: fleet.ObjectLive, ID: res.name}, Data: res.data, Version: res.version})
	}
	var gone []fleet.Name
	for _, name := range r.GetRemovedResources() {
		gone = append(gone, fleet.Name(name))
	}
	return errors.Join(append(errs, h.changeLive(put, gone)...)...)
}

// changeLive applies live objects, all at once or, where that is refused, in
// halves.
func (h *holding) changeLive(put []fleet.Object, gone []fleet.Name) []error {
	if len(put)+len(gone) == 0 {
		return nil
	}
	live := h.live.With(put, gone)
	if h.world == nil {
		h.live = live
		return nil
	}
	next := *h.world
	next.Live = live
	err := h.apply(&next)
	switch {
	case err == nil:
		h.world, h.live = &next, live
		return nil
	case len(gone) > 0 && len(put) > 0:
		return append(h.changeLive(put, nil), h.changeLive(nil, gone)...)
	case len(put) > 1:
		return append(h.changeLive(put[:len(put)/2], nil), h.changeLive(put[len(put)/2:], nil)...)
	case len(put) == 1:
		err = fmt.Errorf("live object %s: %w", put[0].Key.ID, err)
	}
	return []error{err}
}
