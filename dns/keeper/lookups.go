package keeper

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"meridian/dns/sign"
	"meridian/fleet"
)

// lookups are what the Keeper asks other nameservers, kept up to date in the
// background so that making a zone never waits for the network.
type lookups struct {
	*lookupState
}

type lookupState struct {
	mu      sync.Mutex
	names   map[nameKey]*nameResult
	parents map[fleet.Name]*parentResult
	notices map[fleet.Name]*notice
	changed chan struct{} // something new is to be looked up
}

type nameKey struct {
	name fleet.Name
	v6   bool
}

// nameResult is what is known of a name's addresses.
type nameResult struct {
	addrs []netip.Addr // the last good ones
	known bool         // addrs is an answer, not the absence of one
	due   time.Time
	used  map[fleet.Name]bool // zones that have an alias of it
	err   error
}

// parentResult is what a zone's parent said last.
type parentResult struct {
	result *sign.ParentDS // nil: nothing yet
	at     time.Time
	due    time.Time
	err    error
}

func newLookups() lookups {
	return lookups{&lookupState{names: map[nameKey]*nameResult{}, parents: map[fleet.Name]*parentResult{}, notices: map[fleet.Name]*notice{}, changed: make(chan struct{}, 1)}}
}

func (l *lookupState) poke() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// parent gives what is known of a zone's parent, or nil.
func (l *lookupState) parent(zone fleet.Name) *parentResult {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.parents[zone]; p != nil && p.result != nil {
		copied := *p
		return &copied
	}
	return nil
}

// wantParent has a zone's parent asked at a time, if it is not waited for
// after a failure.
func (l *lookupState) wantParent(zone fleet.Name, at, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.parents[zone]
	if p == nil {
		p = &parentResult{due: now}
		l.parents[zone] = p
	}
	if p.err == nil && p.result != nil {
		p.due = at
	}
	l.poke()
}

func (l *lookupState) forget(zone fleet.Name) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.parents, zone)
	delete(l.notices, zone)
	for k, n := range l.names {
		if delete(n.used, zone); len(n.used) == 0 {
			delete(l.names, k)
		}
	}
}

// want notes that a zone has an alias of a name, and gives what is known; nil
// where the name has never been looked up.
func (l *lookupState) want(zone fleet.Name, key nameKey) *nameResult {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.names[key]
	if n == nil {
		return nil
	}
	n.used[zone] = true
	copied := *n
	return &copied
}

// Times of looking up.
const (
	firstWait   = 2 * time.Second // for an alias that is new
	lookupLimit = 10 * time.Second
	lookupRetry = 30 * time.Second
	leastTTL    = 5 * time.Second
	greatestTTL = time.Hour
	lookupIdle  = time.Hour
	lookupsAt   = 16 // a time
)

// Run looks up what aliases and keys need, when it is due, and sees what
// others change in the key store, until ctx ends. A change wakes whoever calls
// Derive.
func (k *Keeper) Run(ctx context.Context) error {
	var g errgroup.Group
	if k.cfg.Resolver != nil {
		g.Go(func() error { k.runLookups(ctx); return nil })
	}
	if k.cfg.Keys != nil {
		g.Go(func() error { k.runPolls(ctx); return nil })
	}
	g.Go(func() error { <-ctx.Done(); return nil })
	return g.Wait()
}

// Key states are looked at a few at a time: another replica may have been told
// to roll a key.
const (
	pollEach = 30 * time.Second
	pollMost = 200
)

func (k *Keeper) runPolls(ctx context.Context) {
	ticker := time.NewTicker(pollEach)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for name, version := range k.pollNext() {
			_, now, err := k.cfg.Keys.Load(ctx, name)
			if err == nil && now != version {
				k.Invalidate(name)
			}
		}
	}
}

// pollNext gives the zones to look at, in turn.
func (k *Keeper) pollNext() map[fleet.Name]string {
	k.mu.Lock()
	defer k.mu.Unlock()
	names := slices.Sorted(maps.Keys(k.versions))
	at, _ := slices.BinarySearch(names, k.polled+"\x00")
	out := map[fleet.Name]string{}
	for range min(len(names), pollMost) {
		n := names[at%len(names)]
		out[n], k.polled = k.versions[n], n
		at++
	}
	return out
}

