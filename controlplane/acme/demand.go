package acme

import (
	"context"
	"fmt"

	"meridian/fleet"
)

// demandID is the live object that says that a client asked for a name. Any
// replica puts it; the leader alone takes it away, with the certificate or
// without.
func demandID(name string) fleet.Name { return fleet.LiveID(fleet.LiveDemand, name) }

// maxDemands bounds how many names are asked for at once, over all gateways.
const maxDemands = 256

// demands adds the names that clients asked for and that may be had to list; it
// gives the demands that are refused.
func (m *Manager) demands(w *fleet.World, list map[string]want) (refused []fleet.Name) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	for name, o := range w.LiveOf(fleet.LiveDemand) {
		c := demandOf(w.Snapshot.Spec, name)
		if c == nil || now.Before(m.deny[name]) {
			refused = append(refused, fleet.Name(o.Key.ID))
			continue
		}
		one := want{cert: c, name: name, demanded: true}
		if _, ok := list[one.id()]; ok { // it is there, or on its way
			if t := m.tasks[one.id()]; t != nil && t.leaf != nil && !t.busy {
				refused = append(refused, fleet.Name(o.Key.ID))
			}
			continue
		}
		if m.tasks[one.id()] == nil && !m.rate(c.ID).take(c.ACME.OnDemand.PerHour, now) {
			m.metrics.refused.Inc()
			m.deny[name] = now.Add(lookFor)
			refused = append(refused, fleet.Name(o.Key.ID))
			continue
		}
		list[one.id()] = one
	}
	for name, until := range m.deny {
		if now.After(until) {
			delete(m.deny, name)
		}
	}
	return refused
}

// rate is called with mu held.
func (m *Manager) rate(id string) *allowance {
	if m.rates[id] == nil {
		m.rates[id] = &allowance{}
	}
	return m.rates[id]
}

// Demand has a certificate issued for a name that a client asked a gateway for,
// by whichever replica leads, and returns once this replica serves it. The
// error says that the name is not allowed, or that it was refused.
func (m *Manager) Demand(ctx context.Context, name string) error {
	w := m.cfg.Control.Current()
	if w == nil {
		return fmt.Errorf("%s: there is no Spec yet", name)
	}
	c := demandOf(w.Snapshot.Spec, name)
	if c == nil {
		return fmt.Errorf("%s: no certificate is issued on demand for it", name)
	}
	one := want{cert: c, name: name}
	if _, ok := w.Live.Get(one.live()); ok {
		return nil
	}
	pending := 0
	for range w.LiveOf(fleet.LiveDemand) {
		pending++
	}
	if pending >= maxDemands {
		return fmt.Errorf("%s: too many names are asked for", name)
	}
	if _, err := m.cfg.Control.PutLive(ctx, map[fleet.Name][]byte{demandID(name): []byte(name)}); err != nil {
		w = m.cfg.Control.Current() // it may have been worked off at once
		if _, ok := w.Live.Get(one.live()); !ok {
			return err
		}
		return nil
	}
	for {
		changed := m.cfg.Control.Changed()
		w = m.cfg.Control.Current()
		if _, ok := w.Live.Get(one.live()); ok {
			return nil
		}
		if _, ok := w.Live.Get(demandID(name)); !ok {
			return fmt.Errorf("%s: refused", name)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", name, ctx.Err())
		}
	}
}
