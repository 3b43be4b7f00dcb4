package l7

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"

	"meridian/edge/l7/wire"
	"meridian/fleet"
)

const webVIP = "192.0.2.1:80"

func TestRequestsAreRoutedByHostAndPath(t *testing.T) {
	web, api := backend(t, "web", nil), backend(t, "api", nil)
	spec := httpSpec("routes: [{path: /, pool: main}, {path: /api, pool: api}]", web) +
		"  - id: api\n    endpoints: [{address: \"" + api + "\"}]\n"
	r := newRig(t, spec)
	c := r.client(webVIP, nil)
	for _, tc := range []struct {
		url    string
		status int
		body   string
	}{
		{"http://www.demo.test/", 200, "web"},
		{"http://WWW.demo.test./x?q=1", 200, "web"},
		{"http://www.demo.test:8080/api", 200, "api"},
		{"http://www.demo.test/api/v1", 200, "api"},
		{"http://www.demo.test/%61pi/v1", 200, "api"},
		{"http://www.demo.test/apis", 200, "web"},
		{"http://www.demo.test/health", 200, "healthy web"},
		{"http://other.test/", 404, "404 no service has this host\n"},
	} {
		status, body := get(t, c, tc.url)
		if status != tc.status || body != tc.body {
			t.Errorf("%s: got %d %q, want %d %q", tc.url, status, body, tc.status, tc.body)
		}
	}
}

// Layer 4 asks the gateway about itself under a reserved host; under the
// service's host the same path is the endpoint's.
func TestGatewayAnswersOnlyUnderItsOwnHost(t *testing.T) {
	b := backend(t, "b", nil)
	r := newRig(t, httpSpec("", b))
	r.waitState(b, fleet.Up)
	c := r.client(webVIP, nil)
	if status, body := get(t, c, "http://"+fleet.GatewayHost+"/health"); status != 200 || body != "ok\n" {
		t.Errorf("/health: %d %q", status, body)
	}
	if status, body := get(t, c, "http://"+fleet.GatewayHost+"/ready"); status != 200 || body != "ready\n" {
		t.Errorf("/ready: %d %q", status, body)
	}
	if status, body := get(t, c, "http://www.demo.test/health"); status != 200 || body != "healthy b" {
		t.Errorf("the service's /health: %d %q", status, body)
	}
	if status, _ := get(t, c, "http://www.demo.test/ready"); status != 200 {
		t.Errorf("the service's /ready: %d", status)
	}
}

// It tells layer 4 there, and nobody else, that it takes SYN cookies, as long as
// it does.
func TestGatewayTellsWhetherItTakesCookies(t *testing.T) {
	b := backend(t, "b", nil)
	var takes atomic.Bool
	r := newRig(t, httpSpec("", b), func(c *Config) { c.TakesCookies = takes.Load })
	r.waitState(b, fleet.Up)
	says := func(host string) bool {
		out := r.raw(webVIP, "GET /ready HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
		return strings.Contains(out, fleet.CookiesHeader+": "+fleet.CookiesTaken)
	}
	for _, want := range []bool{false, true, false} {
		takes.Store(want)
		if says(fleet.GatewayHost) != want || says("www.demo.test") {
			t.Errorf("takes cookies: %v, and says otherwise, or to others", want)
		}
	}
}

func TestRequestHeader(t *testing.T) {
	var got http.Header
	var host string
	b := backend(t, "b", func(w http.ResponseWriter, r *http.Request) { got, host = r.Header, r.Host })
	r := newRig(t, httpSpec("", b))
	out := r.raw(webVIP, "GET / HTTP/1.1\r\nHost: www.demo.test:8080\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n"+
		"TE: trailers, gzip\r\nProxy-Authorization: x\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nX_Forwarded_For: 1.2.3.4\r\n"+
		"X-Forwarded-Proto: https\r\nX-Real-IP: 1.2.3.4\r\nX-End: 2\r\n\r\n")
	if !strings.HasPrefix(out, "HTTP/1.1 200") {
		t.Fatal(out)
	}
	if host != "www.demo.test:8080" {
		t.Errorf("Host is %q", host)
	}
	id := got.Get("X-Request-Id")
	if len(id) != 32 || !strings.Contains(out, "X-Request-ID: "+id+"\r\n") {
		t.Errorf("request ID %q is not in the answer:\n%s", id, out)
	}
	want := http.Header{"X-End": {"2"}, "Te": {"trailers"}, "X-Request-Id": {id}, "X-Forwarded-For": {"127.0.0.1"},
		"X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {"www.demo.test:8080"}, "X-Forwarded-Port": {"8080"}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the endpoint got\n%v, want\n%v", got, want)
	}
}

