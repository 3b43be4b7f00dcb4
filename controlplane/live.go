package controlplane

import (
	"context"
	"fmt"
	"time"

	"meridian/fleet"
)

// awaited gives the versions, by id, of the objects whose having is told in
// acknowledgements.
func awaited(live *fleet.Zones) map[string]string {
	out := map[string]string{}
	for o := range live.All() {
		if k, _ := fleet.ParseLiveID(o.Key.ID); k.Awaited() {
			out[o.Key.ID] = o.Version
		}
	}
	return out
}

// PutLive stores live objects by id, and removes those whose data are nil; it
// gives their versions once this replica serves them. Whoever leads calls it:
// each object has one writer.
func (c *ControlPlane) PutLive(ctx context.Context, put map[fleet.Name][]byte) (versions map[fleet.Name]string, err error) {
	return c.putLive(ctx, put, func(fleet.Name) string { return AnyVersion })
}

// putLive is PutLive in place of what has an expected version; an
// ItemConflictError says that it has another.
func (c *ControlPlane) putLive(ctx context.Context, put map[fleet.Name][]byte, expect func(fleet.Name) string) (versions map[fleet.Name]string, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeLimit)
	defer cancel()
	var items []ItemWrite
	versions = map[fleet.Name]string{}
	for id, data := range put {
		items = append(items, ItemWrite{Kind: LiveItem, Name: id, Data: data, Expect: expect(id)})
		versions[id] = ""
		if data != nil {
			versions[id] = LiveItem.Object(id, data).Version
		}
	}
	if len(items) == 0 {
		return versions, nil
	}
	if err := c.cfg.Store.WriteItems(ctx, items); err != nil {
		return nil, err
	}
	err = c.await(ctx, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.world == nil {
			return false
		}
		return hasLive(c.world.Live, versions)
	})
	if err != nil {
		return nil, fmt.Errorf("live objects are stored and not yet served here: %w", err)
	}
	return versions, nil
}

func hasLive(live *fleet.Zones, versions map[fleet.Name]string) bool {
	for id, v := range versions {
		if o, _ := live.Get(id); o.Version != v {
			return false
		}
	}
	return true
}

// Changed gives a channel that is closed when the World, or anything else that
// is stored, changes after.
func (c *ControlPlane) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// livePace is how often what nodes have acknowledged is looked at.
const livePace = 20 * time.Millisecond

// AwaitNodes waits until every node with the role that is connected to a
// replica has acknowledged a live object, of a kind that is awaited, at a
// version ("": that it is gone). Its error, when ctx ends, names a node that
// has not.
func (c *ControlPlane) AwaitNodes(ctx context.Context, role fleet.Role, id fleet.Name, version string) error {
	tick := time.NewTicker(livePace)
	defer tick.Stop()
	for {
		lacks := c.lacking(role, id, version)
		if lacks == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("node %s has not acknowledged %s: %w", lacks, id, ctx.Err())
		case <-tick.C:
		}
	}
}

// lacking names a node that has the role, is connected and has another version.
func (c *ControlPlane) lacking(role fleet.Role, id fleet.Name, version string) string {
	w := c.Current()
	if w == nil {
		return c.cfg.Node
	}
	alone := c.cfg.Store.Health().File != "" // only this node is served
	for _, a := range c.ledger.nodes(w.Snapshot) {
		n := w.Snapshot.Node(a.Node)
		if !n.Has(role) || !a.Online || n.State == fleet.Disabled || alone && a.Node != c.cfg.Node {
			continue
		}
		if a.Live[string(id)] != version {
			return a.Node
		}
	}
	return ""
}

// AwaitDerived waits until the zones have been derived, here, with these live
// objects.
func (c *ControlPlane) AwaitDerived(ctx context.Context, versions map[fleet.Name]string) error {
	if c.cfg.Deriver == nil {
		return nil
	}
	err := c.await(ctx, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.derivedOnce && hasLive(c.derivedLive, versions)
	})
	if err != nil {
		return fmt.Errorf("zones are not yet derived with what is new: %w", err)
	}
	return nil
}

// noteDerived notes that zones have been derived with the World's live objects.
func (c *ControlPlane) noteDerived(w *fleet.World) {
	c.mu.Lock()
	c.derivedLive, c.derivedOnce = w.Live, true
	c.mu.Unlock()
	c.signal()
}
