package l7

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"meridian/fleet"
)

// counting is an endpoint that counts its requests, and answers with a status.
func counting(t testing.TB, n *atomic.Int64, status int) string {
	return backend(t, "counting", func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		w.WriteHeader(status)
	})
}

// until waits for something to become true.
func until(t testing.TB, what string, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); {
		if true() {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
	t.Fatalf("%s: not in time", what)
}

func (r *rig) ejected(address string) bool {
	return r.metric("meridian_l7_endpoint_ejected", "endpoint", address) == 1
}

// An endpoint that answers 500 five times gets nothing more for the length of
// its ejection, though its checks succeed; then it is back.
func TestAnEndpointThatFailsIsEjected(t *testing.T) {
	var bad, good atomic.Int64
	a, b := counting(t, &bad, 500), counting(t, &good, 200)
	r := newRig(t, httpSpec("outlier: {ejection: 1s}\nretries: {attempts: 0}\n", a, b))
	r.waitState(a, fleet.Up)
	r.waitState(b, fleet.Up)
	c := r.client("192.0.2.1:80", nil)
	until(t, "ejection", func() bool { get(t, c, "http://www.demo.test/"); return r.ejected(a) })
	if n := bad.Load(); n < 5 {
		t.Errorf("it was ejected after %d failures", n)
	}
	before := bad.Load()
	for range 20 {
		if status, _ := get(t, c, "http://www.demo.test/"); r.ejected(a) && status != 200 {
			t.Errorf("status %d with the only other endpoint well", status)
		}
	}
	if n := bad.Load(); r.ejected(a) && n != before {
		t.Errorf("it got %d requests while ejected", n-before)
	}
	if r.metric("meridian_l7_outliers_total", "reason", "failures_in_a_row") < 1 {
		t.Error("it is not counted")
	}
	until(t, "return", func() bool { get(t, c, "http://www.demo.test/"); return bad.Load() > before })
}

// An endpoint that is slow beside its peers is ejected as well.
func TestAnEndpointThatIsSlowIsEjected(t *testing.T) {
	slow := backend(t, "slow", func(w http.ResponseWriter, r *http.Request) { <-time.After(60 * time.Millisecond) })
	a, b := backend(t, "a", nil), backend(t, "b", nil)
	r := newRig(t, httpSpec("outlier: {min_requests: 20, latency_least: 20ms}\n", slow, a, b))
	for _, e := range []string{slow, a, b} {
		r.waitState(e, fleet.Up)
	}
	c := r.client("192.0.2.1:80", nil)
	until(t, "ejection", func() bool { get(t, c, "http://www.demo.test/"); return r.ejected(slow) })
	if r.ejected(a) || r.ejected(b) {
		t.Error("a quick one is ejected")
	}
}

func TestRateLimits(t *testing.T) {
	var n atomic.Int64
	r := newRig(t, httpSpec(noChecks+"limits: {rates: [{name: each, key: \"header:X-User\", requests: 2, per: 1h}, {name: together, key: all, requests: 5, per: 1h}]}\n", counting(t, &n, 200)))
	c := r.client("192.0.2.1:80", nil)
	codes := ""
	for _, user := range []string{"a", "a", "a", "b", "b", "", "", ""} {
		req, _ := http.NewRequest("GET", "http://www.demo.test/", nil)
		if user != "" {
			req.Header.Set("X-User", user)
		}
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		codes += fmt.Sprint(res.StatusCode, " ")
		if res.StatusCode == 429 && (res.Header.Get("Retry-After") == "" || !strings.Contains(string(body), "limit")) {
			t.Errorf("Retry-After %q, %q", res.Header.Get("Retry-After"), body)
		}
	}
	if codes != "200 200 429 200 200 200 429 429 " || n.Load() != 5 {
		t.Errorf("%s, %d at the endpoint", codes, n.Load())
	}
	if !r.flagged(flagRate, 3) {
		t.Error("they are not counted")
	}
	// The counts outlive a change of the Spec.
	if err := r.apply(httpSpec(noChecks+"limits: {rates: [{name: each, key: \"header:X-User\", requests: 2, per: 1h}]}\n", counting(t, &n, 200))); err != nil {
		t.Fatal(err)
	}
	if status, _ := send(t, c, "GET", "", "X-User: a"); status != 429 {
		t.Errorf("after Apply: %d", status)
	}
}

// A limit of two gateways is half of it for each.
func TestALimitHeldTogetherIsDivided(t *testing.T) {
	var n atomic.Int64
	spec := httpSpec(noChecks+"limits: {rates: [{name: all, key: all, scope: region, requests: 6, per: 1h}]}\n", counting(t, &n, 200))
	spec = strings.Replace(spec, "nodes: [", "nodes: [{name: n2, region: fra, roles: [l7], addresses: {v4: 10.0.0.2}}, ", 1)
	r := newRig(t, spec)
	c := r.client("192.0.2.1:80", nil)
	for range 5 {
		get(t, c, "http://www.demo.test/")
	}
	if n.Load() != 3 {
		t.Errorf("%d requests passed", n.Load())
	}
}

// holding is an endpoint whose requests stay until release is closed.
func holding(t testing.TB, in *atomic.Int64, release chan struct{}) string {
	return backend(t, "holding", func(w http.ResponseWriter, r *http.Request) {
		in.Add(1)
		<-release
	})
}

func TestLimitsOfRequestsUnderWay(t *testing.T) {
	for _, tc := range []struct {
		limits string
		most   int64
	}{
		{"{requests: 3}", 3},
		{"{endpoint_requests: 2}", 4}, // two endpoints
	} {
		var in atomic.Int64
		release := make(chan struct{})
		r := newRig(t, httpSpec(noChecks+"limits: "+tc.limits+"\n", holding(t, &in, release), holding(t, &in, release)))
		c := r.client("192.0.2.1:80", nil)
		done := make(chan struct{}, 16)
		for range tc.most {
			go func() { get(t, c, "http://www.demo.test/"); done <- struct{}{} }()
		}
		until(t, "requests under way", func() bool { return in.Load() == tc.most })
		if status, _ := get(t, c, "http://www.demo.test/"); status != 503 {
			t.Errorf("%s: one more gets %d", tc.limits, status)
		}
		if !r.flagged(flagOverload, 1) {
			t.Errorf("%s: not counted", tc.limits)
		}
		close(release)
		for range tc.most {
			<-done
		}
		if status, _ := get(t, c, "http://www.demo.test/"); status != 200 {
			t.Errorf("%s: with room again: %d", tc.limits, status)
		}
	}
}

// Connections are bounded as well, those of a pool and those of an endpoint; and
// it is not the endpoint's fault.
func TestLimitsOfConnections(t *testing.T) {
	for _, tc := range []struct {
		limits string
		most   int64
	}{
		{"{connections: 3}", 3},
		{"{endpoint_connections: 1}", 2}, // two endpoints
	} {
		var in atomic.Int64
		release := make(chan struct{})
		a, b := holding(t, &in, release), holding(t, &in, release)
		r := newRig(t, httpSpec(noChecks+"limits: "+tc.limits+"\nretries: {attempts: 1}\n", a, b))
		c := r.client("192.0.2.1:80", nil)
		done := make(chan struct{}, 16)
		for range tc.most {
			go func() { get(t, c, "http://www.demo.test/"); done <- struct{}{} }()
		}
		until(t, "requests under way", func() bool { return in.Load() == tc.most })
		for range 6 {
			if status, _ := get(t, c, "http://www.demo.test/"); status != 503 {
				t.Errorf("%s: one more gets %d", tc.limits, status)
			}
		}
		r.g.judgeSoon()
		close(release)
		for range tc.most {
			<-done
		}
		if status, _ := get(t, c, "http://www.demo.test/"); status != 200 || r.ejected(a) || r.ejected(b) {
			t.Errorf("%s: with room again: %d, ejected %v and %v", tc.limits, status, r.ejected(a), r.ejected(b))
		}
	}
}

// With the retries that may be under way all under way, one that fails is not
// tried again.
func TestLimitOfRetriesUnderWay(t *testing.T) {
	var in, tries atomic.Int64
	release := make(chan struct{})
	fails := backend(t, "fails", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Stay") != "" && r.Header.Get("X-Again") == "" && in.Add(1) > 1 {
			<-release // the retry of the one that stays
		}
		tries.Add(1)
		w.WriteHeader(503)
	})
	r := newRig(t, httpSpec(noChecks+"limits: {retries: 1}\noutlier: {consecutive_errors: 0, error_percent: 0}\nretries: {attempts: 1}\n", fails))
	c := r.client("192.0.2.1:80", nil)
	done := make(chan struct{})
	go func() { send(t, c, "GET", "", "X-Stay: 1"); close(done) }()
	until(t, "a retry under way", func() bool { return in.Load() == 2 })
	before := tries.Load()
	if status, _ := get(t, c, "http://www.demo.test/"); status != 503 {
		t.Errorf("status %d", status)
	}
	if n := tries.Load() - before; n != 1 {
		t.Errorf("%d tries, though the one retry that may be is under way", n)
	}
	close(release)
	<-done
	before = tries.Load()
	get(t, c, "http://www.demo.test/")
	if n := tries.Load() - before; n != 2 {
		t.Errorf("%d tries with room for a retry", n)
	}
}

