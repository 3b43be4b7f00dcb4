package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/controlplane"
	"meridian/fleet"
	"meridian/node"
	"meridian/rules"
)

const token = "0123456789abcdef"

const spec = `
regions:
  - id: fra
    location: {latitude: 50, longitude: 8}
    vips: {v4: [192.0.2.1]}
  - id: nrt
    location: {latitude: 35, longitude: 139}
    vips: {v4: [192.0.2.2]}
nodes:
  - {name: fra-1, region: fra, roles: [dns, control], addresses: {v4: 10.0.0.1}}
  - {name: nrt-1, region: nrt, roles: [dns, control], addresses: {v4: 10.0.0.2}}
  - {name: nrt-2, region: nrt, roles: [dns], addresses: {v4: 10.0.0.3}}
services:
  - service: web
    protocol: http
    ports: [80]
    hosts: [www.a.test]
    pools: [{id: main, endpoints: [{address: "10.1.0.1:8443"}]}]
zones:
  - {zone: a.test, file: a.zone, steered: [{name: www, service: web}]}
`

const zoneA = "@ 300 SOA ns.b.test. host.b.test. 1 3600 600 86400 300\n@ 300 NS ns.b.test.\n"

func zoneObject() fleet.Object {
	return fleet.Object{Key: fleet.ObjectKey{Kind: fleet.ObjectZone, ID: "a.test."}, File: "a.zone", Data: []byte(zoneA)}
}

func testWorld(t testing.TB, revision uint64) *fleet.World {
	t.Helper()
	s, err := rules.Compile([]byte(spec), revision)
	if err != nil {
		t.Fatal(err)
	}
	w, err := rules.World(s, []fleet.Object{zoneObject()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// control is a Control that checks as the real one does and notes what it is
// asked; storing is the store's business.
type control struct {
	world *fleet.World
	asked []string
	err   error
}

func (c *control) Submit(_ context.Context, sub controlplane.Submission) (*controlplane.Result, error) {
	base := "any"
	if sub.Base != nil {
		base = fmt.Sprint(*sub.Base)
	}
	c.asked = append(c.asked, fmt.Sprintf("submit base=%s dry=%v reuse=%v objects=%d", base, sub.DryRun, sub.Reuse, len(sub.Objects)))
	if c.err != nil {
		return nil, c.err
	}
	s, err := rules.Compile(sub.Doc, 8)
	if err != nil {
		return nil, err
	}
	if !sub.Reuse {
		if _, err := rules.World(s, sub.Objects, nil); err != nil {
			return nil, err
		}
	}
	return &controlplane.Result{Revision: 8, Hash: s.Hash, DryRun: sub.DryRun, Changes: []rules.Difference{}}, nil
}

func (c *control) Rollback(_ context.Context, to uint64, _ *uint64) (*controlplane.Result, error) {
	c.asked = append(c.asked, fmt.Sprintf("rollback to=%d", to))
	return &controlplane.Result{Revision: 9}, c.err
}

func (c *control) AddShift(_ context.Context, sh fleet.Shift, dry bool) (*controlplane.ShiftResult, error) {
	c.asked = append(c.asked, fmt.Sprintf("shift %s %v drain=%v ends=%v dry=%v", sh.From, sh.Share, sh.Drain, !sh.Expires.IsZero(), dry))
	return &controlplane.ShiftResult{Shift: sh, DryRun: dry}, c.err
}

func (c *control) RemoveShift(_ context.Context, id string) error {
	c.asked = append(c.asked, "remove "+id)
	return c.err
}

func (c *control) Shifts() []fleet.Shift { return []fleet.Shift{{ID: "s1", From: "fra", Share: .5}} }

func (c *control) Status() controlplane.Status {
	return controlplane.Status{Node: "fra-1", Revision: 7, Nodes: []controlplane.Ack{{Node: "fra-1", Applied: 7, State: controlplane.Acked}}}
}

func (c *control) Current() *fleet.World { return c.world }

type rig struct {
	*Server
	control *control
	feed    *Feed
	ready   error
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{control: &control{world: testWorld(t, 7)}, feed: NewFeed()}
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "meridian_test", Help: "A gauge."}, func() float64 { return 1 }))
	s, err := New(Config{Token: token, Control: r.control, Events: r.feed, Metrics: reg, Logger: slog.New(slog.DiscardHandler),
		Agent: func() node.Status { return node.Status{Node: "fra-1", Revision: 7, Source: "store"} },
		Ready: func() error { return r.ready },
		World: func() *fleet.World { return r.control.world },
		View:  func() *fleet.View { return &fleet.View{} },
		Explain: func(q url.Values, spec []byte) (any, error) {
			name := q.Get("name")
			if len(spec) > 0 {
				name += " supposing " + string(spec)
			}
			if name == "" {
				return nil, errors.New("name: domain name is empty")
			}
			return map[string]string{"name": name}, nil
		},
		Dashboard: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "page") }),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Server = s
	return r
}

