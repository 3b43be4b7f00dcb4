// Package meridian holds no code: only the test that keeps the house standing.
package meridian

import (
	"fmt"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// floor is one storey of the house, from the cellar up. On an ordered floor a
// room may import the rooms listed before it; on the others siblings keep apart.
type floor struct {
	name    string
	ordered bool
	rooms   []string
}

// house lists every room that holds Go code. A room ending in /... stands for
// all packages below it as well.
var house = []floor{
	{"cellar", true, []string{"internal/testkit", "internal/testkit/netns", "dns/conformance", "edge/l7/garden"}},
	{"ground", true, []string{"fleet"}},
	{"pure", true, []string{
		"identity", "geo", "health/verdict", "steer", "dns/zone", "dns/sign", "dns/answer", "dns/tsig", "dns/update", "dns/catalog", "dns/limit", "dns/imports", "edge/maglev", "edge/defence", "edge/quiclb", "edge/pcap", "edge/sflow",
		"edge/l7/wire", "edge/l7/hop", "edge/l7/hello", "edge/l7/overload", "edge/l7/route", "edge/l7/filter", "edge/l7/balance", "edge/l7/why", "edge/l7/outlier", "edge/l7/limit", "anycast/plan", "rules",
	}},
	{"runtimes", false, []string{
		"serving", "handover", "dns/server", "dns/transfer", "dns/keeper", "edge/l7", "anycast", "node", "controlplane", "synthetic", "health",
	}},
	{"adapters", false, []string{
		"geo/mmdb", "health/gossip", "anycast/gobgp", "dns/quic", "dns/tap", "dns/stub", "dns/xdp", "edge/xdp", "edge/l7/h2", "edge/l7/h3", "edge/l7/otlp", "probe", "synthetic/dashboard",
		"controlplane/store", "controlplane/api", "controlplane/xds", "controlplane/acme",
	}},
	{"roof", true, []string{"cli", "daemon", "lab", "cmd/gslb", "cmd/edge"}},
}

// effects are standard packages that do I/O, start goroutines or keep the
// time; the pure floor and the ground must do without them.
var effects = []string{"net", "net/http", "os", "os/exec", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand", "syscall", "testing/synctest"}

const modulePath = "meridian/"

type place struct{ floor, index int }

func placeOf(room string) (place, bool) {
	for f, fl := range house {
		for i, r := range fl.rooms {
			if r == room {
				return place{f, i}, true
			}
		}
	}
	return place{}, false
}

// importsOf lists the imports of the package's non-test files, on any platform.
func importsOf(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		file := filepath.Join(dir, name)
		if skip(t, file) {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			p, _ := strconv.Unquote(imp.Path.Value)
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// skip says whether a file is a generator, left out of every build by
// "//go:build ignore".
func skip(t *testing.T, file string) bool {
	t.Helper()
	ok, err := build.Default.MatchFile(filepath.Dir(file), filepath.Base(file))
	if err != nil {
		t.Fatal(err)
	}
	return !ok
}

// rooms finds every folder with Go code that some build includes.
func rooms(t *testing.T) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if b := d.Name(); p != "." && (strings.HasPrefix(b, ".") || b == "testdata" || b == "node_modules") {
				return filepath.SkipDir
			}
			return nil
		}
		if dir := path.Dir(filepath.ToSlash(p)); dir != "." && strings.HasSuffix(p, ".go") &&
			!strings.HasSuffix(p, "_test.go") && !skip(t, p) && !slices.Contains(out, dir) {
			out = append(out, dir)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A room imports lower floors only, and on an ordered floor the rooms before it.
func TestRoomsImportOnlyWhatStandsBelow(t *testing.T) {
	for _, room := range rooms(t) {
		at, ok := placeOf(room)
		if !ok {
			t.Errorf("%s stands on no floor: add it to the house here and to ARCHITECTURE.md", room)
			continue
		}
		for _, imp := range importsOf(t, room) {
			dep, ours := strings.CutPrefix(imp, modulePath)
			if !ours {
				continue
			}
			if why := forbidden(at, dep); why != "" {
				t.Errorf("%s imports %s: %s", room, dep, why)
			}
		}
	}
}

// forbidden says why a room at that place must not import dep, or "".
func forbidden(at place, dep string) string {
	to, ok := placeOf(dep)
	switch mine := house[at.floor]; {
	case !ok:
		return "it stands on no floor"
	case house[to.floor].name == "cellar" && mine.name != "roof" && mine.name != "cellar":
		return "the cellar is for tests and lab only, so that no user runs test code"
	case to.floor > at.floor:
		return fmt.Sprintf("%s is the floor above; what is below must be usable without it", house[to.floor].name)
	case to.floor < at.floor:
		return ""
	case !mine.ordered:
		return "siblings on this floor meet only in cmd, through an interface that the consumer declares"
	case to.index >= at.index:
		return "on this floor a room may import only the rooms listed before it, so that there is no cycle"
	}
	return ""
}

// The ground floor needs the standard library and one YAML decoder.
func TestGroundNeedsOnlyOneDecoder(t *testing.T) {
	for _, imp := range importsOf(t, "fleet") {
		if strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") && imp != "go.yaml.in/yaml/v3" {
			t.Errorf("fleet imports %s: every room imports fleet, so whatever it needs everyone needs", imp)
		}
	}
}

// Decisions are pure functions: no socket, clock, logger or global random.
func TestPureRoomsHaveNoEffects(t *testing.T) {
	for _, fl := range house {
		if fl.name != "pure" && fl.name != "ground" {
			continue
		}
		for _, room := range fl.rooms {
			if _, err := os.Stat(room); err != nil {
				t.Errorf("%s is listed in the house and does not exist", room)
				continue
			}
			for _, imp := range importsOf(t, room) {
				if slices.Contains(effects, imp) {
					t.Errorf("%s imports %s: a pure room takes what it needs as arguments, so that each decision can be replayed", room, imp)
				}
			}
		}
	}
}

// Every package says what it is and who must not import it.
func TestEveryRoomHasAPackageComment(t *testing.T) {
	for _, room := range rooms(t) {
		if !hasPackageComment(t, room) {
			t.Errorf("%s has no package comment: say what it is, what it imports, and who must not import it", room)
		}
	}
}

func hasPackageComment(t *testing.T, dir string) bool {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, e.Name()), nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if f.Doc != nil && !strings.HasPrefix(f.Doc.Text(), "Code generated") {
			return true
		}
	}
	return false
}

// Every room of the house has its row in ARCHITECTURE.md.
func TestMapShowsEveryRoom(t *testing.T) {
	doc, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, room := range rooms(t) {
		if strings.HasPrefix(room, "internal/") || strings.HasPrefix(room, "cmd/") {
			continue
		}
		if !strings.Contains(string(doc), "`"+room+"`") && !strings.Contains(string(doc), "`"+path.Base(room)+"`") {
			t.Errorf("ARCHITECTURE.md has no row for %s", room)
		}
	}
}

// A link from one document to another leads somewhere.
func TestDocumentsLinkToWhatExists(t *testing.T) {
	docs, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)#:\s]+)\)`)
	for _, doc := range append(docs, "README.md", "ARCHITECTURE.md") {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(doc), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", doc, m[1])
			}
		}
	}
}
