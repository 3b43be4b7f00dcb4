package answer

import (
	"net/netip"
	"time"

	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/geo"
	"meridian/steer"
)

// Identity is what the nameserver says of itself, and what it alone can give.
type Identity struct {
	Node    string // name of the node; NSID and id.server where the Spec names none
	Version string // version.bind where the Spec has none; empty: refused

	// Cookie gives the secret of DNS cookies made on a day, counted from 1970
	// (RFC 9018 section 5); nil for no cookies. It is called seldom, from any
	// goroutine.
	Cookie func(day int64) [16]byte

	// Each calls do for each of 0 to n-1, several at a time if it likes, and
	// returns when all are done; nil for one after another. Compile reads zones
	// by it.
	Each func(n int, do func(i int))
}

// Client is who asks, and how.
type Client struct {
	Addr      netip.Addr    // an IPv4 address as such, not mapped into IPv6
	Port      uint16        // for whoami alone
	Stream    bool          // TCP, TLS, QUIC or HTTPS: responses may be as long as MaxStream
	Encrypted bool          // TLS, QUIC or HTTPS: responses are padded for clients that pad (RFC 8467)
	Idle      time.Duration // time without a query after which the server closes a TCP or TLS connection (RFC 7828); 0 elsewhere
	Now       uint32        // seconds since 1970 (modulo 2^32), for cookies and for compact denial; a second or two late does no harm
}

// Plan is all that answers depend on, of one moment. It is immutable and safe
// for concurrent use.
type Plan struct {
	ready    bool // false: nothing to serve has been given yet
	id       *Identity
	settings settings
	zones    *zoneMap
	named    map[fleet.Name]*fleet.Zone // the Spec's zones
	services map[string]int             // index of each service in the Spec
	source   geo.Source
	ech      string       // what HTTPS records say of keys of Encrypted Client Hello
	world    *fleet.World // nil for zones without a fleet
	classes  *steer.Classes
	table    *geo.Table
	intent   string // of classes
	scene    *steer.Scene
	steering steering
	made     *sign.Signatures // those of compact denial; plans that follow from one another share them
}

// settings are what the Spec says of answers.
type settings struct {
	nsid     string
	version  string
	ecs      bool
	any      fleet.AnyMode
	whoami   []byte // wire form, lower case; nil for none
	errorsTo string // wire form, lower case; empty for none
	cookies  cookies
}

// Empty gives the plan of a server that has been given nothing yet: it
// answers SERVFAIL.
func Empty(id Identity) *Plan {
	return &Plan{id: &id, zones: &zoneMap{}, made: &sign.Signatures{}, settings: settings{
		nsid: id.Node, version: id.Version, ecs: true, any: fleet.AnyOne, cookies: cookies{secret: id.Cookie}}}
}

// Zones gives a plan for zones alone, without a fleet.
func Zones(id Identity, zones []*zone.Zone) *Plan {
	return Empty(id).with(func(e *zoneEdit) {
		for _, z := range zones {
			e.set(&served{Zone: z, apex: z.Apex().Name})
		}
	})
}

// WithView gives the plan under another View or at another moment. It is
// cheap: only the decisions are made anew.
func (p *Plan) WithView(v *fleet.View, now time.Time) *Plan {
	if p.world == nil {
		return p
	}
	out := *p
	out.steer(v, now)
	return &out
}

// Suppose gives the plan that a World and a View would have, with the same
// geo database.
func (p *Plan) Suppose(w *fleet.World, v *fleet.View, now time.Time) (*Plan, error) {
	id := Identity{}
	if p.id != nil {
		id = *p.id
	}
	return Compile(id, w, p.source, v, now, p)
}

// AtRest gives the plan with health and shifts left aside: where clients are
// steered when all is well.
func (p *Plan) AtRest() *Plan {
	if p.world == nil {
		return p
	}
	out := *p
	out.world = &fleet.World{Snapshot: p.world.Snapshot, Objects: p.world.Objects, Zones: p.world.Zones, Live: p.world.Live}
	out.steer(nil, time.Time{})
	return &out
}

// Expires gives the next moment after now at which a shift runs out, and the
// plan with it; zero where there is none.
func (p *Plan) Expires(now time.Time) time.Time {
	var next time.Time
	if p.world == nil {
		return next
	}
	for _, sh := range p.world.Shifts {
		if sh.Expires.After(now) && (next.IsZero() || sh.Expires.Before(next)) {
			next = sh.Expires
		}
	}
	return next
}

// SignedOnline counts the signatures that queries to zones with compact denial
// have cost, in this plan and those that it follows from.
func (p *Plan) SignedOnline() uint64 { return p.made.Made() }

// Ready says whether the plan has been given anything to serve.
func (p *Plan) Ready() bool { return p.ready }
