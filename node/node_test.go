package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"meridian/fleet"
	"meridian/identity"
	"meridian/rules"
)

const spec = `
fleet: test
regions:
  - id: fra
    location: {latitude: 50, longitude: 8}
    vips: {v4: [192.0.2.1]}
  - id: nrt
    location: {latitude: 35, longitude: 139}
    vips: {v4: [192.0.2.2]}
nodes:
  - {name: fra-1, region: fra, roles: [dns], addresses: {v4: 10.0.0.1}}
zones:
  - zone: demo.test
    file: demo.test.zone
`

const zoneFile = `@ 300 IN SOA ns.demo.test. host.demo.test. 1 3600 600 86400 300
@ 300 IN NS ns.demo.test.
ns 300 IN A 192.0.2.53
`

func testWorld(t testing.TB, revision uint64, shifts ...fleet.Shift) *fleet.World {
	t.Helper()
	s, err := rules.Compile([]byte(spec), revision)
	if err != nil {
		t.Fatal(err)
	}
	w, err := rules.World(s, []fleet.Object{{Key: fleet.ObjectKey{Kind: fleet.ObjectZone, ID: "demo.test."}, Data: []byte(zoneFile)}}, shifts)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func logTo(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// room is an Applier that remembers, and refuses the revisions it is told to.
type room struct {
	applied []uint64
	shifts  atomic.Int64
	refuse  uint64
}

func (r *room) Apply(w *fleet.World) error {
	if w.Snapshot.Revision == r.refuse {
		return errors.New("cannot serve this")
	}
	r.applied = append(r.applied, w.Snapshot.Revision)
	r.shifts.Store(int64(len(w.Shifts)))
	return nil
}

// script is a Source that brings what the test hands it.
type script struct {
	worlds  chan *fleet.World
	results chan error
}

func newScript() *script {
	return &script{make(chan *fleet.World), make(chan error)}
}

func (s *script) Run(ctx context.Context, apply func(*fleet.World) error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case w := <-s.worlds:
			s.results <- apply(w)
		}
	}
}

func (s *script) bring(w *fleet.World) error { s.worlds <- w; return <-s.results }

func start(t *testing.T, cfg Config) (*Agent, func()) {
	t.Helper()
	cfg.Name, cfg.SourceName, cfg.Logger = "fra-1", "store", logTo(t)
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return a, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("agent: %v", err)
		}
	}
}

func TestARefusedWorldIsTakenBackEverywhere(t *testing.T) {
	first, second := &room{}, &room{refuse: 2}
	src := newScript()
	a, stop := start(t, Config{Source: src, Appliers: []Named{{"dns", first}, {"edge", second}}})
	defer stop()
	if err := src.bring(testWorld(t, 1)); err != nil {
		t.Fatal(err)
	}
	err := src.bring(testWorld(t, 2))
	if err == nil || err.Error() != "edge: cannot serve this" {
		t.Fatalf("got %v", err)
	}
	if got := fmt.Sprint(first.applied, second.applied); got != "[1 2 1] [1]" {
		t.Errorf("applied %s", got)
	}
	if st := a.Status(); st.Revision != 1 || st.Source != "store" || st.Error != "edge: cannot serve this" {
		t.Errorf("status %+v", st)
	}
	if err := src.bring(testWorld(t, 3)); err != nil {
		t.Fatal(err)
	}
	if st := a.Status(); st.Revision != 3 || st.Error != "" {
		t.Errorf("status %+v", st)
	}
}

