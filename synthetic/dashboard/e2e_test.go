package dashboard

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"meridian/fleet"
	"meridian/internal/testkit"
)

// A browser sees a region turn red and green again, and its clients leave and
// return, on a page that is never reloaded. The same script watches the real
// thing in lab. With SCREENSHOT set to a full path it writes a picture of the
// region lost.
func TestBrowserSeesARegionDieAndReturn(t *testing.T) {
	if testing.Short() {
		t.Skip("a browser takes seconds")
	}
	node, npm, chromium := testkit.Program(t, "node"), testkit.Program(t, "npm"), testkit.Program(t, "chromium")

	w := testWorld(t)
	var dead atomic.Bool
	show := func(feed *Feed, since time.Time) {
		v := healthy(w)
		for target, verdict := range v.Verdicts {
			verdict.Since = since
			v.Verdicts[target] = verdict
		}
		if dead.Load() {
			kill(w, v, "fra", time.Now())
		}
		feed.SetView(v)
	}
	feed := NewFeed(FeedConfig{Node: "iad-1", Steering: nearest(t), Nodes: func() map[string]NodeStatus {
		nodes := map[string]NodeStatus{}
		for _, n := range w.Snapshot.Spec.Nodes {
			nodes[n.Name] = NodeStatus{Alive: n.Region != "fra" || !dead.Load(), Revision: w.Snapshot.Revision}
		}
		return nodes
	}})
	feed.Apply(w)
	show(feed, time.Now().Add(-time.Hour))
	d, err := New(Config{Source: feed})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error)
	go func() { ran <- d.Run(ctx) }()

	mux := http.NewServeMux()
	mux.Handle("/", d)
	mux.HandleFunc("POST /test/kill", func(http.ResponseWriter, *http.Request) {
		dead.Store(true)
		show(feed, time.Now())
	})
	mux.HandleFunc("POST /test/restore", func(http.ResponseWriter, *http.Request) {
		dead.Store(false)
		show(feed, time.Now())
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	defer func() { // before the server, which waits for its streams
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()

	// A copy, so that no two tests install into one folder.
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", ".npmrc", "region.mjs"} {
		data, err := os.ReadFile(filepath.Join("e2e", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) []byte {
		t.Helper()
		limit, stop := context.WithTimeout(t.Context(), 3*time.Minute)
		defer stop()
		cmd := exec.CommandContext(limit, name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "DASHBOARD_URL="+server.URL, "REGION=fra", "CHROMIUM="+chromium, "TIMEOUT_MS=20000",
			"KILL="+server.URL+"/test/kill", "RESTORE="+server.URL+"/test/restore")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return out
	}
	run(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	out := run(node, "region.mjs")
	var got struct {
		Region    string `json:"region"`
		RedMS     int    `json:"red_ms"`
		GreenMS   int    `json:"green_ms"`
		Countries int    `json:"countries"`
	}
	if err := json.Unmarshal(out, &got); err != nil || got.Region != "fra" || got.Countries == 0 {
		t.Errorf("the script said %s (%v)", out, err)
	}
	t.Logf("%s", out)
}

// nearest steers every country of the map to the nearest region that lives,
// by distance on the map.
func nearest(t *testing.T) func(*fleet.World, *fleet.View) []Steering {
	svg, err := files.ReadFile("assets/world.svg")
	if err != nil {
		t.Fatal(err)
	}
	type middle struct{ x, y float64 }
	countries := map[string]middle{}
	form := regexp.MustCompile(`data-country="(..)" data-x="([0-9.]+)" data-y="([0-9.]+)"`)
	for _, m := range form.FindAllStringSubmatch(string(svg), -1) {
		x, _ := strconv.ParseFloat(m[2], 64)
		y, _ := strconv.ParseFloat(m[3], 64)
		countries[m[1]] = middle{x, y}
	}
	pick := func(w *fleet.World, c middle, lives func(region string) bool) string {
		best, least := "", math.Inf(1)
		for _, r := range w.Snapshot.Spec.Regions {
			x, y := Project(r.Location.Latitude, r.Location.Longitude)
			if d := math.Hypot(x-c.x, y-c.y); lives(r.ID) && d < least {
				best, least = r.ID, d
			}
		}
		return best
	}
	return func(w *fleet.World, v *fleet.View) []Steering {
		st := Steering{Service: "web", Chosen: map[string]string{}, Home: map[string]string{}}
		for code, c := range countries {
			st.Home[code] = pick(w, c, func(string) bool { return true })
			st.Chosen[code] = pick(w, c, func(r string) bool { return v.Get(web(r)).State != fleet.Down })
		}
		return []Steering{st}
	}
}
