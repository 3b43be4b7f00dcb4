// Package mmdb reads geo databases in MaxMind's format with the GeoIP2 schema,
// and holds the embedded default one.
//
// Adapter floor: it wraps oschwald/maxminddb-golang and gives geo.Source; only
// the roof imports it.
package mmdb

import (
	"compress/gzip"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"

	"meridian/geo"
)

//go:generate go run generate.go

//go:embed country.mmdb.gz
var embedded string

// record is what is read of a GeoIP2 record, whatever the kind of database.
type record struct {
	Continent struct {
		Code string `maxminddb:"code"`
	} `maxminddb:"continent"`
	Country struct {
		Code string `maxminddb:"iso_code"`
	} `maxminddb:"country"`
	Subdivisions []struct {
		Code string `maxminddb:"iso_code"`
	} `maxminddb:"subdivisions"`
	City struct {
		Names struct {
			English string `maxminddb:"en"`
		} `maxminddb:"names"`
	} `maxminddb:"city"`
	Location struct {
		Latitude  *float64 `maxminddb:"latitude"`
		Longitude *float64 `maxminddb:"longitude"`
	} `maxminddb:"location"`
	ASN uint32 `maxminddb:"autonomous_system_number"`
}

// place completes what a country database leaves out from the table of
// countries.
func (r *record) place() geo.Place {
	p := geo.Place{Continent: r.Continent.Code, Country: r.Country.Code, City: r.City.Names.English, ASN: r.ASN}
	if len(r.Subdivisions) > 0 && r.Subdivisions[0].Code != "" {
		p.Subdivision = p.Country + "-" + r.Subdivisions[0].Code
	}
	if lat, lon := r.Location.Latitude, r.Location.Longitude; lat != nil && lon != nil &&
		*lat >= -90 && *lat <= 90 && *lon >= -180 && *lon <= 180 {
		p.Latitude, p.Longitude, p.Located = *lat, *lon, true
	}
	if c, ok := geo.FindCountry(p.Country); ok {
		if p.Continent == "" {
			p.Continent = c.Continent
		}
		if !p.Located {
			p.Latitude, p.Longitude, p.Located = c.Latitude, c.Longitude, true
		}
	}
	return p
}

// database is one MMDB in memory. It implements geo.Source.
type database struct {
	reader *maxminddb.Reader
	name   string
}

// Default gives the embedded country database.
func Default() (geo.Source, error) {
	zr, err := gzip.NewReader(strings.NewReader(embedded))
	if err != nil {
		return nil, fmt.Errorf("embedded geo database: %w", err)
	}
	data, err := io.ReadAll(zr)
	if err != nil {
		return nil, fmt.Errorf("embedded geo database: %w", err)
	}
	reader, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("embedded geo database: %w", err)
	}
	return &database{reader, "embedded country database"}, nil
}

// Open reads one or two GeoIP2-style databases: one with places (Country or
// City), one with AS numbers, in either order; where both know a thing the
// first wins. The whole of each file is checked, and held in memory, so that
// a file that changes on disk does no harm.
func Open(paths ...string) (geo.Source, error) {
	switch len(paths) {
	case 1:
		return open(paths[0])
	case 2:
		a, err := open(paths[0])
		if err != nil {
			return nil, err
		}
		b, err := open(paths[1])
		if err != nil {
			return nil, err
		}
		return &pair{a, b}, nil
	}
	return nil, fmt.Errorf("geo database: expected one or two files, got %d", len(paths))
}

func open(path string) (*database, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("geo database: %w", err)
	}
	d, err := parse(data, filepath.Base(path))
	if err != nil {
		return nil, fmt.Errorf("geo database %s: %w", path, err)
	}
	return d, nil
}

// errNoPlaces is what a database of some other schema comes to.
var errNoPlaces = errors.New("holds neither countries nor AS numbers; expected the GeoIP2 Country, City or ASN schema")

func parse(data []byte, name string) (d *database, err error) {
	defer func() { // a reader's slip on hostile input must not end the program
		if p := recover(); p != nil {
			err = fmt.Errorf("is corrupt: %v", p)
		}
	}()
	reader, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("is not an MMDB or is corrupt: %w", err)
	}
	if err := checkTree(data, reader.Metadata); err != nil {
		return nil, fmt.Errorf("is corrupt: %w", err)
	}
	d = &database{reader, name}
	useful, last := false, netip.Prefix{}
	err = d.walk(func(p netip.Prefix, place geo.Place) bool {
		useful = useful || place.Country != "" || place.Continent != "" || place.ASN != 0
		if last.IsValid() && last.Overlaps(p) {
			return false
		}
		last = p
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("is corrupt: %w", err)
	}
	if !useful {
		return nil, errNoPlaces
	}
	return d, nil
}

