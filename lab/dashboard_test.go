//go:build linux

package lab

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"meridian/internal/testkit"
)

// A browser at the dashboard of a surviving region sees another die and
// return, in a fleet where that is so. With MERIDIAN_SCREENSHOT set it keeps a
// picture of the moment there.
func TestBrowserSeesARegionOfTheFleetDieAndReturn(t *testing.T) {
	node, npm, chromium := testkit.Program(t, "node"), testkit.Program(t, "npm"), testkit.Program(t, "chromium")
	top := Home()
	if os.Geteuid() == 0 {
		top = World()
	}
	l, _ := serving(t, top)
	order := func(f func(string) error) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if err := f("fra"); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /kill", order(l.Kill))
	mux.HandleFunc("POST /restore", order(l.Restore))
	orders := httptest.NewServer(mux)
	defer orders.Close()

	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", ".npmrc", "region.mjs"} {
		data, err := os.ReadFile(filepath.Join("..", "synthetic", "dashboard", "e2e", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) []byte {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "DASHBOARD_URL=http://"+dashboardOf(t, l, "iad")+"/", "REGION=fra", "CHROMIUM="+chromium,
			"KILL="+orders.URL+"/kill", "RESTORE="+orders.URL+"/restore", "SCREENSHOT="+os.Getenv("MERIDIAN_SCREENSHOT"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return out
	}
	run(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	out := run(node, "region.mjs")
	var saw struct {
		Region    string `json:"region"`
		Countries int    `json:"countries"`
	}
	if err := json.Unmarshal(out, &saw); err != nil || saw.Region != "fra" || saw.Countries == 0 {
		t.Errorf("the browser said %s (%v)", out, err)
	}
	t.Logf("%s", out)
}

// dashboardOf opens a port of this machine that leads to the dashboard of the
// region's gslb node.
func dashboardOf(t *testing.T, l *Lab, region string) string {
	t.Helper()
	r := l.Topology.Region(region)
	n := r.Of(Gslb)[0]
	from, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { from.Close() })
	go func() {
		for {
			c, err := from.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				to, err := l.Dial(context.Background(), n.Name, "tcp", l.own(r, n, dashboardPort))
				if err != nil {
					return
				}
				defer to.Close()
				go func() { _, _ = io.Copy(to, c); to.Close() }()
				_, _ = io.Copy(c, to)
			}()
		}
	}()
	return from.Addr().String()
}