func TestAnEqualWorldIsNotAppliedAgain(t *testing.T) {
	r, src := &room{}, newScript()
	_, stop := start(t, Config{Source: src, Appliers: []Named{{"dns", r}}})
	defer stop()
	for range 3 {
		if err := src.bring(testWorld(t, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.applied) != 1 {
		t.Errorf("applied %v", r.applied)
	}
}

func TestTheLastGoodWorldIsServedAfterARestart(t *testing.T) {
	k, _ := identity.NewKey(rand.Reader)
	id, err := identity.New(k)
	if err != nil {
		t.Fatal(err)
	}
	for name, id := range map[string]*identity.Identity{"plain": nil, "sealed": id} {
		t.Run(name, func(t *testing.T) {
			disk := NewDisk(filepath.Join(t.TempDir(), "state", "world"), id)
			src := newScript()
			_, stop := start(t, Config{Source: src, Disk: disk, Appliers: []Named{{"dns", &room{refuse: 8}}}})
			if err := src.bring(testWorld(t, 7)); err != nil {
				t.Fatal(err)
			}
			if err := src.bring(testWorld(t, 8)); err == nil {
				t.Fatal("8 was taken")
			}
			stop()
			st, err := os.Stat(disk.path)
			if err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("file: %v, %v", st.Mode(), err)
			}
			b, _ := os.ReadFile(disk.path)
			if name == "sealed" && strings.Contains(string(b), "demo.test") {
				t.Error("the file is not sealed")
			}

			r := &room{}
			a, stop := start(t, Config{Source: newScript(), Disk: disk, Appliers: []Named{{"dns", r}}})
			stop()
			if st := a.Status(); st.Revision != 7 || st.Source != "disk" || len(r.applied) != 1 {
				t.Errorf("status %+v, applied %v", st, r.applied)
			}
			if w := a.World(); string(w.Objects[fleet.ObjectKey{Kind: fleet.ObjectZone, ID: "demo.test."}].Data) != zoneFile {
				t.Error("the zone came back changed")
			}
		})
	}
}

func TestADamagedFileIsNotServed(t *testing.T) {
	disk := NewDisk(filepath.Join(t.TempDir(), "world"), nil)
	if err := disk.Save(testWorld(t, 7)); err != nil {
		t.Fatal(err)
	}
	good, _ := os.ReadFile(disk.path)
	for i := range good {
		if i > 120 && i%97 != 0 {
			continue
		}
		bad := append([]byte(nil), good...)
		bad[i] ^= 0x20
		for name, content := range map[string][]byte{"changed": bad, "cut": good[:i]} {
			if err := os.WriteFile(disk.path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			if w, err := disk.Load(); err == nil {
				t.Fatalf("%s at %d was loaded as revision %d", name, i, w.Snapshot.Revision)
			}
		}
	}
	r, src := &room{}, newScript()
	a, stop := start(t, Config{Source: src, Disk: disk, Appliers: []Named{{"dns", r}}})
	defer stop()
	if err := src.bring(testWorld(t, 9)); err != nil || a.Status().Revision != 9 {
		t.Errorf("the source did not help: %v", err)
	}
}

func TestAShiftEndsWithoutAWordFromAnybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, src := &room{}, newScript()
		_, stop := start(t, Config{Source: src, Appliers: []Named{{"dns", r}}})
		defer stop()
		now := time.Now()
		w := testWorld(t, 1, fleet.Shift{ID: "a", From: "fra", Share: 1, Expires: now.Add(time.Minute)},
			fleet.Shift{ID: "b", From: "nrt", Share: .5, Expires: now.Add(time.Hour)})
		if err := src.bring(w); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			wait time.Duration
			left int64
		}{{30 * time.Second, 2}, {31 * time.Second, 1}, {time.Hour, 0}} {
			time.Sleep(step.wait) // of the test's own clock
			synctest.Wait()
			if left := r.shifts.Load(); left != step.left {
				t.Errorf("after %s: %d shifts", time.Since(now), left)
			}
		}
	})
}

