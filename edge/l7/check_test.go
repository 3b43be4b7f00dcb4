package l7

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"meridian/fleet"
)

const fastChecks = "healthcheck: {interval: 100ms, timeout: 100ms%s}\n"

func checks(more string) string { return strings.Replace(fastChecks, "%s", more, 1) }

func TestDeadEndpointGetsNoRequests(t *testing.T) {
	var sick atomic.Bool
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if sick.Load() && r.URL.Path == "/alive" {
			w.WriteHeader(500)
			return
		}
		w.Write([]byte("a"))
	}))
	defer s.Close()
	a, b := s.Listener.Addr().String(), backend(t, "b", nil)
	r := newRig(t, httpSpec(checks(", path: /alive"), a, b))
	c := r.client(webVIP, nil)
	r.waitState(a, fleet.Up)
	r.waitState(b, fleet.Up)
	count := func() (n int) {
		for range 20 {
			if _, body := get(t, c, "http://www.demo.test/"); body == "a" {
				n++
			}
		}
		return n
	}
	if n := count(); n != 10 {
		t.Errorf("of 20 requests %d went to one of two", n)
	}
	sick.Store(true)
	r.waitState(a, fleet.Down)
	if n := count(); n != 0 {
		t.Errorf("%d requests went to the sick one", n)
	}
	sick.Store(false)
	r.waitState(a, fleet.Up)
	if n := count(); n == 0 {
		t.Error("no request goes to the healed one")
	}
}

// Fail open: where all are down, all are tried.
func TestAllDownIsServedAsIfUp(t *testing.T) {
	a := backend(t, "a", nil)
	r := newRig(t, httpSpec(checks(", path: /alive, expect: {status: [\"2xx\"]}"), a))
	r.waitState(a, fleet.Up)
	spec := httpSpec(checks(", port: "+port(dead(t))), a)
	if err := r.apply(spec); err != nil {
		t.Fatal(err)
	}
	r.waitState(a, fleet.Down)
	if status, body := get(t, r.client(webVIP, nil), "http://www.demo.test/"); status != 200 || body != "a" {
		t.Errorf("%d %q", status, body)
	}
	if err := r.g.Ready(); err == nil {
		t.Error("ready although nothing is up")
	}
}

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}

// Failing ready_path while the path passes takes new requests away and is not
// the same as being down.
func TestNotReadyDrains(t *testing.T) {
	var busy atomic.Bool
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ready" && busy.Load() {
			w.WriteHeader(503)
			return
		}
		w.Write([]byte("a"))
	}
	a, b := backend(t, "a", h), backend(t, "b", nil)
	r := newRig(t, httpSpec(checks(", ready_path: /ready"), a, b))
	r.waitState(a, fleet.Up)
	busy.Store(true)
	r.waitState(a, fleet.Drain)
	for range 6 {
		if _, body := get(t, r.client(webVIP, nil), "http://www.demo.test/"); body != "b" {
			t.Errorf("a new request went to %q", body)
		}
	}
	busy.Store(false)
	r.waitState(a, fleet.Up)
}

// With the default interval of 5 s a dead endpoint would be known after 15 s;
// requests that cannot connect make it known at once.
func TestFailedRequestsHastenTheCheck(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})
	a := s.Listener.Addr().String()
	r := newRig(t, httpSpec("healthcheck: {interval: 1h, timeout: 1s}\n", a, backend(t, "b", nil)))
	r.waitState(a, fleet.Up)
	s.Close()
	c := r.client(webVIP, nil)
	for r.g.vitals[r.g.target(r.g.gen.Load().service("web").spec, &r.g.gen.Load().service("web").spec.Pools[0], addrPort(a))].State() == fleet.Up {
		if status, _ := get(t, c, "http://www.demo.test/"); status != 200 {
			t.Fatalf("a request was lost: %d", status)
		}
		<-time.After(5 * time.Millisecond)
	}
	r.waitState(a, fleet.Down)
}

// Changed rules start the check anew and keep what is known.
func TestStateIsKeptOverApply(t *testing.T) {
	a := backend(t, "a", nil)
	r := newRig(t, httpSpec("", a))
	r.waitState(a, fleet.Up)
	if err := r.apply(httpSpec("routing_policy: least_connections\nhealthcheck: {interval: 7s}\n", a)); err != nil {
		t.Fatal(err)
	}
	for target, v := range r.g.vitals {
		if v.State() != fleet.Up {
			t.Errorf("%s is %s after Apply", target, v.State())
		}
	}
	if len(r.g.checks) != 1 {
		t.Errorf("%d checks", len(r.g.checks))
	}
}

func TestProbesOfAnEndpoint(t *testing.T) {
	spec := httpSpec("healthcheck: {type: https, host: check.test, port: 99, path: /x, ready_path: /y, timeout: 1s}\n", "10.0.0.1:8443")
	spec = strings.Replace(spec, "- id: main", "- id: main\n    tls: {server_name: inner.test, ca: \"file:ca\"}", 1)
	snap := compile(t, spec)
	s := snap.Service("web")
	ca := fleet.ObjectKey{Kind: fleet.ObjectCA, ID: "file:ca"}
	got := rulesOf(&fleet.World{Snapshot: snap, Objects: map[fleet.ObjectKey]fleet.Object{ca: {Key: ca, Data: []byte("pem")}}}, s, &s.Pools[0], s.Pools[0].Endpoints[0].Address)
	p := got.main
	if p.Check != "https" || p.Address.String() != "10.0.0.1:99" || p.Host != "check.test" || p.TLSName != "inner.test" ||
		p.Path != "/x" || string(p.CA) != "pem" || p.Insecure || p.Timeout != time.Second || p.Expect.Status[0] != "2xx" {
		t.Errorf("main: %+v", p)
	}
	if got.ready.Path != "/y" || got.ready.Address != p.Address {
		t.Errorf("ready: %+v", got.ready)
	}
}
