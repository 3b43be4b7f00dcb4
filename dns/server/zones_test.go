package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/zone"
)

// folder is one of zone files.
type folder struct {
	testing.TB
	dir string
}

func (f folder) write(file, text string) {
	f.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, file), []byte(text), 0o600); err != nil {
		f.Fatal(err)
	}
}

// age makes a file look as if it was written long ago.
func (f folder) age(file string) {
	f.Helper()
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(f.dir, file), old, old); err != nil {
		f.Fatal(err)
	}
}

const plainZone = "$TTL 300\n@ SOA ns1 admin %d 2 3 4 5\n@ NS ns1\nns1 A 192.0.2.53\n"

const rootZone = "$TTL 300\n. SOA a. b. 1 2 3 4 5\n. NS ns.\nns. A 192.0.2.53\ntest. NS ns.test.\nns.test. A 192.0.2.54\n"

func TestLoadDir(t *testing.T) {
	dir := t.TempDir()
	write := func(file, text string) {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, nil)
	if _, err := s.LoadDir(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "no file that ends in .zone") {
		t.Errorf("an empty folder: %v", err)
	}
	const head = "$TTL 300\n@ SOA ns1 admin 1 2 3 4 5\n@ NS ns1\nns1 A 192.0.2.53\n"
	write("root.zone", rootZone)
	write("demo.test.zone", head+"$INCLUDE hosts\n")
	write("hosts", "www A 192.0.2.1\n")
	if _, err := s.LoadDir(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	www := func() string {
		return exchange1(t, "udp", s.Addrs()[0], "www.demo.test.", dns.TypeA).Answer[0].String()
	}
	if r := exchange1(t, "udp", s.Addrs()[0], "x.test.", dns.TypeA); len(r.Ns) != 1 || r.Authoritative {
		t.Errorf("referral from the root: %v", r)
	}
	if !strings.HasSuffix(www(), "192.0.2.1") {
		t.Error(www())
	}
	write("demo.test.zone", head+"www A nonsense\n")
	write("more.test.zone", head)
	_, err := s.LoadDir(t.Context(), dir)
	if want := filepath.Join(dir, "demo.test.zone") + ":5: "; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	if !strings.HasSuffix(www(), "192.0.2.1") {
		t.Errorf("the zone that was served is gone: %s", www())
	}
	if r := exchange1(t, "udp", s.Addrs()[0], "ns1.more.test.", dns.TypeA); len(r.Answer) != 1 {
		t.Errorf("a good zone was not loaded beside a bad one: %v", r)
	}
}

// Only the zones whose files have changed, in content, are read again.
func TestLoadDirReadsWhatHasChanged(t *testing.T) {
	s := start(t, nil)
	f := folder{t, t.TempDir()}
	changes := map[string]int{}
	s.OnZone(func(old, new *zone.Zone) {
		if new != nil {
			changes[string(new.Name)]++
		} else {
			changes[string(old.Name)]--
		}
	})
	load := func(want map[string]int) {
		t.Helper()
		clear(changes)
		if _, err := s.LoadDir(t.Context(), f.dir); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(changes) != fmt.Sprint(want) {
			t.Errorf("changed %v, want %v", changes, want)
		}
	}
	f.write("a.test.zone", fmt.Sprintf(plainZone, 1))
	f.write("b.test.zone", fmt.Sprintf(plainZone, 1)+"$INCLUDE hosts\n")
	f.write("hosts", "www A 192.0.2.1\n")
	for _, file := range []string{"a.test.zone", "b.test.zone", "hosts"} {
		f.age(file)
	}
	load(map[string]int{"a.test.": 1, "b.test.": 1})
	load(nil)
	f.write("a.test.zone", fmt.Sprintf(plainZone, 1)) // the same again
	load(nil)
	f.write("a.test.zone", fmt.Sprintf(plainZone, 2)) // of the same size, and at once
	load(map[string]int{"a.test.": 1})
	f.write("a.test.zone", fmt.Sprintf(plainZone, 3))
	load(map[string]int{"a.test.": 1})
	f.write("hosts", "www A 192.0.2.2\n") // what a zone includes
	load(map[string]int{"b.test.": 1})
	if r := exchange1(t, "udp", s.Addrs()[0], "www.b.test.", dns.TypeA); r.Answer[0].(*dns.A).A.String() != "192.0.2.2" {
		t.Error(r)
	}
	if err := os.Remove(filepath.Join(f.dir, "b.test.zone")); err != nil {
		t.Fatal(err)
	}
	load(map[string]int{"b.test.": -1})
	f.write("c.test.zone", fmt.Sprintf(plainZone, 1))
	clear(changes)
	if _, err := s.LoadFiles(f.dir, []string{"c.test.zone", "none.test.zone"}); err != nil || changes["c.test."] != 1 {
		t.Errorf("%v %v", err, changes)
	}
	if err := os.Remove(filepath.Join(f.dir, "c.test.zone")); err != nil {
		t.Fatal(err)
	}
	if gone, err := s.LoadFiles(f.dir, []string{"c.test.zone"}); err != nil || s.Zone("c.test.") != nil || fmt.Sprint(gone) != "[c.test.]" {
		t.Errorf("%v %v", gone, err)
	}
}

// LoadFiles reads the zones that include a file, also a file that was wanted
// and not there.
func TestLoadFilesThatZonesInclude(t *testing.T) {
	s := start(t, nil)
	f := folder{t, t.TempDir()}
	if err := os.Mkdir(filepath.Join(f.dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	f.write("a.test.zone", fmt.Sprintf(plainZone, 1)+"$INCLUDE sub/hosts\n")
	f.write("sub/hosts", "$INCLUDE more\n")
	f.write("b.test.zone", fmt.Sprintf(plainZone, 1))
	if _, err := s.LoadDir(t.Context(), f.dir); err == nil || s.Zone("a.test.") != nil {
		t.Fatalf("a zone whose include is missing: %v", err)
	}
	if dirs := s.IncludeFolders(); fmt.Sprint(dirs) != "[sub]" || !s.ReadsFile("sub/more") || s.ReadsFile("sub/other") {
		t.Errorf("zones include from %v", dirs)
	}
	load := func(file, want string) {
		t.Helper()
		if got, err := s.LoadFiles(f.dir, []string{file}); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: changed %v, want %v; %v", file, got, want, err)
		}
	}
	f.write("sub/more", "www A 192.0.2.1\n")
	load("sub/more", "[a.test.]")
	load("sub/more", "[]")
	load("sub/other", "[]")
	f.write("a.test.zone", fmt.Sprintf(plainZone, 2))
	load("a.test.zone", "[a.test.]")
	if dirs := s.IncludeFolders(); len(dirs) > 0 || s.ReadsFile("sub/hosts") {
		t.Errorf("zones include still from %v", dirs)
	}
}

// What is written while files are looked at is served after the next look.
func TestFilesWrittenWhileTheyAreLookedAt(t *testing.T) {
	s := start(t, nil)
	f := folder{t, t.TempDir()}
	f.write("a.test.zone", fmt.Sprintf(plainZone, 10)+"$INCLUDE hosts\n")
	f.write("hosts", "www TXT 1000\n")
	if _, err := s.LoadDir(t.Context(), f.dir); err != nil {
		t.Fatal(err)
	}
	for i := 1001; i < 1200; i++ {
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 5 {
				_, _ = s.LoadDir(t.Context(), f.dir)
			}
		})
		f.write("new", fmt.Sprintf("www TXT %d\n", i))
		if err := os.Rename(filepath.Join(f.dir, "new"), filepath.Join(f.dir, "hosts")); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if _, err := s.LoadDir(t.Context(), f.dir); err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		if err := s.Zone("a.test.").WriteText(&text); err != nil || !strings.Contains(text.String(), fmt.Sprint(i)) {
			t.Fatalf("%d is not served: %v", i, err)
		}
	}
}

