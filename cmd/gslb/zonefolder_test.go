package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"meridian/controlplane"
	"meridian/dns/server"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/rules"
)

const folderZone = "; kept until the first change\n$TTL 60\n@ SOA ns h 5 2 3 4 5\n@ NS ns\nns A 192.0.2.53\n"

func adding(name, addr string) controlplane.Edit {
	return func(cur *zone.Zone) (*zone.Zone, error) {
		if cur == nil {
			return nil, controlplane.ErrNoZone
		}
		return rules.Patch(cur, []rules.RRset{{Name: name, Type: "A", Records: []string{addr}}})
	}
}

func TestZonesOfAFolderAreWrittenBack(t *testing.T) {
	dir := t.TempDir()
	served, err := server.New(server.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	f := &zoneFolder{dir: dir, server: plainServer{served}}
	path := filepath.Join(dir, "a.test.zone")
	if err := os.WriteFile(path, []byte(folderZone), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := served.LoadDir(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	_, tag, err := f.Zone("a.test.")
	if err != nil || tag == "" {
		t.Fatal(err)
	}
	info, err := f.WriteZone(t.Context(), "a.test.", tag, adding("www", "192.0.2.1"))
	if err != nil || info.Serial != 6 || info.ETag == tag || served.Zone("a.test.").Serial != 6 {
		t.Fatalf("%+v, %v", info, err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), "www.a.test.\t3600\tIN\tA\t192.0.2.1") {
		t.Errorf("the file holds %s", text)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("the file's mode is %v", st.Mode())
	}
	for what, c := range map[string]struct {
		name, base string
		edit       controlplane.Edit
		want       error
	}{
		"a stale ETag":             {"a.test.", tag, adding("x", "192.0.2.1"), controlplane.ErrChanged},
		"one that is not there":    {"b.test.", controlplane.Exists, adding("x", "192.0.2.1"), controlplane.ErrChanged},
		"one that is there":        {"a.test.", controlplane.Absent, adding("x", "192.0.2.1"), controlplane.ErrChanged},
		"a name that is no file's": {"0/25.test.", controlplane.AnyBase, adding("x", "192.0.2.1"), controlplane.ErrRefused},
	} {
		if _, err := f.WriteZone(t.Context(), fleet.Name(c.name), c.base, c.edit); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if now, _ := os.ReadFile(path); string(now) != string(text) {
		t.Error("the file was changed by what was refused")
	}
	if err := os.WriteFile(filepath.Join(dir, "inc.test.zone"), []byte(folderZone+"$INCLUDE more\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "more"), []byte("x A 192.0.2.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteZone(t.Context(), "inc.test.", controlplane.AnyBase, adding("y", "192.0.2.1")); !errors.Is(err, controlplane.ErrOtherWriter) {
		t.Errorf("a file with others in it: %v", err)
	}
	if err := f.DeleteZone(t.Context(), "a.test.", info.ETag); err != nil || served.Plan().Len() != 0 {
		t.Errorf("deleting: %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	if slices.Contains(left, path) || len(left) != 2 {
		t.Errorf("left are %v", left)
	}
}