// call makes one request as from this machine, with the token unless anonymous.
func (r *rig) call(method, target, body string, header ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, "http://127.0.0.1:8053"+target, strings.NewReader(body))
	req.RemoteAddr = "127.0.0.1:40000"
	req.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i+1 < len(header); i += 2 {
		switch header[i] {
		case "Host":
			req.Host = header[i+1]
		case "From":
			req.RemoteAddr = header[i+1]
		default:
			req.Header.Set(header[i], header[i+1])
		}
	}
	rec := httptest.NewRecorder()
	r.ServeHTTP(rec, req)
	return rec
}

func TestOnlyHealthReadinessAndMetricsAreOpen(t *testing.T) {
	r := newRig(t)
	for _, path := range []string{"/health", "/ready", "/metrics"} {
		if rec := r.call("GET", path, "", "Authorization", "", "From", "192.0.2.9:1"); rec.Code != 200 {
			t.Errorf("%s: %d", path, rec.Code)
		}
	}
	for _, path := range []string{"/config", "/status", "/traffic-shift", "/traffic-shift/x", "/explain?name=a", "/events", "/config/rollback"} {
		for _, method := range []string{"GET", "POST", "DELETE", "PUT"} {
			for _, auth := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "Basic " + token, token} {
				rec := r.call(method, path, "", "Authorization", auth)
				if rec.Code != 401 || rec.Header().Get("WWW-Authenticate") == "" {
					t.Errorf("%s %s with %q: %d", method, path, auth, rec.Code)
				}
			}
		}
	}
	if len(r.control.asked) > 0 {
		t.Errorf("strangers reached the control plane: %v", r.control.asked)
	}
	none, err := New(Config{Control: r.control, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	open := &rig{Server: none}
	if rec := open.call("GET", "/status", "", "Authorization", "Bearer "); rec.Code != 401 {
		t.Errorf("without a token set: %d", rec.Code)
	}
}

func TestTheDashboardIsForThisMachine(t *testing.T) {
	r := newRig(t)
	for name, test := range map[string]struct {
		header []string
		code   int
	}{
		"this machine":            {[]string{"Authorization", ""}, 200},
		"by its name":             {[]string{"Authorization", "", "Host", "localhost:8053"}, 200},
		"IPv6":                    {[]string{"Authorization", "", "From", "[::1]:9", "Host", "[::1]:8053"}, 200},
		"another machine":         {[]string{"Authorization", "", "From", "192.0.2.9:1"}, 401},
		"another with the token":  {[]string{"From", "192.0.2.9:1"}, 200},
		"a page that rebinds DNS": {[]string{"Authorization", "", "Host", "evil.example"}, 401},
	} {
		if rec := r.call("GET", "/assets/x", "", test.header...); rec.Code != test.code {
			t.Errorf("%s: %d", name, rec.Code)
		}
	}
	if rec := r.call("POST", "/", ""); rec.Code != 405 {
		t.Errorf("POST: %d", rec.Code)
	}
}

func TestRequests(t *testing.T) {
	bundle := func(objects string) string {
		b, _ := json.Marshal(spec)
		return `{"spec": ` + string(b) + `, "objects": [` + objects + `]}`
	}
	zone := `{"kind": "zone", "id": "a.test.", "file": "a.zone", "data": "` + base64Of(zoneA) + `"}`
	for name, test := range map[string]struct {
		method, target, body string
		header               []string
		code                 int
		want                 string // in the answer
		asked                string // of the control plane
	}{
		"bundle":                {"POST", "/config?base=7", bundle(zone), nil, 200, `"revision": 8`, "submit base=7 dry=false reuse=false objects=1"},
		"Spec alone":            {"POST", "/config", spec, nil, 200, `"revision": 8`, "submit base=any dry=false reuse=true objects=0"},
		"If-Match":              {"POST", "/config?dry_run=1", spec, []string{"If-Match", `"7"`}, 200, `"dry_run": true`, "submit base=7 dry=true reuse=true objects=0"},
		"first revision":        {"POST", "/config?base=0", spec, nil, 200, ``, "submit base=0 dry=false reuse=true objects=0"},
		"object missing":        {"POST", "/config", bundle(""), nil, 422, `"message": "the Spec names it, and it is missing"`, "submit base=any dry=false reuse=false objects=0"},
		"base no number":        {"POST", "/config?base=x", spec, nil, 400, `base: \"x\" is not a revision`, ""},
		"misspelt parameter":    {"POST", "/config?dryrun=1", spec, nil, 400, `query parameter \"dryrun\" is unknown; expected one of base, revision, dry_run`, ""},
		"dry run of a kind":     {"POST", "/config?dry_run=yes", spec, nil, 400, `dry_run: \"yes\" is not 0 or 1`, ""},
		"bundle unknown key":    {"POST", "/config", `{"spec": "", "object": []}`, nil, 400, `bundle: unknown field \"object\"`, ""},
		"bundle of two":         {"POST", "/config", bundle(zone) + "{}", nil, 422, "the Spec has", "submit base=any dry=false reuse=true objects=0"},
		"bundle wrong kind":     {"POST", "/config", bundle(`{"kind": "key", "id": "x"}`), nil, 400, `bundle: objects[0].kind: \"key\" is not zone, certificate, ca, secret, page or latency`, ""},
		"bundle data no base64": {"POST", "/config", bundle(`{"kind": "zone", "id": "x", "data": "%"}`), nil, 400, `bundle: `, ""},
		"Spec with errors": {"POST", "/config", "regions:\n- id: FRA\n  colour: red\n", nil, 422,
			"{\n  \"error\": \"the Spec has one error\",\n  \"errors\": [\n    {\n      \"path\": \"regions[0].colour\",\n      \"line\": 3,\n", "submit base=any dry=false reuse=true objects=0"},
		"empty body":         {"POST", "/config", "", nil, 422, "is empty; expected a Spec", "submit base=any dry=false reuse=true objects=0"},
		"config":             {"GET", "/config", "", nil, 200, `"id": "nrt"`, ""},
		"config known":       {"GET", "/config", "", []string{"If-None-Match", `"7"`}, 304, "", ""},
		"config deleted":     {"DELETE", "/config", "", nil, 405, "DELETE is not allowed here; use GET or POST", ""},
		"rollback":           {"POST", "/config/rollback?to=3", "", nil, 200, `"revision": 9`, "rollback to=3"},
		"rollback wrong":     {"POST", "/config/rollback?to=-1", "", nil, 400, `to: \"-1\" is not a revision`, ""},
		"shift":              {"POST", "/traffic-shift", `{"from": "fra", "share": 0.25, "for": "30m"}`, nil, 200, `"from": "fra"`, "shift fra 0.25 drain=false ends=true dry=false"},
		"shift preview":      {"POST", "/traffic-shift?dry_run=1", `{"from": "fra", "share": 1, "drain": true}`, nil, 200, `"dry_run": true`, "shift fra 1 drain=true ends=false dry=true"},
		"shift two ends":     {"POST", "/traffic-shift", `{"from": "fra", "share": 1, "for": "1m", "expires": "2030-01-01T00:00:00Z"}`, nil, 400, "shift: expected either for or expires", ""},
		"shift unknown key":  {"POST", "/traffic-shift", `{"form": "fra"}`, nil, 400, `shift: unknown field \"form\"`, ""},
		"shift no JSON":      {"POST", "/traffic-shift", `from: fra`, nil, 400, "shift: ", ""},
		"shift bad duration": {"POST", "/traffic-shift", `{"from": "fra", "for": "soon"}`, nil, 400, `\"soon\" is not a duration`, ""},
		"shift too long":     {"POST", "/traffic-shift", `{"reason": "` + strings.Repeat("x", maxShift) + `"}`, nil, 413, "body is larger than 65536 octets", ""},
		"shifts":             {"GET", "/traffic-shift", "", nil, 200, `"id": "s1"`, ""},
		"shift removed":      {"DELETE", "/traffic-shift/s1", "", nil, 204, "", "remove s1"},
		"status":             {"GET", "/status", "", nil, 200, `"applied": 7`, ""},
		"status changed":     {"POST", "/status", "", nil, 405, "use GET", ""},
		"explain":            {"GET", "/explain?name=www.a.test&type=A&client=192.0.2.7", "", nil, 200, `"name": "www.a.test"`, ""},
		"explain by a Spec":  {"POST", "/explain?name=www.a.test&down=fra&down=nrt", "regions", nil, 200, `"name": "www.a.test supposing regions"`, ""},
		"explain nothing":    {"GET", "/explain", "", nil, 400, "domain name is empty", ""},
		"metrics":            {"GET", "/metrics", "", nil, 200, "meridian_test 1", ""},
		"ready":              {"GET", "/ready", "", nil, 200, `"ready": true`, ""},
		"head":               {"HEAD", "/health", "", nil, 200, "", ""},
		"elsewhere":          {"GET", "/elsewhere", "", nil, 200, "page", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			rec := r.call(test.method, test.target, test.body, test.header...)
			if rec.Code != test.code || !strings.Contains(rec.Body.String(), test.want) {
				t.Errorf("%d %s", rec.Code, rec.Body)
			}
			if got := strings.Join(r.control.asked, "; "); got != test.asked {
				t.Errorf("asked: %s", got)
			}
			if ct := rec.Header().Get("Content-Type"); rec.Code >= 400 && ct != "application/json" {
				t.Errorf("content type %q", ct)
			}
		})
	}
}