// Files that are not usable are counted until they are, or gone.
func TestBrokenZoneFiles(t *testing.T) {
	s := start(t, nil)
	f := folder{t, t.TempDir()}
	good := fmt.Sprintf(plainZone, 1)
	f.write("a.test.zone", good)
	f.write("b.test.zone", "nonsense\n")
	f.write("x..y.zone", good)
	f.write(".#a.test.zone", "an editor's")
	f.age("a.test.zone")
	broken := func(want ...string) {
		t.Helper()
		_, err := s.LoadDir(t.Context(), f.dir)
		if (err == nil) != (len(want) == 0) {
			t.Errorf("loading: %v", err)
		}
		got := s.BrokenFiles()
		if len(got) != len(want) {
			t.Fatalf("not usable are %v, want %v", got, want)
		}
		for i := range want {
			if !strings.Contains(got[i].Error(), filepath.Join(f.dir, want[i])) {
				t.Errorf("not usable is %v, want %v", got[i], want[i])
			}
		}
	}
	broken("b.test.zone:1:", "x..y.zone: ")
	f.write("a.test.zone", good+"www A nonsense\n")
	broken("a.test.zone:5:", "b.test.zone:1:", "x..y.zone: ")
	f.write("a.test.zone", good)
	f.age("a.test.zone") // with its stamp of before
	broken("b.test.zone:1:", "x..y.zone: ")
	f.write("b.test.zone", good)
	if err := os.Remove(filepath.Join(f.dir, "x..y.zone")); err != nil {
		t.Fatal(err)
	}
	broken()
	if n, failed := s.files.count(); n != 0 || failed != 7 {
		t.Errorf("counted %d, %d failures", n, failed)
	}
}

