package route

import (
	"fmt"
	"strings"
	"testing"

	"meridian/fleet"
)

func TestHost(t *testing.T) {
	for in, want := range map[string]string{
		"www.demo.test": "www.demo.test", "WWW.Demo.TEST": "www.demo.test", "www.demo.test.": "www.demo.test",
		"www.demo.test:8443": "www.demo.test", "www.demo.test:": "www.demo.test", "": "", "10.0.0.1:80": "10.0.0.1",
		"[2001:DB8::1]:443": "2001:db8::1", "[::1]": "::1", "a_b.test": "a_b.test",
	} {
		if got, err := Host(in); got != want || err != nil {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
	for _, in := range []string{".", "..", "a..b", ".a", "a b", "a/b", "a:b", "a:123456", ":80", "[::1", "[::1]x", "[10.0.0.1]",
		"[fe80::1%eth0]", "::1", "ä.test", "a\x00b", "a@b", strings.Repeat("a", 254)} {
		if got, err := Host(in); err == nil {
			t.Errorf("%q: got %q, want an error", in, got)
		}
	}
}

func TestPath(t *testing.T) {
	for in, want := range map[string]string{
		"/": "/", "*": "/", "/a/b": "/a/b", "/%61%2D": "/a-", "/a%2fb": "/a%2Fb", "/a%20b": "/a%20b", "/...": "/...",
		"/.well-known": "/.well-known", "/a..": "/a..", "//a": "//a", "/%ff": "/%FF",
	} {
		if got, err := Path(in); got != want || err != nil {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "a", "/.", "/..", "/a/./b", "/a/../b", "/%2e", "/a/%2E%2e/b", "/a/.%2e", "/a b", "/a\x00", "/%00", "/%", "/%2", "/%zz", "/a\x7f"} {
		if got, err := Path(in); err == nil {
			t.Errorf("%q: got %q, want an error", in, got)
		}
	}
}

// spec compiles a fleet whose services are given; each has pools p0 to p3.
func spec(t testing.TB, services string) (*fleet.Snapshot, error) {
	t.Helper()
	pools := "\n  pools: ["
	for i := range 4 {
		pools += fmt.Sprintf("{id: p%d, endpoints: [{address: \"10.0.0.%d:80\"}]}, ", i, i+1)
	}
	doc := "regions: [{id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.1]}}]\nservices:\n" +
		strings.ReplaceAll(services, "$POOLS", pools+"]")
	return fleet.Compile([]byte(doc), 1, Check)
}

func TestFind(t *testing.T) {
	s, err := spec(t, `
- service: exact
  protocol: http
  ports: [80, 8080]
  hosts: [www.demo.test, demo.test]
  routes:
  - {pool: p0}
  - {pool: p1, path: /api}
  - {pool: p2, path: /api/v2/}
  - {pool: p3, path: /api, hosts: [demo.test]}
  $POOLS
- service: wild
  protocol: http
  ports: [80]
  healthcheck: {host: check.demo.test}
  hosts: ["*.demo.test", "*.a.demo.test"]
  routes:
  - {pool: p0, path: /x}
  - {pool: p1, path: /, hosts: ["*.a.demo.test"]}
  - {pool: p2, path: /, hosts: [one.a.demo.test]}
  $POOLS
- service: any
  protocol: http
  ports: [8080]
  $POOLS
`)
	if err != nil {
		t.Fatal(err)
	}
	table, err := Compile(s.Spec)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(table.Ports()); got != "[{80 http} {8080 http}]" {
		t.Errorf("ports %s", got)
	}
	for _, tc := range []struct {
		port       uint16
		host, path string
		want       string
	}{
		{80, "www.demo.test", "/", "0/0"},
		{80, "www.demo.test", "/apis", "0/0"},
		{80, "www.demo.test", "/api", "0/1"},
		{80, "www.demo.test", "/api/v1", "0/1"},
		{80, "www.demo.test", "/api/v2", "0/2"},
		{80, "www.demo.test", "/api/v2/x", "0/2"},
		{80, "demo.test", "/api/x", "0/3"},   // the host that says more
		{80, "demo.test", "/api/v2", "0/3"},  // before the longer path
		{80, "b.demo.test", "/x", "1/0"},     // wildcard
		{80, "b.demo.test", "/", "no route"}, // has no route for /
		{80, "c.b.demo.test", "/x", "1/0"},   // of any depth
		{80, "x.a.demo.test", "/", "1/1"},    // the longer wildcard
		{80, "x.a.demo.test", "/x/y", "1/1"}, // before the longer path
		{80, "one.a.demo.test", "/", "1/2"},  // exact over wildcard
		{80, "two.one.a.demo.test", "/", "1/1"},
		{80, "other.test", "/", "no host"},
		{80, "", "/", "no host"},
		{8080, "www.demo.test", "/", "0/0"},
		{8080, "other.test", "/", "2/0"},
		{8080, "", "/", "2/0"},
		{81, "www.demo.test", "/", "no host"},
	} {
		m, outcome := table.Find(tc.port, tc.host, tc.path, nil)
		got := fmt.Sprintf("%d/%d", m.Service, m.Pool)
		switch outcome {
		case NoHost:
			got = "no host"
		case NoRoute:
			got = "no route"
		}
		if got != tc.want {
			t.Errorf("%d %s%s: got %s, want %s", tc.port, tc.host, tc.path, got, tc.want)
		}
	}
	if table.AnyHost(80) || !table.AnyHost(8080) {
		t.Error("AnyHost")
	}
}

func TestCheckRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ services, want string }{
		"a host of two services": {`
- {service: a, protocol: http, ports: [80], hosts: [x.test] $POOLS}
- {service: b, protocol: http, ports: [8080, 80], hosts: [y.test, X.test.] $POOLS}`,
			`services[1].hosts[1]: x.test on port 80 is already served by service "a"`},
		"two services of any host": {`
- {service: a, protocol: http, ports: [80] $POOLS}
- {service: b, protocol: http, ports: [80] $POOLS}`,
			`services[1].hosts: any host on port 80 is already served by service "a"`},
		"a host twice": {`
- {service: a, protocol: http, ports: [80], hosts: [x.test, X.test] $POOLS}`,
			`services[0].hosts[1]: "X.test" is already at services[0].hosts[0]`},
		"a host with a port": {`
- {service: a, protocol: http, ports: [80], hosts: ["x.test:80"] $POOLS}`,
			`services[0].hosts[0]: "x.test:80": expected a host name or *.DOMAIN, without port`},
		"a route for another's host": {`
- {service: a, protocol: http, ports: [80], hosts: [x.test, "*.y.test"], routes: [{pool: p0, hosts: [a.y.test, z.test]}] $POOLS}`,
			`services[0].routes[0].hosts[1]: "z.test" is not among the service's hosts (x.test, *.y.test)`},
		"a wildcard route under an exact host": {`
- {service: a, protocol: http, ports: [80], hosts: [a.y.test], routes: [{pool: p0, hosts: ["*.y.test"]}] $POOLS}`,
			`services[0].routes[0].hosts[0]: "*.y.test" is not among the service's hosts (a.y.test)`},
		"a route that never matches": {`
- {service: a, protocol: http, ports: [80], routes: [{pool: p0, path: /a}, {pool: p1, path: /a/}] $POOLS}`,
			`services[0].routes[1]: never matches: hosts, path and conditions are those of services[0].routes[0]`},
		"a path with a query": {`
- {service: a, protocol: http, ports: [80], routes: [{pool: p0, path: "/a?b"}] $POOLS}`,
			`services[0].routes[0].path: "/a?b": expected a plain path, without query, fragment, pattern or dot segments`},
		"a path with dot segments": {`
- {service: a, protocol: http, ports: [80], routes: [{pool: p0, path: "/a/../b"}] $POOLS}`,
			`services[0].routes[0].path: "/a/../b": expected a plain path, without query, fragment, pattern or dot segments`},
		"https without a certificate": {`
- {service: a, protocol: https, ports: [443] $POOLS}`,
			`services[0].protocol: https needs a certificate; expected at least one under certificates`},
		"a check of a wildcard": {`
- {service: a, protocol: http, ports: [80], hosts: ["*.y.test"] $POOLS}`,
			`services[0].healthcheck.host: expected the host to check, since the service's first host (*.y.test) is a wildcard`},
	} {
		_, err := spec(t, strings.ReplaceAll(tc.services, " $POOLS}", ", $POOLS}"))
		list := fleet.FieldErrors(err)
		if len(list) != 1 || list[0].Path+": "+list[0].Msg != tc.want {
			t.Errorf("%s: got %v, want %s", name, err, tc.want)
		}
	}
}

// Any octets from strangers: no panic, and what is accepted is in a form that
// is accepted again unchanged.
func FuzzHost(f *testing.F) {
	for _, s := range []string{"www.demo.test", "WWW.demo.test.:80", "[::1]:443", "", "a..b", "xn--4ca.test"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		host, err := Host(raw)
		if err != nil {
			return
		}
		again := host
		if strings.Contains(host, ":") {
			again = "[" + host + "]"
		}
		if got, err := Host(again); got != host || err != nil {
			t.Errorf("%q became %q, which becomes %q, %v", raw, host, got, err)
		}
	})
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"/", "/a/%2e%2e/b", "/%61", "/a%2Fb", "/%", "*", "/.well-known/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		path, err := Path(raw)
		if err != nil {
			return
		}
		if got, err := Path(path); got != path || err != nil {
			t.Errorf("%q became %q, which becomes %q, %v", raw, path, got, err)
		}
		for _, seg := range strings.Split(path, "/") {
			if seg == "." || seg == ".." {
				t.Errorf("%q holds a dot segment: %q", raw, path)
			}
		}
	})
}

