package controlplane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/rules"
)

// ItemKind is a kind of item: data of one zone, or a live object, that has a
// version of its own, apart from the revisions of the Spec.
type ItemKind string

// The kinds of item.
const (
	ZoneItem    ItemKind = "zone"    // the content of a zone that the admin API or updates write, in master-file format
	DerivedItem ItemKind = "derived" // what nameservers get of a zone in its place: as the Deriver gives it
	ProblemItem ItemKind = "problem" // why what nameservers get of a zone could not be made anew, as the Deriver tells; kept by the leader
	KeysItem    ItemKind = "keys"    // the keys of a zone and how far their roll-over is; never sent to nodes
	LiveItem    ItemKind = "live"    // a live object; its name is fleet.LiveID's
	ACMEItem    ItemKind = "acme"    // what the writer of certificates keeps: accounts, certificates, keys; never sent to nodes
)

// ItemWrite replaces one item by compare-and-swap.
type ItemWrite struct {
	Kind   ItemKind
	Name   fleet.Name
	Data   []byte // nil: the item is removed
	Expect string // version of the content that it replaces; "" where there is to be none; AnyVersion
}

// ItemKinds lists all kinds.
func ItemKinds() []ItemKind {
	return []ItemKind{ZoneItem, DerivedItem, ProblemItem, KeysItem, LiveItem, ACMEItem}
}

// Object gives an item's content as an object of a fleet.Zones.
func (k ItemKind) Object(name fleet.Name, data []byte) fleet.Object {
	if k == LiveItem {
		return rules.LiveObject(name, data)
	}
	return rules.ZoneObject(name, data)
}

// AnyVersion as ItemWrite.Expect replaces whatever is there.
const AnyVersion = "*"

// ItemConflictError says that an item is not at the version that a write
// expects. Nothing of the write was done.
type ItemConflictError struct {
	Kind ItemKind
	Name fleet.Name
}

// Error names the item.
func (e *ItemConflictError) Error() string {
	return fmt.Sprintf("%s %s has been changed by somebody else", e.Kind, e.Name)
}

// ItemStore keeps items. Its methods are safe for concurrent use.
type ItemStore interface {
	// ReadItem gives an item as it is now, and the version of its content
	// (rules.ContentVersion); "" where there is none.
	ReadItem(ctx context.Context, kind ItemKind, name fleet.Name) (data []byte, version string, err error)
	// WriteItems writes several items, all or nothing where they are at most
	// MaxTogether; more go in batches of that size, in order. An
	// ItemConflictError names one whose version is another than expected.
	WriteItems(ctx context.Context, items []ItemWrite) error
	// ItemNames lists the items of a kind whose names begin with prefix, in
	// order.
	ItemNames(ctx context.Context, kind ItemKind, prefix string) ([]fleet.Name, error)
	// Lock waits until nobody else, on any replica, holds the lock of that name;
	// who dies without a word loses it within 15 seconds. unlock gives it back;
	// lost is closed where it is lost before.
	Lock(ctx context.Context, name string) (unlock func(), lost <-chan struct{}, err error)
	// Lead calls lead whenever this replica is the one that keeps the timers,
	// with a context that ends as soon as it no longer is. It returns when ctx
	// ends.
	Lead(ctx context.Context, as string, lead func(ctx context.Context)) error
}

// MaxTogether is how many items are written in one transaction.
const MaxTogether = 16

// Deriver makes what nameservers get of the zones that the fleet itself
// writes: with serials, aliases' addresses and signatures. dns/keeper is one.
type Deriver interface {
	// Derive gives the objects to put and the names to remove for a World whose
	// dynamic zones have these contents; old is what was derived before. Only
	// what has changed or is about to expire is made anew. next is when to call
	// again at the latest; zero for never.
	// With an error, which names what could not be made, put and gone are still
	// what could be; Config.Woken says when to call earlier.
	Derive(ctx context.Context, w *fleet.World, contents, old *fleet.Zones, now time.Time) (put []fleet.Object, gone []fleet.Name, next time.Time, err error)
}

// ZoneInfo is one zone of the fleet.
type ZoneInfo struct {
	Zone     fleet.Name `json:"zone"`
	Source   string     `json:"source"`             // who writes it: file, records, dynamic (named in the Spec), api, primaries, catalog, members (a catalog that the fleet makes of its zones)
	Serial   uint32     `json:"serial"`             // that is served
	Records  int        `json:"records"`            // that are served
	Signed   bool       `json:"signed"`             //
	State    string     `json:"state"`              // ok, empty (nothing to serve yet), or what is wrong
	ETag     string     `json:"etag,omitempty"`     // version of the content, of zones that the API writes
	Warnings []string   `json:"warnings,omitempty"` //
}

// Errors of writing zones; more is said around them.
var (
	ErrOtherWriter = errors.New("the zone is not written here")                // a file, records or primaries write it
	ErrNoZone      = errors.New("there is no such zone")                       //
	ErrChanged     = errors.New("the zone has changed since it was read")      // the base given is not the zone's ETag
	ErrZone        = errors.New("the zone cannot be served with this content") // wrapped around what is wrong, a line each
)

// Edit changes a zone: it is given the present one (nil where there is none)
// and gives the next. It may be called several times, where others write too,
// and must not change what it is given. Giving cur itself changes nothing.
type Edit func(cur *zone.Zone) (*zone.Zone, error)
