package mmdb

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/oschwald/geoip2-golang/v2"

	"meridian/geo"
)

// write makes a database file of the given type.
func write(t testing.TB, path, kind string, networks map[string]mmdbtype.Map) {
	t.Helper()
	if err := os.WriteFile(path, build(t, kind, networks), 0o600); err != nil {
		t.Fatal(err)
	}
}

func build(t testing.TB, kind string, networks map[string]mmdbtype.Map) []byte {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: kind, RecordSize: 24, IncludeReservedNetworks: true, BuildEpoch: 1700000000})
	if err != nil {
		t.Fatal(err)
	}
	for cidr, rec := range networks {
		_, n, err := net.ParseCIDR(cidr)
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Insert(n, rec); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := tree.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func country(code string) mmdbtype.Map {
	return mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(code)}}
}

func asn(n uint32) mmdbtype.Map {
	return mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(n)}
}

func TestDefaultDatabase(t *testing.T) {
	s, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"91.0.0.1": "DE", "133.11.0.1": "JP", "200.160.2.3": "BR", "2400:4000::1": "JP", "2a02:2e0::1": "DE", "::ffff:91.0.0.1": "DE",
	} {
		p, ok := s.Lookup(netip.MustParseAddr(addr))
		c, _ := geo.FindCountry(want)
		if !ok || p != c.Place() {
			t.Errorf("%s: %+v, want %s", addr, p, want)
		}
	}
	if p, ok := s.Lookup(netip.MustParseAddr("10.0.0.1")); ok {
		t.Errorf("a private address is in %v", p)
	}
}

// geoip2-golang reads the embedded database like any other.
func TestDefaultDatabaseHasGeoIP2Schema(t *testing.T) {
	s, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.mmdb")
	write(t, path, "GeoIP2-Country", map[string]mmdbtype.Map{"192.0.2.0/24": country("DE")})
	r, err := geoip2.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if c, err := r.Country(netip.MustParseAddr("192.0.2.1")); err != nil || c.Country.ISOCode != "DE" {
		t.Fatalf("%+v, %v", c, err)
	}
	if got := s.(*database).reader.Metadata.DatabaseType; got != r.Metadata().DatabaseType {
		t.Errorf("database type %q", got)
	}
	var city geoip2.City
	if err := s.(*database).reader.Lookup(netip.MustParseAddr("91.0.0.1")).Decode(&city); err != nil || city.Country.ISOCode != "DE" ||
		city.Continent.Code != "EU" || city.Location.Latitude == nil || *city.Location.Latitude != 51 {
		t.Errorf("%+v, %v", city, err)
	}
}

// The whole embedded database compiles into a table.
func TestDefaultDatabaseCompiles(t *testing.T) {
	s, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	table, err := geo.Compile(s.Networks(), func(p geo.Place) geo.Class {
		if p.Country == "DE" {
			return 1
		}
		return 0
	})
	if err != nil {
		t.Fatal(err)
	}
	if k, scope := table.Lookup(netip.MustParseAddr("91.0.0.1")); k != 1 || scope < 8 || scope > 24 {
		t.Errorf("class %d scope %d", k, scope)
	}
}

func TestCityDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "city.mmdb")
	rec := country("US")
	rec["subdivisions"] = mmdbtype.Slice{mmdbtype.Map{"iso_code": mmdbtype.String("CA")}}
	rec["city"] = mmdbtype.Map{"names": mmdbtype.Map{"en": mmdbtype.String("Fresno")}}
	rec["location"] = mmdbtype.Map{"latitude": mmdbtype.Float64(36.7), "longitude": mmdbtype.Float64(-119.8)}
	write(t, path, "GeoIP2-City", map[string]mmdbtype.Map{"192.0.2.0/24": rec})
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	want := geo.Place{Continent: "NA", Country: "US", Subdivision: "US-CA", City: "Fresno", Latitude: 36.7, Longitude: -119.8, Located: true}
	if p, ok := s.Lookup(netip.MustParseAddr("192.0.2.9")); !ok || p != want {
		t.Errorf("%+v", p)
	}
	if got := s.String(); got != "city.mmdb (GeoIP2-City, 2023-11-14)" {
		t.Errorf("%q", got)
	}
}

