package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"meridian/controlplane"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/node"
)

const fileSpec = `
regions: [{id: fra, vips: {v4: [192.0.2.1]}, location: {latitude: 0, longitude: 0}}]
nodes: [{name: fra-1, region: fra, roles: [dns], addresses: {v4: 10.0.0.1}}]
zones:
  - {zone: dyn.test, dynamic: true, records: "@ 300 SOA ns. h. 1 2 3 4 5\n@ 300 NS ns.\n"}
  - {zone: file.test, file: file.zone}
`

// alone is a control plane on a Spec file.
type alone struct {
	*controlplane.ControlPlane
	worlds chan *fleet.World
	stop   func()
}

func newAlone(t *testing.T, dir string) *alone {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	st, err := NewFile(FileConfig{Spec: node.NewFileSource(filepath.Join(dir, "spec.yaml"), log), Dir: filepath.Join(dir, "items"), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	direct := controlplane.NewDirect(log)
	c, err := controlplane.New(controlplane.Config{Node: "fra-1", Store: st, Publisher: direct, DeriveFirst: true, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := &alone{ControlPlane: c, worlds: make(chan *fleet.World, 100)}
	done := make(chan error, 2)
	go func() { done <- c.Run(ctx) }()
	go func() { done <- direct.Run(ctx, func(w *fleet.World) error { a.worlds <- w; return nil }) }()
	a.stop = func() { cancel(); <-done; <-done }
	return a
}

func (a *alone) next(t *testing.T, ok func(*fleet.World) bool) *fleet.World {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case w := <-a.worlds:
			if ok(w) {
				return w
			}
		case <-limit:
			t.Fatal("never came")
		}
	}
}

func TestANodeFromAFileKeepsItsDynamicZones(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{"spec.yaml": fileSpec, "file.zone": "@ 300 SOA ns. h. 1 2 3 4 5\n@ 300 NS ns.\n"}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := newAlone(t, dir)
	a.next(t, func(w *fleet.World) bool { return w.Zones.Len() == 0 })
	add := func(name fleet.Name, base string) (controlplane.ZoneInfo, error) {
		return a.WriteZone(t.Context(), name, base, func(cur *zone.Zone) (*zone.Zone, error) {
			if cur == nil {
				return nil, controlplane.ErrNoZone
			}
			return cur.With([]zone.Change{{Owner: []byte("\x03www" + cur.Apex().Name), Type: zone.TypeA, TTL: 60, Data: []byte{192, 0, 2, 1}}})
		})
	}
	info, err := add("dyn.test.", controlplane.AnyBase)
	if err != nil || info.Serial != 2 || info.Records != 3 || info.Source != "dynamic" {
		t.Fatalf("%+v, %v", info, err)
	}
	a.next(t, func(w *fleet.World) bool { return w.Zones.Len() == 1 })
	if _, err := add("file.test.", controlplane.AnyBase); !errors.Is(err, controlplane.ErrOtherWriter) {
		t.Errorf("a zone that a file writes: %v", err)
	}
	if _, err := a.Submit(t.Context(), controlplane.Submission{Doc: []byte(strings.Replace(fileSpec, "latitude: 0", "latitude: 1", 1)), Reuse: true}); !errors.Is(err, ErrFile) {
		t.Errorf("submitted: %v", err)
	}
	a.stop()

	b := newAlone(t, dir) // after a restart
	defer b.stop()
	w := b.next(t, func(w *fleet.World) bool { return w.Zones.Len() == 1 })
	if o, _ := w.Zones.Get("dyn.test."); !strings.Contains(string(o.Data), "www") || o.Version != info.ETag {
		t.Errorf("%q", o.Data)
	}
	if err := os.WriteFile(filepath.Join(dir, "spec.yaml"), fmt.Append([]byte(fileSpec), "fleet: other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w = b.next(t, func(w *fleet.World) bool { return w.Snapshot.Spec.Fleet == "other" })
	if w.Zones.Len() != 1 {
		t.Error("the zone is lost with a new Spec")
	}
}
