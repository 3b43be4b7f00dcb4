package controlplane

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"time"

	"meridian/fleet"
	"meridian/rules"
)

// storeLimit bounds one change in the store.
const storeLimit = 10 * time.Second

// ErrRefused is wrapped by errors about what an operator asked for, other than
// a Spec's FieldErrors.
var ErrRefused = errors.New("refused")

// Submission is a Spec that an operator hands in.
type Submission struct {
	Doc     []byte
	Objects []fleet.Object
	Reuse   bool    // objects that are not given are those of the current revision
	Base    *uint64 // the revision that it builds on; nil: whichever is current
	DryRun  bool
}

// Result is what came of a change, or would come of it.
type Result struct {
	Revision  uint64             `json:"revision"`          // now current; in a dry run the one that it builds on
	Hash      string             `json:"hash"`              // of the complete Spec
	DryRun    bool               `json:"dry_run,omitempty"` // nothing was stored
	Unchanged bool               `json:"unchanged,omitempty"`
	Accepted  time.Time          `json:"accepted,omitzero"` // when the store had it
	Changes   []rules.Difference `json:"changes"`
	Impact    any                `json:"impact,omitempty"`
}

// Submit checks a Spec with every room's rules and makes it the current
// revision. Errors: the Spec's (fleet.FieldErrors, rules.ObjectError), a
// ConflictError, ErrStoreAway.
func (c *ControlPlane) Submit(ctx context.Context, sub Submission) (*Result, error) {
	for try := 0; ; try++ {
		r, err := c.submit(ctx, sub)
		if try == writeTries || !c.overtaken(ctx, err) {
			return r, err
		}
	}
}

func (c *ControlPlane) submit(ctx context.Context, sub Submission) (*Result, error) {
	c.mu.Lock()
	old, st := c.world, c.stored
	c.mu.Unlock()
	base := st.Revision
	var shifts []fleet.Shift
	current := uint64(0)
	if old != nil {
		shifts, current = old.Shifts, old.Snapshot.Revision
	}
	if sub.Base != nil && *sub.Base != current {
		return nil, &ConflictError{Current: current, Base: *sub.Base}
	}
	s, err := rules.Compile(sub.Doc, current)
	if err != nil {
		return nil, err
	}
	objects := sub.Objects
	if sub.Reuse {
		objects = reuse(s, old, objects)
	}
	w, err := rules.World(s, objects, shifts)
	if err != nil {
		return nil, err
	}
	w.Live = st.Live
	if err := rules.CheckZones(w, st.Zones); err != nil {
		return nil, err
	}
	r := &Result{Revision: current, Hash: s.Hash, DryRun: sub.DryRun, Changes: rules.Diff(old, w)}
	r.Unchanged = old != nil && len(r.Changes) == 0 && base == current
	if c.cfg.Impact != nil && sub.DryRun { // it takes time, which a change in need does not have
		r.Impact = c.cfg.Impact(old, w)
	}
	if sub.DryRun || r.Unchanged {
		return r, nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeLimit)
	defer cancel()
	items, derived, err := c.derive(ctx, w, st.Zones, st.Derived)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	noted, live := noteGateways(old, w, st.Live, now)
	n, err := c.commit(ctx, base, Change{Doc: sub.Doc, Objects: objects, Created: now, Floor: current, Items: append(noted, items...)})
	if err != nil {
		return nil, err
	}
	r.Revision, r.Accepted = n, time.Now()
	// The nodes of this replica need not wait for the store's watch.
	numbered := *s
	numbered.Revision = n
	next := &fleet.World{Snapshot: &numbered, Objects: w.Objects, Zones: served(&numbered, st.Zones, derived), Live: live}
	if old != nil {
		next.Zones = unchanged(old.Zones, next.Zones)
	}
	c.installNewer(next)
	return r, nil
}

// commit stores a change to the revision that is served here (ch.Floor). The
// store may be seen a moment late, or be behind after it was lost: neither is a
// conflict with what the operator looked at.
func (c *ControlPlane) commit(ctx context.Context, base uint64, ch Change) (uint64, error) {
	n, err := c.cfg.Store.Commit(ctx, base, ch)
	var conflict *ConflictError
	if errors.As(err, &conflict) && conflict.Current <= ch.Floor && conflict.Current != base {
		return c.cfg.Store.Commit(ctx, conflict.Current, ch)
	}
	return n, err
}

