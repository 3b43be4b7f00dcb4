package l7

import (
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"meridian/edge/l7/hop"
	"meridian/edge/l7/wire"
	"meridian/fleet"
	"meridian/internal/testkit"
)

// twoRegions is a fleet of fra and nyc, with endpoints of each.
func twoRegions(secure bool, more, fra, nyc string) string {
	spec := httpSpec(more, `{address: "`+fra+`", region: fra}`, `{address: "`+nyc+`", region: nyc}`)
	if secure {
		spec = httpsSpec(more, `{address: "`+fra+`", region: fra}`, `{address: "`+nyc+`", region: nyc}`)
	}
	return strings.Replace(spec, "regions: [", "regions: [{id: nyc, location: {latitude: 40, longitude: -74}, vips: {v4: [192.0.2.2]}}, ", 1)
}

// pair starts a gateway in each region; both have the same certificates.
func pair(t *testing.T, secure bool, spec string, change ...func(*Config)) (fra, nyc *rig) {
	key := func(c *Config) {
		c.HopKey = hop.Key("the fleet's")
		for _, f := range change {
			f(c)
		}
	}
	spec2 := strings.Replace(spec, "nodes: [", "nodes: [{name: n2, region: nyc, roles: [l7], addresses: {v4: 10.0.0.2}}, ", 1)
	nyc = newRig(t, spec2, func(c *Config) { c.Node, c.Region = "n2", "nyc" }, key)
	fra = newRig(t, httpSpec("", "127.0.0.1:1"), key, func(c *Config) {
		c.reach = func(vip netip.AddrPort) string { return nyc.addr(vip.String()) }
	})
	fra.others = true
	fra.objects = nyc.objects
	if err := fra.apply(spec2); err != nil {
		t.Fatal(err)
	}
	return fra, nyc
}

// dead is an address at which nobody listens.
func dead(t testing.TB) string {
	t.Helper()
	return fmt.Sprint("127.0.0.1:", testkit.FreePort(t, "127.0.0.1"))
}

// tells is an endpoint that says what it was told.
func tells(t *testing.T) string {
	return backend(t, "nyc", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s from %q for %q mark %q body %q", r.Method, r.URL, r.Header.Get("X-Request-ID"), r.Header.Get("X-Forwarded-For"), r.Header.Get(hop.Field), b)
	})
}

func (r *rig) hops(t *testing.T, what string) float64 {
	t.Helper()
	return r.metric("meridian_l7_next_region_total", "what", what)
}

// While a region has no endpoint that lives, the next region's gateway answers: with
// the client's address and the request's id, in the clear and by TLS, before the
// checks have seen it and after, and bodies too.
func TestTheNextRegionAnswers(t *testing.T) {
	for _, secure := range []bool{false, true} {
		gone, lives := dead(t), tells(t)
		spec := twoRegions(secure, "healthcheck: {interval: 100ms, timeout: 100ms, fall: 1}", gone, lives)
		fra, nyc := pair(t, secure, spec)
		nyc.waitState(lives, fleet.Up)
		address, url, roots := "192.0.2.1:80", "http://www.demo.test/x?y", (*x509.CertPool)(nil)
		if secure {
			address, url = "192.0.2.1:443", "https://www.demo.test/x?y"
			roots = x509.NewCertPool()
			for _, c := range fra.g.gen.Load().tls.certs.All() {
				roots.AddCert(c.TLS.Leaf)
			}
		}
		c := fra.client(address, roots)
		ask := func(method, body string) {
			t.Helper()
			req, _ := http.NewRequest(method, url, strings.NewReader(body))
			req.Header.Set("X-Request-ID", "id-1")
			req.Header.Set(hop.Field, "forged")
			res, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			got, _ := io.ReadAll(res.Body)
			if want := fmt.Sprintf(`%s /x?y from "id-1" for "127.0.0.1" mark "" body %q`, method, body); string(got) != want || res.StatusCode != 200 {
				t.Errorf("secure %t: %s %s, expected %s", secure, res.Status, got, want)
			}
		}
		ask("GET", "")
		fra.waitState(gone, fleet.Down)
		ask("GET", "")
		ask("PUT", "a body")
		if asked, served := fra.hops(t, "asked"), nyc.hops(t, "served"); asked < 3 || served != asked {
			t.Errorf("%v asked, %v served", asked, served)
		}
	}
}

