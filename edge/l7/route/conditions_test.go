package route

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// head gives a request's head: method and target, then fields NAME: VALUE.
func head(line string, fields ...string) *wire.Head {
	h := new(wire.Head)
	method, target, _ := strings.Cut(line, " ")
	h.Method, h.Target = []byte(method), []byte(target)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		h.Add(name, value)
	}
	return h
}

const manyRoutes = `
- service: a
  protocol: http
  ports: [80]
  routes:
  - {name: rest, pool: p0}
  - {name: api, pool: p0, path: /api}
  - {name: post, pool: p0, path: /api, methods: [POST, PUT]}
  - {name: beta, pool: p0, path: /api, headers: [{name: X-Beta}]}
  - {name: beta-cookie, pool: p0, path: /api, headers: [{name: X-Beta}], cookies: [{name: who, value: me}]}
  - {name: v, pool: p0, path: /api, query: [{name: v, prefix: "2."}]}
  - {name: health, pool: p0, path_exact: /api/health}
  - {name: user, pool: p0, path_regex: "/api/users/[0-9]+"}
  - {name: user-any, pool: p0, path_regex: "/api/users/.*"}
  - {name: bot, pool: p0, path: /bot, headers: [{name: user-agent, regex: "(?i).*bot.*"}]}
  - {name: no-cookie, pool: p0, path: /bot, cookies: [{name: seen, absent: true}]}
  - {name: empty, pool: p0, path: /empty, headers: [{name: X-Is, value: ""}]}
  - {name: list, pool: p0, path: /list, headers: [{name: X-Is, value: "a, b"}]}
  $POOLS
`

func TestPrecedenceOfRoutes(t *testing.T) {
	s, err := spec(t, manyRoutes)
	if err != nil {
		t.Fatal(err)
	}
	table, err := Compile(s.Spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		h    *wire.Head
		want string
	}{
		{head("GET /"), "rest"},
		{head("GET /api"), "api"},
		{head("POST /api/x"), "post"},
		{head("POST /api/x", "X-Beta: 1"), "post"}, // methods before conditions
		{head("GET /api", "x-beta: "), "beta"},
		{head("GET /api", "X-BETA: 1", "Cookie: a=b; who=me"), "beta-cookie"}, // more conditions
		{head("GET /api", "X-Beta: 1", "Cookie: a=b; who=you"), "beta"},
		{head("GET /api?v=2.1"), "v"},
		{head("GET /api?a=b&v=2%2e1"), "v"},
		{head("GET /api?a=b&v=1&v=2.1"), "api"}, // the first counts
		{head("GET /api?v=2.1", "X-Beta: 1"), "beta"},
		{head("GET /api/health"), "health"},
		{head("POST /api/health"), "health"}, // exact before prefix with methods
		{head("GET /api/health/x"), "api"},
		{head("GET /api/users/12"), "user"}, // the first regular expression
		{head("GET /api/users/12x"), "user-any"},
		{head("GET /x/api/users/12"), "rest"}, // the whole path
		{head("GET /bot", "User-Agent: a Bot b", "Cookie: seen=1"), "bot"},
		{head("GET /bot", "User-Agent: me", "Cookie: seen=1"), "rest"},
		{head("GET /bot"), "no-cookie"},
		{head("GET /empty", "X-Is: "), "empty"},
		{head("GET /empty"), "rest"},
		{head("GET /empty", "X-Is: x"), "rest"},
		{head("GET /list", "X-Is: a", "x-is: b"), "list"},
	} {
		m, outcome := table.Find(80, "x.test", string(tc.h.Path()), tc.h)
		if r := table.Route(m); outcome != Found || r.Name != tc.want {
			t.Errorf("%s %s: got %+v, want %s", tc.h.Method, tc.h.Target, r, tc.want)
		}
	}
}

func TestALookupDoesNotAllocate(t *testing.T) {
	if raced {
		t.Skip("under the race detector pools, of which regexp has one, forget at random")
	}
	s, err := spec(t, manyRoutes)
	if err != nil {
		t.Fatal(err)
	}
	table, _ := Compile(s.Spec)
	for _, h := range []*wire.Head{head("GET /x"), head("GET /api?v=1", "Cookie: a=b; c=d"), head("GET /api/users/1"), head("GET /bot", "User-Agent: xbotx")} {
		path := string(h.Path())
		if n := testing.AllocsPerRun(100, func() { table.Find(80, "x.test", path, h) }); n != 0 {
			t.Errorf("%s: %v allocations", h.Target, n)
		}
	}
}

