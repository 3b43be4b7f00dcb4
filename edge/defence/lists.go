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

// Geo says whether the lists go by a geo database.
func Geo(d *fleet.Defence) bool {
	return len(d.Allow.Countries)+len(d.Allow.ASNs)+len(d.Block.Countries)+len(d.Block.ASNs) > 0
}

// Lists compiles the lists to a table of classes of addresses; own are
// addresses that no client has: VIPs and the node's. source may be nil where
// Geo says so. Errors: the source lacks what the lists go by.
func Lists(d *fleet.Defence, own []netip.Addr, source geo.Source) (*geo.Table, error) {
	l := newLists()
	if d.Static != nil && *d.Static {
		l.add(Martian, nobody)
		for _, a := range own {
			l.add(Martian, []netip.Prefix{netip.PrefixFrom(a, a.BitLen())})
		}
	}
	l.add(Allowed, d.Allow.Prefixes)
	l.add(Blocked, d.Block.Prefixes)
	places := newPlaces(d)
	var networks iter.Seq2[netip.Prefix, geo.Place] = func(func(netip.Prefix, geo.Place) bool) {}
	if Geo(d) {
		if source == nil {
			return nil, errors.New("lists of countries and AS numbers need a geo database")
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
	if Geo(d) {
		if err := places.missing(); err != nil {
			return nil, fmt.Errorf("geo database %s: %w", source, err)
		}
	}
	return t, nil
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

// places says which countries and AS numbers are listed.
type places struct {
	countries       map[string]geo.Class
	asns            map[uint32]geo.Class
	country, number bool // the database has any
}

func newPlaces(d *fleet.Defence) *places {
	p := &places{countries: map[string]geo.Class{}, asns: map[uint32]geo.Class{}}
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
	return class
}

func (p *places) seen(at geo.Place) {
	p.country = p.country || at.Country != ""
	p.number = p.number || at.ASN != 0
}

// missing says what of the lists the database cannot tell.
func (p *places) missing() error {
	switch {
	case len(p.countries) > 0 && !p.country:
		return errors.New("has no countries, which defence lists")
	case len(p.asns) > 0 && !p.number:
		return errors.New("has no AS numbers, which defence lists; name one that has with --geo")
	}
	return nil
}
