package main

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"

	"meridian/controlplane"
	"meridian/dns/keeper"
	"meridian/fleet"
	"meridian/identity"
	"meridian/node"
	"meridian/rules"
)

// itemsDir is where, in its data directory, a node that works from a Spec file
// keeps what it writes itself (store.FileConfig's Dir).
const itemsDir = "items"

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

// folderKeys are the keys that a node with a Spec file has on disk, while it
// does not run.
type folderKeys struct {
	folder *node.Folder
	zones  *fleet.Zones
}

func openFolderKeys(data string, id *identity.Identity) (*folderKeys, error) {
	// As store.File names and seals them.
	kind := string(controlplane.KeysItem)
	f := &folderKeys{folder: node.NewFolder(filepath.Join(data, itemsDir, kind), "file/"+kind, id)}
	var err error
	if f.zones, err = f.folder.Load(); err == nil && f.folder.Damaged() > 0 {
		err = errors.New("keys in " + filepath.Join(data, itemsDir, kind) + " are damaged, or sealed with another fleet key")
	}
	return f, err
}

// Load implements keeper.KeyStore.
func (f *folderKeys) Load(_ context.Context, zone fleet.Name) ([]byte, string, error) {
	o, _ := f.zones.Get(zone)
	return o.Data, o.Version, nil
}

// Save implements keeper.KeyStore.
func (f *folderKeys) Save(_ context.Context, zone fleet.Name, state []byte, version string) error {
	if o, _ := f.zones.Get(zone); o.Version != version {
		return keeper.ErrConflict
	}
	next := f.zones.With([]fleet.Object{rules.ZoneObject(zone, state)}, nil)
	if err := f.folder.Save(next); err != nil {
		return err
	}
	f.zones = next
	return nil
}

// Zones implements keeper.Lister.
func (f *folderKeys) Zones(context.Context) ([]fleet.Name, error) {
	var out []fleet.Name
	for o := range f.zones.All() {
		out = append(out, fleet.Name(o.Key.ID))
	}
	slices.Sort(out)
	return out, nil
}
