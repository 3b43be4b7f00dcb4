package l7

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/crypto/bcrypt"

	"meridian/edge/l7/balance"
	"meridian/edge/l7/hop"
	"meridian/edge/l7/overload"
	"meridian/edge/l7/why"
	"meridian/fleet"
)

// whyOf sends a request as it stands, with a token, and gives the report.
func (r *rig) whyOf(before, line string, fields ...string) *why.Report {
	r.t.Helper()
	host := "www.demo.test"
	for i, f := range fields {
		if name, ok := strings.CutPrefix(f, "Host: "); ok {
			host, fields = name, append(fields[:i:i], fields[i+1:]...)
			break
		}
	}
	fields = append([]string{line + " HTTP/1.1", "Host: " + host, "X-Edge-Why: " + tokenFor(host), "Connection: close"}, fields...)
	answer := r.raw(webVIP, before+strings.Join(fields, "\r\n")+"\r\n\r\n")
	_, rest, ok := strings.Cut(answer, "\r\nX-Edge-Why: ")
	text, _, _ := strings.Cut(rest, "\r\n")
	var report why.Report
	if err := json.Unmarshal([]byte(text), &report); !ok || err != nil {
		r.t.Fatalf("%s: no report, %v, in %q", line, err, answer)
	}
	return &report
}

// filters are a report's, as text.
func filters(r *why.Report) string {
	var out []string
	for _, f := range r.Filters {
		out = append(out, f.Name+" "+f.Decision)
	}
	return strings.Join(out, "; ")
}

// A report names the route that took the request, its place in the Spec and what it
// asked for, and why none before it did.
func TestAReportNamesTheRoute(t *testing.T) {
	routes := `
routes:
- {name: rest, pool: main}
- {name: beta, path: /api, pool: main, methods: [GET, PUT], headers: [{name: X-Beta, value: "1"}], query: [{name: q}], cookies: [{name: c, prefix: ab}]}
- {path_exact: /old, redirect: {path: /new, status: 301}}
- {name: admin, hosts: [admin.demo.test], path_regex: "/[a-c]+", pool: main}
`
	spec := strings.Replace(httpSpec(noChecks+routes, backend(t, "b", nil)), "hosts: [www.demo.test]", "hosts: [www.demo.test, admin.demo.test, bare.demo.test]", 1)
	r := newRig(t, strings.Replace(spec, "{name: rest,", "{name: rest, hosts: [www.demo.test, admin.demo.test],", 1), withWhy)
	for name, tc := range map[string]struct {
		line   string
		fields []string
		want   why.Route
	}{
		"all conditions": {"GET /api/x?q=1", []string{"X-Beta: 1", "Cookie: c=abc"}, why.Route{Name: "rest", Place: "services[0].routes[0]", Asks: "host www.demo.test or admin.demo.test, path /…"}},
		"no host named": {"GET /api/x?q=1", []string{"Host: bare.demo.test", "X-Beta: 1", "Cookie: c=abc"}, why.Route{Name: "beta", Place: "services[0].routes[1]",
			Asks: "path /api/…, method GET or PUT, header x-beta is 1, query q is there, cookie c begins with ab", Passed: []why.Other{{Name: "2", Why: "path /old"}}}},
		"a regular expression": {"GET /abc", []string{"Host: admin.demo.test"}, why.Route{Name: "admin", Place: "services[0].routes[3]", Asks: "host admin.demo.test, path ^(?:/[a-c]+)$"}},
		"none":                 {"GET /api", []string{"Host: bare.demo.test"}, why.Route{Passed: []why.Other{{Name: "2", Why: "path /old"}, {Name: "beta", Why: "header x-beta is 1"}}}},
	} {
		if got := r.whyOf("", tc.line, tc.fields...); fmt.Sprintf("%+v", *got.Route) != fmt.Sprintf("%+v", tc.want) {
			t.Errorf("%s: %+v, want %+v", name, *got.Route, tc.want)
		}
	}
}

