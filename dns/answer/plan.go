package answer

import (
	"fmt"
	"net/netip"
	"time"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/geo"
	"meridian/steer"
)

// Identity is what the nameserver says of itself.
type Identity struct {
	Node    string // name of the node; NSID and id.server where the Spec names none
	Version string // version.bind; empty: refused
}

// Plan is all that answers depend on, of one moment. It is immutable and safe
// for concurrent use.
type Plan struct {
	ready   bool // false: nothing to serve has been given yet
	id      Identity
	nsid    string
	useECS  bool
	zones   map[string]*served // by apex: wire form, lower case
	list    []*zone.Zone
	source  geo.Source
	world   *fleet.World // nil for zones without a fleet
	classes *steer.Classes
	table   *geo.Table
	intent  string // of classes
	scene   *steer.Scene
	states  [][2]*state // by service and family
}

// served is a zone and what its steered names stand for.
type served struct {
	*zone.Zone
	steered []target // by zone.Node.Steer - 1
}

// target is what a steered name answers with.
type target struct {
	service int // index in the Spec
	ttl     uint32
}

// Empty gives the plan of a server that has been given nothing yet: it
// answers SERVFAIL.
func Empty(id Identity) *Plan { return &Plan{id: id, nsid: id.Node, zones: map[string]*served{}} }

// Zones gives a plan for zones alone, without a fleet.
func Zones(id Identity, zones []*zone.Zone) *Plan {
	p := Empty(id)
	p.ready, p.useECS, p.list = true, true, zones
	for _, z := range zones {
		p.zones[string(zone.Wire(z.Name))] = &served{Zone: z}
	}
	return p
}

// Compile gives the plan for a World: zones × steering × geo database under a
// View at a moment. What old has compiled from the same input is taken over;
// old may be nil. source may be nil, then the place of no client is known.
func Compile(id Identity, w *fleet.World, source geo.Source, v *fleet.View, now time.Time, old *Plan) (*Plan, error) {
	if old == nil {
		old = Empty(id)
	}
	zones, err := zone.LoadWorld(w, old.list)
	if err != nil {
		return nil, err
	}
	dns := &w.Snapshot.Spec.DNS
	p := Zones(id, zones)
	p.world, p.source = w, source
	p.useECS = dns.ECS == nil || *dns.ECS
	if dns.NSID != "" {
		p.nsid = dns.NSID
	}
	services := map[string]int{}
	for i := range w.Snapshot.Spec.Services {
		services[w.Snapshot.Spec.Services[i].Service] = i
	}
	for _, z := range p.zones {
		for _, st := range z.Steered() {
			z.steered = append(z.steered, target{services[st.Service], uint32(st.TTL.D() / time.Second)})
		}
	}
	if err := p.classify(old); err != nil {
		return nil, err
	}
	p.steer(v, now)
	return p, nil
}

// classify compiles the geo table, or takes it over where neither the
// database nor the ranking has changed.
func (p *Plan) classify(old *Plan) error {
	p.intent = steer.Intent(p.world.Snapshot)
	if old.table != nil && old.intent == p.intent && old.source == p.source {
		p.table, p.classes = old.table, old.classes.For(p.world.Snapshot)
		return nil
	}
	p.classes = steer.NewClasses(p.world.Snapshot)
	networks := func(func(netip.Prefix, geo.Place) bool) {}
	if p.source != nil {
		networks = p.source.Networks()
	}
	table, err := geo.Compile(networks, p.classes.Of)
	if err != nil {
		return fmt.Errorf("compiling clients' classes: %w", err)
	}
	p.table = table
	return nil
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

// AtRest gives the plan with health and shifts left aside: where clients are
// steered when all is well.
func (p *Plan) AtRest() *Plan {
	if p.world == nil {
		return p
	}
	out := *p
	out.world = &fleet.World{Snapshot: p.world.Snapshot, Objects: p.world.Objects, Zones: p.world.Zones}
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

// Ready says whether the plan has been given anything to serve.
func (p *Plan) Ready() bool { return p.ready }

// List gives the zones served.
func (p *Plan) List() []*zone.Zone { return p.list }

// find gives the zone that a name belongs to, the deepest one; a DS set
// belongs to the parent zone (RFC 4035 section 3.1.4.1).
func (p *Plan) find(name []byte, qtype uint16) *served {
	var child *served
	for at := name; ; at = at[1+int(at[0]):] {
		if z := p.zones[string(at)]; z != nil {
			if qtype != zone.TypeDS || len(at) != len(name) {
				return z
			}
			child = z
		}
		if at[0] == 0 {
			return child
		}
	}
}