func (k *Keeper) runLookups(ctx context.Context) {
	for {
		next := k.lookupDue(ctx)
		timer := time.NewTimer(max(time.Until(next), 0))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-k.look.changed:
			timer.Stop()
		}
	}
}

// lookupDue looks up all that is due and gives when the next is.
func (k *Keeper) lookupDue(ctx context.Context) time.Time {
	now := time.Now()
	var names []nameKey
	var zones []fleet.Name
	l := k.look.lookupState
	l.mu.Lock()
	for key, n := range l.names {
		if !n.due.After(now) {
			names = append(names, key)
		}
	}
	for zone, p := range l.parents {
		if !p.due.After(now) {
			zones = append(zones, zone)
		}
	}
	tell := l.noticesDue(now)
	l.mu.Unlock()
	var g errgroup.Group
	g.SetLimit(lookupsAt)
	for _, key := range names {
		g.Go(func() error { k.lookUp(ctx, key, lookupLimit); return nil })
	}
	for _, zone := range zones {
		g.Go(func() error { k.askParent(ctx, zone); return nil })
	}
	for _, zone := range tell {
		g.Go(func() error { k.tellParent(ctx, zone); return nil })
	}
	_ = g.Wait()
	next := time.Now().Add(lookupIdle)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.names {
		if n.due.Before(next) {
			next = n.due
		}
	}
	for _, p := range l.parents {
		if p.due.Before(next) {
			next = p.due
		}
	}
	for _, n := range l.notices {
		if !n.due.IsZero() && n.due.Before(next) {
			next = n.due
		}
	}
	return next
}

// lookUp asks for a name's addresses. An error keeps the last good ones.
func (k *Keeper) lookUp(ctx context.Context, key nameKey, limit time.Duration, zones ...fleet.Name) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	addrs, ttl, err := k.cfg.Resolver.Addresses(ctx, key.name, key.v6)
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	now := time.Now()
	l := k.look.lookupState
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.names[key]
	if n == nil {
		if len(zones) == 0 {
			return // no longer wanted
		}
		n = &nameResult{used: map[fleet.Name]bool{}}
		l.names[key] = n
	}
	for _, z := range zones {
		n.used[z] = true
	}
	if err != nil {
		if n.err == nil {
			k.log.Warn("the target of an alias cannot be looked up; its last good addresses stay", "target", key.name, "error", err)
		}
		n.err, n.due = err, now.Add(lookupRetry)
		k.metrics.failures.Inc()
		l.poke()
		return
	}
	differs := !n.known || !sameAddrs(n.addrs, addrs)
	n.addrs, n.known, n.err = addrs, true, nil
	n.due = now.Add(min(max(ttl, leastTTL), greatestTTL))
	l.poke()
	if differs {
		for z := range n.used {
			k.touch(z)
		}
	}
}

func sameAddrs(a, b []netip.Addr) bool {
	if len(a) != len(b) {
		return false
	}
	have := map[netip.Addr]bool{}
	for _, x := range a {
		have[x] = true
	}
	for _, x := range b {
		if !have[x] {
			return false
		}
	}
	return true
}

// askParent asks a zone's parent for its DS.
func (k *Keeper) askParent(ctx context.Context, zone fleet.Name) {
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	result, err := k.cfg.Resolver.ParentDS(ctx, zone)
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	l := k.look.lookupState
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.parents[zone]
	if p == nil {
		return
	}
	if err != nil {
		if p.err == nil {
			k.log.Warn("the parent of a zone cannot be asked for its DS; roll-overs that need it wait", "zone", zone, "error", err)
		}
		p.err, p.due = err, time.Now().Add(parentRetry)
		k.metrics.failures.Inc()
		return
	}
	p.result, p.at, p.err = result, asked, nil
	p.due = time.Now().Add(parentRetry) // Derive says when, once it has used the answer
	k.touch(zone)
}

// parentRetry is after which time a parent that did not answer is asked again.
const parentRetry = 5 * time.Minute
