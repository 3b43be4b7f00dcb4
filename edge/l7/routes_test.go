package l7

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"meridian/fleet"
)

// teller is an endpoint that tells what it was asked.
func teller(t testing.TB, name string) string {
	return backend(t, name, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s%s %s", name, r.Method, r.Host, r.RequestURI, body)
		for _, k := range []string{"Authorization", "Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-User", "X-Set", "X-Gone", "X_user"} {
			if v := r.Header.Values(k); len(v) > 0 {
				fmt.Fprintf(w, "\n%s: %s", k, strings.Join(v, "|"))
			}
		}
	})
}

// twoPools is httpSpec with a second pool.
func twoPools(spec, second string) string {
	return spec + "  - {id: other, endpoints: [{address: \"" + second + "\"}]}\n"
}

func (r *rig) object(kind fleet.ObjectKind, id, data string) {
	objects := map[fleet.ObjectKey]fleet.Object{}
	for k, v := range r.objects {
		objects[k] = v
	}
	key := fleet.ObjectKey{Kind: kind, ID: id}
	objects[key] = fleet.Object{Key: key, Data: []byte(data)}
	r.objects = objects
}

// fetch sends a request with fields NAME: VALUE and gives the answer, which
// redirects do not change.
func fetch(t testing.TB, c *http.Client, method, site, body string, fields ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, site, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header.Add(name, value)
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

const site = "http://www.demo.test"

func TestRoutesThroughTheGateway(t *testing.T) {
	r := newRig(t, twoPools(httpSpec(`routes:
- {pool: main}
- {pool: other, path: /api, methods: [POST]}
- {pool: main, path: /api, rewrite: {prefix: /v2, host: inner.test}}
- {redirect: {scheme: https, prefix: /new, status: 308}, path: /old}
- {answer: {status: 410, body: "<p>gone"}, path_exact: /gone}
- {pool: other, path: /slow, timeouts: {request: 100ms}, retries: {attempts: 0}}
- {pool: other, path_regex: "/r/[0-9]+", rewrite: {regex: "/r/(.*)", replacement: "/n/$1"}}
`, teller(t, "a")), backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/slow") {
			<-r.Context().Done()
			return
		}
		io.WriteString(w, "b "+r.Method+" "+r.RequestURI)
	})))
	c := r.client("192.0.2.1:80", nil)
	for _, tc := range []struct{ method, path, status, want string }{
		{"GET", "/x?y", "200", "a GET www.demo.test/x?y "},
		{"POST", "/api/x", "200", "b POST /api/x"},
		{"GET", "/api/x?q=1", "200", "a GET inner.test/v2/x?q=1 "},
		{"GET", "/old/x?q", "308", ""},
		{"GET", "/gone", "410", "<p>gone"},
		{"GET", "/slow", "504", "504 no answer in time\n"},
		{"GET", "/r/12?a", "200", "b GET /n/12?a"},
	} {
		res, body := fetch(t, c, tc.method, site+tc.path, "")
		body, _, _ = strings.Cut(body, "\nX-")
		if fmt.Sprint(res.StatusCode) != tc.status || body != tc.want {
			t.Errorf("%s %s: %d %q", tc.method, tc.path, res.StatusCode, body)
		}
		if tc.status == "308" && res.Header.Get("Location") != "https://www.demo.test/new/x?q" {
			t.Errorf("sent to %s", res.Header.Get("Location"))
		}
		if tc.status == "410" && res.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("type %s", res.Header.Get("Content-Type"))
		}
	}
}

func TestASplitKeepsAClientByItsCookie(t *testing.T) {
	r := newRig(t, twoPools(httpSpec("routes: [{split: {by: cookie, pools: [{pool: main}, {pool: other}]}}]", backend(t, "a", nil)), backend(t, "b", nil)))
	c := r.client("192.0.2.1:80", nil)
	seen := map[string]int{}
	for range 40 {
		res, first := fetch(t, c, "GET", site, "")
		cookie, _, _ := strings.Cut(res.Header.Get("Set-Cookie"), ";")
		if !strings.HasPrefix(cookie, "meridian_split=") {
			t.Fatalf("cookie %q", res.Header)
		}
		seen[first]++
		for range 3 {
			res, again := fetch(t, c, "GET", site, "", "Cookie: "+cookie)
			if again != first || res.Header.Get("Set-Cookie") != "" {
				t.Fatalf("%s, then %s %v", first, again, res.Header)
			}
		}
	}
	if len(seen) != 2 {
		t.Errorf("shares %v", seen)
	}
}

