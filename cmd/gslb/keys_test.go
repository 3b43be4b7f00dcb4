package main

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"meridian/cli"
	"meridian/controlplane/api"
	"meridian/dns/keeper"
	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/identity"
	"meridian/internal/testkit"
	"meridian/node"
	"meridian/rules"
)

const signedSpec = `
fleet: test
regions: [{id: fra, location: {latitude: 50, longitude: 8}}]
zones:
- zone: example.test
  dnssec: default
  records: |
    @ 3600 SOA ns1 hostmaster 7 3600 600 86400 300
    @ 3600 NS ns1
    ns1 A 192.0.2.53
`

// dataDir is the data directory of a node that has signed a zone and stopped;
// it gives the zone as well.
func dataDir(t *testing.T) (dir string, z *zone.Zone) {
	t.Helper()
	dir = t.TempDir()
	key, err := node.CreateKey(filepath.Join(dir, "fleet.key"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.New(key)
	if err != nil {
		t.Fatal(err)
	}
	store := keeper.NewDirStore(filepath.Join(dir, keysDir), id)
	k, err := keeper.New(keeper.Config{Keys: store, Rand: rand.NewChaCha8([32]byte{1}), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := rules.Compile([]byte(signedSpec), 0)
	if err != nil {
		t.Fatal(err)
	}
	var old *fleet.Zones
	for _, ago := range []time.Duration{24 * time.Hour, 0} {
		put, _, _, err := k.Derive(t.Context(), &fleet.World{Snapshot: s, Objects: rules.Inline(s)}, nil, old, time.Now().Add(-ago))
		if err != nil {
			t.Fatal(err)
		}
		old = old.With(put, nil)
	}
	o, _ := old.Get("example.test.")
	if z, err = zone.Load("example.test.", o.Data, ""); err != nil {
		t.Fatal(err)
	}
	return dir, z
}

// keysSay runs gslb keys and gives what it prints.
func keysSay(t *testing.T, args ...string) string {
	t.Helper()
	out, err := keysTry(t, args...)
	if err != nil {
		t.Fatalf("gslb keys %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func keysTry(t *testing.T, args ...string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "stdout")
	h, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	was, wasErr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = h, h
	err = runKeys(context.Background(), args)
	os.Stdout, os.Stderr = was, wasErr
	_ = h.Close()
	b, _ := os.ReadFile(file)
	return string(b), err
}

// On the data directory of a node that does not run: list, DS, roll, export,
// import elsewhere, backup and restore.
func TestKeysOffline(t *testing.T) {
	dir, z := dataDir(t)
	at := []string{"--data", dir}
	if out := keysSay(t, append(at, "list")...); !strings.Contains(out, "example.test.") || !strings.Contains(out, "ksk") || !strings.Contains(out, "omnipresent") {
		t.Error(out)
	}
	cds, _ := zone.Next(z.Apex().Get(zone.TypeCDS).Data)
	if out := keysSay(t, append(at, "ds", "example.test")...); !strings.Contains(out, "example.test. IN DS ") || !strings.Contains(out, " 13 2 ") || len(cds) != 36 {
		t.Error(out)
	}
	keysSay(t, append(at, "roll", "example.test", "zsk")...)
	if out := keysSay(t, append(at, "list", "example.test", "--json")...); !strings.Contains(out, `"rolling": [`) {
		t.Error(out)
	}
	keys := filepath.Join(t.TempDir(), "keys")
	files := strings.Fields(keysSay(t, append(at, "export", "example.test", "--out", keys)...))
	if len(files) != 4 {
		t.Fatalf("exported %v", files)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	keysSay(t, append(at, "backup", backup)...)
	if b, _ := os.ReadFile(backup); strings.Contains(string(b), "private") {
		t.Error("the backup is in the clear")
	}
	other, err := os.ReadFile(filepath.Join(dir, "fleet.key"))
	if err != nil {
		t.Fatal(err)
	}
	fresh := t.TempDir()
	if err := os.WriteFile(filepath.Join(fresh, "fleet.key"), other, 0o600); err != nil {
		t.Fatal(err)
	}
	keysSay(t, "--data", fresh, "restore", backup)
	if a, b := keysSay(t, append(at, "list")...), keysSay(t, "--data", fresh, "list"); a != b {
		t.Errorf("restored\n%s\nof\n%s", b, a)
	}
	third := t.TempDir()
	if _, err := node.CreateKey(filepath.Join(third, "fleet.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := keysTry(t, "--data", third, "restore", backup); err == nil {
		t.Error("a backup of another fleet was restored")
	}
	if _, err := keysTry(t, "--data", third, "restore", files[0]); err == nil || !strings.Contains(err.Error(), files[0]+": ") {
		t.Errorf("what is no backup: %v", err)
	}
	private := slices.DeleteFunc(slices.Clone(files), func(f string) bool { return !strings.HasSuffix(f, ".private") })
	keysSay(t, append([]string{"--data", third, "import", "example.test"}, private...)...) // with the .key beside them
	if out := keysSay(t, "--data", third, "ds", "example.test"); out != keysSay(t, append(at, "ds", "example.test")...) {
		t.Errorf("imported: %s", out)
	}
}

// BIND signs with the keys that are exported, and verify finds it good.
func TestKeysExportForBIND(t *testing.T) {
	signzone := testkit.Program(t, "dnssec-signzone")
	dir, _ := dataDir(t)
	out := t.TempDir()
	keysSay(t, "--data", dir, "export", "example.test", "--out", out)
	text := "$ORIGIN example.test.\n@ 3600 SOA ns1 h 1 2 3 4 300\n@ 3600 NS ns1\nns1 3600 A 192.0.2.1\n"
	if err := os.WriteFile(filepath.Join(out, "example.test"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(signzone, "-S", "-K", out, "-o", "example.test", "example.test")
	cmd.Dir = out
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if said := keysSay(t, "verify", filepath.Join(out, "example.test.signed")); !strings.Contains(said, "is signed well") {
		t.Error(said)
	}
	b, _ := os.ReadFile(filepath.Join(out, "example.test.signed"))
	broken := strings.Replace(string(b), "192.0.2.1", "192.0.2.2", 1)
	if err := os.WriteFile(filepath.Join(out, "example.test.signed"), []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keysTry(t, "verify", filepath.Join(out, "example.test.signed")); err == nil || !strings.Contains(err.Error(), "ns1.example.test. A") {
		t.Errorf("a changed zone: %v", err)
	}
}

// The same through the admin API.
func TestKeysByAPI(t *testing.T) {
	dir, _ := dataDir(t)
	key, err := node.LoadKey(filepath.Join(dir, "fleet.key"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.New(key)
	if err != nil {
		t.Fatal(err)
	}
	store := keeper.NewDirStore(filepath.Join(dir, keysDir), id)
	var changed []fleet.Name
	admin := &keeper.Admin{Store: store, Identity: id, Rand: rand.NewChaCha8([32]byte{2}), Changed: func(n fleet.Name) { changed = append(changed, n) }}
	s, err := api.New(api.Config{Token: "0123456789abcdef0123456789abcdef", Keys: keeper.Handler(admin), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("0123456789abcdef0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := []string{"--admin", srv.URL, "--token-file", token}
	if out := keysSay(t, append(at, "list")...); !strings.Contains(out, "ksk") {
		t.Error(out)
	}
	keysSay(t, append(at, "roll", "example.test", "ksk")...)
	z, err := admin.Show(t.Context(), "example.test.")
	if err != nil || len(z.Rolling) != 1 || z.Rolling[0] != sign.KSK || len(changed) != 1 {
		t.Errorf("%+v %v, changed %v", z, err, changed)
	}
	if out := keysSay(t, append(at, "ds", "example.test")...); !strings.Contains(out, "IN CDS") {
		t.Error(out)
	}
	files := strings.Fields(keysSay(t, append(at, "export", "example.test", "--out", t.TempDir())...))
	if _, err := keysTry(t, append(append(at, "import", "example.test"), files...)...); err == nil || !strings.Contains(err.Error(), "has it already") {
		t.Errorf("imported twice: %v", err)
	}
	backup := filepath.Join(t.TempDir(), "b")
	keysSay(t, append(at, "backup", backup)...)
	keysSay(t, append(at, "restore", backup)...)
	for _, wrong := range [][]string{{"list", "absent.test"}, {"roll", "example.test", "csk"}, {"parent", "example.test", "1", "seen"}} {
		var p *api.Problem
		if _, err := keysTry(t, append(at, wrong...)...); !errors.As(err, &p) {
			t.Errorf("%v: %v", wrong, err)
		}
	}
}

func TestKeysWrongCalls(t *testing.T) {
	for _, args := range [][]string{nil, {"nonsense"}, {"roll", "example.test"}, {"roll", "example.test", "all"}, {"export", "example.test"}, {"ds"}, {"import", "x.test"}, {"verify"}, {"list", "a..b"}} {
		if _, err := keysTry(t, args...); !errors.Is(err, cli.ErrUsage) && (err == nil || !strings.Contains(err.Error(), "token")) {
			t.Errorf("%v: %v", args, err)
		}
	}
}
