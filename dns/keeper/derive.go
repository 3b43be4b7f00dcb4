package keeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"meridian/dns/answer"
	"meridian/dns/sign"
	"meridian/fleet"
)

// kept is what the Keeper remembers of one zone. Only the Derive at work, or
// its one worker for the zone, touches it.
type kept struct {
	inputs  string       // fingerprint of what it was made of; empty: not made by this process
	object  fleet.Object // made
	state   *sign.State  // keys; nil where it is not signed
	version string       // of the state in the store
	policy  *fleet.DNSSECPolicy
	next    time.Time // when to make it again at the latest
	stats   sign.Stats
	maxTTL  uint32          // of its content
	now     []sign.Variants // what its steered names can answer with in the present World
	before  []sign.Variants // and in the one before
	signal  []sign.Record   // that other zones are to have for it
	failed  bool
	changed bool   // its inputs have changed since it was made last
	why     string // why it could not be made, as it was logged
	problem string // what Problems tells of it

	bar      error // why it gets no keys
	barredAt time.Time
}

// run is one Derive.
type run struct {
	k             *Keeper
	ctx           context.Context
	w             *fleet.World
	contents, old *fleet.Zones
	now           time.Time

	mu   sync.Mutex // guards what follows, while workers run
	put  []fleet.Object
	at   map[fleet.ObjectKey]int // places in put
	left []fleet.Name            // of old, that are no longer to be there
	errs []error
	hold map[fleet.Name]bool // zones that could not be made

	again map[fleet.Name]bool // zones to be made again; guarded by k.mu

	exports func() (*answer.Exports, error) // of w, read once
	guard   guard
	live    []sign.Record // that live objects add to zones
}

// workers bounds how many zones are made at a time. Each uses all cores to
// sign; more than one hides the time of the store.
const workers = 8

func (r *run) derive() ([]fleet.Object, []fleet.Name, time.Time, error) {
	k := r.k
	r.hold, r.again, r.at = map[fleet.Name]bool{}, map[fleet.Name]bool{}, map[fleet.ObjectKey]int{}
	r.exports = sync.OnceValues(func() (*answer.Exports, error) { return answer.NewExports(r.w) })
	r.readLive()
	full := r.prepare()
	if full {
		r.resetSignals()
	}
	todo := r.candidates(full)
	for range 4 { // zones that have signals for others are made again after them
		r.all(todo)
		delete(r.again, "")
		if todo = slices.Sorted(maps.Keys(r.again)); len(todo) == 0 {
			break
		}
		r.again = map[fleet.Name]bool{}
	}
	if full {
		r.sweep()
	}
	slices.Sort(r.left)
	k.mu.Lock()
	k.world = r.w
	k.contents, k.live = r.contents, r.w.Live
	var next time.Time
	for _, z := range k.timed {
		if next.IsZero() || z.next.Before(next) {
			next = z.next
		}
	}
	k.mu.Unlock()
	slices.SortFunc(r.put, func(a, b fleet.Object) int { return cmp.Compare(a.Key.ID, b.Key.ID) })
	return r.put, r.left, next, errors.Join(r.errs...)
}

// prepare says whether every zone is to be looked at, and reads once which
// zones the store has keys of.
func (r *run) prepare() bool {
	k := r.k
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.index == nil || k.indexOf != r.w.Snapshot {
		k.index, k.indexOf, k.listing = map[fleet.Name]*fleet.Zone{}, r.w.Snapshot, newListing(r.w.Snapshot.Spec)
		for i := range r.w.Snapshot.Spec.Zones {
			z := &r.w.Snapshot.Spec.Zones[i]
			k.index[z.Zone] = z
		}
	}
	full := k.world == nil || k.world.Snapshot != r.w.Snapshot ||
		reflect.ValueOf(k.world.Objects).Pointer() != reflect.ValueOf(r.w.Objects).Pointer()
	if l, ok := k.cfg.Keys.(Lister); ok && !k.listed {
		names, err := l.Zones(r.ctx)
		if err != nil {
			r.errs = append(r.errs, fmt.Errorf("listing the zones with keys: %w", err))
		} else {
			k.listed = true
			for _, n := range names {
				k.stale[n] = true
			}
		}
	}
	return full
}

