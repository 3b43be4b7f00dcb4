package controlplane

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"meridian/fleet"
	"meridian/rules"
)

const (
	// writeTries is how often a write starts again because others write too.
	writeTries = 8
	// deriveAgain is when the leader tries again what failed, and the least
	// time between two rounds.
	deriveAgain = 30 * time.Second
	deriveEach  = 200 * time.Millisecond
	// deriveAtLeast is how often the leader looks even if nobody says so.
	deriveAtLeast = time.Hour
)

// derive asks the Deriver what nameservers are to get for a World and the
// contents of its dynamic zones. It gives the writes that this takes, which
// expect what was derived before, and the derived zones after them.
func (c *ControlPlane) derive(ctx context.Context, w *fleet.World, contents, old *fleet.Zones) ([]ItemWrite, *fleet.Zones, error) {
	items, after, _, err := c.deriveBy(ctx, w, contents, old)
	if err != nil { // whoever changes something is to take it back
		return nil, nil, err
	}
	return items, after, nil
}

func (c *ControlPlane) deriveBy(ctx context.Context, w *fleet.World, contents, old *fleet.Zones) ([]ItemWrite, *fleet.Zones, time.Time, error) {
	if c.cfg.Deriver == nil {
		return nil, old, time.Time{}, nil
	}
	c.deriving.Lock()
	defer c.deriving.Unlock()
	began := time.Now()
	put, gone, next, err := c.cfg.Deriver.Derive(ctx, w, contents, old, began)
	if err != nil {
		c.metrics.deriveErrors.Inc()
		err = fmt.Errorf("zones cannot be derived: %w", err)
	}
	c.metrics.derived.Add(float64(len(put)))
	c.metrics.derive.Observe(time.Since(began).Seconds())
	items, after := derivedWrites(put, gone, old)
	return items, after, next, err
}

// derivedWrites turns what the Deriver gave into writes, puts first.
func derivedWrites(put []fleet.Object, gone []fleet.Name, old *fleet.Zones) ([]ItemWrite, *fleet.Zones) {
	var items []ItemWrite
	var fresh []fleet.Object
	var left []fleet.Name
	for _, o := range put {
		n := fleet.Name(o.Key.ID)
		o = rules.ZoneObject(n, o.Data) // versions are of one kind everywhere
		have, had := old.Get(n)
		if had && have.Version == o.Version {
			continue
		}
		items = append(items, ItemWrite{Kind: DerivedItem, Name: n, Data: o.Data, Expect: have.Version})
		fresh = append(fresh, o)
	}
	for _, n := range gone {
		if have, had := old.Get(n); had {
			items = append(items, ItemWrite{Kind: DerivedItem, Name: n, Expect: have.Version})
			left = append(left, n)
		}
	}
	if len(items) == 0 {
		return nil, old
	}
	return items, old.With(fresh, left)
}

// overtaken says whether err is a conflict over an item that a later state of
// the store resolves, and waits for one.
func (c *ControlPlane) overtaken(ctx context.Context, err error) bool {
	var conflict *ItemConflictError
	if !errors.As(err, &conflict) {
		return false
	}
	c.mu.Lock()
	changed := c.changed
	c.mu.Unlock()
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-time.After(time.Second): // the state that is known may be the one
	}
	return true
}

// lead is all that the leader does, until ctx ends.
func (c *ControlPlane) lead(ctx context.Context) {
	var g sync.WaitGroup
	for _, work := range c.cfg.Leading {
		g.Go(func() { work(ctx) })
	}
	if c.cfg.Deriver != nil {
		g.Go(func() { c.keepDerived(ctx) })
		g.Go(func() { c.keepECH(ctx) })
	}
	g.Wait()
}

// keepDerived is the leader's work on zones: it derives whenever something has changed
// and whenever something is about to expire, until ctx ends. What the others
// have derived with their changes is not made again.
func (c *ControlPlane) keepDerived(ctx context.Context) {
	failing := false
	var did inputs
	var due time.Time
	for ctx.Err() == nil {
		c.mu.Lock()
		changed := c.changed
		w, st := c.world, c.stored
		known := c.seen && w != nil && c.problem == "" && st.Revision == w.Snapshot.Revision
		c.mu.Unlock()
		if now := (inputs{w, st.Zones, st.Derived}); known && (now.differ(did) || !time.Now().Before(due)) {
			next, err := c.deriveNow(ctx, w, st)
			if ctx.Err() != nil {
				return
			}
			if err != nil && !failing {
				c.log.Error("zones not derived anew; those derived before stay in use", "error", err)
				c.cfg.Notify(Event{Time: time.Now(), Kind: "zone", Text: err.Error()})
			}
			if again := time.Now().Add(deriveAgain); err != nil && (next.IsZero() || again.Before(next)) {
				next = again
			}
			failing = err != nil
			c.noteDerived(w)
			if due = time.Now().Add(deriveAtLeast); !next.IsZero() && next.Before(due) {
				due = next
			}
			did = now
			sleep(ctx, deriveEach)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-c.cfg.Woken:
			due = time.Now()
		case <-time.After(max(time.Until(due), deriveEach)):
		}
	}
}

