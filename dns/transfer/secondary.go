package transfer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"meridian/dns/zone"
	"meridian/fleet"
)

// Bounds on the timers that a SOA asks for (RFC 1035 section 3.3.13), so that
// no primary can make us ask all the time or never.
const (
	leastWait  = 2 * time.Second
	mostWait   = 7 * 24 * time.Hour
	firstWait  = 5 * time.Second  // after the first failure, of a zone that we have no copy of; doubles
	lastWait   = 10 * time.Minute // at most, of such a zone
	notifyGap  = 250 * time.Millisecond
	deadFor    = 30 * time.Second // for which a primary that could not be reached is left alone
	writeAfter = 5 * time.Second  // changed copies go to disk so late
)

// secondary is one zone that comes from primaries. The Transfer's mu guards
// it; zone itself is immutable.
type secondary struct {
	name   fleet.Name
	policy *policy

	zone      *zone.Zone // the last good copy, or nil
	confirmed time.Time  // when a primary last said that it is current
	expired   bool       // the copy is too old to be served
	kept      kept       // what is on disk

	running  bool
	again    bool           // a NOTIFY came meanwhile
	force    bool           // take the whole zone whatever its serial
	gone     bool           // no longer a zone of ours
	hint     netip.AddrPort // who sent the last NOTIFY: asked first
	tried    time.Time
	failures int
	primary  netip.AddrPort // from which the copy was confirmed
	err      error          // of the last try

	attempt, expiry entry[*secondary]
}

// soaTimers are the times that a zone's SOA asks for.
func soaTimers(z *zone.Zone) (refresh, retry, expire time.Duration) {
	data := soaOf(z).data
	data = data[len(data)-16:]
	at := func(i int) time.Duration {
		return time.Duration(binary.BigEndian.Uint32(data[i:])) * time.Second
	}
	bound := func(d time.Duration) time.Duration { return min(max(d, leastWait), mostWait) }
	return bound(at(0)), bound(at(4)), max(at(8), leastWait)
}

// jittered is up to a tenth less than d, so that zones that were loaded
// together do not ask together.
func jittered(d time.Duration) time.Duration { return d - rand.N(d/10+1) }

// reconcile makes the secondaries those of the intent and of the catalogs. It
// gives those that are new, whose copies are to be read from disk, and the
// zones that are to be served no longer. It is called with mu held.
func (t *Transfer) reconcile() (fresh []*secondary, gone []fleet.Name) {
	for _, name := range t.renewMembers() {
		if s := t.secondaries[name]; s != nil {
			t.dropSecondary(s)
		}
	}
	wanted := map[fleet.Name]*policy{}
	for name, m := range t.members {
		wanted[name] = m.policy
	}
	maps.Copy(wanted, t.intent.zones)
	for name, p := range wanted {
		if len(p.primaries) == 0 {
			continue
		}
		s := t.secondaries[name]
		if s == nil {
			s = &secondary{name: name, attempt: entry[*secondary]{index: -1}, expiry: entry[*secondary]{index: -1}}
			s.attempt.item, s.expiry.item = s, s
			t.secondaries[name] = s
			fresh = append(fresh, s)
		} else if !reflect.DeepEqual(s.policy.Primaries, p.Primaries) {
			s.policy = p
			t.soon(s, p.primaries[0].Address)
		}
		s.policy = p
	}
	for name, s := range t.secondaries {
		p := wanted[name]
		if p != nil && len(p.primaries) > 0 {
			continue
		}
		t.dropSecondary(s)
		if _, ours := t.intent.world.Zones.Get(name); p == nil && !ours {
			gone = append(gone, name)
		}
	}
	poke(t.wake)
	return fresh, gone
}

// dropSecondary ends a zone's being secondary. Its copy goes too.
func (t *Transfer) dropSecondary(s *secondary) {
	s.gone = true
	t.attempts.remove(&s.attempt)
	t.expiries.remove(&s.expiry)
	delete(t.secondaries, s.name)
	if err := t.disk.remove(s.name); err != nil {
		t.log.Error("removing a zone's copy", "zone", s.name, "err", err)
	}
}

// start reads the copies of new secondaries from disk, serves them, and asks
// their primaries soon.
func (t *Transfer) start(fresh []*secondary) {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, s := range fresh {
		g.Go(func() error { t.startOne(s); return nil })
	}
	_ = g.Wait() // none fails
	for _, s := range fresh {
		t.mu.Lock()
		p, has := s.policy, s.zone != nil
		t.mu.Unlock()
		if p.Catalog != nil && has {
			t.consume(s.name, p)
		}
	}
	poke(t.wake)
}

