package server

import (
	"context"
	"fmt"
	"time"

	"meridian/dns/answer"
	"meridian/fleet"
	"meridian/geo"
)

// Apply compiles the plan for a World beside the one in use, opens the sockets
// that it asks for and are not open, and swaps both in; on an error, which
// names the field, all stays as it was. Before Run it leaves sockets alone.
func (s *Server) Apply(w *fleet.World) error {
	s.building.Lock()
	defer s.building.Unlock()
	set, err := compileSettings(&s.cfg, &w.Snapshot.Spec.DNS, w.Objects, s.settings.Load(), time.Now())
	if err != nil {
		return fmt.Errorf("dns server: %w", err)
	}
	p, turn, err := s.compile(w, s.source)
	if err != nil {
		return err
	}
	if err := s.reconcile(set); err != nil {
		return err
	}
	s.world = w
	old := s.plan.Load()
	s.swap(p, w.Snapshot.Revision, turn)
	s.tellAll(old.Plan, p)
	return nil
}

// Configure takes another way to serve into use while there is no World: what
// Config.DNS and Config.Objects say. On an error all stays as it was.
func (s *Server) Configure(d *fleet.DNS, objects map[fleet.ObjectKey]fleet.Object) error {
	s.building.Lock()
	defer s.building.Unlock()
	set, err := compileSettings(&s.cfg, d, objects, s.settings.Load(), time.Now())
	if err != nil {
		return fmt.Errorf("dns server: %w", err)
	}
	return s.reconcile(set)
}

// reconcile takes settings into use, and listens where they say if Run runs.
func (s *Server) reconcile(set *settings) error {
	s.opening.Lock()
	defer s.opening.Unlock()
	if s.running == nil {
		s.settings.Store(set)
		select {
		case s.another <- struct{}{}:
		default:
		}
		return nil
	}
	fresh, err := s.openNew(s.running.ctx, set.listen)
	if err != nil {
		return err
	}
	s.settings.Store(set)
	s.install(fresh, set.listen)
	s.pokeFast()
	return nil
}

// SetGeo takes another geo database into use; on an error the old one stays.
func (s *Server) SetGeo(source geo.Source) error {
	s.building.Lock()
	defer s.building.Unlock()
	if s.world != nil {
		p, turn, err := s.compile(s.world, source)
		if err != nil {
			return err
		}
		s.swap(p, s.world.Snapshot.Revision, turn)
	}
	s.source = source
	return nil
}

func (s *Server) compile(w *fleet.World, source geo.Source) (p *answer.Plan, turn int, err error) {
	view, turn := s.currentView()
	p, err = answer.Compile(s.cfg.Identity, w, source, view, time.Now(), s.plan.Load().Plan)
	if err != nil {
		return nil, 0, fmt.Errorf("dns server: %w", err)
	}
	return p, turn, nil
}

// currentView gives the View in force, and the turn at which that is so.
func (s *Server) currentView() (*fleet.View, int) {
	s.swapping.Lock()
	defer s.swapping.Unlock()
	return s.view, s.turn
}

// swap takes a plan into use that was compiled at a turn; where another has
// come since, the View of that is laid over the plan first.
func (s *Server) swap(p *answer.Plan, revision uint64, turn int) {
	s.swapping.Lock()
	defer s.swapping.Unlock()
	if s.turn != turn {
		p = p.WithView(s.view, time.Now())
	}
	s.put(p, revision)
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *Server) put(p *answer.Plan, revision uint64) {
	m := &moment{Plan: p, revision: revision}
	if s.view != nil {
		m.view = s.view.Revision
	}
	s.plan.Store(m)
	s.pokeFast()
}

// SetView takes another View into use. It does not wait for a plan that is
// being compiled.
func (s *Server) SetView(v *fleet.View) {
	s.swapping.Lock()
	defer s.swapping.Unlock()
	s.view = v
	s.again()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// settle widens the scopes of steered answers after the decisions have
// changed: that takes longer, and new answers do not wait for it.
func (s *Server) settle() {
	settled := s.Plan().Settle()
	s.swapping.Lock()
	defer s.swapping.Unlock()
	m := s.plan.Load()
	if p := m.Plan.WithScopes(settled); p != m.Plan {
		s.put(p, m.revision)
	}
}

// again makes the decisions of the plan in use anew.
func (s *Server) again() {
	s.turn++
	m := s.plan.Load()
	s.put(m.WithView(s.view, time.Now()), m.revision)
}

// Plan is the one in use.
func (s *Server) Plan() *answer.Plan { return s.plan.Load().Plan }

// Ready says whether there is anything to serve.
func (s *Server) Ready() bool { return s.plan.Load().Ready() }

// expire makes decisions anew when a shift runs out, and settles what has
// changed.
func (s *Server) expire(ctx context.Context) {
	for {
		s.settle()
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
			s.again()
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