// Whatever answered in place of an endpoint is named, and so is what let the request
// pass.
func TestAReportNamesWhatAnswered(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	guard := backend(t, "guard", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Cookie") == "" {
			w.WriteHeader(http.StatusForbidden)
		}
	})
	b, failing := backend(t, "b", nil), backend(t, "f", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(502) })
	routes := `limits: {rates: [{name: ten, requests: 1000, per: 1s}]}
routes:
- {name: plain, pool: main}
- {path: /users, pool: main, filters: {basic_auth: {users: "file:users"}}}
- {path: /jwt, pool: main, filters: {jwt: {keys: "file:keys"}}}
- {path: /forward, pool: main, filters: {forward_auth: {pool: guard, path: /}}}
- {path: /down, pool: main, filters: {maintenance: {on: true}}}
- {path: /shut, pool: main, filters: {access: ["!127.0.0.0/8"]}}
- {path: /open, pool: main, filters: {access: ["127.0.0.0/8"]}}
- {path: /bound, pool: main, filters: {bounds: {methods: [POST]}}}
- {path: /moved, redirect: {path: /new, status: 301}}
- {path: /fixed, answer: {status: 418, body: "tea"}}
- {path: /split, split: {pools: [{pool: main, weight: 1}]}}
- {path: /pages, pool: failing, filters: {error_pages: [{status: ["502"], body: "sorry", endpoints: true}]}}
`
	// The test is at a node's address, so that its connections are taken under overload.
	spec := strings.Replace(httpSpec(noChecks+routes, b), "10.0.0.1}", "127.0.0.1}", 1) + "  - {id: guard, endpoints: [{address: \"" + guard + "\"}]}\n  - {id: failing, endpoints: [{address: \"" + failing + "\"}]}\n"
	r, press := pressed(t, httpSpec(noChecks, b), withWhy)
	r.object(fleet.ObjectSecret, "file:users", "ali:"+string(hash)+"\n")
	r.object(fleet.ObjectSecret, "file:keys", fmt.Sprintf(`{"keys":[{"kty":"oct","k":%q}]}`, base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32))))
	if err := r.apply(spec); err != nil {
		t.Fatal(err)
	}
	login := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("ali:sesame"))
	for line, tc := range map[string]struct {
		fields []string
		status int
		want   string
	}{
		"GET /":          {nil, 200, "rates within; limits within"},
		"GET /users":     {nil, 401, "basic_auth refused: a name and password are needed"},
		"GET /users/x":   {[]string{login}, 200, "basic_auth passed; rates within; limits within"},
		"GET /jwt":       {nil, 401, "jwt refused: a token is needed"},
		"GET /forward":   {nil, 403, "forward_auth refused: 403"},
		"GET /forward/x": {[]string{"Cookie: who=ali"}, 200, "forward_auth passed: 200; rates within; limits within"},
		"GET /down":      {nil, 503, "maintenance refused: 503"},
		"GET /shut":      {nil, 403, "access refused: not allowed from this address; answer of the gateway's own: not allowed from this address"},
		"GET /open":      {nil, 200, "access allowed; rates within; limits within"},
		"GET /bound":     {nil, 405, "bounds refused: method not allowed"},
		"GET /moved":     {nil, 301, "redirect to http://www.demo.test/new"},
		"GET /fixed":     {nil, 418, "fixed_answer answered 418"},
		"GET /split":     {nil, 200, "split pool main; rates within; limits within"},
		"GET /pages":     {nil, 502, "rates within; limits within; error_pages in place of the endpoint's 502"},
		"TRACE /../":     {nil, 400, "answer of the gateway's own: the path holds . or .. segments"},
	} {
		if got := r.whyOf("", line, tc.fields...); filters(got) != tc.want || got.Status != tc.status {
			t.Errorf("%s: %d, %q, want %d, %q", line, got.Status, filters(got), tc.status, tc.want)
		}
	}
	if err := r.apply(strings.Replace(spec, "requests: 1000, per: 1s", "requests: 1, per: 1h", 1)); err != nil {
		t.Fatal(err)
	}
	got := r.whyOf("", "GET /")
	if got.Status != 429 { // those before may be owed for still
		got = r.whyOf("", "GET /")
	}
	if filters(got) != "rates over ten" || got.Flag != "RL" {
		t.Errorf("over a rate: %+v", got)
	}
	press(0.999)
	eventually(t, "requests are refused", func() bool { return r.g.sheds(overload.Reject) })
	if got := r.whyOf("", "GET /"); filters(got) != "overload refused: priority normal" || got.Flag != "OL" {
		t.Errorf("%+v", got)
	}
}

// The client is who the proxies in front tell, where they are trusted; the
// connection's own address stands beside it, and layer 4 is asked about that.
func TestAReportNamesTheClient(t *testing.T) {
	header := string(proxyHeader(t, 2, &net.TCPAddr{IP: net.IPv4(203, 0, 113, 9), Port: 1}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80}))
	asked := make(chan [2]netip.AddrPort, 10)
	r := newRig(t, httpSpec(noChecks, backend(t, "b", nil)), withWhy, func(c *Config) {
		c.Slot = func(_ bool, client, vip netip.AddrPort) *why.Slot {
			asked <- [2]netip.AddrPort{client, vip}
			return nil
		}
		c.Arrived = func(client, vip netip.AddrPort) (time.Duration, bool) { return time.Second, client.Addr().IsLoopback() }
	})
	for name, tc := range map[string]struct {
		gateway, before string
		fields          []string
		want            string
	}{
		"directly":        {"", "", []string{"X-Forwarded-For: 203.0.113.7"}, "127.0.0.1"},
		"trusted proxies": {"gateway: {trusted_proxies: [127.0.0.0/8]}\n", "", []string{"X-Forwarded-For: 203.0.113.7"}, "203.0.113.7"},
		"PROXY protocol":  {trustLoopback, header, nil, "203.0.113.9"},
	} {
		if err := r.apply(httpSpec(noChecks, backend(t, "b", nil)) + tc.gateway); err != nil {
			t.Fatal(err)
		}
		got := r.whyOf(tc.before, "GET /", tc.fields...)
		if got.Client.String() != tc.want || got.Peer.Addr().String() != "127.0.0.1" || got.Peer.Port() < 2 {
			t.Errorf("%s: client %s, peer %s", name, got.Client, got.Peer)
		}
		if ends := <-asked; ends[0] != got.Peer || ends[1].String() != r.addr(webVIP) {
			t.Errorf("%s: layer 4 was asked about %v", name, ends)
		}
		if got.RTT <= 0 || got.RTT > 1e6 || got.Arrival < 100_000 || got.Arrival > 1_000_000 {
			t.Errorf("%s: round trip %d us, arrival %d us", name, got.RTT, got.Arrival)
		}
	}
}

