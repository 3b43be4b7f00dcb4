package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"meridian/controlplane"
	"meridian/controlplane/store"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/node"
)

const zoneSpec = `
regions: [{id: fra, vips: {v4: [192.0.2.1]}, location: {latitude: 0, longitude: 0}}]
nodes: [{name: fra-1, region: fra, roles: [dns], addresses: {v4: 10.0.0.1}}]
services: [{service: web, protocol: http, ports: [80], pools: [{id: a, endpoints: [{address: "10.0.0.1:80"}]}]}]
zones:
  - {zone: dyn.test, dynamic: true, records: "@ 300 SOA ns. h. 1 2 3 4 5\n@ 300 NS ns.\n", steered: [{name: www, service: web}]}
  - {zone: file.test, file: file.zone}
`

// zoneServer is the API on a control plane that has its Spec from a file.
func zoneServer(t testing.TB, edit ...func(*Config)) *httptest.Server {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"spec.yaml": zoneSpec, "file.zone": "@ 300 SOA ns. h. 1 2 3 4 5\n@ 300 NS ns.\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	st, err := store.NewFile(store.FileConfig{Spec: node.NewFileSource(filepath.Join(dir, "spec.yaml"), log), Dir: filepath.Join(dir, "items"), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	direct := controlplane.NewDirect(log)
	c, err := controlplane.New(controlplane.Config{Node: "fra-1", Store: st, Publisher: direct, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan *fleet.World, 100), make(chan error, 2)
	go func() { done <- c.Run(ctx) }()
	go func() { done <- direct.Run(ctx, func(w *fleet.World) error { ready <- w; return nil }) }()
	<-ready
	cfg := Config{Token: "a long enough token", Zones: c, Logger: log}
	for _, f := range edit {
		f(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(func() { h.Close(); cancel(); <-done; <-done })
	return h
}

// call makes one request; headers are NAME: VALUE.
func call(t testing.TB, h *httptest.Server, method, path, body string, headers ...string) (code int, header http.Header, text string) {
	t.Helper()
	c := &Client{URL: h.URL, Token: "a long enough token"}
	hd := http.Header{}
	for _, v := range headers {
		name, value, _ := strings.Cut(v, ": ")
		hd.Set(name, value)
	}
	hd.Set("X-Test", "1")
	header, b, err := c.Raw(t.Context(), method, path, hd, []byte(body))
	code = 200
	if err != nil {
		code = 0
		if header == nil {
			t.Fatal(err)
		}
	}
	return code, header, string(b)
}

const apiZone = "$TTL 60\n@ SOA ns.other. host.other. %d 2 3 4 5\n@ NS ns.other.\na A 192.0.2.1\n"

func TestZonesAreWrittenWithConditions(t *testing.T) {
	h := zoneServer(t)
	tags := map[string]string{}
	for _, c := range []struct {
		what, method, path, body, header string
		code                             int
		want                             string
	}{
		{"none yet", "GET", "/zones/new.test", "", "", 404, "no such zone"},
		{"patching what is not there", "PATCH", "/zones/new.test", `[{"name":"a","type":"A","records":["192.0.2.1"]}]`, "", 404, "no such zone"},
		{"a condition that cannot hold", "PUT", "/zones/new.test", fmt.Sprintf(apiZone, 1), "If-Match: *", 412, "has changed"},
		{"made", "PUT", "/zones/new.test", fmt.Sprintf(apiZone, 1), "If-None-Match: *", 201, `"source": "api"`},
		{"made twice", "PUT", "/zones/new.test", fmt.Sprintf(apiZone, 1), "If-None-Match: *", 412, "has changed"},
		{"put as it is", "PUT", "/zones/new.test.", fmt.Sprintf(apiZone, 1), "", 200, `"serial": 1`},
		{"put with the same serial and other content", "PUT", "/zones/new.test", fmt.Sprintf(apiZone, 1) + "b A 192.0.2.2\n", "", 200, `"serial": 2`},
		{"put with a greater serial", "PUT", "/zones/NEW.test", fmt.Sprintf(apiZone, 7), "", 200, `"serial": 7`},
		{"a stale ETag", "PATCH", "/zones/new.test", `[]`, `If-Match: "0123"`, 412, "has changed"},
		{"a wrong ETag", "PATCH", "/zones/new.test", `[]`, `If-Match: 0123`, 400, "in quotes"},
		{"the right ETag", "PATCH", "/zones/new.test", `[{"name":"c","type":"AAAA","ttl":9,"records":["2001:db8::1"]}]`, "If-Match: ETAG", 200, `"serial": 8`},
		{"as JSON", "GET", "/zones/new.test", "", "Accept: application/json", 200, `"2001:db8::1"`},
		{"as text", "GET", "/zones/new.test", "", "", 200, "c.new.test.\t9\tIN\tAAAA\t2001:db8::1"},
		{"not changed", "GET", "/zones/new.test", "", "If-None-Match: ETAG", 304, ""},
		{"a record that is wrong", "PATCH", "/zones/new.test", `[{"name":"c","type":"A","records":["192.0.2"]}]`, "", 422, `"path": "[0].records[0]"`},
		{"a CNAME beside others", "PATCH", "/zones/new.test", `[{"name":"a","type":"CNAME","records":["b"]}]`, "", 422, "CNAME"},
		{"an unknown field", "PATCH", "/zones/new.test", `[{"nam":"a"}]`, "", 400, "nam"},
		{"a file with errors", "PUT", "/zones/new.test", fmt.Sprintf(apiZone, 9) + "x A 1.2.3\ny CNAME z\ny A 192.0.2.1\n", "", 422, `"line": 5`},
		{"a file without SOA", "PUT", "/zones/new.test", "a 60 A 192.0.2.1\n", "", 422, "SOA"},
		{"a zone of the Spec's file", "PUT", "/zones/file.test", fmt.Sprintf(apiZone, 9), "", 409, "the Spec has it from its file"},
		{"patching one", "PATCH", "/zones/file.test", `[{"name":"a","type":"A","records":["192.0.2.1"]}]`, "", 409, "the Spec has it from its file"},
		{"reading one", "GET", "/zones/file.test", "", "", 200, "SOA"},
		{"deleting one", "DELETE", "/zones/file.test", "", "", 409, "the Spec has it from its file"},
		{"a steered name with an address", "PATCH", "/zones/dyn.test", `[{"name":"www","type":"A","records":["192.0.2.1"]}]`, "", 422, "cannot be steered"},
		{"a dynamic zone", "PATCH", "/zones/dyn.test", `[{"name":"other","type":"A","records":["192.0.2.1"]}]`, "", 200, `"source": "dynamic"`},
		{"deleting a dynamic zone with first content", "DELETE", "/zones/dyn.test", "", "", 409, "first content"},
		{"a name with a slash", "PUT", "/zones/0%2F25.2.0.192.in-addr.arpa", fmt.Sprintf(apiZone, 1), "", 201, "0/25.2.0.192"},
		{"the root", "PUT", "/zones/@", fmt.Sprintf(apiZone, 1), "", 201, `"zone": "."`},
		{"no name", "GET", "/zones/a..b", "", "", 400, "empty label"},
		{"another method", "POST", "/zones/new.test", "", "", 405, ""},
		{"an unknown parameter", "DELETE", "/zones/new.test?dry_run=1", "", "", 400, "dry_run"},
		{"deleted on a stale ETag", "DELETE", "/zones/new.test", "", `If-Match: "00"`, 412, ""},
		{"deleted", "DELETE", "/zones/new.test", "", "If-Match: ETAG", 204, ""},
		{"deleted twice", "DELETE", "/zones/new.test", "", "", 404, ""},
		{"an action here", "POST", "/zones/dyn.test/notify", "", "", 404, "transfers no zones"},
		{"an unknown action", "POST", "/zones/dyn.test/explode", "", "", 404, "expected notify"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, h.URL+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer a long enough token")
		if name, value, ok := strings.Cut(c.header, ": "); ok {
			req.Header.Set(name, strings.Replace(value, "ETAG", tags["/zones/new.test"], 1))
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		_, _ = fmt.Fprint(&b, readAll(t, resp))
		if resp.StatusCode != c.code || !strings.Contains(b.String(), c.want) {
			t.Errorf("%s: %d, want %d with %q in: %s", c.what, resp.StatusCode, c.code, c.want, b.String())
		}
		if tag := resp.Header.Get("ETag"); tag != "" && strings.HasPrefix(strings.ToLower(c.path), "/zones/new.test") {
			tags["/zones/new.test"] = tag
		}
	}
}

func TestZonesAreListedByPage(t *testing.T) {
	h := zoneServer(t)
	for i := range 5 {
		if code, _, text := call(t, h, "PUT", fmt.Sprintf("/zones/z%d.test", i), fmt.Sprintf(apiZone, i+1)); code != 200 {
			t.Fatal(text)
		}
	}
	var names []string
	for after, pages := "", 0; ; pages++ {
		_, _, text := call(t, h, "GET", "/zones?limit=3&after="+after, "")
		var list ZoneList
		if err := json.Unmarshal([]byte(text), &list); err != nil || list.Total != 7 {
			t.Fatalf("%v: %s", err, text)
		}
		for _, z := range list.Zones {
			names = append(names, fmt.Sprintf("%s:%s:%d:%d:%s", z.Zone, z.Source, z.Serial, z.Records, z.State))
		}
		if after = list.Next; after == "" {
			if pages != 2 {
				t.Errorf("%d pages", pages+1)
			}
			break
		}
	}
	want := "dyn.test.:dynamic:1:2:ok file.test.:file:1:2:ok z0.test.:api:1:3:ok z1.test.:api:2:3:ok z2.test.:api:3:3:ok z3.test.:api:4:3:ok z4.test.:api:5:3:ok"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got %s", got)
	}
	if code, _, text := call(t, h, "GET", "/zones?limit=0", ""); code == 200 {
		t.Error(text)
	}
}

// nameserver is a Served with one transferred zone.
type nameserver struct{ z *zone.Zone }

func (n nameserver) Zone(name fleet.Name) *zone.Zone {
	if name == n.z.Name {
		return n.z
	}
	return nil
}
func (n nameserver) Static(name fleet.Name) *zone.Zone { return n.Zone(name) }
func (n nameserver) ZoneNames() []fleet.Name           { return []fleet.Name{n.z.Name} }

func TestWhatOnlyTheNameserverHasIsShownToo(t *testing.T) {
	z, err := zone.Load("moved.test.", fmt.Appendf(nil, apiZone, 42), "f")
	if err != nil {
		t.Fatal(err)
	}
	var acted []string
	h := zoneServer(t, func(c *Config) {
		c.Served = nameserver{z}
		c.ZoneState = func(n fleet.Name) string { return "state of " + string(n) }
		c.ZoneAction = func(_ context.Context, n fleet.Name, action string) error {
			acted = append(acted, action+" "+string(n))
			return nil
		}
		c.Keys = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "keys at ", r.URL.Path) })
	})
	if _, _, text := call(t, h, "GET", "/zones/moved.test", "", "Accept: application/json"); !strings.Contains(text, `"serial": 42`) || !strings.Contains(text, "state of moved.test.") {
		t.Error(text)
	}
	if _, _, text := call(t, h, "GET", "/zones", ""); !strings.Contains(text, "moved.test.") || !strings.Contains(text, "dyn.test.") {
		t.Error(text)
	}
	if code, _, text := call(t, h, "POST", "/zones/moved.test/retransfer", ""); code != 200 || len(acted) != 1 || acted[0] != "retransfer moved.test." {
		t.Error(code, text, acted)
	}
	if _, _, text := call(t, h, "GET", "/keys/moved.test", ""); text != "keys at /keys/moved.test" {
		t.Error(text)
	}
	for _, path := range []string{"/zones", "/zones/dyn.test", "/keys/x"} {
		resp, err := http.Get(h.URL + path)
		if err != nil || resp.StatusCode != 401 {
			t.Errorf("%s without a token: %v %v", path, resp.StatusCode, err)
		}
		resp.Body.Close()
	}
}

// Several who add records at the same time lose none.
func TestChangesAtTheSameTimeAreAllMade(t *testing.T) {
	h := zoneServer(t)
	call(t, h, "PUT", "/zones/z.test", fmt.Sprintf(apiZone, 1))
	const n = 12
	done := make(chan string, n)
	for i := range n {
		go func() {
			code, _, text := call(t, h, "PATCH", "/zones/z.test", fmt.Sprintf(`[{"name":"h%d","type":"A","records":["192.0.2.%d"]}]`, i, i))
			if code == 200 {
				text = ""
			}
			done <- text
		}()
	}
	for range n {
		if text := <-done; text != "" {
			t.Error(text)
		}
	}
	_, _, text := call(t, h, "GET", "/zones/z.test", "")
	if got := strings.Count(text, ".z.test.\t3600\tIN\tA"); got != n {
		t.Errorf("%d of %d are there:\n%s", got, n, text)
	}
}

func readAll(t testing.TB, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