func TestPlainHTTPGoesToHTTPS(t *testing.T) {
	r := newRig(t, httpsSpec("filters: {hsts: {max_age: 48h}}", backend(t, "a", nil)))
	res, _ := fetch(t, r.client("192.0.2.1:80", nil), "GET", site+"/x?y", "")
	if res.StatusCode != 308 || res.Header.Get("Location") != "https://www.demo.test/x?y" || res.Header.Get("Strict-Transport-Security") != "" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	pool := r.certificate("c1", "*.demo.test")
	if err := r.apply(httpsSpec("filters: {hsts: {max_age: 48h}}", backend(t, "a", nil))); err != nil {
		t.Fatal(err)
	}
	res, body := fetch(t, r.client("192.0.2.1:443", pool), "GET", "https://www.demo.test/", "")
	if body != "a" || res.Header.Get("Strict-Transport-Security") != "max-age=172800" {
		t.Errorf("%s %v", body, res.Header)
	}
}

func TestTrustedProxiesTellTheClient(t *testing.T) {
	e := teller(t, "a")
	const more = "\ngateway: {trusted_proxies: [127.0.0.0/8], forwarded: true}\n"
	r := newRig(t, httpSpec("filters: {access: [\"!192.0.2.66\"]}", e)+more)
	c := r.client("192.0.2.1:80", nil)
	_, body := fetch(t, c, "GET", site, "", "X-Forwarded-For: 6.6.6.6, 192.0.2.7", "X-Forwarded-Proto: https")
	want := "a GET www.demo.test/ \nForwarded: for=192.0.2.7;host=\"www.demo.test\";proto=https\nX-Forwarded-For: 192.0.2.7\nX-Forwarded-Proto: https"
	if body != want {
		t.Errorf("got %q", body)
	}
	if res, _ := fetch(t, c, "GET", site, "", "X-Forwarded-For: 192.0.2.66"); res.StatusCode != 403 {
		t.Errorf("a refused client got %d", res.StatusCode)
	}
	if err := r.apply(httpSpec("", e)); err != nil {
		t.Fatal(err)
	}
	if _, body = fetch(t, c, "GET", site, "", "X-Forwarded-For: 192.0.2.7", "Forwarded: for=1.1.1.1", "X-Forwarded-Proto: https"); body != "a GET www.demo.test/ \nX-Forwarded-For: 127.0.0.1\nX-Forwarded-Proto: http" {
		t.Errorf("a stranger's word: %q", body)
	}
}

func TestTheBodyBoundsOfARoute(t *testing.T) {
	r := newRig(t, httpSpec("filters: {bounds: {body: 10, header: 200, methods: [GET, POST]}}", teller(t, "a")))
	c := r.client("192.0.2.1:80", nil)
	if res, _ := fetch(t, c, "POST", site, "0123456789"); res.StatusCode != 200 {
		t.Errorf("10 octets: %d", res.StatusCode)
	}
	if res, _ := fetch(t, c, "POST", site, "0123456789a"); res.StatusCode != 413 {
		t.Errorf("11 octets: %d", res.StatusCode)
	}
	chunked, err := http.NewRequest("POST", site, io.MultiReader(strings.NewReader("0123456789"), strings.NewReader("a")))
	if err != nil {
		t.Fatal(err)
	}
	if res, err := c.Do(chunked); err != nil || res.StatusCode != 413 {
		t.Errorf("11 octets in chunks: %v %v", res, err)
	} else {
		res.Body.Close()
	}
	if res, _ := fetch(t, c, "GET", site, "", "X-Long: "+strings.Repeat("a", 200)); res.StatusCode != 431 {
		t.Errorf("a long header: %d", res.StatusCode)
	}
	if res, _ := fetch(t, c, "PUT", site, ""); res.StatusCode != 405 || res.Header.Get("Allow") != "GET, POST" {
		t.Errorf("PUT: %d %v", res.StatusCode, res.Header)
	}
	if n := r.metric("meridian_l7_refused_total", "filter", "bounds"); n != 3 {
		t.Errorf("%v are counted", n)
	}
}

