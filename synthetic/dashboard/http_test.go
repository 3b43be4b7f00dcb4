package dashboard

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"meridian/fleet"
)

func testDashboard(t testing.TB, feed *Feed) *Dashboard {
	t.Helper()
	d, err := New(Config{Source: feed, MaxStreams: 2})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func testFeed(t testing.TB) *Feed {
	w := testWorld(t)
	feed := NewFeed(FeedConfig{Node: "iad-1", Steering: steering})
	feed.Apply(w)
	feed.SetView(healthy(w))
	return feed
}

func get(h http.Handler, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestNewNeedsASource(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("a Dashboard without a Source was made")
	}
}

func TestPageIsCompleteAtFirstPaint(t *testing.T) {
	d := testDashboard(t, testFeed(t))
	w := get(d, "/")
	page := w.Body.String()
	for _, want := range []string{"<h1 id=\"headline\">All 3 regions serve</h1>", "<b>Frankfurt</b> up", `data-country="DE"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	_, doc, _ := strings.Cut(page, `<script type="application/json" id="state">`)
	doc, _, _ = strings.Cut(doc, "</script>")
	var st struct {
		State
		ID    string `json:"id"`
		Build string `json:"build"`
	}
	if err := json.Unmarshal([]byte(doc), &st); err != nil {
		t.Fatalf("the state in the page: %v", err)
	}
	if len(st.Regions) != 3 || st.ID == "" || st.Build != d.assets.build || len(st.Events) != 1 {
		t.Errorf("the state in the page is not complete: %.200s", doc)
	}
}

// What an operator names a region must not become markup or script.
func TestNamesAreEscaped(t *testing.T) {
	evil := `</script><script>alert(1)</script>`
	doc := strings.Replace(spec, "name: Frankfurt", `name: "`+evil+`"`, 1)
	snap, err := fleet.Compile([]byte(doc), 1)
	if err != nil {
		t.Fatal(err)
	}
	feed := NewFeed(FeedConfig{})
	feed.Apply(&fleet.World{Snapshot: snap})
	if strings.Contains(get(testDashboard(t, feed), "/").Body.String(), "<script>alert") {
		t.Error("the region's name became a script")
	}
}

// The page must work where its server is all that can be reached, under a
// policy that forbids inline scripts and styles.
func TestNothingIsAskedOfOtherHosts(t *testing.T) {
	d := testDashboard(t, testFeed(t))
	w := get(d, "/")
	if got := w.Header().Get("Content-Security-Policy"); !strings.Contains(got, "default-src 'none'") || strings.Contains(got, "unsafe") {
		t.Errorf("policy %q", got)
	}
	texts := map[string]string{"page": w.Body.String()}
	for name, a := range d.assets.byName {
		if !strings.HasSuffix(name, ".txt") && !strings.HasSuffix(name, ".woff2") {
			texts[name] = string(a.plain)
		}
	}
	remote := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9-]+\.[a-z]`)
	inline := regexp.MustCompile(`(?i)<script>|\son[a-z]+=|<style|\sstyle=`)
	for name, text := range texts {
		text = strings.ReplaceAll(text, "http://www.w3.org/2000/svg", "") // a name, not an address
		if m := remote.FindString(text); m != "" {
			t.Errorf("%s names another host: %s", name, m)
		}
		if m := inline.FindString(text); m != "" && !strings.HasSuffix(name, ".js") {
			t.Errorf("%s has inline code or style: %s", name, m)
		}
	}
}

func TestAssetsAreKeptByBrowsers(t *testing.T) {
	d := testDashboard(t, testFeed(t))
	at := assetPath + d.assets.build + "/"
	w := get(d, at+"app.js", "Accept-Encoding", "br, gzip;q=0.8")
	if w.Code != 200 || w.Header().Get("Content-Encoding") != "gzip" || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	unzipped, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(unzipped)
	if err != nil || string(text) != string(d.assets.byName["app.js"].plain) {
		t.Errorf("the compressed asset differs (%v)", err)
	}
	if again := get(d, at+"app.js", "If-None-Match", w.Header().Get("ETag")); again.Code != http.StatusNotModified {
		t.Errorf("with its ETag: %d, expected 304", again.Code)
	}
	for _, coding := range []string{"", "identity", "gzip;q=0", "gzip; q=0.000"} {
		if plain := get(d, at+"app.js", "Accept-Encoding", coding); plain.Header().Get("Content-Encoding") != "" {
			t.Errorf("compressed for Accept-Encoding %q", coding)
		}
	}
	for _, path := range []string{at + "page.html", at + "no.js", at, assetPath + "old/app.js", assetPath + "../hub.go"} {
		if w := get(d, path); w.Code == 200 {
			t.Errorf("%s: %d, expected to find nothing", path, w.Code)
		}
	}
}

func TestScriptsKeepTheBudget(t *testing.T) {
	d := testDashboard(t, testFeed(t))
	const budget = 150 << 10
	size := 0
	for name, a := range d.assets.byName {
		if strings.HasSuffix(name, ".js") {
			size += len(a.zipped)
		}
	}
	if size == 0 || size > budget {
		t.Errorf("the scripts are %d octets compressed, the budget is %d", size, budget)
	}
}

func TestStateHasAnETag(t *testing.T) {
	feed := testFeed(t)
	d := testDashboard(t, feed)
	w := get(d, "/dashboard/state")
	var st State
	if err := json.Unmarshal(w.Body.Bytes(), &st); err != nil || st.Node != "iad-1" {
		t.Fatalf("%v: %s", err, w.Body)
	}
	tag := w.Header().Get("ETag")
	if again := get(d, "/dashboard/state", "If-None-Match", tag); again.Code != http.StatusNotModified {
		t.Errorf("unchanged: %d, expected 304", again.Code)
	}
	feed.Add(Event{Kind: "bgp", Text: "a route came"})
	if err := d.hub.publish(feed.State()); err != nil {
		t.Fatal(err)
	}
	if again := get(d, "/dashboard/state", "If-None-Match", tag); again.Code != 200 {
		t.Errorf("changed: %d, expected 200", again.Code)
	}
}

func TestOnlyReads(t *testing.T) {
	d := testDashboard(t, testFeed(t))
	for _, c := range []struct {
		method, path string
		code         int
	}{
		{"POST", "/", 405}, {"PUT", "/dashboard/state", 405}, {"DELETE", "/dashboard/events", 405}, {"OPTIONS", "/", 405},
		{"HEAD", "/", 200}, {"HEAD", "/dashboard/state", 200}, {"HEAD", "/dashboard/events", 200},
		{"GET", "/config", 404}, {"GET", "/dashboard/", 404}, {"GET", "/dashboard/assets/", 404},
	} {
		w := httptest.NewRecorder()
		d.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.code {
			t.Errorf("%s %s: %d, expected %d", c.method, c.path, w.Code, c.code)
		}
		if c.code == 405 && w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s %s: Allow %q", c.method, c.path, w.Header().Get("Allow"))
		}
	}
}

// Strangers choose the path and every header.
func FuzzRequest(f *testing.F) {
	d := testDashboard(f, testFeed(f))
	f.Add("/", "gzip", "", "")
	f.Add("/dashboard/assets/x/app.js", "gzip;q=0", `W/"x"`, "bytes=0-1")
	f.Add("/dashboard/state", ";;,", "*", "bytes=5-")
	f.Fuzz(func(t *testing.T, path, encoding, match, span string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Path = path
		if path == "/dashboard/events" {
			r.Method = "HEAD" // a stream does not end
		}
		for k, v := range map[string]string{"Accept-Encoding": encoding, "If-None-Match": match, "Range": span} {
			r.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%d for %q", w.Code, path)
		}
	})
}
