//go:build ignore

// Generate writes the dashboard's two foreign assets from their published
// packages, with their licences: the world's countries as SVG paths
// (assets/world.svg) and the typeface (assets/inter.woff2). It needs npm.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/text/language"

	"meridian/synthetic/dashboard"
)

// npmPackage is one published version with the digest of its archive.
type npmPackage struct{ name, version, sha512 string }

var (
	// Natural Earth 1:110m (public domain) as TopoJSON.
	atlas = npmPackage{"world-atlas", "2.0.2", "IXfV0qwlKXpckz1FhwXVwKRjiIhOnWttOskm5CtxMsjgE/MXAYRHWJqgXOpM8IkcPBoXnyTU5lFHcYa5ChG0LQ=="}
	// Inter, under the SIL Open Font License 1.1.
	inter = npmPackage{"@fontsource-variable/inter", "5.3.0", "OupL48va4JNofb97w6NYeF9S7W/kHNKM0Er8Dem5nqi4jeOLrVJDoE8tZEpnMJmtkvNbB1EIPPwHcdkF6b1oUA=="}
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("generate: ")
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	land, err := atlas.files("package/countries-110m.json", "package/LICENSE")
	if err != nil {
		return err
	}
	world, err := worldSVG(land[0])
	if err != nil {
		return fmt.Errorf("%s: %w", atlas.name, err)
	}
	font, err := inter.files("package/files/inter-latin-wght-normal.woff2", "package/LICENSE")
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile("assets/world.svg", world, 0o644),
		os.WriteFile("assets/world-LICENSE.txt", land[1], 0o644),
		os.WriteFile("assets/inter.woff2", font[0], 0o644),
		os.WriteFile("assets/inter-LICENSE.txt", font[1], 0o644),
	)
}

// files fetches the package and gives the named files of its archive.
func (p npmPackage) files(names ...string) ([][]byte, error) {
	dir, err := os.MkdirTemp("", "dashboard")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("npm", "pack", "--silent", p.name+"@"+p.version)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("npm pack %s: %w", p.name, err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("npm pack %s: expected one archive, found %d", p.name, len(found))
	}
	archive, err := os.ReadFile(found[0])
	if err != nil {
		return nil, err
	}
	sum := sha512.Sum512(archive)
	if got := base64.StdEncoding.EncodeToString(sum[:]); got != p.sha512 {
		return nil, fmt.Errorf("%s@%s has the SHA-512 %s, expected %s", p.name, p.version, got, p.sha512)
	}
	out := make([][]byte, len(names))
	for i, name := range names {
		if out[i], err = extract(archive, name); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return out, nil
}

func extract(archive []byte, name string) ([]byte, error) {
	unzipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, err
	}
	for r := tar.NewReader(unzipped); ; {
		h, err := r.Next()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if h.Name == name {
			return io.ReadAll(r)
		}
	}
}

// topology is the part of TopoJSON that the atlas uses.
type topology struct {
	Transform struct{ Scale, Translate [2]float64 }
	Arcs      [][][2]float64
	Objects   struct {
		Countries struct {
			Geometries []struct {
				Type       string
				ID         string
				Arcs       json.RawMessage
				Properties struct{ Name string }
			}
		}
	}
}

// place is in degrees; point is on the map's plane, in tenths of a unit.
type (
	place struct{ lon, lat float64 }
	point struct{ x, y int }
)

// worldSVG draws each country as one path element, with its ISO 3166-1
// alpha-2 code and the middle of its largest part.
func worldSVG(doc []byte) ([]byte, error) {
	var topo topology
	if err := json.Unmarshal(doc, &topo); err != nil {
		return nil, err
	}
	arcs := topo.degrees()
	var out bytes.Buffer
	for _, g := range topo.Objects.Countries.Geometries {
		if g.ID == "010" { // Antarctica lies beyond the map's edge
			continue
		}
		var polygons [][][]int
		var err error
		if g.Type == "Polygon" {
			polygons = make([][][]int, 1)
			err = json.Unmarshal(g.Arcs, &polygons[0])
		} else {
			err = json.Unmarshal(g.Arcs, &polygons)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", g.Properties.Name, err)
		}
		code, err := alpha2(g.ID, g.Properties.Name)
		if err != nil {
			return nil, err
		}
		path, x, y := draw(polygons, arcs)
		if code != "" {
			fmt.Fprintf(&out, `<path data-country="%s" data-x="%.1f" data-y="%.1f" d="%s"/>`+"\n", code, x, y, path)
		} else {
			fmt.Fprintf(&out, `<path d="%s"/>`+"\n", path)
		}
	}
	return out.Bytes(), nil
}

// alpha2 turns a numeric ISO 3166-1 code into letters. Three territories of
// the atlas have no number: Kosovo goes by the code that geo databases use.
func alpha2(numeric, name string) (string, error) {
	if numeric == "" {
		if name == "Kosovo" {
			return "XK", nil
		}
		return "", nil
	}
	n, err := strconv.Atoi(numeric)
	if err != nil {
		return "", fmt.Errorf("%s: code %q: %w", name, numeric, err)
	}
	r, err := language.EncodeM49(n)
	if err != nil || !r.IsCountry() {
		return "", fmt.Errorf("%s: %q is not the code of a country", name, numeric)
	}
	return r.String(), nil
}

