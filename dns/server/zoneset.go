package server

import (
	"meridian/dns/answer"
	"meridian/dns/zone"
	"meridian/fleet"
)

// Zone gives the zone of that name as it is served, or nil.
func (s *Server) Zone(name fleet.Name) *zone.Zone { return s.plan.Load().Zone(name) }

// Static gives the zone of that name as transfers show it, or nil.
func (s *Server) Static(name fleet.Name) *zone.Zone { return s.plan.Load().Static(name) }

// SetZone serves a zone, in place of the one of its name that was served. No
// other zone is touched, and the cost does not depend on how many there are.
func (s *Server) SetZone(z *zone.Zone) {
	s.building.Lock()
	defer s.building.Unlock()
	_, turn := s.currentView()
	old := s.plan.Load()
	s.swap(old.WithZone(z), old.revision, turn)
	s.tell(old.Zone(z.Name), z)
}

// SetUnavailable answers SERVFAIL for a zone that is the fleet's and has no
// content that may be served: a secondary that has expired or was not
// transferred yet.
func (s *Server) SetUnavailable(name fleet.Name) {
	s.without(name, (*answer.Plan).WithUnavailable)
}

// RemoveZone serves a zone no longer: its names are not the fleet's.
func (s *Server) RemoveZone(name fleet.Name) { s.without(name, (*answer.Plan).WithoutZone) }

func (s *Server) without(name fleet.Name, change func(*answer.Plan, fleet.Name) *answer.Plan) {
	s.building.Lock()
	defer s.building.Unlock()
	_, turn := s.currentView()
	old := s.plan.Load()
	s.swap(change(old.Plan, name), old.revision, turn)
	if z := old.Zone(name); z != nil {
		s.tell(z, nil)
	}
}

// SetZones serves zones alone, without a fleet, and no others.
func (s *Server) SetZones(zones []*zone.Zone) {
	s.building.Lock()
	defer s.building.Unlock()
	s.world = nil
	_, turn := s.currentView()
	old, p := s.plan.Load(), answer.Zones(s.cfg.Identity, zones)
	s.swap(p, 0, turn)
	s.tellAll(old.Plan, p)
}

// OnZone has f called after each change of a zone, in order, one at a time:
// old is nil for a zone that is new, new for one that is gone. f must neither
// block nor change zones. Call it before the first zone is given.
func (s *Server) OnZone(f func(old, new *zone.Zone)) {
	s.building.Lock()
	defer s.building.Unlock()
	s.watchers = append(s.watchers, f)
}

func (s *Server) tell(old, new *zone.Zone) {
	for _, f := range s.watchers {
		f(old, new)
	}
}

// tellAll tells what differs between two plans.
func (s *Server) tellAll(old, new *answer.Plan) {
	if len(s.watchers) == 0 {
		return
	}
	for was, is := range new.Changed(old) {
		s.tell(was, is)
	}
}
