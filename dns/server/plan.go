package server

import (
	"context"
	"fmt"
	"time"

	"meridian/dns/answer"
	"meridian/fleet"
	"meridian/geo"
)

// Apply compiles the plan for a World beside the one in use and swaps it in;
// on an error the old one stays.
func (s *Server) Apply(w *fleet.World) error {
	s.building.Lock()
	defer s.building.Unlock()
	if err := s.compile(w, s.source); err != nil {
		return err
	}
	s.world = w
	return nil
}

// SetGeo takes another geo database into use; on an error the old one stays.
func (s *Server) SetGeo(source geo.Source) error {
	s.building.Lock()
	defer s.building.Unlock()
	if s.world != nil {
		if err := s.compile(s.world, source); err != nil {
			return err
		}
	}
	s.source = source
	return nil
}

func (s *Server) compile(w *fleet.World, source geo.Source) error {
	view := s.currentView()
	p, err := answer.Compile(s.cfg.Identity, w, source, view, time.Now(), s.plan.Load())
	if err != nil {
		return fmt.Errorf("dns server: %w", err)
	}
	old := s.plan.Load()
	s.swap(p, view)
	s.tellAll(old, p)
	return nil
}

func (s *Server) currentView() *fleet.View {
	s.swapping.Lock()
	defer s.swapping.Unlock()
	return s.view
}

// swap takes a plan into use that was compiled under a View; where another
// View has come since, it is laid over the plan first.
func (s *Server) swap(p *answer.Plan, view *fleet.View) {
	s.swapping.Lock()
	defer s.swapping.Unlock()
	if s.view != view {
		p = p.WithView(s.view, time.Now())
	}
	s.plan.Store(p)
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// SetView takes another View into use. It does not wait for a plan that is
// being compiled.
func (s *Server) SetView(v *fleet.View) {
	s.swapping.Lock()
	defer s.swapping.Unlock()
	s.view = v
	s.plan.Store(s.plan.Load().WithView(v, time.Now()))
}

// Plan is the one in use.
func (s *Server) Plan() *answer.Plan { return s.plan.Load() }

// Ready says whether there is anything to serve.
func (s *Server) Ready() bool { return s.plan.Load().Ready() }

// expire makes decisions anew when a shift runs out.
func (s *Server) expire(ctx context.Context) {
	for {
		var at <-chan time.Time
		timer := (*time.Timer)(nil)
		if next := s.plan.Load().Expires(time.Now()); !next.IsZero() {
			timer = time.NewTimer(time.Until(next))
			at = timer.C
		}
		select {
		case <-ctx.Done():
		case <-s.changed:
		case <-at:
			s.swapping.Lock()
			s.plan.Store(s.plan.Load().WithView(s.view, time.Now()))
			s.swapping.Unlock()
		}
		if timer != nil {
			timer.Stop()
		}
		if ctx.Err() != nil {
			return
		}
	}
}
