package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
)

// KeyStore keeps the key state of zones. What it is given holds private keys
// in the clear; it seals it. It is safe for concurrent use.
type KeyStore interface {
	// Load gives a zone's state and its version; nil and "" where there is none.
	Load(ctx context.Context, zone fleet.Name) (state []byte, version string, err error)
	// Save replaces the state of that version ("" for none); errors.Is
	// ErrConflict where another version is there.
	Save(ctx context.Context, zone fleet.Name, state []byte, version string) error
}

// Lister is a KeyStore that knows which zones it has keys of. With one, a zone
// whose policy went away while nobody looked is still unsigned in good order.
type Lister interface {
	Zones(ctx context.Context) ([]fleet.Name, error)
}

// ErrConflict is what Save gives where the state was changed by another.
var ErrConflict = errors.New("key state was changed by another")

// Resolver asks other nameservers; dns/stub implements it. It is safe for
// concurrent use.
type Resolver interface {
	// Addresses gives the A or AAAA records of a name and for how long they
	// hold. No records and no error: there are none.
	Addresses(ctx context.Context, name fleet.Name, v6 bool) ([]netip.Addr, time.Duration, error)
	// ParentDS asks every nameserver of the zone's parent for the zone's DS.
	ParentDS(ctx context.Context, zone fleet.Name) (*sign.ParentDS, error)
	// DS asks resolvers for the zone's DS; none and no error: it has none.
	DS(ctx context.Context, zone fleet.Name) ([]sign.DS, error)
	// NotifyParent tells whom the zone's parent names that the zone's CDS has
	// changed (RFC 9859), and gives whom and the response code; target "" where
	// the parent names nobody.
	NotifyParent(ctx context.Context, zone fleet.Name) (target, rcode string, err error)
}

// Config is what a Keeper works with.
type Config struct {
	Keys     KeyStore  // nil: no zone can be signed
	Resolver Resolver  // nil: aliases have no addresses, and parents are not asked
	Rand     io.Reader // for keys
	Logger   *slog.Logger
}

// Keeper makes zones. Its methods are safe for concurrent use.
type Keeper struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	wake    chan struct{}

	deriving sync.Mutex // held by Derive

	mu       sync.Mutex // guards what follows; the fields of a kept are Derive's
	zones    map[fleet.Name]*kept
	timed    map[fleet.Name]*kept // those that wait for a time
	shows    map[fleet.Name]shows // for the metrics
	stale    map[fleet.Name]bool  // to be looked at by the next Derive; true: their keys may have changed in the store
	signals  signals
	world    *fleet.World          // of the last Derive
	contents *fleet.Zones          // of the last Derive
	live     *fleet.Zones          // likewise
	listed   bool                  // the store's list has been read
	versions map[fleet.Name]string // of the key states that zones were made with
	polled   fleet.Name            // the last zone whose version was looked at
	index    map[fleet.Name]*fleet.Zone
	indexOf  *fleet.Snapshot
	listing  *listing // of indexOf
	look     lookups

	deafUntil time.Time // until when resolvers are not asked for the DS of zones without keys
}

// New checks the configuration.
func New(cfg Config) (*Keeper, error) {
	if cfg.Logger == nil || cfg.Rand == nil {
		return nil, errors.New("keeper: expected a logger and a random source")
	}
	k := &Keeper{cfg: cfg, log: cfg.Logger, wake: make(chan struct{}, 1),
		zones: map[fleet.Name]*kept{}, timed: map[fleet.Name]*kept{}, shows: map[fleet.Name]shows{}, stale: map[fleet.Name]bool{}, versions: map[fleet.Name]string{}, look: newLookups()}
	k.metrics = newMetrics(k)
	return k, nil
}

// Invalidate has a zone made anew by the next Derive: its key state was
// changed in the store.
func (k *Keeper) Invalidate(name fleet.Name) { k.mark(name, true) }

// touch has a zone looked at by the next Derive.
func (k *Keeper) touch(name fleet.Name) { k.mark(name, false) }

func (k *Keeper) mark(name fleet.Name, reload bool) {
	k.mu.Lock()
	k.stale[name] = k.stale[name] || reload
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Woken gets a value when Derive should be called before the time that it
// asked for.
func (k *Keeper) Woken() <-chan struct{} { return k.wake }

// Derive gives the objects of the zones that the fleet writes, in the form of
// zone.Encode with Version naming their content, as they go into World.Zones:
// for a World, and the contents of its dynamic zones. old is what is in
// World.Zones now. put are those that are new or other than in old, gone those
// of old that are no longer to be there. Only zones whose inputs have changed
// or whose time has come are made anew. next is when to call again at the
// latest; zero where nothing waits.
//
// Where a zone cannot be made, what old has of it stays, and all others are
// made. The error names zones that cannot be made of inputs that have just
// changed, or of which old has nothing: whoever changed them should take it
// back. That a zone cannot be made anew for other reasons, such as keys that
// are away, is logged and counted, is tried again each minute, and is no error
// of this call. The caller publishes what it gets before it calls again.
func (k *Keeper) Derive(ctx context.Context, w *fleet.World, contents, old *fleet.Zones, now time.Time) (put []fleet.Object, gone []fleet.Name, next time.Time, err error) {
	k.deriving.Lock()
	defer k.deriving.Unlock()
	r := &run{k: k, ctx: ctx, w: w, contents: contents, old: old, now: now}
	return r.derive()
}

// parallel runs do for 0 to n-1 on all cores.
func parallel(n int, do func(i int)) {
	workers := min(runtime.GOMAXPROCS(0), n)
	if workers <= 1 {
		for i := range n {
			do(i)
		}
		return
	}
	const chunk = 16 // sets; a signature takes some tens of microseconds
	var wg sync.WaitGroup
	work := make(chan int)
	for range workers {
		wg.Go(func() {
			for from := range work {
				for i := from; i < min(from+chunk, n); i++ {
					do(i)
				}
			}
		})
	}
	for from := 0; from < n; from += chunk {
		work <- from
	}
	close(work)
	wg.Wait()
}

// ZoneError says why one zone could not be made. Derive joins them.
type ZoneError struct {
	Zone fleet.Name
	Err  error
}

// Error names the zone first.
func (e *ZoneError) Error() string { return fmt.Sprintf("zone %s: %v", e.Zone, e.Err) }

// Unwrap gives the reason.
func (e *ZoneError) Unwrap() error { return e.Err }

// decode reads an object that Derive made.
func decode(o fleet.Object) (*zone.Zone, error) {
	return zone.Load(fleet.Name(o.Key.ID), o.Data, "derived zone")
}
