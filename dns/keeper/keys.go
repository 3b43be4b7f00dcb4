package keeper

import (
	"errors"
	"fmt"
	"time"

	"meridian/dns/sign"
)

// step moves the zone's keys on, and stores them before anything is made with
// them. It gives when to step again.
func (j *job) step() (time.Time, error) {
	z := j.z
	if j.policy == nil && z.state == nil {
		return time.Time{}, nil
	}
	var state sign.State
	if z.state != nil {
		state = *z.state
	}
	if !j.holds(z.object) { // not what this process made
		state.Unpublished(j.old, j.now)
	}
	facts := sign.Facts{MaxTTL: z.maxTTL}
	if p := j.k.look.parent(j.name); p != nil && p.at.After(state.Checks) {
		facts.Parent = p.result
	}
	next, events, at, err := sign.Step(state, j.name, j.policy, j.now, facts, j.k.cfg.Rand)
	if err != nil {
		return at, err
	}
	if err := j.save(z.state, &next); err != nil {
		return at, err
	}
	for _, e := range events {
		j.k.log.Info("zone keys: "+e.What, "zone", j.name, "key", e.Key)
		j.k.metrics.events.Inc()
	}
	if z.state = &next; len(next.Keys) == 0 {
		z.state = nil
		j.k.look.forget(j.name)
		return time.Time{}, nil
	}
	if j.k.cfg.Resolver != nil {
		j.k.look.wantParent(j.name, next.Checks.Add(next.CheckEvery()), j.now)
		p := j.signingPolicy()
		j.k.look.wantNotice(j.name, sign.Request(j.name, &next, p), p.Propagation.D(), j.now)
	}
	return at, nil
}

// save stores a key state where it differs from the one before.
func (j *job) save(before, next *sign.State) error {
	b, err := next.Encode()
	if err != nil {
		return err
	}
	if before != nil {
		if had, err := before.Encode(); err == nil && string(had) == string(b) {
			return nil
		}
	}
	keys := j.k.cfg.Keys
	if err := keys.Save(j.ctx, j.name, b, j.z.version); err != nil {
		if errors.Is(err, ErrConflict) {
			j.z.inputs, j.z.state, j.z.version = "", nil, "" // read again
		}
		return fmt.Errorf("storing its keys: %w", err)
	}
	if _, j.z.version, err = keys.Load(j.ctx, j.name); err != nil {
		j.z.inputs, j.z.state = "", nil
		return fmt.Errorf("storing its keys: %w", err)
	}
	return nil
}

// rest moves the keys on while nothing else has changed, and says whether the
// zone may stay as it was made.
func (j *job) rest() (bool, error) {
	z := j.z
	if z.state == nil || z.inputs == "" || !j.now.Before(z.stats.Refresh) || !j.holds(z.object) {
		return false, nil
	}
	before := shown(z.state)
	at, err := j.step()
	if err != nil || z.state == nil || shown(z.state) != before {
		return false, err
	}
	z.next = at
	if z.next.IsZero() || z.stats.Refresh.Before(z.next) {
		z.next = z.stats.Refresh
	}
	return true, nil
}

// shown names what a zone shows of a key state.
func shown(s *sign.State) string {
	out := ""
	for _, list := range [][]*sign.Key{s.Published(), s.Signing(), s.DSKeys()} {
		for _, k := range list {
			out += k.String() + string(k.DS.State) + " "
		}
		out += "/"
	}
	if s.Leave {
		out += "leave"
	}
	return out
}