func TestMaintenanceAndErrorPages(t *testing.T) {
	e := backend(t, "a", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", "Basic")
		w.Header().Set("X-Secret", "stack trace")
		http.Error(w, "panic at line 5", map[string]int{"/401": 401, "/500": 500, "/404": 404}[r.URL.Path])
	})
	r := newRig(t, httpSpec(`filters: {error_pages: [{status: ["401", 5xx], body: "<h1>{status}</h1>", endpoints: true}, {status: ["404"], body: "nothing here"}]}
routes: [{pool: main}, {pool: main, path: /down, filters: {maintenance: {on: true, retry_after: 60s, body: "back soon"}}}]`, e))
	c := r.client("192.0.2.1:80", nil)
	for path, want := range map[string]string{
		"/401":  "401 <h1>401</h1>",
		"/500":  "500 <h1>500</h1>",
		"/404":  "404 panic at line 5\n", // the endpoint's own
		"/down": "503 back soon",
	} {
		res, body := fetch(t, c, "GET", site+path, "")
		if got := fmt.Sprintf("%d %s", res.StatusCode, body); got != want {
			t.Errorf("%s: %q", path, got)
		}
		if path == "/401" && (res.Header.Get("WWW-Authenticate") != "Basic" || res.Header.Get("X-Secret") != "") {
			t.Errorf("header %v", res.Header)
		}
		if path == "/down" && res.Header.Get("Retry-After") != "60" {
			t.Errorf("header %v", res.Header)
		}
	}
	// HEAD gets the header of the page and no body.
	if res, body := fetch(t, c, "HEAD", site+"/500", ""); body != "" || res.ContentLength != int64(len("<h1>500</h1>")) {
		t.Errorf("HEAD: %q %d", body, res.ContentLength)
	}
}

func TestFieldsOfRequestsAndAnswersChange(t *testing.T) {
	r := newRig(t, httpSpec(`filters:
  request_fields: {set: {X-Set: "{client_ip} {service}/{route} {region}"}, remove: [X-Gone]}
  answer_fields: {set: {Server: edge}, add: {X-Host: "{host}{path}"}}
routes: [{pool: main, name: all}]`, teller(t, "a")))
	res, body := fetch(t, r.client("192.0.2.1:80", nil), "GET", site+"/x", "", "X-Gone: 1", "X-Set: liar")
	if !strings.HasSuffix(body, "\nX-Set: 127.0.0.1 web/all fra") || strings.Contains(body, "X-Gone") {
		t.Errorf("endpoint saw %q", body)
	}
	if res.Header.Get("Server") != "edge" || res.Header.Get("X-Host") != "www.demo.test/x" {
		t.Errorf("client saw %v", res.Header)
	}
}

func TestScriptsOfOtherOrigins(t *testing.T) {
	r := newRig(t, httpSpec(`filters: {cors: {origins: ["https://a.test"]}, bounds: {methods: [GET]}}`, teller(t, "a")))
	c := r.client("192.0.2.1:80", nil)
	res, body := fetch(t, c, "OPTIONS", site, "", "Origin: https://a.test", "Access-Control-Request-Method: POST")
	if res.StatusCode != 204 || body != "" || res.Header.Get("Access-Control-Allow-Origin") != "https://a.test" || res.Header.Get("Access-Control-Allow-Methods") != "GET, HEAD, POST" {
		t.Errorf("%d %q %v", res.StatusCode, body, res.Header)
	}
	if res, _ = fetch(t, c, "GET", site, "", "Origin: https://a.test"); res.Header.Get("Access-Control-Allow-Origin") != "https://a.test" {
		t.Errorf("%v", res.Header)
	}
	if res, _ = fetch(t, c, "GET", site, "", "Origin: https://b.test"); res.Header.Get("Access-Control-Allow-Origin") != "" || res.Header.Get("Vary") != "Origin" {
		t.Errorf("%v", res.Header)
	}
}

// A body that stops coming is ended, though nothing else bounds the request.
func TestASlowBodyIsEnded(t *testing.T) {
	r := newRig(t, httpSpec("timeouts: {request: 0s}\nfilters: {bounds: {min_rate: 1000000}}", teller(t, "a")))
	body, w := io.Pipe()
	defer w.Close()
	go io.WriteString(w, "some")
	req, err := http.NewRequest("POST", site, body)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	res, err := r.client("192.0.2.1:80", nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 408 || time.Since(begun) < paceGrace {
		t.Errorf("%d after %v", res.StatusCode, time.Since(begun))
	}
}

// What most services turn on costs no allocation either.
func TestCommonFiltersAllocateNothing(t *testing.T) {
	if raced {
		t.Skip("under the race detector pools forget at random")
	}
	r := newRig(t, httpSpec(noChecks+`
filters:
  access: ["!192.0.2.66"]
  bounds: {body: 1000, header: 4000, methods: [GET]}
  request_fields: {set: {X-Client: "{client_ip} {route}"}}
  answer_fields: {remove: [Server], set: {X-Served: "{region}"}}
  compression: {}
routes:
- {pool: main, path: /other}
- {pool: main, headers: [{name: Host-Kind, absent: true}], cookies: [{name: none, absent: true}]}
`, answers(t, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: x\r\n\r\nhello")))
	c := r.rawClient(webVIP)
	request, end := []byte(plainGET), []byte("hello")
	const requests = 500
	best := c.allocations(requests, request, end)
	if best > requests/20 {
		t.Errorf("%d allocations for %d requests", best, requests)
	}
}