// candidates gives the zones that may have to be made.
func (r *run) candidates(full bool) []fleet.Name {
	k := r.k
	seen := map[fleet.Name]bool{}
	var out []fleet.Name
	add := func(n fleet.Name) {
		if !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if full {
		for i := range r.w.Snapshot.Spec.Zones {
			add(r.w.Snapshot.Spec.Zones[i].Zone)
		}
		for o := range r.contents.All() {
			add(fleet.Name(o.Key.ID))
		}
	} else {
		put, gone := r.contents.Since(k.contents)
		r.listAgain(put, gone)
		for _, o := range put {
			add(fleet.Name(o.Key.ID))
		}
		for _, n := range gone {
			add(n)
		}
		r.relive(add)
	}
	for n, reload := range k.stale {
		add(n)
		if z := k.zones[n]; z != nil {
			z.next = r.now
			if reload {
				z.state, z.version, z.inputs = nil, "", ""
			}
		}
	}
	k.stale = map[fleet.Name]bool{}
	for n, z := range k.timed {
		if !z.next.After(r.now) || z.failed {
			add(n)
		}
	}
	slices.Sort(out)
	return out
}

// spec gives the zone's words, or nil where the fleet has no such zone.
func (r *run) spec(name fleet.Name) *fleet.Zone {
	r.k.mu.Lock()
	z := r.k.index[name]
	r.k.mu.Unlock()
	if z != nil {
		return z
	}
	if _, ok := r.contents.Get(name); ok {
		return r.w.Snapshot.Spec.Unnamed(name)
	}
	return nil
}

// all makes zones, several at a time.
func (r *run) all(names []fleet.Name) {
	if len(names) == 1 {
		r.one(names[0])
		return
	}
	var wg sync.WaitGroup
	work := make(chan fleet.Name)
	for range min(workers, len(names)) {
		wg.Go(func() {
			for n := range work {
				r.one(n)
			}
		})
	}
	for _, n := range names {
		work <- n
	}
	close(work)
	wg.Wait()
}

// one makes one zone; what goes wrong is noted, and the zone stays as it was.
func (r *run) one(name fleet.Name) {
	k := r.k
	k.mu.Lock()
	z := k.zones[name]
	k.mu.Unlock()
	if z == nil {
		z = &kept{}
	}
	before := z.signal
	obj, wanted, err := r.make(name, z)
	k.mu.Lock()
	defer k.mu.Unlock()
	z.failed, z.problem = err != nil, ""
	if err != nil {
		z.problem = "not made anew: " + err.Error()
	} else if lost := z.strays(name); len(lost) > 0 {
		z.problem = "bogus to resolvers that validate: the parent's DS (" + tags(lost) + ") is of none of its keys"
	}
	switch {
	case err != nil:
		z.next = r.now.Add(retry)
		k.zones[name] = z
	case !wanted:
		delete(k.zones, name)
		z.signal = nil
		k.look.forget(name)
	default:
		k.zones[name] = z
	}
	k.note(name, z)
	if z.state != nil && k.zones[name] == z {
		k.versions[name] = z.version
	} else {
		delete(k.versions, name)
	}
	r.setSignals(name, before, z.signal)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.fail(name, z, err)
		return
	}
	z.why = ""
	if !wanted {
		if _, ok := r.old.Get(name); ok && !slices.Contains(r.left, name) {
			r.left = append(r.left, name)
		}
		return
	}
	r.left = slices.DeleteFunc(r.left, func(n fleet.Name) bool { return n == name })
	if had, ok := r.old.Get(name); !ok || !sameData(had, obj) {
		if i, again := r.at[obj.Key]; again {
			r.put[i] = obj
		} else {
			r.at[obj.Key] = len(r.put)
			r.put = append(r.put, obj)
		}
	}
}

// note files a zone among those that wait for a time, and shows it in the
// metrics. k.mu is held.
func (k *Keeper) note(name fleet.Name, z *kept) {
	if k.zones[name] != z {
		delete(k.timed, name)
		delete(k.shows, name)
		return
	}
	if delete(k.timed, name); !z.next.IsZero() {
		k.timed[name] = z
	}
	sh := shows{failed: z.failed, problem: z.problem}
	if z.state != nil {
		sh.signed, sh.expires = true, z.stats.Expires
		for i := range z.state.Keys {
			key := &z.state.Keys[i]
			for _, part := range []struct {
				name  string
				state sign.PhaseState
			}{{"dnskey", key.DNSKEY.State}, {"rrsig", key.RRSIG.State}, {"ds", key.DS.State}} {
				if part.state != sign.Hidden {
					sh.keys = append(sh.keys, [3]string{string(key.Role), part.name, string(part.state)})
				}
			}
		}
	}
	k.shows[name] = sh
}

// fail notes why a zone could not be made. Both locks are held.
func (r *run) fail(name fleet.Name, z *kept, err error) {
	k := r.k
	k.metrics.errors.Inc()
	r.hold[name] = true
	if _, ok := r.old.Get(name); !ok || z.changed {
		z.inputs = "" // whether it can be made with what was is not known
		r.errs = append(r.errs, &ZoneError{name, err})
		return
	}
	if z.why != err.Error() {
		z.why = err.Error()
		k.log.Error("a zone could not be made anew; what was made before stays", "zone", name, "error", err)
	}
}

// retry is after which time a zone that could not be made is tried again.
const retry = time.Minute

// sweep notes the zones of old that are no longer to be there.
func (r *run) sweep() {
	k := r.k
	k.mu.Lock()
	defer k.mu.Unlock()
	r.left = nil
	for o := range r.old.All() {
		n := fleet.Name(o.Key.ID)
		if k.zones[n] == nil && !r.hold[n] {
			r.left = append(r.left, n)
		}
	}
}
