package keeper

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"meridian/fleet"
)

// From brings Worlds; node.Source is one.
type From interface {
	Run(ctx context.Context, apply func(*fleet.World) error) error
}

// Source makes the zones of each World that another source brings, before it
// is applied, and again when signatures, keys or aliases want it. It is for a
// node that works from a Spec file; elsewhere the control plane does this.
type Source struct {
	From     From
	Keeper   *Keeper
	Contents func() *fleet.Zones // of dynamic zones; nil: there are none
	Start    *fleet.Zones        // what was made before this process; may be nil

	mu    sync.Mutex // held while a World is made and applied
	world *fleet.World
	zones *fleet.Zones
	next  time.Time
}

// Have takes the zones of the World that the node had before this process.
func (s *Source) Have(w *fleet.World) {
	if w != nil {
		s.Start = w.Zones
	}
}

// poll is how often the time is compared with when zones are due.
const poll = 5 * time.Second

// Run brings Worlds until ctx ends.
func (s *Source) Run(ctx context.Context, apply func(*fleet.World) error) error {
	s.zones = s.Start
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.Keeper.Run(ctx) })
	g.Go(func() error {
		return s.From.Run(ctx, func(w *fleet.World) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.bring(ctx, w, apply, true)
		})
	})
	g.Go(func() error { return s.again(ctx, apply) })
	return g.Wait()
}

// Changed has the zones looked at again, since contents of dynamic zones have
// changed; it returns when what came of it is applied.
func (s *Source) Changed(ctx context.Context, apply func(*fleet.World) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.world == nil {
		return nil
	}
	return s.bring(ctx, s.world, apply, true)
}

// again makes zones whose time has come.
func (s *Source) again(ctx context.Context, apply func(*fleet.World) error) error {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		woken := false
		select {
		case <-ctx.Done():
			return nil
		case <-s.Keeper.Woken():
			woken = true
		case <-ticker.C:
		}
		s.mu.Lock()
		due := !s.next.IsZero() && !s.next.After(time.Now())
		if s.world != nil && (woken || due) {
			_ = s.bring(ctx, s.world, apply, false) // logged, and what was applied stays
		}
		s.mu.Unlock()
	}
}

// bring makes a World's zones and applies it. It is refused where a zone cannot
// be made of it.
func (s *Source) bring(ctx context.Context, w *fleet.World, apply func(*fleet.World) error, always bool) error {
	var contents *fleet.Zones
	if s.Contents != nil {
		contents = s.Contents()
	}
	put, gone, next, err := s.Keeper.Derive(ctx, w, contents, s.zones, time.Now())
	s.next = next
	if err != nil {
		return err
	}
	zones := s.zones.With(put, gone)
	if len(put)+len(gone) == 0 && !always {
		return nil
	}
	err = apply(&fleet.World{Snapshot: w.Snapshot, Objects: w.Objects, Shifts: w.Shifts, Zones: zones})
	if err != nil {
		if !always {
			s.Keeper.log.Error("zones made anew were refused; what was served stays", "error", err)
		}
		return err
	}
	s.world, s.zones = w, zones
	return nil
}
