package keeper

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/identity"
	"meridian/rules"
)

// start is when the tests take place.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newIdentity(t testing.TB) *identity.Identity {
	t.Helper()
	id, err := identity.New(identity.Key(sha256.Sum256([]byte("keeper"))))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// internet is what the resolver finds: names' addresses and parents' DS.
type internet struct {
	mu      sync.Mutex
	addrs   map[fleet.Name][]netip.Addr
	ttl     time.Duration
	ds      map[fleet.Name][]sign.DS
	asked   int
	guarded int                                      // questions before first keys
	silent  bool                                     // nobody answers those
	tells   func() (target, rcode string, err error) // whom a parent names, and what it says; nil: nobody
	told    []time.Time
}

func (n *internet) NotifyParent(context.Context, fleet.Name) (string, string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.told = append(n.told, time.Now())
	if n.tells == nil {
		return "", "", nil
	}
	return n.tells()
}

var errAway = errors.New("away")

func (n *internet) Addresses(_ context.Context, name fleet.Name, v6 bool) ([]netip.Addr, time.Duration, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	list, ok := n.addrs[name]
	if !ok {
		return nil, 0, errAway
	}
	var out []netip.Addr
	for _, a := range list {
		if a.Is6() == v6 {
			out = append(out, a)
		}
	}
	return out, n.ttl, nil
}

func (n *internet) ParentDS(_ context.Context, zone fleet.Name) (*sign.ParentDS, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ds == nil {
		return nil, errAway
	}
	return &sign.ParentDS{All: n.ds[zone], Any: n.ds[zone], TTL: 60}, nil
}

func (n *internet) DS(ctx context.Context, zone fleet.Name) ([]sign.DS, error) {
	n.mu.Lock()
	n.guarded++
	silent := n.silent
	n.mu.Unlock()
	if silent {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ds == nil {
		return nil, errAway
	}
	return n.ds[zone], nil
}

// bench is a Keeper at work.
type bench struct {
	t     testing.TB
	k     *Keeper
	net   *internet
	store *DirStore
	world *fleet.World
	old   *fleet.Zones
	have  *fleet.Zones // contents of dynamic zones
	now   time.Time
	next  time.Time
	err   error
	put   []fleet.Object
	gone  []fleet.Name
}

func newBench(t testing.TB, spec string) *bench {
	t.Helper()
	b := &bench{t: t, store: NewDirStore(t.TempDir()+"/keys", newIdentity(t)), now: start,
		net: &internet{addrs: map[fleet.Name][]netip.Addr{}, ttl: time.Minute}}
	b.restart()
	b.spec(spec)
	return b
}

// restart begins a new process.
func (b *bench) restart() {
	b.t.Helper()
	var err error
	b.k, err = New(Config{Keys: b.store, Resolver: b.net, Rand: rand.NewChaCha8(sha256.Sum256([]byte("keys"))), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.t.Fatal(err)
	}
}

// logTo has the Keeper log to w.
func (b *bench) logTo(w io.Writer) { b.k.log = slog.New(slog.NewTextHandler(w, nil)) }

const fleetSpec = `
fleet: test
regions:
- {id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.1], v6: ["2001:db8:1::1"]}}
- {id: iad, location: {latitude: 39, longitude: -77}, vips: {v4: [192.0.2.2], v6: ["2001:db8:2::1"]}}
`

func (b *bench) spec(spec string) {
	b.t.Helper()
	s, err := rules.Compile([]byte(fleetSpec+spec), 0)
	if err != nil {
		b.t.Fatal(err)
	}
	b.world = &fleet.World{Snapshot: s, Objects: rules.Inline(s)}
}

func (b *bench) derive() *bench {
	b.t.Helper()
	b.put, b.gone, b.next, b.err = b.k.Derive(b.t.Context(), b.world, b.have, b.old, b.now)
	b.old = b.old.With(b.put, b.gone)
	return b
}

// ok derives and wants no error.
func (b *bench) ok() *bench {
	b.t.Helper()
	if b.derive(); b.err != nil {
		b.t.Fatal(b.err)
	}
	return b
}

func (b *bench) zone(name fleet.Name) *zone.Zone {
	b.t.Helper()
	o, ok := b.old.Get(name)
	if !ok {
		b.t.Fatalf("zone %s was not made", name)
	}
	z, err := decode(o)
	if err != nil {
		b.t.Fatal(err)
	}
	return z
}

func (b *bench) content(name fleet.Name, text string) {
	o := fleet.Object{Key: fleet.ObjectKey{Kind: fleet.ObjectZone, ID: string(name)}, Data: []byte(text), Version: fmt.Sprintf("%x", sha256.Sum256([]byte(text)))}
	b.have = b.have.With([]fleet.Object{o}, nil)
}

// records writes a zone's records into a Spec.
func records(text string) string {
	return "|\n    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ")
}

const plain = `
@ 3600 SOA ns1 hostmaster 7 3600 600 86400 300
@ 3600 NS ns1
ns1 A 192.0.2.53
www A 192.0.2.80
*.wild TXT "wild"
`
