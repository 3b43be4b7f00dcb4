package main

import (
	"context"
	"errors"
	"maps"
	"slices"

	"meridian/controlplane"
	"meridian/dns/keeper"
	"meridian/fleet"
)

// itemKeys keeps zones' keys among the items of a control plane's store.
type itemKeys struct{ store controlplane.ItemStore }

// Load implements keeper.KeyStore.
func (k itemKeys) Load(ctx context.Context, zone fleet.Name) ([]byte, string, error) {
	return k.store.ReadItem(ctx, controlplane.KeysItem, zone)
}

// Save implements keeper.KeyStore.
func (k itemKeys) Save(ctx context.Context, zone fleet.Name, state []byte, version string) error {
	err := k.store.WriteItems(ctx, []controlplane.ItemWrite{{Kind: controlplane.KeysItem, Name: zone, Data: state, Expect: version}})
	var conflict *controlplane.ItemConflictError
	if errors.As(err, &conflict) {
		return keeper.ErrConflict
	}
	return err
}

// keyZones lists the zones of a World that may have keys.
func keyZones(w *fleet.World) []fleet.Name {
	if w == nil {
		return nil
	}
	names := map[fleet.Name]bool{}
	for i := range w.Snapshot.Spec.Zones {
		names[w.Snapshot.Spec.Zones[i].Zone] = true
	}
	for o := range w.Zones.All() {
		names[fleet.Name(o.Key.ID)] = true
	}
	return slices.Sorted(maps.Keys(names))
}