// reuse completes the objects with those of the current World.
func reuse(s *fleet.Snapshot, old *fleet.World, objects []fleet.Object) []fleet.Object {
	if old == nil {
		return objects
	}
	given := rules.Inline(s)
	for _, o := range objects {
		given[o.Key] = o
	}
	out := append([]fleet.Object(nil), objects...)
	for _, k := range s.Wanted() {
		if _, ok := given[k]; ok {
			continue
		}
		if o, ok := old.Objects[k]; ok {
			out = append(out, o)
		}
	}
	return out
}

// Rollback makes the content of an earlier revision current again, under a new
// number; with 0 that of the newest one with other content than the current.
func (c *ControlPlane) Rollback(ctx context.Context, to uint64, base *uint64) (*Result, error) {
	for try := 0; ; try++ {
		r, err := c.rollback(ctx, to, base)
		if try == writeTries || !c.overtaken(ctx, err) {
			return r, err
		}
	}
}

func (c *ControlPlane) rollback(ctx context.Context, to uint64, base *uint64) (*Result, error) {
	c.mu.Lock()
	st, old := c.stored, c.world
	c.mu.Unlock()
	current := c.revision()
	if base != nil && *base != current {
		return nil, &ConflictError{Current: current, Base: *base}
	}
	if to == 0 {
		to = previous(st)
	}
	if file := c.cfg.Store.Health().File; file != "" {
		return nil, fmt.Errorf("%w: the configuration comes from %s; change that", ErrRefused, file)
	}
	if to == 0 {
		return nil, fmt.Errorf("%w: no earlier revision with other content is kept", ErrRefused)
	}
	kept := false
	for _, r := range st.History {
		kept = kept || r.Revision == to
	}
	if !kept {
		return nil, fmt.Errorf("%w: revision %d is not kept; /status lists those that are", ErrRefused, to)
	}
	limited, cancel := context.WithTimeout(ctx, storeLimit)
	defer cancel()
	now := time.Now()
	items, err := c.itemsOf(limited, to, old, st, now)
	if err != nil {
		return nil, err
	}
	n, err := c.commit(limited, st.Revision, Change{Restore: to, Created: now, Floor: current, Items: items})
	if err != nil {
		return nil, err
	}
	r := &Result{Revision: n, Accepted: time.Now(), Changes: []rules.Difference{}}
	if err := c.await(limited, func() bool { return c.revision() >= n }); err != nil {
		return nil, fmt.Errorf("revision %d is stored and not yet served here: %w", n, err)
	}
	if w := c.Current(); w != nil {
		r.Hash, r.Changes = w.Snapshot.Hash, rules.Diff(old, w)
	}
	return r, nil
}

// itemsOf gives the writes that come with the content of a kept revision, when it
// follows a World.
func (c *ControlPlane) itemsOf(ctx context.Context, kept uint64, old *fleet.World, st Stored, now time.Time) ([]ItemWrite, error) {
	doc, objects, err := c.cfg.Store.Content(ctx, kept)
	if err != nil {
		return nil, err
	}
	s, err := rules.Compile(doc, kept)
	if err != nil {
		return nil, fmt.Errorf("revision %d: %w", kept, err)
	}
	w, err := rules.World(s, objects, nil)
	if err != nil {
		return nil, fmt.Errorf("revision %d: %w", kept, err)
	}
	w.Live = st.Live
	if err := rules.CheckZones(w, st.Zones); err != nil {
		return nil, fmt.Errorf("revision %d: %w", kept, err)
	}
	noted, _ := noteGateways(old, w, st.Live, now)
	items, _, err := c.derive(ctx, w, st.Zones, st.Derived)
	return append(noted, items...), err
}

func previous(st Stored) uint64 {
	content := ""
	for i := len(st.History) - 1; i >= 0; i-- {
		switch h := st.History[i]; {
		case h.Revision == st.Revision:
			content = h.Content
		case content != "" && h.Content != content:
			return h.Revision
		}
	}
	return 0
}

