package l7

import (
	"bytes"
	"compress/gzip"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/crypto/bcrypt"

	"meridian/fleet"
)

func TestPasswordsAreAskedFor(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	e := teller(t, "a")
	r := newRig(t, httpSpec("", e))
	r.object(fleet.ObjectSecret, "file:users", "ali:"+string(hash)+"\n")
	spec := httpSpec(`filters: {basic_auth: {users: "file:users", realm: here, field: X-User}}`, e)
	if err := r.apply(spec); err != nil {
		t.Fatal(err)
	}
	c := r.client("192.0.2.1:80", nil)
	res, _ := fetch(t, c, "GET", site, "")
	if res.StatusCode != 401 || res.Header.Get("WWW-Authenticate") != `Basic realm="here", charset="UTF-8"` {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	auth := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("ali:sesame"))
	for range 2 {
		if _, body := fetch(t, c, "GET", site, "", auth, "X-User: root"); !strings.HasSuffix(body, "\nX-User: ali") || strings.Contains(body, "Authorization") {
			t.Errorf("endpoint saw %q", body)
		}
		if err := r.apply(spec); err != nil { // and what was verified stays so
			t.Fatal(err)
		}
		if !r.g.gen.Load().services[0].set.Basic.Known([]byte("ali"), []byte("sesame")) {
			t.Error("Apply forgets who is known")
		}
	}
	// Nor can a client have dropped what endpoints are told, or tell it itself.
	answer := r.raw("192.0.2.1:80", "GET / HTTP/1.1\r\nHost: www.demo.test\r\nConnection: close, X-User\r\nX_User: root\r\n"+auth+"\r\n\r\n")
	if !strings.Contains(answer, "\nX-User: ali") || strings.Contains(answer, "root") {
		t.Errorf("with Connection: X-User: %q", answer)
	}
	if res, _ = fetch(t, c, "GET", site, "", "Authorization: Basic "+base64.StdEncoding.EncodeToString([]byte("ali:guess"))); res.StatusCode != 401 {
		t.Errorf("a wrong password: %d", res.StatusCode)
	}
	if n := r.metric("meridian_l7_refused_total", "filter", "basic_auth"); n != 2 {
		t.Errorf("%v are counted", n)
	}
}