func base64Of(s string) string {
	b, _ := json.Marshal([]byte(s))
	return strings.Trim(string(b), `"`)
}

func TestErrorsOfTheControlPlaneHaveTheirStatus(t *testing.T) {
	for _, test := range []struct {
		err  error
		code int
		want string
	}{
		{&controlplane.ConflictError{Current: 9, Base: 7}, 409, `"current": 9`},
		{fmt.Errorf("%w: no quorum", controlplane.ErrStoreAway), 503, "everything keeps serving what it has"},
		{fmt.Errorf("%w: because", controlplane.ErrRefused), 422, "refused: because"},
		{errors.New("broken"), 500, "broken"},
	} {
		r := newRig(t)
		r.control.err = test.err
		if rec := r.call("POST", "/config", spec); rec.Code != test.code || !strings.Contains(rec.Body.String(), test.want) {
			t.Errorf("%v: %d %s", test.err, rec.Code, rec.Body)
		}
	}
}

func TestANodeThatCannotWorkSaysSo(t *testing.T) {
	r := newRig(t)
	r.ready = errors.New("dns: port is taken")
	rec := r.call("GET", "/health", "")
	var h HealthReply
	if err := json.Unmarshal(rec.Body.Bytes(), &h); err != nil {
		t.Fatal(err)
	}
	if rec.Code != 503 || h.Node.OK || h.Node.Why != "dns: port is taken" || h.Fleet == nil {
		t.Errorf("%d %+v", rec.Code, h)
	}
	if rec := r.call("GET", "/ready", ""); rec.Code != 503 {
		t.Errorf("ready: %d", rec.Code)
	}
}