// A request that was passed on once goes no further: where no region has an endpoint
// it fails, and goes round in no circle.
func TestTheNextRegionPassesNothingOn(t *testing.T) {
	a, b := dead(t), dead(t)
	spec := twoRegions(false, "healthcheck: {interval: 100ms, timeout: 100ms, fall: 1}", a, b)
	fra, nyc := pair(t, false, spec)
	nyc.g.cfg.reach = nil
	fra.waitState(a, fleet.Down)
	nyc.waitState(b, fleet.Down)
	if status, _ := get(t, fra.client("192.0.2.1:80", nil), "http://www.demo.test/"); status != 503 {
		t.Errorf("answered %d", status)
	}
	if asked, served, on := fra.hops(t, "asked"), nyc.hops(t, "served"), nyc.hops(t, "asked"); asked != 1 || served != 1 || on != 0 {
		t.Errorf("%v asked, %v served, %v passed on", asked, served, on)
	}
}

// The next region has what is left of the deadline, not one of its own.
func TestTheNextRegionKeepsTheDeadline(t *testing.T) {
	release := make(chan struct{})
	slow := backend(t, "slow", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	gone := dead(t)
	spec := twoRegions(false, "timeouts: {request: 400ms}\nhealthcheck: {interval: 100ms, timeout: 100ms, fall: 1}", gone, slow)
	fra, nyc := pair(t, false, spec)
	nyc.waitState(slow, fleet.Up)
	fra.waitState(gone, fleet.Down)
	if status, _ := get(t, fra.client("192.0.2.1:80", nil), "http://www.demo.test/"); status != 504 {
		t.Errorf("answered %d", status)
	}
	// Told of a deadline that is nearer than its own, nyc goes by it.
	key := hop.Key("the fleet's")
	mark := string(key.Append(nil, hop.Mark{From: "fra", Client: netip.MustParseAddr("192.0.2.9"), ID: "abc", Sent: time.Now(), Left: time.Millisecond},
		&wire.Head{Method: []byte("GET"), Authority: []byte("www.demo.test"), Target: []byte("/")}))
	got := nyc.raw("192.0.2.2:80", "GET / HTTP/1.1\r\nHost: www.demo.test\r\nConnection: close\r\n"+hop.Field+": "+mark+"\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 504") {
		t.Errorf("answered %q", got)
	}
}

// What is not safe to repeat, once it may have been sent, goes nowhere else; nor
// does anything where the service says so.
func TestTheNextRegionIsAskedOnlyWhereItMay(t *testing.T) {
	breaks := backend(t, "breaks", func(w http.ResponseWriter, r *http.Request) {
		c, _, _ := http.NewResponseController(w).Hijack()
		c.Close()
	})
	lives := tells(t)
	fra, nyc := pair(t, false, twoRegions(false, "", breaks, lives))
	nyc.waitState(lives, fleet.Up)
	fra.waitState(breaks, fleet.Up)
	c := fra.client("192.0.2.1:80", nil)
	res, err := c.Post("http://www.demo.test/", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 502 || fra.hops(t, "asked") != 0 {
		t.Errorf("a POST got %d, and %v went on", res.StatusCode, fra.hops(t, "asked"))
	}
	if status, _ := get(t, c, "http://www.demo.test/"); status != 200 || fra.hops(t, "asked") != 1 {
		t.Errorf("a GET got %d, and %v went on", status, fra.hops(t, "asked"))
	}
	if err := fra.apply(strings.Replace(twoRegions(false, "retries: {next_region: false}", breaks, lives), "nodes: [", "nodes: [{name: n2, region: nyc, roles: [l7], addresses: {v4: 10.0.0.2}}, ", 1)); err != nil {
		t.Fatal(err)
	}
	if status, _ := get(t, c, "http://www.demo.test/"); status != 502 || fra.hops(t, "asked") != 1 {
		t.Errorf("a GET that may not got %d, and %v went on", status, fra.hops(t, "asked"))
	}
}

// What failed here is told as it was where the next region is passed over, since its
// gateways take no connections.
func TestANextRegionThatIsPassedOverChangesNothing(t *testing.T) {
	breaks := backend(t, "breaks", func(w http.ResponseWriter, r *http.Request) {
		c, _, _ := http.NewResponseController(w).Hijack()
		c.Close()
	})
	lives, nowhere := tells(t), dead(t)
	spec := twoRegions(false, "", breaks, lives)
	fra := newRig(t, spec, func(c *Config) {
		c.HopKey = hop.Key("the fleet's")
		c.reach = func(netip.AddrPort) string { return nowhere }
	})
	fra.waitState(breaks, fleet.Up)
	c := fra.client("192.0.2.1:80", nil)
	if status, _ := get(t, c, "http://www.demo.test/"); status != 502 || fra.hops(t, "failed") != 1 {
		t.Errorf("with a next region that takes no connection: %d, %v failed", status, fra.hops(t, "failed"))
	}
	if status, _ := get(t, c, "http://www.demo.test/"); status != 502 || fra.hops(t, "asked") != 1 {
		t.Errorf("with one that is passed over: %d, %v asked", status, fra.hops(t, "asked"))
	}
}

// All endpoints of a region die under load and come back: no request of many fails,
// and the budget pays for what was under way, though checks are seconds apart. The
// next region's endpoints answer meanwhile.
func TestNoRequestFailsWhileARegionIsDead(t *testing.T) {
	serve := func(l net.Listener) *http.Server {
		s := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
		t.Cleanup(func() { s.Close() })
		go s.Serve(l)
		return s
	}
	lives := backend(t, "nyc", nil)
	var servers []*http.Server
	var dies []string
	for range 3 {
		l, err := net.Listen("tcp", dead(t)) // where nothing else listens while it is closed
		if err != nil {
			t.Fatal(err)
		}
		servers, dies = append(servers, serve(l)), append(dies, l.Addr().String())
	}
	list := strings.Join(dies, `", region: fra}`+"\n    - "+`{address: "`)
	fra, nyc := pair(t, false, twoRegions(false, "healthcheck: {interval: 5s, timeout: 1s}", list, lives))
	nyc.waitState(lives, fleet.Up)
	all := func(want fleet.State) {
		for _, at := range dies {
			fra.waitState(at, want)
		}
	}
	all(fleet.Up)
	l := fra.load()
	l.some(2000)
	for _, s := range servers {
		s.Close()
	}
	l.some(2000)
	all(fleet.Down)
	for _, at := range dies {
		again, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		serve(again)
	}
	all(fleet.Up)
	l.some(1000)
	l.end()
	if asked := fra.hops(t, "asked"); asked < 1000 || asked != nyc.hops(t, "served") {
		t.Errorf("%v were passed on, %v served", asked, nyc.hops(t, "served"))
	}
}

// Who has shown a certificate here has shown none there: such requests stay.
func TestTheNextRegionIsNotAskedForClientsWithCertificates(t *testing.T) {
	authority, lives := testkit.NewAuthority(t), tells(t)
	more := "client_auth: {ca: \"file:clients.pem\", mode: optional}\nhealthcheck: {interval: 100ms, timeout: 100ms, fall: 1}"
	r := newRig(t, httpsSpec("", lives), func(c *Config) { c.HopKey = hop.Key("the fleet's") })
	r.certificate("c1", "*.demo.test")
	r.object(fleet.ObjectCA, "file:clients.pem", string(authority.PEM))
	if err := r.apply(twoRegions(true, more, dead(t), lives)); err != nil {
		t.Fatal(err)
	}
	if next := r.g.gen.Load().service("web").pools[0].next; len(next) != 0 {
		t.Errorf("they go to %v", next)
	}
}

// Answers get what filters add once, on the way by two gateways.
func TestTheNextRegionsAnswersAreChangedOnce(t *testing.T) {
	gone, lives := dead(t), tells(t)
	more := "healthcheck: {interval: 100ms, timeout: 100ms, fall: 1}\nfilters: {answer_fields: {add: {X-Region: \"{region}\"}}}"
	fra, nyc := pair(t, false, twoRegions(false, more, gone, lives))
	nyc.waitState(lives, fleet.Up)
	res, err := fra.client("192.0.2.1:80", nil).Get("http://www.demo.test/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got := strings.Join(res.Header.Values("X-Region"), " "); got != "fra" || res.StatusCode != 200 {
		t.Errorf("%d, X-Region %q", res.StatusCode, got)
	}
}

// A request that the next region answers gives its place at its own pool back.
func TestTheNextRegionKeepsNoPlace(t *testing.T) {
	gone, lives := dead(t), tells(t)
	fra, nyc := pair(t, false, twoRegions(false, "healthcheck: {interval: 100ms, timeout: 100ms, fall: 1}\nlimits: {requests: 2}", gone, lives))
	nyc.waitState(lives, fleet.Up)
	c := fra.client("192.0.2.1:80", nil)
	for i := range 4 {
		if status, _ := get(t, c, "http://www.demo.test/"); status != 200 {
			t.Fatalf("request %d: %d", i, status)
		}
	}
	eventually(t, "no request is under way", func() bool {
		return fra.g.gen.Load().service("web").pools[0].circuit.Requests.In() == 0
	})
}

// Endpoints of the next region are told what those here would be: the client's
// scheme and trace, and what filters say, X-Request-ID not excepted. Both gateways
// know the request by its own id.
func TestTheNextRegionsEndpointsAreToldTheSame(t *testing.T) {
	gone := dead(t)
	lives := backend(t, "nyc", func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"X-Request-Id", "X-Forwarded-Prefix", "X-Forwarded-Proto", "Forwarded"} {
			fmt.Fprintf(w, "%s %q\n", name, r.Header.Values(name))
		}
	})
	more := "healthcheck: {interval: 100ms, timeout: 100ms, fall: 1}\nfilters: {request_fields: {set: {X-Request-ID: \"not an id\", X-Forwarded-Prefix: /in}}}"
	spec := twoRegions(false, more, gone, lives) + "gateway: {forwarded: true, trusted_proxies: [127.0.0.0/8], tracing: {endpoint: \"127.0.0.1:4317\", sample: 1}}\n"
	seen := make(seenBy, 2)
	fra, nyc := pair(t, false, spec, func(c *Config) { c.Telemetry = seen })
	nyc.waitState(lives, fleet.Up)
	res, body := fetch(t, fra.client("192.0.2.1:80", nil), "GET", "http://www.demo.test/", "", "X-Request-ID: id-1", "X-Forwarded-For: 192.0.2.77", "X-Forwarded-Proto: https")
	want := `X-Request-Id ["not an id"]
X-Forwarded-Prefix ["/in"]
X-Forwarded-Proto ["https"]
Forwarded ["for=192.0.2.77;host=\"www.demo.test\";proto=https"]
`
	if body != want || res.Header.Get("X-Request-Id") != "id-1" {
		t.Errorf("%v, told %s", res.Header, body)
	}
	if served, doubted := nyc.hops(t, "served"), nyc.hops(t, "doubted"); served != 1 || doubted != 0 {
		t.Errorf("%v served, %v doubted", served, doubted)
	}
	there, here := <-seen, <-seen
	if there.Trace.ID != here.Trace.ID || there.ID != "id-1" || here.ID != "id-1" {
		t.Errorf("one request is known as %x %s and as %x %s", there.Trace.ID, there.ID, here.Trace.ID, here.ID)
	}
}