func TestRoutesThatAreRefused(t *testing.T) {
	for routes, want := range map[string]string{
		`{pool: p0, path_regex: "("}`:                              `routes[0].path_regex: "(" is not a regular expression: missing closing ): ` + "`(`",
		`{pool: p0, path_regex: "a)(b"}`:                           `routes[0].path_regex: "a)(b" is not a regular expression: unexpected ): ` + "`a)(b`",
		`{pool: p0, path_exact: "/a?b"}`:                           `routes[0].path_exact: "/a?b": expected a plain path, without query, fragment, pattern or dot segments`,
		`{pool: p0, methods: ["GE T"]}`:                            `routes[0].methods[0]: "GE T" is not a method`,
		`{pool: p0, headers: [{name: Host}]}`:                      `routes[0].headers[0].name: "Host" belongs to the connection, or is the request's host`,
		`{pool: p0, headers: [{name: "a b"}]}`:                     `routes[0].headers[0].name: "a b" is not a name`,
		`{pool: p0, cookies: [{name: a, value: x, prefix: y}]}`:    `routes[0].cookies[0]: expected one of value, prefix, regex and absent`,
		`{pool: p0, query: [{name: a, regex: "["}]}`:               `routes[0].query[0].regex: "[" is not a regular expression: missing closing ]: ` + "`[`",
		`{redirect: {status: 301}}`:                                `routes[0].redirect: leads to where it comes from; expected scheme, host, path or prefix`,
		`{redirect: {scheme: ftp}}`:                                `routes[0].redirect.scheme: "ftp": expected http or https`,
		`{redirect: {host: "a b"}}`:                                `routes[0].redirect.host: "a b": expected a host name or HOST:PORT`,
		`{redirect: {path: "x"}}`:                                  `routes[0].redirect.path: "x": expected a path that begins with /`,
		`{path_exact: /a, redirect: {prefix: /b}}`:                 `routes[0].redirect.prefix: is for a route with a path prefix`,
		`{pool: p0, rewrite: {prefix: "", regex: a}}`:              `routes[0].rewrite: expected prefix or regex`,
		`{pool: p0, rewrite: {replacement: a}}`:                    `routes[0].rewrite.replacement: is for regex, which is missing`,
		`{pool: p0, rewrite: {host: "/"}}`:                         `routes[0].rewrite.host: "/": expected a host name or HOST:PORT`,
		`{pool: p0, path_exact: /a}, {pool: p1, path_exact: /%61}`: `routes[1]: never matches: hosts, path and conditions are those of services[0].routes[0]`,
		`{pool: p0, methods: [A, B], query: [{name: a}, {name: b}]}, {pool: p1, methods: [B, A], query: [{name: b}, {name: a}]}`: `routes[1]: never matches: hosts, path and conditions are those of services[0].routes[0]`,
		`{pool: p0, split: {pools: [{pool: p1}], by: cookie, cookie: "a b"}}, {}`:                                                "routes[0]: expected one of pool, split\nservices[0].routes[1]: expected pool, split, redirect or answer",
	} {
		_, err := spec(t, "- {service: a, protocol: http, ports: [80], routes: ["+routes+"], $POOLS}")
		var got []string
		for _, e := range fleet.FieldErrors(err) {
			got = append(got, e.Path+": "+e.Msg)
		}
		if want = "services[0]." + want; strings.Join(got, "\n") != want {
			t.Errorf("%s:\ngot  %s\nwant %s", routes, strings.Join(got, "\n"), want)
		}
	}
}

func TestHTTPRedirectsToHTTPS(t *testing.T) {
	const certs = "certificates: [{id: a, cert: \"file:a\", key: \"file:b\"}]\n"
	compile := func(services string) (*Table, error) {
		pools := "pools: [{id: p0, endpoints: [{address: \"10.0.0.1:80\"}]}]"
		s, err := fleet.Compile([]byte(certs+"regions: [{id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.1]}}]\nservices:\n"+
			strings.ReplaceAll(services, "$POOLS", pools)), 1, Check)
		if err != nil {
			return nil, err
		}
		return Compile(s.Spec)
	}
	const secure = "- {service: a, protocol: https, ports: [443], hosts: [a.test, b.test], $POOLS}\n"
	for services, want := range map[string]string{
		secure: "to a, to a, no host",
		secure + "- {service: b, protocol: http, ports: [80], hosts: [b.test], $POOLS}":                                  "to a, found, no host",
		secure + "- {service: b, protocol: http, ports: [80], $POOLS}":                                                   "found, found, found",
		secure + "- {service: b, protocol: http, ports: [80], hosts: [\"*.test\"], $POOLS, healthcheck: {host: c.test}}": "found, found, found",
		secure + "- {service: b, protocol: tcp, ports: [80], $POOLS}":                                                    "no host, no host, no host",
		strings.Replace(secure, "https,", "https, redirect_http: false,", 1):                                             "no host, no host, no host",
		strings.Replace(secure, "443", "8443", 1):                                                                        "no host, no host, no host",
	} {
		table, err := compile(services)
		if err != nil {
			t.Fatalf("%s: %v", services, err)
		}
		var got []string
		for _, host := range []string{"a.test", "b.test", "c.test"} {
			m, outcome := table.Find(80, host, "/", nil)
			got = append(got, [...]string{"found", "no host", "no route", fmt.Sprintf("to %c", 'a'+m.Service)}[outcome])
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s: got %s, want %s", services, got, want)
		}
	}
	if _, err := compile(strings.Replace(secure, "443", "8443", 1) + "  redirect_http: true"); err == nil {
		t.Error("a service without port 443 redirects")
	}
	var to []byte
	to = toHTTPS.Location(to, "http", "a.test:80", "/x", []byte("y"))
	if string(to) != "https://a.test/x?y" {
		t.Errorf("sent to %s", to)
	}
}