func TestRequestIDIsKeptWhereHarmless(t *testing.T) {
	for id, kept := range map[string]bool{"abc-1/2": true, "": false, "a b": false, strings.Repeat("x", 129): false, "x\"": false} {
		if got := identified(id); (got == id) != kept {
			t.Errorf("%q became %q", id, got)
		}
	}
	if identified("a", "b") == "a" {
		t.Error("two IDs: the first was kept")
	}
}

func identified(ids ...string) string {
	x := exchange{h: new(wire.Head), gen: new(generation)}
	for _, id := range ids {
		x.h.Add("X-Request-ID", id)
	}
	x.identify()
	return string(x.id)
}

func TestWhatIsRefused(t *testing.T) {
	r := newRig(t, httpSpec("", backend(t, "b", nil)), func(c *Config) { c.MaxBody, c.MaxHeader = 1000, 8<<10 })
	const end = "Connection: close\r\n\r\n"
	for name, tc := range map[string]struct{ request, want string }{
		"CONNECT":             {"CONNECT www.demo.test:443 HTTP/1.1\r\nHost: www.demo.test:443\r\n" + end, "405"},
		"malformed host":      {"GET / HTTP/1.1\r\nHost: www..demo.test\r\n" + end, "400"},
		"no host":             {"GET / HTTP/1.1\r\n" + end, "400"},
		"two hosts":           {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n" + end, "400"},
		"user information":    {"GET http://u:p@www.demo.test/ HTTP/1.1\r\nHost: www.demo.test\r\n" + end, "400"},
		"dot segments":        {"GET /a/../b HTTP/1.1\r\nHost: www.demo.test\r\n" + end, "400"},
		"escaped segments":    {"GET /a/%2e%2E/b HTTP/1.1\r\nHost: www.demo.test\r\n" + end, "400"},
		"space before colon":  {"GET / HTTP/1.1\r\nHost: www.demo.test\r\nX : 1\r\n" + end, "400"},
		"two lengths":         {"POST / HTTP/1.1\r\nHost: www.demo.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n" + end + "xx", "400"},
		"unknown coding":      {"POST / HTTP/1.1\r\nHost: www.demo.test\r\nTransfer-Encoding: xchunked\r\n" + end, "501"},
		"large body":          {"POST / HTTP/1.1\r\nHost: www.demo.test\r\nContent-Length: 2000\r\n" + end, "413"},
		"large chunked body":  {"POST / HTTP/1.1\r\nHost: www.demo.test\r\nTransfer-Encoding: chunked\r\n" + "Connection: close\r\n\r\n7d0\r\n" + strings.Repeat("x", 2000) + "\r\n0\r\n\r\n", "413"},
		"large header":        {"GET / HTTP/1.1\r\nHost: www.demo.test\r\nX: " + strings.Repeat("x", 20<<10) + "\r\n" + end, "431"},
		"absolute form":       {"GET http://www.demo.test/ HTTP/1.1\r\nHost: www.demo.test\r\n" + end, "200"},
		"two authorities":     {"GET http://www.demo.test/ HTTP/1.1\r\nHost: ignored.test\r\n" + end, "400"},
		"options of the host": {"OPTIONS * HTTP/1.1\r\nHost: www.demo.test\r\n" + end, "200"},
	} {
		if got := r.raw(webVIP, tc.request); !strings.HasPrefix(got, "HTTP/1.1 "+tc.want) {
			t.Errorf("%s: want %s, got %.200q", name, tc.want, got)
		}
	}
}

// The cases that others' fast proxies got wrong; see each project's tracker.
func TestAnswersPassUnchanged(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/length", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		if r.Method != http.MethodHead {
			io.WriteString(w, "12345")
		}
	})
	mux.HandleFunc("/untyped", func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = nil
		io.WriteString(w, "<html>")
	})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		for _, s := range []string{"one", "two"} {
			io.WriteString(w, s)
			w.(http.Flusher).Flush()
		}
	})
	mux.HandleFunc("/close", func(w http.ResponseWriter, r *http.Request) {
		c, rw, _ := http.NewResponseController(w).Hijack()
		rw.WriteString("HTTP/1.0 200 OK\r\n\r\nuntil the end")
		rw.Flush()
		c.Close()
	})
	mux.HandleFunc("/trailers", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Announced")
		io.WriteString(w, "body")
		w.Header().Set("X-Announced", "1")
		w.Header().Set(http.TrailerPrefix+"X-Surprise", "2")
	})
	mux.HandleFunc("/empty-trailers", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Announced")
		w.(http.Flusher).Flush()
		w.Header().Set("X-Announced", "1")
	})
	mux.HandleFunc("/none", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) })
	mux.HandleFunc("/unchanged", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"x"`)
		w.WriteHeader(304)
	})
	mux.HandleFunc("/gzip", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Write([]byte{0x1f, 0x8b, 1, 2, 3})
	})
	r := newRig(t, httpSpec("", backend(t, "b", mux.ServeHTTP)))
	c := r.client(webVIP, nil)
	for _, tc := range []struct{ method, path, status, length, body, trailer string }{
		{"HEAD", "/length", "200", "5", "", ""},
		{"GET", "/length", "200", "5", "12345", ""},
		{"GET", "/untyped", "200", "6", "<html>", ""},
		{"GET", "/stream", "200", "-1", "onetwo", ""},
		{"HEAD", "/stream", "200", "-1", "", ""},
		{"GET", "/close", "200", "-1", "until the end", ""},
		{"GET", "/trailers", "200", "-1", "body", "map[X-Announced:[1] X-Surprise:[2]]"},
		{"GET", "/empty-trailers", "200", "-1", "", "map[X-Announced:[1]]"},
		{"GET", "/none", "204", "0", "", ""},
		{"GET", "/unchanged", "304", "0", "", ""},
		{"GET", "/gzip", "200", "5", "\x1f\x8b\x01\x02\x03", ""},
	} {
		req, _ := http.NewRequest(tc.method, "http://www.demo.test"+tc.path, nil)
		res, err := c.Do(req)
		if err != nil {
			t.Errorf("%s %s: %v", tc.method, tc.path, err)
			continue
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		trailer := ""
		if len(res.Trailer) > 0 {
			trailer = fmt.Sprint(map[string][]string(res.Trailer))
		}
		if err != nil || res.Status[:3] != tc.status || fmt.Sprint(res.ContentLength) != tc.length || string(body) != tc.body || trailer != tc.trailer {
			t.Errorf("%s %s: got %s, length %d, %q, trailers %s, %v", tc.method, tc.path, res.Status, res.ContentLength, body, trailer, err)
		}
		if ct, ok := res.Header["Content-Type"]; ok && tc.path == "/untyped" {
			t.Errorf("%s: a Content-Type was invented: %q", tc.path, ct)
		}
	}
}

func TestEventsArriveOneByOne(t *testing.T) {
	more := make(chan bool)
	b := backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
		for i := 0; ; i++ {
			fmt.Fprintf(w, "event %d\n", i)
			w.(http.Flusher).Flush()
			if !<-more {
				return
			}
		}
	})
	r := newRig(t, httpSpec("", b))
	res, err := r.client(webVIP, nil).Get("http://www.demo.test/events")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for i := range 3 {
		if s, err := lines.ReadString('\n'); err != nil || s != fmt.Sprintf("event %d\n", i) {
			t.Fatalf("%q, %v", s, err)
		}
		more <- i < 2
	}
	if _, err := lines.ReadString('\n'); err != io.EOF {
		t.Errorf("the stream's end: %v", err)
	}
}

func TestBodiesStreamUp(t *testing.T) {
	b := backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.(http.Flusher).Flush()
		lines := bufio.NewReader(r.Body)
		for {
			s, err := lines.ReadString('\n')
			if err != nil {
				fmt.Fprintf(w, "trailer %s\n", r.Trailer.Get("X-Sum"))
				return
			}
			io.WriteString(w, "got "+s)
			w.(http.Flusher).Flush()
		}
	})
	r := newRig(t, httpsSpec("", b))
	pool := r.certificate("c1", "www.demo.test")
	if err := r.apply(httpsSpec("", b)); err != nil {
		t.Fatal(err)
	}
	pr, pw := io.Pipe()
	req, _ := http.NewRequest("POST", "https://www.demo.test/", pr)
	req.Trailer = http.Header{"X-Sum": nil}
	res, err := r.client("192.0.2.1:443", pool).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for _, s := range []string{"a\n", "b\n"} {
		io.WriteString(pw, s)
		if got, err := lines.ReadString('\n'); err != nil || got != "got "+s {
			t.Fatalf("%q, %v", got, err)
		}
	}
	req.Trailer.Set("X-Sum", "7")
	pw.Close()
	if got, err := lines.ReadString('\n'); err != nil || got != "trailer 7\n" {
		t.Errorf("%q, %v", got, err)
	}
}

// An endpoint may answer before it has read the body; the upload then ends.
func TestEarlyAnswerEndsTheUpload(t *testing.T) {
	b := backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, "no")
	})
	r := newRig(t, httpSpec("", b))
	c, err := net.Dial("tcp", r.addr(webVIP))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: www.demo.test\r\nContent-Length: 1000000\r\n\r\nonly the beginning")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); res.StatusCode != http.StatusForbidden || string(body) != "no" || err != nil {
		t.Errorf("got %s %q, %v", res.Status, body, err)
	}
}

func TestHintsPassBeforeTheAnswer(t *testing.T) {
	b := backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		io.WriteString(w, "done")
	})
	r := newRig(t, httpSpec("", b))
	var hints []string
	req, _ := http.NewRequest("GET", "http://www.demo.test/", nil)
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, " ", h.Get("Link")))
			return nil
		}}))
	res, err := r.client(webVIP, nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if fmt.Sprint(hints) != "[103 </a.css>; rel=preload]" || res.Header.Get("Link") != "" {
		t.Errorf("hints %q, answer's Link %q", hints, res.Header.Get("Link"))
	}
	if len(res.Header["X-Request-Id"]) != 1 {
		t.Errorf("X-Request-Id is %q", res.Header["X-Request-Id"])
	}
}

// Expect: 100-continue: an endpoint that refuses leaves no half-used connection
// behind (the Go CVE), and one that accepts gets the body.
func TestExpectContinue(t *testing.T) {
	b := backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusExpectationFailed)
			return
		}
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
	})
	r := newRig(t, httpSpec("", b))
	for range 3 {
		out := r.raw(webVIP, "POST /no HTTP/1.1\r\nHost: www.demo.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(out, "HTTP/1.1 417") {
			t.Fatalf("%.80q", out)
		}
		out = r.raw(webVIP, "POST /yes HTTP/1.1\r\nHost: www.demo.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\nhello")
		if !strings.HasPrefix(out, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200") || !strings.HasSuffix(out, "hello") {
			t.Fatalf("%.200q", out)
		}
	}
}

// A body that breaks off is seen to be broken: nothing is appended to it.
func TestBrokenAnswerIsNotPassedAsWhole(t *testing.T) {
	b := backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", "100")
		}
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	r := newRig(t, httpSpec("", b))
	for _, path := range []string{"/length", "/chunked"} {
		res, err := r.client(webVIP, nil).Get("http://www.demo.test" + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err == nil || string(body) != "half" {
			t.Errorf("%s: read %q, %v", path, body, err)
		}
	}
}