// Whoever ends while zones are read does not wait for all of them.
func TestLoadDirEndsWithItsContext(t *testing.T) {
	f := folder{t, t.TempDir()}
	s := start(t, nil)
	for i := range together + 1 {
		f.write(fmt.Sprintf("z%d.test.zone", i), fmt.Sprintf(plainZone, 1))
	}
	if _, err := s.LoadDir(t.Context(), f.dir); err != nil {
		t.Fatal(err)
	}
	for i := range together + 1 {
		f.write(fmt.Sprintf("z%d.test.zone", i), fmt.Sprintf(plainZone, 2))
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if changed, err := s.LoadDir(ended, f.dir); len(changed) > 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d zones were read, %v", len(changed), err)
	}
	if changed, err := s.LoadDir(t.Context(), f.dir); len(changed) != together+1 || err != nil {
		t.Errorf("then %d zones were read, %v", len(changed), err)
	}
}

// A file that is named otherwise, of the same zone, takes the place of the one
// before, as does the other of two when one goes.
func TestRenamedZoneFile(t *testing.T) {
	f := folder{t, t.TempDir()}
	s := start(t, nil)
	load := map[string]func(...string) error{
		"LoadFiles": func(files ...string) error { _, err := s.LoadFiles(f.dir, files); return err },
		"LoadDir":   func(...string) error { _, err := s.LoadDir(t.Context(), f.dir); return err },
	}
	f.write("other.zone", fmt.Sprintf(plainZone, 1))
	serial := uint32(0)
	for what, read := range load {
		expect := func(when string) {
			t.Helper()
			if z := s.Zone("demo.test."); z == nil || z.Serial != serial {
				t.Fatalf("%s, %s: %v is served, not serial %d", what, when, z, serial)
			}
		}
		serial++
		f.write("Demo.test.zone", fmt.Sprintf(plainZone, serial))
		if err := read("Demo.test.zone", "other.zone"); err != nil {
			t.Fatal(err)
		}
		expect("at first")
		if err := os.Rename(filepath.Join(f.dir, "Demo.test.zone"), filepath.Join(f.dir, "demo.test.zone")); err != nil {
			t.Fatal(err)
		}
		if err := read("Demo.test.zone", "demo.test.zone"); err != nil {
			t.Fatal(err)
		}
		expect("renamed")
		f.write("DEMO.test.zone", fmt.Sprintf(plainZone, 100))
		if err := read("DEMO.test.zone"); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(f.dir, "DEMO.test.zone")); err != nil {
			t.Fatal(err)
		}
		if err := read("DEMO.test.zone"); err != nil {
			t.Fatal(err)
		}
		expect("one of two has gone")
		if err := os.Remove(filepath.Join(f.dir, "demo.test.zone")); err != nil {
			t.Fatal(err)
		}
		if err := read("demo.test.zone"); err != nil || s.Zone("demo.test.") != nil {
			t.Errorf("%s: without a file it is served: %v", what, err)
		}
	}
}

// A folder without a zone file is a mistake, or away: what was served stays.
func TestLastZoneFileIsNotGivenUp(t *testing.T) {
	s := start(t, nil)
	f := folder{t, t.TempDir()}
	f.write("a.test.zone", fmt.Sprintf(plainZone, 1))
	f.write("b.test.zone", fmt.Sprintf(plainZone, 1))
	if _, err := s.LoadDir(t.Context(), f.dir); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"a.test.zone", "b.test.zone"} {
		if err := os.Remove(filepath.Join(f.dir, file)); err != nil {
			t.Fatal(err)
		}
	}
	_, one := s.LoadFiles(f.dir, []string{"a.test.zone"}) // told of in part
	_, both := s.LoadFiles(f.dir, []string{"a.test.zone", "b.test.zone"})
	_, all := s.LoadDir(t.Context(), f.dir)
	for _, err := range []error{one, both, all} {
		if !errors.Is(err, ErrNoZoneFile) {
			t.Errorf("%v", err)
		}
	}
	if s.Zone("a.test.") == nil || s.Zone("b.test.") == nil {
		t.Error("a zone is served no longer")
	}
}

// BenchmarkChangeAmongMany is the time from a changed file to the zone being
// served, in a folder of many zones: by LoadFiles (a watched folder) and by
// LoadDir (SIGHUP), which looks at all of them.
func BenchmarkChangeAmongMany(b *testing.B) {
	const many = 20_000
	f := folder{b, b.TempDir()}
	for i := range many {
		f.write(fmt.Sprintf("z%d.test.zone", i), fmt.Sprintf(plainZone, 1))
		f.age(fmt.Sprintf("z%d.test.zone", i))
	}
	s, err := New(Config{Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := s.LoadDir(b.Context(), f.dir); err != nil {
		b.Fatal(err)
	}
	serial := 1
	change := func(b *testing.B, load func() error) {
		for b.Loop() {
			serial++
			f.write("z7.test.zone", fmt.Sprintf(plainZone, serial))
			if err := load(); err != nil {
				b.Fatal(err)
			}
			if got := s.Zone("z7.test.").Serial; got != uint32(serial) {
				b.Fatalf("serial %d", got)
			}
		}
	}
	b.Run("LoadFiles", func(b *testing.B) {
		change(b, func() error { _, err := s.LoadFiles(f.dir, []string{"z7.test.zone"}); return err })
	})
	b.Run("LoadDir", func(b *testing.B) { change(b, func() error { _, err := s.LoadDir(b.Context(), f.dir); return err }) })
}
