package l7

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// silent is an endpoint that answers nothing, and tells when a request has come and
// when it has gone.
func silent(t *testing.T) (address string, came, gone chan bool) {
	came, gone = make(chan bool, 10), make(chan bool, 10)
	return backend(t, "silent", func(w http.ResponseWriter, r *http.Request) {
		came <- true
		io.Copy(io.Discard, r.Body) // without which net/http does not see the client go
		<-r.Context().Done()
		gone <- true
	}), came, gone
}

func soon(t *testing.T, c chan bool, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatal("not within 20 s: " + what)
	}
}

// A client that goes takes the question whether it may pass along, whatever version of
// HTTP it speaks and whether or not its body was read.
func TestAQuestionToAGuardEndsWithTheClient(t *testing.T) {
	guard, came, gone := silent(t)
	r := newRig(t, twoPools(httpSpec(noChecks+"filters: {forward_auth: {pool: other, timeout: 1m, fail_open: true}}", dead(t)), guard))
	for what, asked := range map[string]string{"GET": request("GET /"), "POST": request("POST /", "Content-Length: 5") + "hello", "part": request("POST /", "Content-Length: 500") + "hello"} {
		c := r.rawClient(webVIP)
		io.WriteString(c, asked)
		soon(t, came, what+": the guard is asked")
		c.Close()
		soon(t, gone, what+": and no more")
	}
	f, _ := streamFront(strings.NewReader(""))
	var a Abort
	go r.session().Serve(f, h2Head(t, "GET", "/"), &a)
	soon(t, came, "HTTP/2: the guard is asked")
	a.Fire()
	soon(t, gone, "HTTP/2: and no more")
	if !r.counts(4, "meridian_l7_failures_total", "flag", "DC") {
		t.Error("clients that have gone are not counted as such")
	}
}

// Nor does a guard get more time than the request has.
func TestAQuestionToAGuardEndsWithTheRequestsTime(t *testing.T) {
	guard, _, gone := silent(t)
	r := newRig(t, twoPools(httpSpec(noChecks+"timeouts: {request: 1s}\nfilters: {forward_auth: {pool: other, timeout: 1m, fail_open: true}}", teller(t, "a")), guard))
	res, body := fetch(t, r.client(webVIP, nil), "GET", site, "")
	if res.StatusCode != 504 {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	soon(t, gone, "the guard is asked no more")
}

// Who waits for a password to be verified waits no longer than the request may take,
// so that the client hears of it.
func TestALoginEndsWithTheRequestsTime(t *testing.T) {
	e := teller(t, "a")
	r := newRig(t, httpSpec("", e))
	r.object(fleet.ObjectSecret, "file:users", "ali:$2a$04$......................................................\n")
	if err := r.apply(httpSpec(noChecks+"timeouts: {request: 100ms}\nfilters: {basic_auth: {users: \"file:users\"}}", e)); err != nil {
		t.Fatal(err)
	}
	for range cap(r.g.hashing) { // as if so many were under way
		r.g.hashing <- struct{}{}
	}
	if res, body := fetch(t, r.client(webVIP, nil), "GET", site, "", "Authorization: Basic YWxpOng="); res.StatusCode != 503 {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

// What a guard says is passed on without what the gateway says of its own question: a
// cookie would hold the client to one of the guard's endpoints.
func TestAGuardsNoIsTheGuardsAlone(t *testing.T) {
	guard := backend(t, "guard", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "seen=1")
		w.WriteHeader(403)
	})
	r := newRig(t, twoPools(httpSpec(noChecks+"server_timing: true\nbalancing: {cookie: {ttl: 1h}}\nfilters: {forward_auth: {pool: other}}", teller(t, "a")), guard))
	res, _ := fetch(t, r.client(webVIP, nil), "GET", site, "")
	if got := res.Header.Values("Set-Cookie"); res.StatusCode != 403 || len(got) != 1 || got[0] != "seen=1" {
		t.Errorf("%d, cookies %q", res.StatusCode, got)
	}
	if got := res.Header.Values(string(wire.ServerTiming.Name())); len(got) != 1 {
		t.Errorf("timings %q", got)
	}
}