func (t *Transfer) startOne(s *secondary) {
	z, confirmed, err := t.disk.load(s.name)
	if err != nil {
		t.log.Error("reading a zone's copy", "zone", s.name, "err", err)
	}
	now := time.Now()
	t.mu.Lock()
	if s.gone {
		t.mu.Unlock()
		return
	}
	if z != nil {
		s.zone, s.confirmed = z, confirmed
		if confirmed.After(now) {
			s.confirmed = now
		}
		s.kept = kept{z, s.confirmed}
		_, _, expire := soaTimers(z)
		s.expired = !now.Before(s.confirmed.Add(expire))
		if !s.expired {
			t.expiries.put(&s.expiry, s.confirmed.Add(expire))
		}
	}
	t.attempts.put(&s.attempt, now)
	t.mu.Unlock()
	t.show(s)
}

// show has the nameserver serve a zone as it is now. Calls follow one another,
// so that the last one shows the last state.
func (t *Transfer) show(s *secondary) {
	t.showing.Lock()
	defer t.showing.Unlock()
	t.mu.Lock()
	z, expired, gone := s.zone, s.expired, s.gone
	t.mu.Unlock()
	switch {
	case gone: // stop sees to it
	case z == nil || expired:
		t.cfg.Zones.SetUnavailable(s.name)
	default:
		t.cfg.Zones.SetZone(z)
	}
}