// Two files lie over each other; networks are split where they differ.
func TestTwoDatabases(t *testing.T) {
	dir := t.TempDir()
	places, numbers := filepath.Join(dir, "country.mmdb"), filepath.Join(dir, "asn.mmdb")
	write(t, places, "GeoIP2-Country", map[string]mmdbtype.Map{"10.0.0.0/8": country("DE"), "12.0.0.0/8": country("JP"), "2001:db8::/32": country("FR")})
	write(t, numbers, "GeoLite2-ASN", map[string]mmdbtype.Map{"10.64.0.0/10": asn(1), "11.0.0.0/8": asn(2), "12.0.0.0/7": asn(3), "2001:db8:1::/48": asn(4)})
	s, err := Open(numbers, places)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	covered := map[string]geo.Place{}
	for p, place := range s.Networks() {
		got = append(got, p.String())
		covered[p.String()] = place
		if at, ok := s.Lookup(p.Addr()); !ok || at != place {
			t.Errorf("%s: network %v, lookup %v", p, place, at)
		}
	}
	want := "10.0.0.0/10 10.64.0.0/10 10.128.0.0/9 11.0.0.0/8 12.0.0.0/8 13.0.0.0/8"
	if v4 := strings.Join(got[:6], " "); v4 != want {
		t.Errorf("networks %s, want %s", v4, want)
	}
	if p := covered["10.64.0.0/10"]; p.Country != "DE" || p.ASN != 1 {
		t.Errorf("10.64.0.0/10: %+v", p)
	}
	if p := covered["2001:db8:1::/48"]; p.Country != "FR" || p.ASN != 4 {
		t.Errorf("2001:db8:1::/48: %+v", p)
	}
	if _, err := geo.Compile(s.Networks(), func(geo.Place) geo.Class { return 0 }); err != nil {
		t.Error(err)
	}
}

func TestBadFilesAreRefusedWithTheirReason(t *testing.T) {
	dir := t.TempDir()
	good := build(t, "GeoIP2-Country", map[string]mmdbtype.Map{"10.0.0.0/8": country("DE"), "2001:db8::/32": country("FR")})
	loop := bytes.Clone(good)
	copy(loop, make([]byte, 6)) // both ways from the root lead back to it
	at := bytes.Index(good, []byte("\xab\xcd\xefMaxMind.com"))
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty.mmdb":     {nil, "is not an MMDB"},
		"text.mmdb":      {[]byte("hello"), "is not an MMDB"},
		"truncated.mmdb": {good[:len(good)/2], "is not an MMDB"},
		"cut-tree.mmdb":  {good[at-40:], "corrupt"},
		"loop.mmdb":      {loop, "the search tree has a loop"},
		"other.mmdb":     {build(t, "Other", map[string]mmdbtype.Map{"10.0.0.0/8": {"x": mmdbtype.Uint32(1)}}), "holds neither"},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := Open(filepath.Join(dir, "absent.mmdb")); err == nil || !strings.Contains(err.Error(), "absent.mmdb") {
		t.Errorf("absent file: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	good := build(f, "GeoIP2-Country", map[string]mmdbtype.Map{"10.0.0.0/8": country("DE"), "2001:db8::/32": country("FR")})
	f.Add(good)
	f.Add(good[:len(good)-20])
	for i := 0; i < len(good); i += 97 {
		bad := bytes.Clone(good)
		bad[i] ^= 0x55
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := parse(data, "fuzz")
		if err != nil {
			return
		}
		if _, err := geo.Compile(d.Networks(), func(geo.Place) geo.Class { return 0 }); err != nil {
			t.Skip("a tree that repeats networks is refused by the table")
		}
	})
}

// A replaced file is read anew; a broken one leaves the old in use.
func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "geo.mmdb")
	write(t, path, "GeoIP2-Country", map[string]mmdbtype.Map{"10.0.0.0/8": country("DE")})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var log bytes.Buffer
		var got []string
		go Watch(ctx, slog.New(slog.NewTextHandler(&log, nil)), time.Second, func(s geo.Source) {
			p, _ := s.Lookup(netip.MustParseAddr("10.0.0.1"))
			got = append(got, p.Country)
		}, path)
		step := func() { time.Sleep(1500 * time.Millisecond); synctest.Wait() }
		step()
		if len(got) != 0 {
			t.Fatalf("an unchanged file was read anew")
		}
		if err := os.WriteFile(path, []byte("broken"), 0o600); err != nil {
			t.Fatal(err)
		}
		step()
		if len(got) != 0 || !strings.Contains(log.String(), "the old one stays") {
			t.Fatalf("broken file: %v, log %s", got, log.String())
		}
		write(t, path, "GeoIP2-Country", map[string]mmdbtype.Map{"10.0.0.0/8": country("FR")})
		step()
		if len(got) != 1 || got[0] != "FR" {
			t.Fatalf("replaced file: %v", got)
		}
		cancel()
	})
}

func BenchmarkDefault(b *testing.B) {
	for b.Loop() {
		if _, err := Default(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompileDefault(b *testing.B) {
	s, err := Default()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := geo.Compile(s.Networks(), func(p geo.Place) geo.Class { return geo.Class(len(p.Continent)) + geo.Class(p.Latitude+90) }); err != nil {
			b.Fatal(err)
		}
	}
}