func TestTokensAreAskedFor(t *testing.T) {
	secret := bytes.Repeat([]byte("k"), 32)
	e := teller(t, "a")
	r := newRig(t, httpSpec("", e))
	r.object(fleet.ObjectSecret, "file:keys", fmt.Sprintf(`{"keys":[{"kty":"oct","k":%q}]}`, base64.RawURLEncoding.EncodeToString(secret)))
	if err := r.apply(httpSpec(`filters: {jwt: {keys: "file:keys", claims: {X-User: sub}, keep: true}}`, e)); err != nil {
		t.Fatal(err)
	}
	token := func(expires time.Time) string {
		signed := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"sub":"ali","exp":%d}`, expires.Unix()))
		m := hmac.New(sha256.New, secret)
		m.Write([]byte(signed))
		return signed + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
	}
	c := r.client("192.0.2.1:80", nil)
	if _, body := fetch(t, c, "GET", site, "", "Authorization: Bearer "+token(time.Now().Add(time.Hour)), "X-User: root"); !strings.HasSuffix(body, "\nX-User: ali") || !strings.Contains(body, "Bearer") {
		t.Errorf("endpoint saw %q", body)
	}
	for fields, want := range map[string]string{
		"": "Bearer",
		"Authorization: Bearer " + token(time.Now().Add(-time.Hour)): `Bearer error="invalid_token", error_description="the token has expired"`,
		"Authorization: Bearer x.y.z":                                `Bearer error="invalid_token", error_description="the token is malformed"`,
	} {
		if res, _ := fetch(t, c, "GET", site, "", strings.Fields(fields + " ")[:0]...); fields == "" && res.StatusCode != 401 {
			t.Errorf("no token: %d", res.StatusCode)
		}
		if fields == "" {
			continue
		}
		if res, _ := fetch(t, c, "GET", site, "", fields); res.StatusCode != 401 || res.Header.Get("WWW-Authenticate") != want {
			t.Errorf("%s: %d %v", fields, res.StatusCode, res.Header)
		}
	}
}

func TestAPoolIsAskedWhetherARequestMayPass(t *testing.T) {
	var asked atomic.Value
	guard := backend(t, "guard", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked.Store(fmt.Sprint(r.Method, " ", r.Host, r.RequestURI, " ", r.Header.Get("X-Forwarded-Method"), " ", r.Header.Get("X-Forwarded-Uri"), " ", r.Header.Get("X-Forwarded-For"), " ", r.Header.Get("Cookie"), " ", r.Header.Get("Range"), len(body)))
		switch r.Header.Get("Cookie") {
		case "who=ali":
			w.Header().Set("X-User", "ali")
		case "who=slow":
			<-r.Context().Done()
		default:
			w.Header().Set("Location", "https://login.test/")
			w.WriteHeader(302)
			io.WriteString(w, "log in")
		}
	})
	e := teller(t, "a")
	filters := `filters: {forward_auth: {pool: other, path: "/check?x", copy: [X-User], timeout: 300ms}}`
	r := newRig(t, twoPools(httpSpec(filters, e), guard))
	c := r.client("192.0.2.1:80", nil)
	_, body := fetch(t, c, "POST", site+"/p?q", "hello", "Cookie: who=ali", "X-User: root", "Range: bytes=0-1", "X-Forwarded-Uri: /lie")
	if body != "a POST www.demo.test/p?q hello\nX-Forwarded-For: 127.0.0.1\nX-Forwarded-Proto: http\nX-User: ali" {
		t.Errorf("endpoint saw %q", body)
	}
	if got := asked.Load(); got != "GET www.demo.test/check?x POST /p?q 127.0.0.1 who=ali 0" {
		t.Errorf("the guard saw %q", got)
	}
	res, body := fetch(t, c, "GET", site, "", "Cookie: who=eve")
	if res.StatusCode != 302 || res.Header.Get("Location") != "https://login.test/" || body != "log in" {
		t.Errorf("%d %v %q", res.StatusCode, res.Header, body)
	}
	if res, _ = fetch(t, c, "GET", site, "", "Cookie: who=slow"); res.StatusCode != 503 {
		t.Errorf("a guard that does not answer: %d", res.StatusCode)
	}
	if err := r.apply(twoPools(httpSpec(strings.Replace(filters, "timeout", "fail_open: true, timeout", 1), e), guard)); err != nil {
		t.Fatal(err)
	}
	if res, _ = fetch(t, c, "GET", site, "", "Cookie: who=slow"); res.StatusCode != 200 {
		t.Errorf("fail_open: %d", res.StatusCode)
	}
}

// Who says no is heard even where the rest of what it says is cut off; and what
// it was asked by gives all places back.
func TestANoIsANoThoughItsBodyIsLost(t *testing.T) {
	guard := backend(t, "guard", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Says", "no")
		w.WriteHeader(503)
		io.WriteString(w, strings.Repeat("x", maxVerdict+1))
	})
	filters := "retries: {attempts: 2, retry_on: [503]}\nfilters: {forward_auth: {pool: other, path: /check, fail_open: true}}"
	r := newRig(t, twoPools(httpSpec(filters, teller(t, "a")), guard))
	res, body := fetch(t, r.client("192.0.2.1:80", nil), "GET", site, "")
	if res.StatusCode != 503 || body != "" || res.Header.Get("X-Says") != "no" {
		t.Errorf("%d %.20q", res.StatusCode, body)
	}
	for _, p := range r.g.gen.Load().service("web").pools {
		if n := p.circuit.Retries.In(); n != 0 {
			t.Errorf("pool %s: %d retries are under way", p.id, n)
		}
	}
}

func TestCopiesGoToAnotherPool(t *testing.T) {
	got := make(chan string, 10)
	hold := make(chan struct{})
	shadow := backend(t, "shadow", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- fmt.Sprint(r.Method, " ", r.Host, r.RequestURI, " ", r.Header.Get("X-One"), " ", string(body))
		<-hold
		http.Error(w, "ignored", 500)
	})
	r := newRig(t, twoPools(httpSpec("routes: [{pool: main, mirror: {pool: other}, rewrite: {prefix: /in}}]", teller(t, "a")), shadow))
	defer close(hold)
	c := r.client("192.0.2.1:80", nil)
	for i, method := range []string{"POST", "GET"} {
		body := []string{"hello", ""}[i]
		// The answer comes although the copy's does not.
		if _, answer := fetch(t, c, method, site+"/x?y", body, "X-One: 1"); !strings.HasPrefix(answer, "a "+method+" www.demo.test/in/x?y "+body) {
			t.Errorf("client got %q", answer)
		}
		select {
		case copied := <-got:
			if copied != method+" www.demo.test/in/x?y 1 "+body {
				t.Errorf("the shadow saw %q", copied)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no copy came")
		}
	}
}

func TestCopiesAreBounded(t *testing.T) {
	release := make(chan struct{})
	shadow := backend(t, "shadow", func(http.ResponseWriter, *http.Request) { <-release })
	r := newRig(t, twoPools(httpSpec("routes: [{pool: main, mirror: {pool: other}}]", backend(t, "a", nil)), shadow))
	defer close(release)
	for range maxMirrors { // as if so many were under way
		r.g.mirrors <- struct{}{}
	}
	if status, body := get(t, r.client("192.0.2.1:80", nil), site); status != 200 || body != "a" {
		t.Errorf("%d %s", status, body)
	}
	if n := r.metric("meridian_l7_mirrored_total", "outcome", "dropped"); n != 1 {
		t.Errorf("%v were dropped", n)
	}
	for range maxMirrors {
		<-r.g.mirrors
	}
}

// Clients of HTTP/2 send cookies in pieces; a guard that speaks HTTP/1.1 gets one field.
func TestAGuardGetsCookiesInOneField(t *testing.T) {
	got := make(chan []string, 1)
	guard := backend(t, "guard", func(w http.ResponseWriter, r *http.Request) { got <- r.Header.Values("Cookie") })
	r := newRig(t, twoPools(httpSpec("filters: {forward_auth: {pool: other}}", teller(t, "a")), guard))
	f, out := streamFront(strings.NewReader(""))
	done := serving(r.session(), f, h2Head(t, "GET", "/", "cookie", "a=1", "cookie", "b=2"))
	io.Copy(io.Discard, out)
	<-done
	if cookies := <-got; len(cookies) != 1 || cookies[0] != "a=1; b=2" {
		t.Errorf("the guard got %q", cookies)
	}
}

// A guard that breaks off is asked again, as the service's retries say; that its
// questions leave no retry under way the rig sees at the end.
func TestAGuardIsAskedAgain(t *testing.T) {
	var asked atomic.Int32
	guard := backend(t, "guard", func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			c, _, _ := http.NewResponseController(w).Hijack()
			c.Close()
		}
	})
	r := newRig(t, twoPools(httpSpec("filters: {forward_auth: {pool: other}}", teller(t, "a")), guard))
	if res, _ := fetch(t, r.client("192.0.2.1:80", nil), "GET", site, ""); res.StatusCode != 200 || asked.Load() != 2 {
		t.Errorf("%d, after %d questions", res.StatusCode, asked.Load())
	}
}

func decoders(t *testing.T) map[string]func([]byte) []byte {
	all := func(r io.Reader, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	return map[string]func([]byte) []byte{
		"gzip": func(b []byte) []byte { r, err := gzip.NewReader(bytes.NewReader(b)); return all(r, err) },
		"br":   func(b []byte) []byte { return all(brotli.NewReader(bytes.NewReader(b)), nil) },
		"zstd": func(b []byte) []byte {
			r, err := zstd.NewReader(bytes.NewReader(b))
			if err == nil {
				defer r.Close()
			}
			return all(r, err)
		},
	}
}

func TestAnswersAreCompressed(t *testing.T) {
	text := strings.Repeat("all work and no play makes jack a dull boy\n", 3000)
	e := backend(t, "a", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("ETag", `"v1"`)
		if r.URL.Path == "/long" {
			w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		}
		io.WriteString(w, text)
	})
	r := newRig(t, httpSpec("filters: {compression: {}}", e))
	c := r.client("192.0.2.1:80", nil)
	for coding, decode := range decoders(t) {
		for _, path := range []string{"/long", "/chunked"} {
			for range 2 { // the second time with an encoder that served before
				res, body := fetch(t, c, "GET", site+path, "", "Accept-Encoding: "+coding)
				if string(decode([]byte(body))) != text || len(body) > len(text)/10 || res.Header.Get("Content-Encoding") != coding || res.Header.Get("ETag") != `W/"v1"` || res.Header.Get("Vary") != "Accept-Encoding" {
					t.Errorf("%s of %s: %d octets, %v", coding, path, len(body), res.Header)
				}
			}
		}
	}
	if res, body := fetch(t, c, "GET", site+"/long", ""); body != text || res.Header.Get("Content-Encoding") != "" {
		t.Errorf("unasked: %v", res.Header)
	}
	if res, _ := fetch(t, c, "HEAD", site+"/long", "", "Accept-Encoding: gzip"); res.Header.Get("Content-Encoding") != "" {
		t.Errorf("HEAD: %v", res.Header)
	}
}

// A stream comes piece by piece, compressed or not.
func TestACompressedStreamIsNotHeldBack(t *testing.T) {
	next := make(chan string)
	e := backend(t, "a", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		for s := range next {
			io.WriteString(w, s)
			w.(http.Flusher).Flush()
		}
	})
	r := newRig(t, httpSpec("filters: {compression: {}}", e))
	for coding, open := range map[string]func(io.Reader) io.Reader{
		"gzip": func(b io.Reader) io.Reader {
			r, err := gzip.NewReader(b)
			if err != nil {
				t.Error(err)
			}
			return r
		},
		"br": func(b io.Reader) io.Reader { return brotli.NewReader(b) },
		"zstd": func(b io.Reader) io.Reader {
			r, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1))
			if err != nil {
				t.Error(err)
			}
			return r
		},
	} {
		next = make(chan string, 1)
		next <- "first"
		req, err := http.NewRequest("GET", site, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", coding)
		res, err := r.client("192.0.2.1:80", nil).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body := open(res.Body)
		for _, want := range []string{"first", "second"} {
			got := make([]byte, len(want))
			if _, err := io.ReadFull(body, got); err != nil || string(got) != want {
				t.Errorf("%s: %q, %v", coding, got, err)
			}
			if want == "first" {
				next <- "second"
			}
		}
		close(next)
		if rest, err := io.ReadAll(body); err != nil || len(rest) > 0 {
			t.Errorf("%s: %q, %v", coding, rest, err)
		}
		res.Body.Close()
	}
}
