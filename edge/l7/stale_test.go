package l7

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"meridian/fleet"
)

func TestStaleAnswersServeWhenNoEndpointAnswers(t *testing.T) {
	var down atomic.Bool
	var mu sync.Mutex
	control := "max-age=0"
	e := backend(t, "a", func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			http.Error(w, "broken", 500)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Cache-Control", control)
		w.Header().Set("X-Kind", "page")
		fmt.Fprint(w, "page ", r.URL.Path)
	})
	r := newRig(t, httpSpec("filters: {stale_if_error: {max_body: 100}}", e))
	c := r.client("192.0.2.1:80", nil)
	fetch(t, c, "GET", site+"/a", "")
	fetch(t, c, "GET", site+"/cookie", "", "Cookie: a=b")
	fetch(t, c, "POST", site+"/post", "")
	fetch(t, c, "GET", site+"/"+strings.Repeat("x", 100), "")
	for path, cc := range map[string]string{"/private": "private", "/no-store": "no-store", "/must": "max-age=9, must-revalidate", "/own": "stale-if-error=0"} {
		mu.Lock()
		control = cc
		mu.Unlock()
		fetch(t, c, "GET", site+path, "")
	}
	down.Store(true)
	res, body := fetch(t, c, "GET", site+"/a", "")
	if len(res.Header.Values("Date")) != 1 {
		t.Errorf("dates %v", res.Header.Values("Date"))
	}
	if res.StatusCode != 200 || body != "page /a" || res.Header.Get("X-Kind") != "page" || res.Header.Get("Age") == "" || res.Header.Get("Cache-Status") != "meridian; hit; detail=stale-if-error" {
		t.Errorf("%d %q %v", res.StatusCode, body, res.Header)
	}
	if res, body = fetch(t, c, "HEAD", site+"/a", ""); res.StatusCode != 200 || body != "" || res.ContentLength != 7 {
		t.Errorf("HEAD: %d %q", res.StatusCode, body)
	}
	for _, path := range []string{"/b", "/cookie", "/post", "/private", "/no-store", "/must", "/own", "/" + strings.Repeat("x", 100)} {
		if res, _ := fetch(t, c, "GET", site+path, ""); res.StatusCode != 500 {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
	if res, _ := fetch(t, c, "GET", site+"/a", "", "Authorization: x"); res.StatusCode != 500 {
		t.Errorf("with Authorization: %d", res.StatusCode)
	}
	// Nor is there an endpoint at all, and the store outlives Apply.
	if err := r.apply(httpSpec("filters: {stale_if_error: {max_body: 100}}", "{address: \"192.0.2.99:1\", state: draining}")); err != nil {
		t.Fatal(err)
	}
	if res, body = fetch(t, c, "GET", site+"/a", ""); res.StatusCode != 200 || body != "page /a" {
		t.Errorf("without endpoints: %d %q", res.StatusCode, body)
	}
	if n := r.metric("meridian_l7_stale_answers_total"); n != 3 {
		t.Errorf("%v are counted", n)
	}
}

// What an endpoint answered one user is nobody else's, though filters have taken
// the user's Authorization from the request.
func TestStaleAnswersAreNobodysOwn(t *testing.T) {
	var down atomic.Bool
	e := backend(t, "a", func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			http.Error(w, "broken", 500)
			return
		}
		fmt.Fprint(w, "for ", r.Header.Get("X-User"))
	})
	guard := backend(t, "guard", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-User", r.Header.Get("X-Key")) })
	hash, err := bcrypt.GenerateFromPassword([]byte("sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, httpSpec("", e))
	r.object(fleet.ObjectSecret, "file:users", "ali:"+string(hash)+"\nbob:"+string(hash)+"\n")
	as := func(user string) string {
		return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":sesame"))
	}
	for _, tc := range []struct{ filter, ali, bob string }{
		{`basic_auth: {users: "file:users", field: X-User}`, as("ali"), as("bob")},
		{`forward_auth: {pool: other, path: /, copy: [X-User]}`, "X-Key: ali", "X-Key: bob"},
	} {
		down.Store(false)
		if err := r.apply(twoPools(httpSpec("filters: {stale_if_error: {}, "+tc.filter+"}", e), guard)); err != nil {
			t.Fatal(err)
		}
		c := r.client("192.0.2.1:80", nil)
		if _, body := fetch(t, c, "GET", site, "", tc.ali); body != "for ali" {
			t.Errorf("%s: ali got %q", tc.filter, body)
		}
		down.Store(true)
		if res, body := fetch(t, c, "GET", site, "", tc.bob); res.StatusCode != 500 {
			t.Errorf("%s: bob got %d %q", tc.filter, res.StatusCode, body)
		}
	}
}

func TestTheStaleStoreIsBounded(t *testing.T) {
	s := newStaleStore(10 * (overhead + 100))
	for i := range 50 {
		s.put(&keeping{key: fmt.Sprintf("%02d", i), body: make([]byte, 100), lasts: time.Hour})
	}
	if s.used > s.size || s.order.Len() != len(s.byKey) || s.get("00", 0) != nil || s.get("49", 0) == nil {
		t.Errorf("%d octets of %d, %d answers", s.used, s.size, s.order.Len())
	}
	if s.get("49", moment(time.Hour+1)) != nil || s.get("49", 0) != nil {
		t.Error("an answer is used after its time")
	}
	s.put(&keeping{key: "big", body: make([]byte, s.size), lasts: time.Hour})
	if s.get("big", 0) != nil {
		t.Error("what is larger than the store is kept")
	}
}

// An answer that ends with its connection may have been cut short: nobody could tell.
func TestAnswersWithoutAnEndAreNotKept(t *testing.T) {
	var asked atomic.Int64
	e := serveRaw(t, func(c net.Conn) {
		if _, err := c.Read(make([]byte, 8192)); err != nil || asked.Add(1) > 1 {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nhalf a p")
	})
	r := newRig(t, httpSpec(noChecks+"\nfilters: {stale_if_error: {}}", e), func(c *Config) { c.Prober = ignorant{} })
	c := r.client(webVIP, nil)
	if res, body := fetch(t, c, "GET", site, ""); res.StatusCode != 200 || body != "half a p" {
		t.Fatalf("%d %q", res.StatusCode, body)
	}
	if res, body := fetch(t, c, "GET", site, ""); res.StatusCode != 502 {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}
