package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
	if err := s.LoadDir(dir); err == nil || !strings.Contains(err.Error(), "no file that ends in .zone") {
		t.Errorf("an empty folder: %v", err)
	}
	const head = "$TTL 300\n@ SOA ns1 admin 1 2 3 4 5\n@ NS ns1\nns1 A 192.0.2.53\n"
	write("root.zone", rootZone)
	write("demo.test.zone", head+"$INCLUDE hosts\n")
	write("hosts", "www A 192.0.2.1\n")
	if err := s.LoadDir(dir); err != nil {
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
	err := s.LoadDir(dir)
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
		if err := s.LoadDir(f.dir); err != nil {
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
	if err := s.LoadFiles(f.dir, []string{"c.test.zone", "none.test.zone"}); err != nil || changes["c.test."] != 1 {
		t.Errorf("%v %v", err, changes)
	}
	if err := os.Remove(filepath.Join(f.dir, "c.test.zone")); err != nil {
		t.Fatal(err)
	}
	if err := s.LoadFiles(f.dir, []string{"c.test.zone"}); err != nil || s.Zone("c.test.") != nil {
		t.Errorf("%v", err)
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
	if err := s.LoadDir(f.dir); err != nil {
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
		change(b, func() error { return s.LoadFiles(f.dir, []string{"z7.test.zone"}) })
	})
	b.Run("LoadDir", func(b *testing.B) { change(b, func() error { return s.LoadDir(f.dir) }) })
}