// walk visits every network; records that several networks share are decoded
// once.
func (d *database) walk(visit func(netip.Prefix, geo.Place) bool) error {
	places := map[uintptr]geo.Place{}
	for r := range d.reader.Networks() {
		if err := r.Err(); err != nil {
			return err
		}
		place, ok := places[r.Offset()]
		if !ok {
			var rec record
			if err := r.Decode(&rec); err != nil {
				return fmt.Errorf("network %s: %w", r.Prefix(), err)
			}
			place = rec.place()
			places[r.Offset()] = place
		}
		if !visit(r.Prefix(), place) {
			return nil
		}
	}
	return nil
}

// Networks implements geo.Source. Errors cannot occur any more: Open has
// walked the same bytes.
func (d *database) Networks() iter.Seq2[netip.Prefix, geo.Place] {
	return func(yield func(netip.Prefix, geo.Place) bool) { _ = d.walk(yield) }
}

// Lookup implements geo.Source.
func (d *database) Lookup(a netip.Addr) (geo.Place, bool) {
	r := d.reader.Lookup(a.Unmap())
	if !r.Found() {
		return geo.Place{}, false
	}
	var rec record
	if r.Decode(&rec) != nil {
		return geo.Place{}, false
	}
	return rec.place(), true
}

// String implements geo.Source.
func (d *database) String() string {
	m := d.reader.Metadata
	return fmt.Sprintf("%s (%s, %s)", d.name, m.DatabaseType, time.Unix(int64(m.BuildEpoch), 0).UTC().Format(time.DateOnly))
}

// pair lays two databases over each other.
type pair struct{ a, b geo.Source }

func (p *pair) String() string { return strings.Join([]string{p.a.String(), p.b.String()}, " and ") }

func (p *pair) Lookup(addr netip.Addr) (geo.Place, bool) {
	a, okA := p.a.Lookup(addr)
	b, okB := p.b.Lookup(addr)
	return join(a, b), okA || okB
}

// join completes a by what b knows and a does not.
func join(a, b geo.Place) geo.Place {
	if a.Country == "" && a.Continent == "" {
		asn := a.ASN
		a = b
		if asn != 0 {
			a.ASN = asn
		}
	}
	if a.ASN == 0 {
		a.ASN = b.ASN
	}
	return a
}

// Networks walks both databases side by side. Two networks are apart or one
// holds the other; then the wider one is halved until they are equal.
func (p *pair) Networks() iter.Seq2[netip.Prefix, geo.Place] {
	return func(yield func(netip.Prefix, geo.Place) bool) {
		a, b := newFeed(p.a), newFeed(p.b)
		defer a.stop()
		defer b.stop()
		for a.ok || b.ok {
			var prefix netip.Prefix
			var place geo.Place
			switch {
			case !b.ok || a.ok && !a.prefix.Overlaps(b.prefix) && before(a.prefix, b.prefix):
				prefix, place = a.prefix, a.place
				a.advance()
			case !a.ok || !a.prefix.Overlaps(b.prefix):
				prefix, place = b.prefix, b.place
				b.advance()
			case a.prefix.Bits() < b.prefix.Bits():
				a.halve()
				continue
			case b.prefix.Bits() < a.prefix.Bits():
				b.halve()
				continue
			default:
				prefix, place = a.prefix, join(a.place, b.place)
				a.advance()
				b.advance()
			}
			if !yield(prefix, place) {
				return
			}
		}
	}
}

// before orders IPv4 before IPv6, then by address.
func before(a, b netip.Prefix) bool { return a.Addr().Less(b.Addr()) }

// feed gives a source's networks one by one and can split the current one.
type feed struct {
	prefix netip.Prefix
	place  geo.Place
	ok     bool
	rest   []netip.Prefix // later parts of the network that was split, the next one last
	pull   func() (netip.Prefix, geo.Place, bool)
	stop   func()
}

func newFeed(s geo.Source) *feed {
	f := &feed{}
	f.pull, f.stop = iter.Pull2(s.Networks())
	f.advance()
	return f
}

func (f *feed) advance() {
	if n := len(f.rest); n > 0 {
		f.prefix, f.rest = f.rest[n-1], f.rest[:n-1]
		return
	}
	f.prefix, f.place, f.ok = f.pull()
}

func (f *feed) halve() {
	bits := f.prefix.Bits()
	b := f.prefix.Addr().AsSlice()
	b[bits/8] |= 0x80 >> (bits % 8)
	upper, _ := netip.AddrFromSlice(b)
	f.rest = append(f.rest, netip.PrefixFrom(upper, bits+1))
	f.prefix = netip.PrefixFrom(f.prefix.Addr(), bits+1)
}