// schedule has primaries asked when it is time, and takes zones out of service
// that have expired.
func (t *Transfer) schedule(ctx context.Context) {
	var g errgroup.Group
	defer func() { _ = g.Wait() }()
	for {
		t.mu.Lock()
		now := time.Now()
		var expired []*secondary
		for e := t.expiries.due(now); e != nil; e = t.expiries.due(now) {
			if s := e.item; s.zone != nil {
				s.expired = true
				expired = append(expired, s)
				t.log.Error("the zone has expired: no primary has confirmed it", "zone", s.name, "serial", s.zone.Serial, "confirmed", s.confirmed)
			}
		}
		for t.active < t.cfg.Inbound {
			e := t.attempts.due(now)
			if e == nil {
				break
			}
			s := e.item
			s.running, s.again, s.tried = true, false, now
			t.active++
			g.Go(func() error { t.try(ctx, s); return nil })
		}
		wait := time.Hour
		if at, ok := t.expiries.next(); ok {
			wait = min(wait, at.Sub(now))
		}
		if at, ok := t.attempts.next(); ok && t.active < t.cfg.Inbound {
			wait = min(wait, at.Sub(now))
		}
		t.mu.Unlock()
		for _, s := range expired {
			t.show(s)
		}
		timer := time.NewTimer(max(wait, 0))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-t.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// try asks the primaries of a zone, one after the other, until one has
// confirmed the copy or given a newer one.
func (t *Transfer) try(ctx context.Context, s *secondary) {
	t.mu.Lock()
	p, old, force := s.policy, s.zone, s.force
	s.force = false
	list := slices.Clone(p.primaries)
	if at := slices.IndexFunc(list, func(q peer) bool { return q.Address == s.hint }); at > 0 {
		list[0], list[at] = list[at], list[0]
	}
	s.hint = netip.AddrPort{}
	t.mu.Unlock()

	var errs []error
	for i := range list {
		z, err := t.tryOne(ctx, s.name, &list[i], old, force, p.ZONEMD)
		if ctx.Err() != nil {
			break
		}
		if err == nil {
			t.succeed(s, &list[i], old, z)
			return
		}
		errs = append(errs, fmt.Errorf("%s: %w", list[i].Address, err))
		t.metrics.transferred("in", err)
	}
	t.fail(ctx, s, force, errors.Join(errs...))
}

func (t *Transfer) tryOne(ctx context.Context, name fleet.Name, p *peer, old *zone.Zone, force bool, mode fleet.ZONEMDMode) (*zone.Zone, error) {
	t.mu.Lock()
	dead := time.Now().Before(t.unreachable[p.Address])
	t.mu.Unlock()
	if dead {
		return nil, errUnreachable
	}
	begin := time.Now()
	z, err := t.fetch(ctx, name, p, old, force)
	if err == nil && z != nil && mode == fleet.ZONEMDVerify {
		err = verified(z)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case isSilence(err) && ctx.Err() == nil:
		t.unreachable[p.Address] = time.Now().Add(deadFor)
	case err == nil && z != nil:
		t.log.Info("zone transferred", "zone", name, "primary", p.Address, "serial", z.Serial, "records", z.Records(), "took", time.Since(begin).Round(time.Millisecond), "tls", p.tls != nil)
		fallthrough
	default:
		delete(t.unreachable, p.Address)
	}
	return z, err
}

// succeed takes a copy into service, or notes that the present one is current.
func (t *Transfer) succeed(s *secondary, p *peer, old, z *zone.Zone) {
	t.metrics.transferred("in", nil)
	now := time.Now()
	t.mu.Lock()
	serve := z != nil || s.expired
	if z == nil {
		z = old
	}
	s.zone, s.confirmed, s.expired, s.failures, s.err, s.primary = z, now, false, 0, nil, p.Address
	t.mu.Unlock()
	if serve {
		t.show(s)
	}
	refresh, _, expire := soaTimers(z)
	t.finish(s, now.Add(jittered(refresh)), now.Add(expire))
}

// fail notes that no primary has helped.
func (t *Transfer) fail(ctx context.Context, s *secondary, force bool, err error) {
	now := time.Now()
	t.mu.Lock()
	s.force = s.force || force
	s.failures++
	wait := min(firstWait<<min(s.failures-1, 20), lastWait)
	var expiry time.Time
	if s.zone != nil {
		var expire time.Duration
		_, wait, expire = soaTimers(s.zone)
		expiry = s.confirmed.Add(expire)
	}
	if ctx.Err() == nil {
		if s.err == nil || s.err.Error() != err.Error() {
			t.log.Warn("no primary has the zone", "zone", s.name, "again", wait, "err", err)
		}
		s.err = err
	}
	t.mu.Unlock()
	t.finish(s, now.Add(jittered(wait)), expiry)
}

// finish puts a zone back on the schedule; expiry is zero where it has no copy.
func (t *Transfer) finish(s *secondary, next, expiry time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.active--
	s.running = false
	poke(t.wake)
	if s.gone {
		return
	}
	if s.again {
		next = time.Now().Add(notifyGap)
	}
	t.attempts.put(&s.attempt, next)
	if !expiry.IsZero() && !s.expired {
		t.expiries.put(&s.expiry, expiry)
	}
}

// soon has a zone's primaries asked now, from first where it is one of them.
// It is called with mu held.
func (t *Transfer) soon(s *secondary, first netip.AddrPort) {
	s.hint = first
	delete(t.unreachable, first)
	if s.running {
		s.again = true
		return
	}
	at := time.Now()
	if gap := s.tried.Add(notifyGap); gap.After(at) {
		at = gap
	}
	if s.attempt.index >= 0 && s.attempt.at.Before(at) {
		at = s.attempt.at // it waits for its turn already, and news must not put it behind others
	}
	t.attempts.put(&s.attempt, at)
	poke(t.wake)
}

// keep writes changed copies to disk, a while after each change and at the
// end.
func (t *Transfer) keep(ctx context.Context) {
	if t.cfg.Dir == "" {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(writeAfter)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			t.write()
		case <-ctx.Done():
			t.write()
			return
		}
	}
}

// kept is a copy as it is on disk.
type kept struct {
	zone      *zone.Zone
	confirmed time.Time
}

// write brings the copies on disk in line with those in memory.
func (t *Transfer) write() {
	type work struct {
		s        *secondary
		had, now kept
	}
	var list []work
	t.mu.Lock()
	for _, s := range t.secondaries {
		if now := (kept{s.zone, s.confirmed}); s.zone != nil && s.kept != now {
			list = append(list, work{s, s.kept, now})
		}
	}
	t.mu.Unlock()
	for _, w := range list {
		var err error
		if w.had.zone != w.now.zone {
			err = t.disk.save(w.now.zone, w.now.confirmed)
		} else {
			err = t.disk.confirm(w.s.name, w.now.confirmed)
		}
		t.mu.Lock()
		if w.s.gone && t.secondaries[w.s.name] == nil {
			err = t.disk.remove(w.s.name)
		}
		w.s.kept = w.now
		t.mu.Unlock()
		if err != nil {
			t.log.Error("keeping a zone's copy", "zone", w.s.name, "err", err)
		}
	}
}
