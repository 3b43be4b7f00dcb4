package node

import (
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"meridian/fleet"
	"meridian/identity"
	"meridian/rules"
)

func withZones(t testing.TB, w *fleet.World, zones map[string]string) *fleet.World {
	t.Helper()
	var put []fleet.Object
	for n, text := range zones {
		put = append(put, rules.ZoneObject(fleet.Name(n), []byte(text)))
	}
	next := *w
	var none *fleet.Zones
	next.Zones = none.With(put, nil)
	return &next
}

// files lists the files below a folder with their times of change.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			info, _ := e.Info()
			out[path] = info.ModTime().String() + fmt.Sprint(info.Size())
		}
		return nil
	})
	return out
}

func TestZonesAreKeptInAFileEach(t *testing.T) {
	k, _ := identity.NewKey(rand.Reader)
	id, err := identity.New(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "gslb.world")
	d := NewDisk(path, id)
	w := withZones(t, testWorld(t, 3), map[string]string{"a.test.": "one", "0/25.b.test.": "SECRET", "c.test.": ""})
	if err := d.Save(w); err != nil {
		t.Fatal(err)
	}
	before := files(t, dir)
	if len(before) != 4 {
		t.Fatalf("%d files", len(before))
	}
	for name := range before {
		if b, _ := os.ReadFile(name); strings.Contains(string(b), "SECRET") || strings.Contains(string(b), "b.test") {
			t.Errorf("%s is in plain", name)
		}
	}
	again, err := NewDisk(path, id).Load()
	if err != nil {
		t.Fatal(err)
	}
	if put, gone := again.Zones.Since(w.Zones); len(put)+len(gone) != 0 {
		t.Errorf("came back otherwise: %v %v", put, gone)
	}

	next := *w
	next.Zones = w.Zones.With([]fleet.Object{rules.ZoneObject("a.test.", []byte("other"))}, []fleet.Name{"c.test."})
	if err := d.Save(&next); err != nil {
		t.Fatal(err)
	}
	after := files(t, dir)
	changed := 0
	for name, was := range before {
		if after[name] != was {
			changed++
		}
	}
	if len(after) != 3 || changed != 2 {
		t.Errorf("%d files, %d of them written or removed; want one written and one removed", len(after), changed)
	}

	t.Run("what is damaged is left out and counted", func(t *testing.T) {
		for name := range after {
			if strings.HasSuffix(name, ".zone") {
				b, _ := os.ReadFile(name)
				b[len(b)-1] ^= 1
				if err := os.WriteFile(name, b, 0o600); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
		d := NewDisk(path, id)
		w, err := d.Load()
		if err != nil || w.Zones.Len() != 1 || d.Damaged() != 1 {
			t.Fatalf("%v, %d damaged", err, d.Damaged())
		}
		if err := d.Save(&next); err != nil { // and is written again
			t.Fatal(err)
		}
		if w, err := NewDisk(path, id).Load(); err != nil || w.Zones.Len() != 2 {
			t.Errorf("%v: %d zones", err, w.Zones.Len())
		}
	})
	t.Run("another key opens nothing and removes nothing", func(t *testing.T) {
		k, _ := identity.NewKey(rand.Reader)
		other, _ := identity.New(k)
		if _, err := NewDisk(path, other).Load(); err == nil {
			t.Error("opened")
		}
		if len(files(t, dir)) != 3 {
			t.Error("files are gone")
		}
	})
}

// keeper is a Source that is told what the node has.
type keeper struct {
	*script
	had *fleet.World
}

func (k *keeper) Have(w *fleet.World) { k.had = w }

func TestAnAgentAppliesZonesAloneAndTellsItsSourceWhatItHas(t *testing.T) {
	dir := t.TempDir()
	disk := NewDisk(filepath.Join(dir, "w.world"), nil)
	var seen []int
	ap := ApplierFunc(func(w *fleet.World) error { seen = append(seen, w.Zones.Len()); return nil })
	src := &keeper{script: newScript()}
	_, stop := start(t, Config{Source: src, Disk: disk, Appliers: []Named{{"dns", ap}}})
	w := withZones(t, testWorld(t, 1), map[string]string{"a.test.": "1"})
	for _, next := range []*fleet.World{w, w, withZones(t, w, map[string]string{"a.test.": "1", "b.test.": "1"}), withZones(t, w, nil)} {
		if err := src.bring(next); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if !slices.Equal(seen, []int{1, 2, 0}) {
		t.Errorf("applied with %v zones", seen)
	}
	if src.had != nil {
		t.Error("a World that was not there")
	}
	src = &keeper{script: newScript()}
	_, stop = start(t, Config{Source: src, Disk: NewDisk(filepath.Join(dir, "w.world"), nil), Appliers: []Named{{"dns", ap}}})
	_ = src.bring(w)
	stop()
	if src.had == nil || src.had.Snapshot.Revision != 1 || src.had.Zones.Len() != 0 {
		t.Errorf("the source was told of %+v", src.had)
	}
}

func BenchmarkSaveOneZoneOf100000(b *testing.B) {
	var put []fleet.Object
	for i := range 100_000 {
		put = append(put, rules.ZoneObject(fleet.Name(fmt.Sprintf("z%d.test.", i)), []byte("content")))
	}
	var none *fleet.Zones
	w := *testWorld(b, 1)
	w.Zones = none.With(put, nil)
	d := NewDisk(filepath.Join(b.TempDir(), "w.world"), nil)
	if err := d.Save(&w); err != nil {
		b.Fatal(err)
	}
	i := 0
	for b.Loop() {
		i++
		next := w
		next.Zones = w.Zones.With([]fleet.Object{rules.ZoneObject("z7.test.", fmt.Append(nil, i))}, nil)
		if err := d.Save(&next); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoad100000Zones(b *testing.B) {
	var put []fleet.Object
	for i := range 100_000 {
		put = append(put, rules.ZoneObject(fleet.Name(fmt.Sprintf("z%d.test.", i)), []byte("content")))
	}
	var none *fleet.Zones
	w := *testWorld(b, 1)
	w.Zones = none.With(put, nil)
	path := filepath.Join(b.TempDir(), "w.world")
	if err := NewDisk(path, nil).Save(&w); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if got, err := NewDisk(path, nil).Load(); err != nil || got.Zones.Len() != 100_000 {
			b.Fatal(err)
		}
	}
}

// Live objects are kept as zones are, sealed, in a folder of their own.
func TestLiveObjectsAreKeptInAFileEach(t *testing.T) {
	k, _ := identity.NewKey(rand.Reader)
	id, err := identity.New(k)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "edge.world")
	w := *testWorld(t, 3)
	w.Live = w.Live.With([]fleet.Object{rules.LiveObject("certificate/c/www.a.test", []byte("SECRET")), rules.LiveObject("token/x", []byte("{}"))}, nil)
	if err := NewDisk(path, id).Save(&w); err != nil {
		t.Fatal(err)
	}
	again, err := NewDisk(path, id).Load()
	if err != nil {
		t.Fatal(err)
	}
	if put, gone := again.Live.Since(w.Live); len(put)+len(gone) != 0 || again.Zones.Len() != 0 {
		t.Errorf("came back otherwise: %v %v", put, gone)
	}
	for name := range files(t, filepath.Dir(path)) {
		if b, _ := os.ReadFile(name); strings.Contains(string(b), "SECRET") {
			t.Errorf("%s is in plain", name)
		}
	}
}