func TestCookieAffinity(t *testing.T) {
	a, b, d := backend(t, "a", nil), backend(t, "b", nil), backend(t, "d", nil)
	key := func(c *Config) { c.AffinityKey = []byte("0123456789abcdef") }
	r := newRig(t, httpSpec(noChecks+"balancing: {cookie: {ttl: 1h}}\n", a, b, d), key)
	c := r.client("192.0.2.1:80", nil)
	res, err := c.Get("http://www.demo.test/")
	if err != nil {
		t.Fatal(err)
	}
	first, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if len(res.Cookies()) != 1 {
		t.Fatalf("cookies %v", res.Cookies())
	}
	cookie := res.Cookies()[0]
	if cookie.Name != "meridian_endpoint" || cookie.Path != "/" || cookie.MaxAge != 3600 || !cookie.HttpOnly || cookie.Secure || strings.Contains(cookie.Value, "127") {
		t.Errorf("%v", cookie)
	}
	stays := func() (where string, cookies int) {
		req, _ := http.NewRequest("GET", "http://www.demo.test/", nil)
		req.AddCookie(cookie)
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		return string(body), len(res.Cookies())
	}
	for range 6 {
		if where, cookies := stays(); where != string(first) || cookies != 0 {
			t.Errorf("the client of %s went to %s, with %d cookies", first, where, cookies)
		}
	}
	// The operator drains its endpoint: it stays, and nobody else comes.
	own := map[string]string{"a": a, "b": b, "d": d}[string(first)]
	endpoints := []string{a, b, d}
	for i, e := range endpoints {
		if e == own {
			endpoints[i] = "{address: \"" + e + "\", state: draining}"
		}
	}
	if err := r.apply(httpSpec(noChecks+"balancing: {cookie: {ttl: 1h}}\n", endpoints...)); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		if where, _ := stays(); where != string(first) {
			t.Errorf("while %s drains its client went to %s", first, where)
		}
		if _, where := get(t, c, "http://www.demo.test/"); where == string(first) {
			t.Errorf("while %s drains it gets a new client", first)
		}
	}
	// It goes: the client gets another, and another cookie.
	if err := r.apply(httpSpec(noChecks+"balancing: {cookie: {ttl: 1h}}\n", dead(t), map[bool]string{true: b, false: a}[own == a])); err != nil {
		t.Fatal(err)
	}
	if where, cookies := stays(); where == string(first) || cookies != 1 {
		t.Errorf("the client of %s, which is gone, went to %s, with %d cookies", first, where, cookies)
	}
}