// degrees undoes the quantization: every arc as longitudes and latitudes.
func (t *topology) degrees() [][]place {
	out := make([][]place, len(t.Arcs))
	for i, arc := range t.Arcs {
		var qx, qy float64
		for _, d := range arc {
			qx, qy = qx+d[0], qy+d[1]
			out[i] = append(out[i], place{qx*t.Transform.Scale[0] + t.Transform.Translate[0],
				qy*t.Transform.Scale[1] + t.Transform.Translate[1]})
		}
	}
	return out
}

// draw gives the path data of the polygons and the middle of the largest.
func draw(polygons [][][]int, arcs [][]place) (path string, x, y float64) {
	var b strings.Builder
	largest := -1.0
	for _, polygon := range polygons {
		for i, ring := range polygon {
			for _, part := range cut(join(ring, arcs)) {
				points := project(part)
				if len(points) < 3 {
					continue
				}
				writeRing(&b, points)
				if area, cx, cy := middle(points); i == 0 && area > largest {
					largest, x, y = area, cx, cy
				}
			}
		}
	}
	return b.String(), x / 10, y / 10
}

// join puts the arcs of a ring one after the other; ~n is arc n backwards.
// Longitudes run on beyond 180 degrees rather than jump.
func join(ring []int, arcs [][]place) []place {
	var out []place
	for _, n := range ring {
		arc := arcs[max(n, ^n)]
		for i := range arc {
			p := arc[i]
			if n < 0 {
				p = arc[len(arc)-1-i]
			}
			if len(out) > 0 {
				p.lon -= 360 * math.Round((p.lon-out[len(out)-1].lon)/360)
			}
			out = append(out, p)
		}
	}
	return out
}

// cut divides a ring at the antimeridian.
func cut(ring []place) [][]place {
	var parts [][]place
	for _, turn := range []float64{-360, 0, 360} {
		part := make([]place, len(ring))
		for i, p := range ring {
			part[i] = place{p.lon + turn, p.lat}
		}
		part = clip(part, func(p place) float64 { return 180 - p.lon })
		part = clip(part, func(p place) float64 { return p.lon + 180 })
		if len(part) > 2 {
			parts = append(parts, part)
		}
	}
	return parts
}

// clip keeps the part of a ring where inside is positive, by Sutherland and
// Hodgman.
func clip(ring []place, inside func(place) float64) []place {
	var out []place
	for i, p := range ring {
		before := ring[(i+len(ring)-1)%len(ring)]
		a, b := inside(before), inside(p)
		if (a > 0) != (b > 0) {
			k := a / (a - b)
			out = append(out, place{before.lon + k*(p.lon-before.lon), before.lat + k*(p.lat-before.lat)})
		}
		if b > 0 {
			out = append(out, p)
		}
	}
	return out
}

// project puts a ring on the map's plane, without points that fall together.
func project(ring []place) []point {
	var out []point
	for _, p := range ring {
		x, y := dashboard.Project(p.lat, p.lon)
		q := point{int(math.Round(x * 10)), int(math.Round(y * 10))}
		if len(out) == 0 || out[len(out)-1] != q {
			out = append(out, q)
		}
	}
	for len(out) > 1 && out[0] == out[len(out)-1] {
		out = out[:len(out)-1]
	}
	return out
}

// writeRing writes a ring, which closes by itself, in relative steps.
func writeRing(b *strings.Builder, points []point) {
	fmt.Fprintf(b, "M%s", pair(points[0]))
	for i := 1; i < len(points); i++ {
		step := pair(point{points[i].x - points[i-1].x, points[i].y - points[i-1].y})
		if i == 1 {
			b.WriteByte('l')
		} else if step[0] != '-' {
			b.WriteByte(' ')
		}
		b.WriteString(step)
	}
	b.WriteByte('z')
}

// pair writes two coordinates as shortly as SVG reads them.
func pair(p point) string {
	x, y := tenths(p.x), tenths(p.y)
	if y[0] == '-' {
		return x + y
	}
	return x + " " + y
}

func tenths(n int) string {
	s := strconv.FormatFloat(float64(n)/10, 'f', -1, 64)
	return strings.Replace(s, "0.", ".", map[bool]int{true: 1}[math.Abs(float64(n)) < 10])
}

// middle gives a ring's area and centre of mass.
func middle(points []point) (area, x, y float64) {
	for i := range points {
		p, q := points[i], points[(i+1)%len(points)]
		cross := float64(p.x*q.y - q.x*p.y)
		area += cross
		x += float64(p.x+q.x) * cross
		y += float64(p.y+q.y) * cross
	}
	if area == 0 {
		return 0, float64(points[0].x), float64(points[0].y)
	}
	return math.Abs(area / 2), x / (3 * area), y / (3 * area)
}
