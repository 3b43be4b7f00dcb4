package conformance

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// world is a set of zones served together.
type world struct {
	name    string
	dir     string
	zones   []zoneFile
	keys    []*dns.DNSKEY // by zone; nil where it is not signed
	queries []query
}

// randomZones is how many zones of random names there are of each family.
const randomZones = 16

// corpus holds the worlds, made once for all tests that ask about them.
var corpus struct {
	dir    string
	once   sync.Once
	worlds []world
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	corpus.dir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// worlds gives the zone files of the corpus: all kinds as they are and signed
// by several signers on one server, and root zones on others.
func worlds(t *testing.T) []world {
	t.Helper()
	corpus.once.Do(func() { corpus.worlds = makeWorlds(t) })
	if corpus.worlds == nil {
		t.Fatal("the corpus could not be made")
	}
	return corpus.worlds
}

func makeWorlds(t *testing.T) []world {
	t.Helper()
	w := newWorld(t, "zones")
	kinds := templates(t, "zones")
	for seed := range uint64(randomZones) {
		kinds[fmt.Sprintf("random%02d", seed)] = randomZone(seed)
	}
	for _, f := range families {
		ds := "" // of the child, which sorts before its parent
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			if kind >= "random04" && kind < "randomA" && strings.HasPrefix(f.name, "own") {
				continue // enough
			}
			text := strings.ReplaceAll(kinds[kind], "@S@", f.name)
			if kind == "parent" {
				text += ds
			}
			key := w.add(t, kind+"."+f.name+".", text, f.sign)
			if kind == "child.parent" && key != nil {
				ds = key.ToDS(dns.SHA256).String() + "\n"
			}
		}
	}
	out := []world{w}
	for _, f := range families {
		r := newWorld(t, "root-"+f.name)
		r.add(t, ".", templates(t, "root")["root"], f.sign)
		out = append(out, r)
	}
	return out
}

func newWorld(t *testing.T, name string) world {
	t.Helper()
	dir := filepath.Join(corpus.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return world{name: name, dir: dir}
}

// add makes a zone's file and its questions, and gives the key that it is
// signed with, if it is.
func (w *world) add(t testing.TB, name, text string, sign signer) *dns.DNSKEY {
	t.Helper()
	text = "$ORIGIN " + name + "\n" + text
	var key *dns.DNSKEY
	served := text
	if sign != nil {
		served, key = sign(t, name, text)
	}
	file := strings.TrimSuffix(name, ".")
	if name == "." {
		file = "root"
	}
	w.zones = append(w.zones, zoneFile{name, writeFile(t, w.dir, file+".zone", served)})
	w.queries = append(w.queries, ask(name, text, sign != nil)...)
	w.keys = append(w.keys, key)
	return key
}

// only keeps the zones whose names end so, in the same folder.
func (w world) only(suffix string) world {
	out := world{name: w.name, dir: w.dir}
	for i, z := range w.zones {
		if strings.HasSuffix(z.name, suffix) {
			out.zones, out.keys = append(out.zones, z), append(out.keys, w.keys[i])
		}
	}
	for _, q := range w.queries {
		if strings.HasSuffix(q.zone, suffix) {
			out.queries = append(out.queries, q)
		}
	}
	return out
}