// hash_on: the same value of a header goes to the same endpoint.
func TestHashOnAHeader(t *testing.T) {
	ends := []string{backend(t, "a", nil), backend(t, "b", nil), backend(t, "d", nil)}
	r := newRig(t, httpSpec("routing_policy: consistent_hash\nbalancing: {hash_on: \"header:X-Tenant\"}\n", ends...))
	for _, e := range ends { // while some are up, those that were not checked yet get nothing
		r.waitState(e, fleet.Up)
	}
	c := r.client("192.0.2.1:80", nil)
	seen := map[string]bool{}
	for tenant := range 30 {
		_, first := send(t, c, "GET", "", fmt.Sprintf("X-Tenant: %d", tenant))
		_, again := send(t, c, "GET", "", fmt.Sprintf("X-Tenant: %d", tenant))
		if first != again {
			t.Errorf("tenant %d went to %s, then to %s", tenant, first, again)
		}
		seen[first] = true
	}
	if len(seen) != 3 {
		t.Errorf("30 tenants went to %v", seen)
	}
}

// The adaptive bound is there, moves within its limits, and lets requests pass.
func TestAdaptiveLimit(t *testing.T) {
	r := newRig(t, httpSpec(noChecks+"limits: {adaptive: {min: 2, max: 50}}\n", backend(t, "a", nil)))
	c := r.client("192.0.2.1:80", nil)
	for range 100 {
		if status, _ := get(t, c, "http://www.demo.test/"); status != 200 {
			t.Fatalf("status %d", status)
		}
	}
	if got := r.metric("meridian_l7_adaptive_limit_requests", "pool", "main"); got < 2 || got > 50 {
		t.Errorf("the bound is %v", got)
	}
	p := r.g.gen.Load().services[0].pools[0]
	until(t, "nothing under way", func() bool { return p.adaptive.In() == 0 && p.circuit.Requests.In() == 0 })
}

// A tcp service has limits, too: who comes beyond is hung up on.
func TestLimitOfConnectionsOverTime(t *testing.T) {
	spec := strings.Replace(httpSpec(noChecks+"forwarding: proxy\nlimits: {rates: [{name: each, requests: 2, per: 1h}]}\n", backend(t, "a", nil)), "protocol: http\n", "protocol: tcp\n", 1)
	spec = strings.Replace(spec, "  hosts: [www.demo.test]\n", "", 1)
	r := newRig(t, strings.Replace(spec, "healthcheck: {interval", "healthcheck: {type: tcp, interval", 1))
	for i := range 4 {
		answer := r.raw("192.0.2.1:80", "GET / HTTP/1.0\r\n\r\n")
		if served := strings.HasPrefix(answer, "HTTP/1.0 200"); served != (i < 2) {
			t.Errorf("connection %d got %q", i, answer)
		}
	}
	if !r.flagged(flagRate, 2) {
		t.Error("they are not counted")
	}
}