// A split draws once: the next region serves the pool that was picked here, which is
// that of the cookie that the client gets.
func TestTheNextRegionKeepsToTheSplit(t *testing.T) {
	a, b := dead(t), dead(t)
	first, second := backend(t, "first", nil), backend(t, "second", nil)
	more := "healthcheck: {interval: 100ms, timeout: 100ms, fall: 1}\nroutes: [{split: {by: cookie, pools: [{pool: main, weight: 1}, {pool: other, weight: 1}]}}]"
	spec := twoRegions(false, more, a, first) + "  - {id: other, endpoints: [{address: \"" + b + "\", region: fra}, {address: \"" + second + "\", region: nyc}]}\n"
	fra, nyc := pair(t, false, spec)
	nyc.waitState(first, fleet.Up)
	nyc.waitState(second, fleet.Up)
	fra.waitState(a, fleet.Down)
	fra.waitState(b, fleet.Down)
	c := fra.client("192.0.2.1:80", nil)
	for i := range 20 {
		res, drawn := fetch(t, c, "GET", "http://www.demo.test/", "")
		if len(res.Cookies()) != 1 {
			t.Fatalf("%d, cookies %v", res.StatusCode, res.Cookies())
		}
		cookie := res.Cookies()[0]
		if res, kept := fetch(t, c, "GET", "http://www.demo.test/", "", "Cookie: "+cookie.Name+"="+cookie.Value); kept != drawn || len(res.Cookies()) != 0 {
			t.Fatalf("client %d was served by %q, and with its cookie by %q, %v", i, drawn, kept, res.Cookies())
		}
	}
}

// A head that would be too large for the next region's gateway, by what this one adds
// to it, stays here.
func TestTheNextRegionGetsNoHeadThatItRefuses(t *testing.T) {
	gone, lives := dead(t), tells(t)
	fra, nyc := pair(t, false, twoRegions(false, "healthcheck: {interval: 100ms, timeout: 100ms, fall: 1}", gone, lives))
	nyc.waitState(lives, fleet.Up)
	fra.waitState(gone, fleet.Down)
	for what, head := range map[string]string{
		"many fields":    strings.Repeat("X-A: b\r\n", wire.MaxFields-3),
		"a large header": "X-A: " + strings.Repeat("b", 64<<10-200) + "\r\n",
	} {
		if got := fra.raw(webVIP, "GET / HTTP/1.1\r\nHost: www.demo.test\r\nConnection: close\r\n"+head+"\r\n"); !strings.HasPrefix(got, "HTTP/1.1 503") {
			t.Errorf("%s: %.40q", what, got)
		}
	}
	if asked := fra.hops(t, "asked"); asked != 0 {
		t.Errorf("%v asked", asked)
	}
}