func TestARegionsHealthIsThatOfItsServices(t *testing.T) {
	w := testWorld(t, 7)
	now := time.Unix(1000, 0)
	web := func(region string) fleet.Target {
		return fleet.Target{Kind: fleet.TargetService, Region: region, Service: "web"}
	}
	dns := fleet.Target{Kind: fleet.TargetNameserver, Region: "nrt"}
	v := &fleet.View{
		Verdicts: map[fleet.Target]fleet.Verdict{
			web("fra"): {State: fleet.Down, Since: now, Cause: fleet.CauseTimeout, Detail: "no answer within 2s"},
			web("nrt"): {State: fleet.Up, Since: now},
			dns:        {State: fleet.Down, Since: now, Cause: fleet.CauseRefused},
		},
		Vantages: map[fleet.VantageTarget]fleet.Verdict{{Vantage: "fra", Target: web("nrt")}: {State: fleet.Down, Since: now, Cause: fleet.CauseReset}},
		Probers:  map[string]bool{"fra": true, "nrt": true},
	}
	got := FleetHealthOf(w, v, now)
	fra, nrt := got.Regions[0], got.Regions[1]
	if fra.State != "down" || fra.Why != "service/web@fra is down (timeout): no answer within 2s" || !fra.Since.Equal(now) {
		t.Errorf("fra: %+v", fra)
	}
	if nrt.State != "degraded" || nrt.Why != "dns@nrt is down (refused)" {
		t.Errorf("nrt: %+v", nrt)
	}
	if f := nrt.Targets[0].FailAt["fra"]; f.Cause != fleet.CauseReset {
		t.Errorf("nrt as fra sees it: %+v", nrt.Targets[0])
	}
	w.Shifts = []fleet.Shift{{From: "nrt", Share: 1, Drain: true, Reason: "upgrade"}}
	if nrt := FleetHealthOf(w, v, now).Regions[1]; nrt.State != "drain" || nrt.Why != "upgrade" {
		t.Errorf("drained: %+v", nrt)
	}
	if fra := FleetHealthOf(w, nil, now).Regions[0]; fra.State != "unknown" {
		t.Errorf("without a view: %+v", fra)
	}
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var back FleetHealth
	if err := json.Unmarshal(b, &back); err != nil || back.Regions[0].Targets[0].State != fleet.Down {
		t.Errorf("read back: %v", err)
	}
}

