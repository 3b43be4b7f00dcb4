package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"meridian/dns/zone"
	"meridian/fleet"
)

// Zones is the nameserver. All methods are called concurrently.
type Zones interface {
	Zone(name fleet.Name) *zone.Zone   // as it is served; nil where there is none
	Static(name fleet.Name) *zone.Zone // as transfers show it: steered names with their exported addresses
	SetZone(z *zone.Zone)
	RemoveZone(name fleet.Name)
	SetUnavailable(name fleet.Name) // answer SERVFAIL for the zone
}

// Updater writes dynamic zones. Update gives the RCODE for an update message
// (RFC 2136) whose signature by key has been verified and taken off, and may
// say why it is not NOERROR; an error with NOERROR stands for SERVFAIL.
type Updater interface {
	Update(ctx context.Context, zone fleet.Name, key fleet.Name, msg []byte) (rcode int, err error)
}

// Request is one message for Handle.
type Request struct {
	Message   []byte
	Client    netip.AddrPort
	Stream    bool // not UDP: the client's address is its own, and answers may be long and several
	Encrypted bool
	// Answer gives the nameserver's answer to a plain query; nil for none.
	Answer func(query []byte) []byte
	// Reply sends one message; several over a stream. It fails when the client
	// is gone or too slow.
	Reply func(msg []byte) error
}

// Config is what transfers need.
type Config struct {
	Zones   Zones
	Updater Updater // nil: updates are answered NOTIMP; SetUpdater sets one later
	Dir     string  // where copies of zones and journals are kept; "": nowhere, they end with the process
	Logger  *slog.Logger

	Inbound    int           // transfers in at a time; 0 for 32
	Outbound   int           // transfers out at a time; 0 for 64
	MaxOctets  int64         // of the records of one transfer in, without compression; 0 for 4 GiB
	MaxRecords int           // of one transfer in; 0 for 50 million
	MaxTime    time.Duration // of one transfer in either direction; 0 for 1 hour
	MaxJournal int64         // octets of one zone's journal; 0 for 64 MiB. It is also kept below the size of the zone itself
}

// Transfer moves zones to and from other nameservers. All methods are safe for
// concurrent use; Apply is not called concurrently with itself.
type Transfer struct {
	cfg      Config
	log      *slog.Logger
	disk     disk
	metrics  *metrics
	notifier *notifier
	out      chan struct{} // a token for each transfer out

	strangers *rate.Limiter // of log lines that strangers cause

	events   sync.Mutex // guards pending and first
	pending  map[fleet.Name]bool
	awake    chan struct{} // holds one token when pending is not empty
	versions versions

	keeping sync.Mutex // held while a catalog is written to disk; taken before mu
	showing sync.Mutex // held while the nameserver is given a secondary zone; taken before mu

	mu          sync.Mutex // guards what follows
	updater     Updater
	intent      *intent
	secondaries map[fleet.Name]*secondary
	attempts    queue[*secondary]
	expiries    queue[*secondary]
	active      int
	wake        chan struct{} // holds one token when the schedule has changed
	unreachable map[netip.AddrPort]time.Time
	catalogs    map[fleet.Name]*consumed
	members     map[fleet.Name]*member
}

// New checks the configuration; it opens nothing.
func New(cfg Config) (*Transfer, error) {
	if cfg.Zones == nil || cfg.Logger == nil {
		return nil, errors.New("transfers: no zones or no logger")
	}
	def(&cfg.Inbound, 32)
	def(&cfg.Outbound, 64)
	def(&cfg.MaxOctets, 4<<30)
	def(&cfg.MaxRecords, 50_000_000)
	def(&cfg.MaxTime, time.Hour)
	def(&cfg.MaxJournal, 64<<20)
	t := &Transfer{
		cfg: cfg, log: cfg.Logger, disk: disk{cfg.Dir}, metrics: newMetrics(), out: make(chan struct{}, cfg.Outbound),
		strangers: rate.NewLimiter(5, 50),
		pending:   map[fleet.Name]bool{}, awake: make(chan struct{}, 1), updater: cfg.Updater,
		secondaries: map[fleet.Name]*secondary{}, wake: make(chan struct{}, 1), unreachable: map[netip.AddrPort]time.Time{},
		catalogs: map[fleet.Name]*consumed{}, members: map[fleet.Name]*member{},
	}
	t.versions.init()
	t.notifier = newNotifier(t.log, t.metrics)
	return t, nil
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// SetUpdater sets who writes dynamic zones.
func (t *Transfer) SetUpdater(u Updater) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.updater = u
}