// await blocks until ok holds, looking again whenever a World is installed.
func (c *ControlPlane) await(ctx context.Context, ok func() bool) error {
	for {
		c.mu.Lock()
		changed := c.changed
		c.mu.Unlock()
		if ok() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ShiftResult is what came of a shift, or would come of it.
type ShiftResult struct {
	Shift  fleet.Shift `json:"shift"`
	DryRun bool        `json:"dry_run,omitempty"`
	Impact any         `json:"impact,omitempty"`
}

var shiftID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// AddShift adds a shift or replaces the one of the same id. One that does not
// drain needs an expiry.
func (c *ControlPlane) AddShift(ctx context.Context, sh fleet.Shift, dryRun bool) (*ShiftResult, error) {
	old := c.Current()
	if old == nil {
		return nil, fmt.Errorf("%w: there is no Spec yet", ErrRefused)
	}
	now := time.Now()
	sh.Created = now
	if sh.ID == "" {
		b := make([]byte, 4)
		_, _ = rand.Read(b)
		sh.ID = "shift-" + hex.EncodeToString(b)
	}
	next := &fleet.World{Snapshot: old.Snapshot, Objects: old.Objects, Zones: old.Zones, Live: old.Live, Shifts: replaceShift(old.Shifts, sh.ID, &sh)}
	if err := checkShift(&sh, next, now); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	r := &ShiftResult{Shift: sh, DryRun: dryRun}
	if c.cfg.Impact != nil && dryRun {
		r.Impact = c.cfg.Impact(old, next)
	}
	if dryRun {
		return r, nil
	}
	return r, c.setShift(ctx, sh.ID, &sh)
}

func checkShift(sh *fleet.Shift, next *fleet.World, now time.Time) error {
	if !shiftID.MatchString(sh.ID) {
		return fmt.Errorf("id: %q: expected 1 to 63 lower-case letters, digits and hyphens", sh.ID)
	}
	if err := sh.Check(next.Snapshot); err != nil {
		return err
	}
	switch {
	case sh.Share == 0:
		return errors.New("share: expected more than 0")
	case sh.Expires.IsZero() && !sh.Drain:
		return errors.New("expires: a shift needs an end; only a drain may stay until it is taken back")
	case !sh.Expires.IsZero() && !sh.Expires.After(now):
		return fmt.Errorf("expires: %s is in the past", sh.Expires.UTC().Format(time.RFC3339))
	}
	left := 0
	for _, r := range next.Snapshot.Spec.Regions {
		if !emptied(next, r.ID, now) {
			left++
		}
	}
	if left == 0 {
		return errors.New("from: it would empty the last region that still takes clients")
	}
	return nil
}

// emptied says whether shifts take all clients from a region.
func emptied(w *fleet.World, region string, now time.Time) bool {
	for _, sh := range w.Shifts {
		if sh.From == region && sh.Service == "" && sh.Share == 1 && sh.Active(now) {
			return true
		}
	}
	return false
}

// RemoveShift takes a shift back.
func (c *ControlPlane) RemoveShift(ctx context.Context, id string) error {
	w := c.Current()
	if w == nil || len(replaceShift(w.Shifts, id, nil)) == len(w.Shifts) {
		return fmt.Errorf("%w: shift %q does not exist", ErrRefused, id)
	}
	return c.setShift(ctx, id, nil)
}

// setShift stores a shift and waits until it is served here.
func (c *ControlPlane) setShift(ctx context.Context, id string, sh *fleet.Shift) error {
	ctx, cancel := context.WithTimeout(ctx, storeLimit)
	defer cancel()
	if err := c.cfg.Store.SetShift(ctx, id, sh); err != nil {
		return err
	}
	return c.await(ctx, func() bool {
		w := c.Current()
		if w == nil {
			return false
		}
		for _, have := range w.Shifts {
			if have.ID == id {
				return sh != nil && have.Created.Equal(sh.Created)
			}
		}
		return sh == nil
	})
}

// Shifts lists the shifts in force.
func (c *ControlPlane) Shifts() []fleet.Shift {
	out := []fleet.Shift{}
	if w := c.Current(); w != nil {
		for _, sh := range w.Shifts {
			if sh.Active(time.Now()) {
				out = append(out, sh)
			}
		}
	}
	return out
}

// replaceShift gives a copy with the shift of that id replaced, added or (nil)
// left out, in order of ID.
func replaceShift(list []fleet.Shift, id string, sh *fleet.Shift) []fleet.Shift {
	var out []fleet.Shift
	for _, have := range list {
		if sh != nil && have.ID > id {
			out, sh = append(out, *sh), nil
		}
		if have.ID != id {
			out = append(out, have)
		}
	}
	if sh != nil {
		out = append(out, *sh)
	}
	return out
}