// site writes a Spec with its zone file.
func site(t *testing.T) (specPath, zonePath string) {
	t.Helper()
	dir := t.TempDir()
	specPath, zonePath = filepath.Join(dir, "spec.yaml"), filepath.Join(dir, "demo.test.zone")
	write(t, specPath, spec)
	write(t, zonePath, zoneFile)
	return specPath, zonePath
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAFileIsReadAgainWhenItOrWhatItNamesChanges(t *testing.T) {
	specPath, zonePath := site(t)
	ctx, cancel := context.WithCancel(context.Background())
	got := make(chan *fleet.World)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = NewFileSource(specPath, logTo(t)).Run(ctx, func(w *fleet.World) error {
			select {
			case got <- w:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	defer func() { cancel(); <-done }()
	next := func(what string) *fleet.World {
		t.Helper()
		select {
		case w := <-got:
			return w
		case <-time.After(20 * time.Second):
			t.Fatalf("not read again after %s", what)
			return nil
		}
	}
	zone := fleet.ObjectKey{Kind: fleet.ObjectZone, ID: "demo.test."}
	first := next("the start")

	write(t, zonePath, strings.Replace(zoneFile, "192.0.2.53", "192.0.2.54", 1))
	if w := next("the zone's change"); !strings.Contains(string(w.Objects[zone].Data), "192.0.2.54") {
		t.Error("the zone is the old one")
	}
	write(t, specPath, "fleet: [broken")
	renamed := specPath + ".tmp"
	write(t, renamed, strings.Replace(spec, "latitude: 50", "latitude: 51", 1))
	if err := os.Rename(renamed, specPath); err != nil {
		t.Fatal(err)
	}
	if w := next("the Spec's change"); w.Snapshot.Hash == first.Snapshot.Hash {
		t.Error("the Spec is the old one")
	}
}

func TestWhatAFileLacksIsNamedAtOnce(t *testing.T) {
	specPath, zonePath := site(t)
	if err := os.Remove(zonePath); err != nil {
		t.Fatal(err)
	}
	write(t, specPath, spec+`
certificates:
  - {id: web, cert: "file:web.pem", key: "env:MERIDIAN_NO_SUCH_KEY"}
`)
	_, _, err := ReadFile(specPath)
	if err == nil {
		t.Fatal("read")
	}
	for _, want := range []string{"zone demo.test.: open ", "certificate web: open ", "no such file"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
}

// What only a control plane can bring is refused where there is none, and what was
// applied before stays.
func TestAFileAloneBringsNoIssuedCertificates(t *testing.T) {
	specPath, _ := site(t)
	source := NewFileSource(specPath, logTo(t))
	ctx, cancel := context.WithCancel(t.Context())
	applied, done := make(chan *fleet.World, 2), make(chan struct{})
	go func() {
		defer close(done)
		_ = source.Run(ctx, func(w *fleet.World) error { applied <- w; return nil })
	}()
	<-applied
	write(t, specPath, spec+"\ncertificates: [{id: web, acme: {directory: internal, names: [www.demo.test]}}]\nech: {public_name: www.demo.test}\n")
	problem := ""
	for end := time.Now().Add(20 * time.Second); !strings.Contains(problem, "acme") && time.Now().Before(end); {
		<-time.After(5 * time.Millisecond)
		_, problem = source.Problem()
	}
	cancel()
	<-done
	for _, want := range []string{"certificates[0].acme: ", "ech: ", "cert and key", "--control"} {
		if !strings.Contains(problem, want) {
			t.Errorf("no %q in: %v", want, problem)
		}
	}
	if len(applied) != 0 {
		t.Error("it was applied")
	}
}

// A file that could not be used for another reason than its content, such as a port
// that is taken, is tried again.
func TestAFileThatWasRefusedIsTriedAgain(t *testing.T) {
	specPath, _ := site(t)
	source := NewFileSource(specPath, logTo(t))
	source.poll = 5 * time.Millisecond
	tries := 0
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := source.Run(ctx, func(*fleet.World) error {
		if tries++; tries < 3 {
			return errors.New("the port is taken")
		}
		cancel()
		return nil
	})
	if _, problem := source.Problem(); err != nil || tries != 3 || problem != "" {
		t.Errorf("%d tries, %v, %q", tries, err, problem)
	}
}

func TestAKeyFileIsForItsOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.key")
	k, err := LoadOrCreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := LoadOrCreateKey(path); err != nil || again != k {
		t.Errorf("second time: %v", err)
	}
	if _, err := CreateKey(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("overwritten: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("got %v", err)
	}
}