// Apply takes a World into use, after the nameserver has: which zones are
// secondary and which may be transferred by whom. Copies of new secondary
// zones are read from disk and served at once. On an error the old World
// stays in use.
func (t *Transfer) Apply(w *fleet.World) error {
	t.mu.Lock()
	last := t.intent
	next, err := readIntent(w, last)
	if err != nil {
		t.mu.Unlock()
		return fmt.Errorf("transfers: %w", err)
	}
	if err := t.disk.make(); err != nil {
		t.mu.Unlock()
		return err
	}
	t.intent = next
	var fresh []*secondary
	var gone []fleet.Name
	if last == nil || last.world.Snapshot != w.Snapshot || !sameObjects(w, last.world) {
		fresh, gone = t.reconcile()
	}
	t.mu.Unlock()

	t.stop(gone)
	t.start(fresh)
	t.look(last, next)
	return nil
}

// look has zones looked at anew whose settings may have changed, or that the
// nameserver has told of before this World was known here.
func (t *Transfer) look(last, next *intent) {
	var before *fleet.Zones
	if last != nil {
		before = last.world.Zones
	}
	put, gone := next.world.Zones.Since(before)
	for _, o := range put {
		t.enqueue(fleet.Name(o.Key.ID))
	}
	for _, name := range gone {
		t.enqueue(name)
	}
	if last != nil && last.world.Snapshot == next.world.Snapshot {
		return
	}
	for name, p := range next.zones {
		if len(p.access)+len(p.notify) > 0 || p.Catalog != nil {
			t.enqueue(name)
		}
	}
	if last != nil {
		for name := range last.zones {
			if next.zones[name] == nil {
				t.enqueue(name)
			}
		}
	}
}

// Run does what is due until ctx ends, and returns when all its goroutines are
// gone.
func (t *Transfer) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { t.schedule(ctx); return nil })
	g.Go(func() error { t.watch(ctx); return nil })
	g.Go(func() error { return t.notifier.run(ctx) })
	g.Go(func() error { t.keep(ctx); return nil })
	return g.Wait()
}

// ZoneChanged is to be told of each change of a zone that is served, in order:
// it is for the nameserver's OnZone, and does not block.
func (t *Transfer) ZoneChanged(old, new *zone.Zone) {
	if new != nil {
		t.enqueue(new.Name)
	} else if old != nil {
		t.enqueue(old.Name)
	}
}

func (t *Transfer) enqueue(name fleet.Name) {
	t.events.Lock()
	t.pending[name] = true
	t.events.Unlock()
	poke(t.awake)
}

// poke leaves a token in a channel that holds one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// watch looks at the zones that have changed.
func (t *Transfer) watch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.awake:
		}
		t.events.Lock()
		names := t.pending
		t.pending = map[fleet.Name]bool{}
		t.events.Unlock()
		for name := range names {
			if ctx.Err() != nil {
				return
			}
			t.observe(name)
		}
	}
}

// observe brings the journal of a zone, its secondaries and, where it is a
// catalog, its members in line with what is served.
func (t *Transfer) observe(name fleet.Name) {
	t.mu.Lock()
	known, p := t.intent != nil, t.policyLocked(name)
	t.mu.Unlock()
	if !known {
		return // Apply has all zones looked at
	}
	z, changed, err := t.current(name, p)
	if err != nil {
		t.log.Error("journal", "zone", name, "err", err)
	}
	if p == nil {
		t.forget(name)
		return
	}
	if z == nil {
		return
	}
	if changed {
		t.metrics.serial(name, z.Serial)
		t.notifier.changed(z, p.notify)
	}
	if p.Catalog != nil {
		t.consume(name, p)
	}
}

// forget drops what is known of a zone that is no longer the fleet's.
func (t *Transfer) forget(name fleet.Name) {
	t.notifier.forget(name)
	t.metrics.forget(name)
	if err := t.disk.removeJournal(name); err != nil {
		t.log.Error("removing a journal", "zone", name, "err", err)
	}
}

// note logs what a stranger has caused, as long as it is not too much.
func (t *Transfer) note(msg string, args ...any) {
	if t.strangers.Allow() {
		t.log.Info(msg, args...)
	}
}

// policy gives the settings of a zone that the fleet serves, or nil.
func (t *Transfer) policy(name fleet.Name) *policy {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.policyLocked(name)
}

func (t *Transfer) policyLocked(name fleet.Name) *policy {
	if t.intent == nil {
		return nil
	}
	if p := t.intent.zones[name]; p != nil {
		return p
	}
	if m := t.members[name]; m != nil {
		return m.policy
	}
	if _, ok := t.intent.world.Zones.Get(name); ok {
		return t.intent.unnamed
	}
	return nil
}