// A request that the next region answers is told of as a try there, with what the
// gateway there has to say; callers without a token get neither.
func TestAReportGoesOnInTheNextRegion(t *testing.T) {
	gone, lives := dead(t), tells(t)
	checks := "healthcheck: {interval: 100ms, timeout: 100ms, fall: 1}\nserver_timing: true"
	fra, nyc := pair(t, false, twoRegions(false, checks, gone, lives), withWhy)
	nyc.waitState(lives, fleet.Up)
	fra.waitState(gone, fleet.Down)
	c := fra.client(webVIP, nil)
	res, got := askWhy(t, c, "http://www.demo.test/", tokenFor("www.demo.test"))
	if res.StatusCode != 200 || got == nil || len(got.Tries) != 1 || got.Node != "n1" || len(res.Header.Values("Server-Timing")) != 1 {
		t.Fatalf("%d %v %+v", res.StatusCode, res.Header, got)
	}
	try := got.Tries[0]
	if try.Region != "nyc" || try.Endpoint != nyc.addr("192.0.2.2:80") || try.Outcome != "answered" || try.Status != 200 || try.Answer <= 0 || !strings.Contains(filters(got), "next_region asked first") {
		t.Errorf("%+v %s", try, filters(got))
	}
	if len(got.Candidates) != 1 || got.Candidates[0].Name != gone || got.Candidates[0].State != fleet.Down || got.Candidates[0].Reason != balance.ReasonElsewhere {
		t.Errorf("candidates %+v", got.Candidates)
	}
	if g := try.Gateway; g == nil || g.Node != "n2" || g.Region != "nyc" || g.ID != got.ID || g.Client != got.Client || len(g.Tries) != 1 || g.Tries[0].Endpoint != lives || len(g.Candidates) != 1 || g.Route == nil {
		t.Errorf("the gateway there tells %+v", g)
	}
	if _, got := askWhy(t, c, "http://www.demo.test/", "1"); got != nil {
		t.Errorf("a stranger got %+v", got)
	}
	told := nyc.g.metrics.whyTold
	if n := testutil.ToFloat64(told); n != 1 {
		t.Errorf("the gateway there told %v times", n)
	}

	fra.g.cfg.reach = func(netip.AddrPort) string { return gone }
	if err := fra.apply(strings.Replace(twoRegions(false, checks+"\nretries: {attempts: 0}\ntimeouts: {connect: 1s}", gone, lives), "nodes: [", "nodes: [{name: n2, region: nyc, roles: [l7], addresses: {v4: 10.0.0.2}}, ", 1)); err != nil {
		t.Fatal(err)
	}
	if _, got = askWhy(t, c, "http://www.demo.test/", tokenFor("www.demo.test")); got == nil || len(got.Tries) == 0 || got.Tries[0].Region != "nyc" || got.Tries[0].Outcome != "the endpoint cannot be reached" || got.Tries[0].Gateway != nil {
		t.Errorf("%+v", got)
	}
}

// The token by which the next region's gateway is asked goes to no endpoint, where that
// gateway fails and those here are tried.
func TestTheTokenStaysBetweenGateways(t *testing.T) {
	saw := make(chan http.Header, 10)
	sick := backend(t, "sick", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sick" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		saw <- r.Header
	})
	nowhere := dead(t)
	r := newRig(t, twoRegions(false, "healthcheck: {path: /sick, interval: 100ms, timeout: 100ms, fall: 1}", sick, nowhere), withWhy, func(c *Config) {
		c.HopKey = hop.Key("the fleet's")
		c.reach = func(netip.AddrPort) string { return nowhere }
	})
	r.waitState(sick, fleet.Down)
	got := r.whyOf("", "GET /")
	if got.Status != 200 || len(got.Tries) != 2 || got.Tries[0].Region != "nyc" || got.Tries[1].Endpoint != sick {
		t.Errorf("%+v", got)
	}
	if h := <-saw; h.Get("X-Edge-Why") != "" || h.Get(hop.Field) != "" {
		t.Errorf("the endpoint got %v", h)
	}
}
