package conformance

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/internal/testkit"
)

// TestZoneFilesAreJudgedAsPeersDo loads good and broken zone files by
// named-checkzone, nsd-checkzone, kzonecheck and zone.LoadFS: Meridian takes
// what at least two of the three take and refuses what two refuse, or
// differences.txt tells why not.
func TestZoneFilesAreJudgedAsPeersDo(t *testing.T) {
	named, nsd, knot := testkit.Program(t, "named-checkzone"), testkit.Program(t, "nsd-checkzone"), testkit.Program(t, "kzonecheck")
	list := readDifferences(t).only(aspectFile)
	dir := t.TempDir()
	files := map[string]string{} // by name: the origin
	broken, err := filepath.Glob("testdata/files/*.zone")
	if err != nil || len(broken) == 0 {
		t.Fatal("no files: ", err)
	}
	for _, path := range broken {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(path)
		writeFile(t, dir, name, string(text))
		files[name] = "broken.test."
	}
	for kind, text := range templates(t, "zones") {
		name := "corpus-" + kind + ".zone"
		writeFile(t, dir, name, strings.ReplaceAll(text, "@S@", "plain"))
		files[name] = kind + ".plain."
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		origin, path := files[name], filepath.Join(dir, name)
		by := make([]normal, len(peers))
		var words []string
		_, err := zone.LoadFS(fleet.Name(origin), os.DirFS(dir), name, dir)
		for i, c := range [][]string{nil, {named, "-i", "local", "-q", origin, path}, {nsd, origin, path}, {knot, "-o", origin, path}} {
			if i > 0 {
				var out []byte
				out, err = exec.Command(c[0], c[1:]...).CombinedOutput()
				words = append(words, peers[i]+" says "+string(out))
				if soft := strings.Contains(string(out), "Error summary") && !strings.Contains(string(out), "Serious"); soft {
					err = nil // Knot tells of it and serves the zone
				}
			} else if err != nil {
				words = append(words, "meridian says "+err.Error())
			}
			by[i] = normal{text: map[string]string{aspectFile: verdict(err)}}
		}
		q := query{name: strings.TrimSuffix(name, ".zone"), mode: mode{name: "load"}}
		for _, d := range judge(by) {
			if list.find(d, q, by) == "" {
				t.Errorf("%s\nours: %s\n%s\n%s", name, d.ours, d.theirs, strings.Join(words, "\n"))
			}
		}
	}
	list.unused(t)
}

func verdict(err error) string {
	if err != nil {
		return "refused"
	}
	return "taken"
}