func TestEventsAreStreamedAndResumed(t *testing.T) {
	r := newRig(t)
	srv := httptest.NewServer(r)
	defer srv.Close()
	open := func(last string) (*bufio.Scanner, func()) {
		t.Helper()
		req, _ := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/events", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		if last != "" {
			req.Header.Set("Last-Event-ID", last)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("%v, %v", resp, err)
		}
		sc := bufio.NewScanner(resp.Body)
		sc.Scan() // the greeting: from here on nothing is missed
		sc.Scan()
		return sc, func() { resp.Body.Close() }
	}
	expect := func(sc *bufio.Scanner, want ...string) {
		t.Helper()
		for _, w := range append(want, "") {
			if !sc.Scan() || sc.Text() != w {
				t.Fatalf("got %q, expected %q", sc.Text(), w)
			}
		}
	}
	r.feed.Add("config", map[string]int{"revision": 1})
	live, stop := open("")
	r.feed.Add("config", map[string]int{"revision": 2})
	expect(live, "id: 2", "event: config", `data: {"revision":2}`)
	stop()
	r.feed.Add("health", "three")
	resumed, stop := open("2")
	defer stop()
	expect(resumed, "id: 3", "event: health", `data: "three"`)
	all, stop := open("0")
	defer stop()
	expect(all, "id: 1", "event: config", `data: {"revision":1}`)
	if rec := r.call("GET", "/events", "", "Last-Event-ID", "x"); rec.Code != 400 {
		t.Errorf("not a number: %d", rec.Code)
	}
}

func TestTheFeedForgetsTheOldest(t *testing.T) {
	f := NewFeed()
	for i := range kept + 10 {
		f.Add("n", i)
	}
	list, _ := f.After(0)
	if len(list) != kept || list[0].ID != 11 {
		t.Errorf("%d kept, from %d", len(list), list[0].ID)
	}
	if list, _ := f.After(1 << 40); len(list) != kept {
		t.Errorf("after a restart: %d", len(list))
	}
}

func TestATokenIsMadeOnceForItsOwner(t *testing.T) {
	dir := t.TempDir()
	first, err := LoadOrCreateToken(dir)
	if err != nil || len(first) != 64 {
		t.Fatalf("%q, %v", first, err)
	}
	if again, err := LoadOrCreateToken(dir); err != nil || again != first {
		t.Errorf("again: %q, %v", again, err)
	}
	st, err := os.Stat(filepath.Join(dir, TokenFile))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	short := filepath.Join(dir, "short")
	if err := os.WriteFile(short, []byte("abc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadToken(short); err == nil {
		t.Error("a token of three letters was taken")
	}
}

// FuzzConfig: whatever is posted, the answer is JSON and what is wrong is said.
func FuzzConfig(f *testing.F) {
	for _, s := range []string{spec, "", "{", `{"spec": "regions: []"}`, `{"spec": 1}`, `{"spec": "", "objects": [{"kind": "zone", "id": "a.test.", "data": "QCBJTiBTT0E="}]}`, "regions: [{id: a, location: {latitude: 50, longitude: 8}}]\n---\n"} {
		f.Add([]byte(s))
	}
	r := newRig(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		rec := r.call("POST", "/config?dry_run=1", string(body))
		r.control.asked = nil
		var p Problem
		if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil {
			t.Fatalf("%d: %v: %s", rec.Code, err, rec.Body)
		}
		switch {
		case rec.Code == 200 && p.Message == "":
		case rec.Code >= 400 && rec.Code < 500 && p.Message != "":
		default:
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
	})
}

// FuzzShift does the same for shifts.
func FuzzShift(f *testing.F) {
	for _, s := range []string{`{"from":"fra","share":0.5,"for":"1m"}`, `{"share":1e999}`, `[]`, ``, `{"from":"fra"} x`} {
		f.Add([]byte(s))
	}
	r := newRig(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		rec := r.call("POST", "/traffic-shift", string(body))
		r.control.asked = nil
		if !json.Valid(rec.Body.Bytes()) || rec.Code != 200 && rec.Code != 400 && rec.Code != 413 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
	})
}