// FuzzFind holds the table equal to the rules read off the Spec one by one.
func FuzzFind(f *testing.F) {
	s, err := spec(f, `
- {service: a, protocol: http, ports: [80], hosts: [x.test, "*.x.test", "*.y.x.test"], routes: [{pool: p0}, {pool: p1, path: /a}, {pool: p2, path: /a/b, hosts: [x.test]}, {pool: p3, path: /a, hosts: ["*.y.x.test"]}], $POOLS}
- {service: b, protocol: http, ports: [80], routes: [{pool: p0, path: /only}], $POOLS}`)
	if err != nil {
		f.Fatal(err)
	}
	table, err := Compile(s.Spec)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("x.test", "/a/b/c")
	f.Add("q.y.x.test", "/a")
	f.Add("z.x.test", "/ab")
	f.Add("other", "/only/x")
	f.Fuzz(func(t *testing.T, rawHost, rawPath string) {
		host, err1 := Host(rawHost)
		path, err2 := Path(rawPath)
		if err1 != nil || err2 != nil {
			return
		}
		got, outcome := table.Find(80, host, path, nil)
		svc, pool := 1, -1
		if covers("x.test", host) || covers("*.x.test", host) {
			svc = 0
		}
		best := -1
		for _, r := range s.Spec.Services[svc].Routes {
			says := 0
			for _, h := range r.Hosts {
				says = -1
				if covers(h, host) {
					says = weight(h)
				}
			}
			prefix := strings.TrimRight(r.Path, "/")
			if score := len(prefix) + says*1000; says >= 0 && (path == prefix || strings.HasPrefix(path, prefix+"/")) && score > best {
				best = score
				fmt.Sscanf(r.Pool, "p%d", &pool)
			}
		}
		if want := (Match{svc, pool, got.Route}); got != want || (outcome == NoRoute) != (pool < 0) {
			t.Errorf("%q %q: got %v %v, want %v", host, path, got, outcome, want)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	s, err := spec(b, "- {service: a, protocol: http, ports: [80], hosts: [x.test, \"*.x.test\"], routes: [{pool: p0}, {pool: p1, path: /a}, {pool: p2, path: /a/b}], $POOLS}")
	if err != nil {
		b.Fatal(err)
	}
	table, _ := Compile(s.Spec)
	b.ReportAllocs()
	for b.Loop() {
		host, _ := Host("www.x.test:443")
		path, _ := Path("/a/b/c/d/e")
		table.Find(80, host, path, nil)
	}
}
