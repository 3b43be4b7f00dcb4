package transfer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"meridian/fleet"
)

// State is how a secondary zone is.
type State string

// The states.
const (
	Current State = "current" // confirmed, and the last try went well
	Stale   State = "stale"   // served, and the last try failed
	Expired State = "expired" // not served: no primary has confirmed it for too long
	Missing State = "missing" // not served: never transferred
)

// ZoneStatus is how one secondary zone is.
type ZoneStatus struct {
	Zone      fleet.Name     `json:"zone"`
	Serial    uint32         `json:"serial"` // 0 where there is no copy
	State     State          `json:"state"`
	Primary   netip.AddrPort `json:"primary,omitzero"`   // that confirmed the copy last
	Refreshed time.Time      `json:"refreshed,omitzero"` // when it did
	Next      time.Time      `json:"next,omitzero"`      // when primaries are asked again
	Expires   time.Time      `json:"expires,omitzero"`   // when the copy will no longer be served
	Catalog   fleet.Name     `json:"catalog,omitempty"`  // of which it is a member
	Error     string         `json:"error,omitempty"`    // of the last try
}

// Status tells how the secondary zones are, by name.
func (t *Transfer) Status() []ZoneStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]ZoneStatus, 0, len(t.secondaries))
	for _, s := range t.secondaries {
		out = append(out, t.statusOf(s))
	}
	slices.SortFunc(out, func(a, b ZoneStatus) int { return cmp.Compare(a.Zone, b.Zone) })
	return out
}

// StatusOf tells how one secondary zone is; false where it is none.
func (t *Transfer) StatusOf(name fleet.Name) (ZoneStatus, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.secondaries[name]
	if s == nil {
		return ZoneStatus{}, false
	}
	return t.statusOf(s), true
}

// statusOf is called with mu held.
func (t *Transfer) statusOf(s *secondary) ZoneStatus {
	st := ZoneStatus{Zone: s.name, State: s.state(), Primary: s.primary, Refreshed: s.confirmed, Next: s.attempt.at}
	if s.zone != nil {
		_, _, expire := soaTimers(s.zone)
		st.Serial, st.Expires = s.zone.Serial, s.confirmed.Add(expire)
	}
	if s.err != nil {
		st.Error = s.err.Error()
	}
	if m := t.members[s.name]; m != nil {
		st.Catalog = m.catalog
	}
	return st
}

func (s *secondary) state() State {
	switch {
	case s.zone == nil:
		return Missing
	case s.expired:
		return Expired
	case s.err != nil:
		return Stale
	}
	return Current
}

func (t *Transfer) count(state State) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, s := range t.secondaries {
		if s.state() == state {
			n++
		}
	}
	return n
}

// Refresh has a secondary zone's primaries asked now.
func (t *Transfer) Refresh(name fleet.Name) error { return t.ask(name, false) }

// Retransfer has a secondary zone transferred whole now, whatever its serial.
func (t *Transfer) Retransfer(name fleet.Name) error { return t.ask(name, true) }

func (t *Transfer) ask(name fleet.Name, force bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.secondaries[name]
	if s == nil {
		return fmt.Errorf("zone %s does not come from primaries", name)
	}
	s.force = s.force || force
	for _, p := range s.policy.primaries {
		delete(t.unreachable, p.Address)
	}
	t.soon(s, netip.AddrPort{})
	return nil
}

// Notify tells a zone's secondaries of its version now.
func (t *Transfer) Notify(name fleet.Name) error {
	p := t.policy(name)
	if p == nil {
		return fmt.Errorf("zone %s is not served", name)
	}
	if len(p.notify) == 0 {
		return fmt.Errorf("zone %s has no secondaries to notify", name)
	}
	z, _, err := t.current(name, p)
	if err != nil {
		return err
	}
	if z == nil {
		return fmt.Errorf("zone %s has no content", name)
	}
	t.notifier.changed(z, p.notify)
	return nil
}
