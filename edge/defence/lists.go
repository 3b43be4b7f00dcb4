package defence

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"meridian/fleet"
	"meridian/geo"
)

// Classes of sources; of those that an address is in, the lowest counts.
const (
	None           geo.Class = iota
	Martian                  // can be no client's
	Allowed                  // passes all of the rest
	Blocked                  // by a network
	BlockedCountry           //
	BlockedASN               //
	Named                    // and all from here on: of none of these, in places that rules name
)

// nobody are the networks that no packet on the way comes from (RFC 6890,
// RFC 1112, RFC 4291).
var nobody = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/3"), // multicast, reserved, broadcast
	netip.MustParsePrefix("::/128"),
	netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("::ffff:0.0.0.0/96"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
}

// Place is a country or an AS that a rule names; the other is zero.
type Place struct {
	Country string
	ASN     uint32
}

// PlaceOf gives the place that a rule names; the zero Place: none.
func PlaceOf(m *fleet.PacketMatch) Place { return Place{m.Country, uint32(m.ASN)} }

// MaxPlaces is how many places rules may name at a time.
const MaxPlaces = MaxRules

// maxTogether is how many sets of named places there may be in one of which an
// address is.
const maxTogether = 128

// Table gives addresses their classes.
type Table struct {
	*geo.Table
	Places []uint64 // of the class Named and those behind it: bits of named places, the first the lowest
}

// Geo says whether the lists, or rules that name these places, go by a geo
// database. d may be nil.
func Geo(d *fleet.Defence, named []Place) bool {
	lists := d != nil && len(d.Allow.Countries)+len(d.Allow.ASNs)+len(d.Block.Countries)+len(d.Block.ASNs) > 0
	return lists || slices.ContainsFunc(named, func(p Place) bool { return p != Place{} })
}

// Lists compiles the lists to a table of classes of addresses; own are networks
// that no client is in: of VIPs, and the node's addresses; named are the places
// that rules name, up to MaxPlaces, zero ones left out. source may be nil where
// Geo says so, and d where there are no lists. Errors: the source lacks what the
// lists and rules go by.
func Lists(d *fleet.Defence, own []netip.Prefix, named []Place, source geo.Source) (*Table, error) {
	if d == nil {
		d = new(fleet.Defence)
	}
	l := newLists()
	if d.Static != nil && *d.Static {
		l.add(Martian, nobody)
		l.add(Martian, own)
	}
	l.add(Allowed, d.Allow.Prefixes)
	l.add(Blocked, d.Block.Prefixes)
	places := newPlaces(d, named)
	var networks iter.Seq2[netip.Prefix, geo.Place] = func(func(netip.Prefix, geo.Place) bool) {}
	if Geo(d, named) {
		if source == nil {
			return nil, errors.New("countries and AS numbers need a geo database")
		}
		networks = source.Networks()
	}
	marks, classes := l.marks()
	t, err := geo.CompilePlain(networks, marks, func(p geo.Place) geo.Class {
		places.seen(p)
		if p.Mark == 0 {
			return places.class(p, None)
		}
		return places.class(p, classes[p.Mark-1])
	})
	if err != nil {
		return nil, err
	}
	if Geo(d, named) {
		if err := places.missing(); err != nil {
			return nil, fmt.Errorf("geo database %s: %w", source, err)
		}
	}
	if n := len(places.sets); n > maxTogether {
		return nil, fmt.Errorf("the places that rules name lie in one another in %d ways; the limit is %d", n, maxTogether)
	}
	return &Table{t, places.sets}, nil
}

// lists gathers networks with their classes.
type lists struct {
	of      map[netip.Prefix]geo.Class
	lengths [129]bool // that occur, in either family
}

func newLists() *lists { return &lists{of: map[netip.Prefix]geo.Class{}} }

func (l *lists) add(class geo.Class, networks []netip.Prefix) {
	for _, p := range networks {
		if had, ok := l.of[p]; !ok || class < had {
			l.of[p] = class
		}
		l.lengths[p.Bits()] = true
	}
}

// marks gives all networks and the class of each: the lowest of those that it
// lies in.
func (l *lists) marks() (*geo.Marks, []geo.Class) {
	networks := make([]netip.Prefix, 0, len(l.of))
	for p := range l.of {
		networks = append(networks, p)
	}
	slices.SortFunc(networks, func(p, q netip.Prefix) int {
		if c := p.Addr().Compare(q.Addr()); c != 0 {
			return c
		}
		return p.Bits() - q.Bits()
	})
	classes := make([]geo.Class, len(networks))
	for i, p := range networks {
		classes[i] = l.of[p]
		for bits := range p.Bits() {
			if !l.lengths[bits] {
				continue
			}
			around, _ := p.Addr().Prefix(bits)
			if class, ok := l.of[around]; ok {
				classes[i] = min(classes[i], class)
			}
		}
	}
	return geo.NewMarks(networks), classes
}

// places says which countries and AS numbers are listed, and which rules name.
type places struct {
	countries       map[string]geo.Class
	asns            map[uint32]geo.Class
	bits            map[Place]uint64     // of those that rules name
	sets            []uint64             // of these in which addresses are
	classes         map[uint64]geo.Class // of those sets
	country, number bool                 // the database has any
}

func newPlaces(d *fleet.Defence, named []Place) *places {
	p := &places{countries: map[string]geo.Class{}, asns: map[uint32]geo.Class{}, bits: map[Place]uint64{}, classes: map[uint64]geo.Class{}}
	for i, at := range named {
		if at != (Place{}) {
			p.bits[at] = 1 << i
		}
	}
	for _, k := range d.Block.Countries {
		p.countries[k] = BlockedCountry
	}
	for _, n := range d.Block.ASNs {
		p.asns[n] = BlockedASN
	}
	for _, k := range d.Allow.Countries {
		p.countries[k] = Allowed
	}
	for _, n := range d.Allow.ASNs {
		p.asns[n] = Allowed
	}
	return p
}

// class gives that of a place in a network of that class.
func (p *places) class(at geo.Place, class geo.Class) geo.Class {
	for _, c := range [...]geo.Class{p.countries[at.Country], p.asns[at.ASN]} {
		if c != None && (class == None || c < class) {
			class = c
		}
	}
	if class != None {
		return class
	}
	return p.set(p.bits[Place{Country: at.Country}] | p.bits[Place{ASN: at.ASN}])
}

// set gives the class of a set of named places.
func (p *places) set(bits uint64) geo.Class {
	if bits == 0 {
		return None
	}
	class, ok := p.classes[bits]
	if !ok {
		class = Named + geo.Class(len(p.sets))
		p.classes[bits], p.sets = class, append(p.sets, bits)
	}
	return class
}

func (p *places) seen(at geo.Place) {
	p.country = p.country || at.Country != ""
	p.number = p.number || at.ASN != 0
}

// missing says what of the lists the database cannot tell.
func (p *places) missing() error {
	countries, asns := len(p.countries) > 0, len(p.asns) > 0
	for at := range p.bits {
		countries, asns = countries || at.Country != "", asns || at.ASN != 0
	}
	switch {
	case countries && !p.country:
		return errors.New("has no countries, which the defence asks for")
	case asns && !p.number:
		return errors.New("has no AS numbers, which the defence asks for; name one that has with --geo")
	}
	return nil
}