// inputs are what derived zones are made of.
type inputs struct {
	world             *fleet.World
	contents, derived *fleet.Zones
}

func (a inputs) differ(b inputs) bool {
	return b.world == nil || a.world.Snapshot != b.world.Snapshot || a.contents != b.contents || a.derived != b.derived || a.world.Live != b.world.Live
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// deriveNow derives for the state of this moment and stores what comes of it,
// each zone alone: where somebody else was faster, the change that follows
// brings the leader back.
func (c *ControlPlane) deriveNow(ctx context.Context, w *fleet.World, st Stored) (time.Time, error) {
	items, _, next, derr := c.deriveBy(ctx, w, st.Zones, st.Derived)
	if c.cfg.Problems != nil {
		items = append(items, problemWrites(c.cfg.Problems(), st.Problems)...)
	}
	ctx, cancel := context.WithTimeout(ctx, storeLimit+time.Duration(len(items))*10*time.Millisecond)
	defer cancel()
	return next, errors.Join(derr, c.storeDerived(ctx, items))
}

// storeDerived stores what was derived, but for what somebody else has changed
// meanwhile.
func (c *ControlPlane) storeDerived(ctx context.Context, items []ItemWrite) error {
	if len(items) == 0 {
		return nil
	}
	err := c.cfg.Store.WriteItems(ctx, items)
	if conflict := new(ItemConflictError); errors.As(err, &conflict) {
		return c.writeEach(ctx, items)
	}
	return err
}

// deriveFirst gives the zones to serve with a new revision. Where they cannot
// be derived those derived before are served, and the timer tries again. It
// fails where the Spec cannot be served here, and where a zone that is to be
// signed never was: unsigned it would be bogus to all who know its DS.
func (c *ControlPlane) deriveFirst(w *fleet.World, st Stored) (*fleet.Zones, error) {
	ctx, cancel := context.WithTimeout(context.Background(), storeLimit)
	defer cancel()
	items, derived, _, err := c.deriveBy(ctx, w, st.Zones, st.Derived)
	if errors.Is(err, ErrRefused) || err != nil && unsigned(w, st.Zones, derived) {
		return nil, err
	}
	if err != nil {
		c.log.Error("some zones not derived; those derived before stay in use", "error", err)
	}
	if err := c.storeDerived(ctx, items); err != nil {
		c.log.Error("derived zones not stored", "error", err)
	}
	return served(w.Snapshot, st.Zones, derived), nil
}

// unsigned says whether a zone of the Spec that is to be signed has a content
// and was never derived.
func unsigned(w *fleet.World, contents, derived *fleet.Zones) bool {
	for i := range w.Snapshot.Spec.Zones {
		z := &w.Snapshot.Spec.Zones[i]
		set := w.Snapshot.Spec.Settings(z)
		if set.DNSSEC == "" || len(set.Primaries) > 0 {
			continue
		}
		_, content := w.Objects[zoneKey(z.Zone)]
		if _, ok := contents.Get(z.Zone); ok {
			content = true
		}
		if _, ok := derived.Get(z.Zone); content && !ok {
			return true
		}
	}
	return false
}

// retryRefused tries a revision again that could not be derived, until ctx
// ends.
func (c *ControlPlane) retryRefused(ctx context.Context) error {
	again := time.NewTicker(deriveAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
		c.mu.Lock()
		refused, st := c.refused, c.stored
		c.mu.Unlock()
		if refused {
			c.update(st)
		}
	}
}

// writeEach writes items one by one, leaving out those that somebody else has
// written.
func (c *ControlPlane) writeEach(ctx context.Context, items []ItemWrite) error {
	for i := range items {
		err := c.cfg.Store.WriteItems(ctx, items[i:i+1])
		if conflict := new(ItemConflictError); err != nil && !errors.As(err, &conflict) {
			return err
		}
	}
	return nil
}