func TestWhereARedirectLeads(t *testing.T) {
	for redirect, want := range map[string]string{
		"{host: b.test}":  "http://b.test/old/x?q=1",
		"{scheme: https}": "https://a.test/old/x?q=1",
		"{scheme: https, host: 'b.test:8443', drop_query: true}": "https://b.test:8443/old/x",
		"{path: /new}":       "http://a.test:8080/new?q=1",
		"{path: '/new?a=b'}": "http://a.test:8080/new?a=b",
		"{prefix: /new/}":    "http://a.test:8080/new/x?q=1",
		"{prefix: /}":        "http://a.test:8080/x?q=1",
	} {
		s, err := spec(t, "- {service: a, protocol: http, ports: [80], routes: [{path: /old, redirect: "+redirect+"}], $POOLS}")
		if err != nil {
			t.Fatal(err)
		}
		table, _ := Compile(s.Spec)
		m, _ := table.Find(80, "a.test", "/old/x", nil)
		if got := string(table.Route(m).Redirect.Location(nil, "http", "a.test:8080", "/old/x", []byte("q=1"))); got != want {
			t.Errorf("%s: got %s, want %s", redirect, got, want)
		}
	}
}

func TestWhatEndpointsAreAsked(t *testing.T) {
	for _, tc := range []struct{ route, path, query, want string }{
		{"path: /api, rewrite: {prefix: ''}", "/api/x", "", "/x"},
		{"path: /api, rewrite: {prefix: ''}", "/api", "q", "/?q"},
		{"path: /api, rewrite: {prefix: /v2/}", "/api", "", "/v2"},
		{"path: /api, rewrite: {prefix: /v2}", "/api/x/", "a=b", "/v2/x/?a=b"},
		{"path: /, rewrite: {prefix: /v2}", "/x", "", "/v2/x"},
		{"rewrite: {regex: '/users/([^/]+)/', replacement: '/u-$1/'}", "/users/me/x", "", "/u-me/x"},
		{"rewrite: {regex: '^/a', replacement: ''}", "/other", "q", "/other?q"},
		{"rewrite: {regex: '^/', replacement: 'x'}", "/a", "", "/a"},     // no path any more: as it was
		{"rewrite: {regex: 'a', replacement: '..'}", "/a/b", "", "/a/b"}, // nor one with dot segments
		{"rewrite: {host: b.test}", "/a", "", "/a"},
	} {
		s, err := spec(t, "- {service: a, protocol: http, ports: [80], routes: [{pool: p0, "+tc.route+"}], $POOLS}")
		if err != nil {
			t.Fatal(err)
		}
		table, _ := Compile(s.Spec)
		m, _ := table.Find(80, "a.test", tc.path, nil)
		var query []byte
		if tc.query != "" {
			query = []byte(tc.query)
		}
		if got := string(table.Route(m).Rewrite.Target(nil, tc.path, query)); got != tc.want {
			t.Errorf("%s of %s: got %s, want %s", tc.route, tc.path, got, tc.want)
		}
	}
}

func TestASplitKeepsItsWeights(t *testing.T) {
	s, err := spec(t, "- {service: a, protocol: http, ports: [80], routes: [{split: {by: cookie, pools: [{pool: p0, weight: 70}, {pool: p1, weight: 30}, {pool: p2, weight: 0}]}}], $POOLS}")
	if err != nil {
		t.Fatal(err)
	}
	table, _ := Compile(s.Spec)
	m, _ := table.Find(80, "a.test", "/", nil)
	split := table.Route(m).Split
	counts := map[int]int{}
	for i := range uint64(10000) {
		n, set := split.Draw(head("GET /"), netip.Addr{}, i)
		if !set {
			t.Fatal("no cookie is set")
		}
		pool := split.Pick(n)
		counts[pool]++
		back, set := split.Draw(head("GET /", "Cookie: meridian_split="+string(Sticky(nil, i))), netip.Addr{}, 0)
		if set || split.Pick(back) != pool {
			t.Fatal("the cookie leads to another pool")
		}
	}
	if counts[0] < 6700 || counts[0] > 7300 || counts[0]+counts[1] != 10000 {
		t.Errorf("shares %v", counts)
	}
	split.By = fleet.SplitByClient
	first, _ := split.Draw(head("GET /"), netip.MustParseAddr("192.0.2.7"), 1)
	if again, _ := split.Draw(head("GET /"), netip.MustParseAddr("192.0.2.7"), 2); again != first {
		t.Error("a client's share changes")
	}
}
