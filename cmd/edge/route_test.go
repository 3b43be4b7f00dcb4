package main

import (
	"bytes"
	"testing"

	"meridian/edge/l7/wire"
	"meridian/rules"
)

const routeSpec = `
regions: [{id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.1]}}]
certificates: [{id: a, cert: "file:a", key: "file:b"}]
services:
- service: web
  protocol: https
  ports: [443]
  hosts: [www.a.test]
  routes:
  - {name: rest, pool: main, rewrite: {prefix: /in, host: b.test}}
  - {name: beta, path: /api, pool: main, headers: [{name: X-Beta, value: "1"}]}
  - {name: old, path_exact: /old, redirect: {path: /new, status: 301}}
  - {name: some, path: /some, split: {pools: [{pool: main, weight: 9}, {pool: main, weight: 1}]}}
  pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}]
`

func TestTheRouteOfCONNECTIsExplained(t *testing.T) {
	s, err := rules.Compile([]byte(`
regions: [{id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.1]}}]
services:
- service: proxy
  protocol: http
  ports: [3128]
  routes:
  - {pool: main, rewrite: {prefix: /in}, connect: true, hosts: [www.a.test]}
  - {name: rest, pool: main}
  pools: [{id: main, endpoints: [{address: "10.0.0.1:3128"}]}]
`), 0)
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]routed{
		"http://www.a.test:3128/": {Service: "proxy", Route: "0", Does: "asks pool main"},
		"http://b.test:3128/":     {Service: "proxy", Does: "answers 405: no route lets CONNECT pass"},
		"http://www.a.test/":      {Does: "answers 405: no route lets CONNECT pass"},
	} {
		out, err := routeOf(s.Spec, address, &wire.Head{Method: []byte("CONNECT")})
		if err != nil {
			t.Fatal(err)
		}
		if out.Service != want.Service || out.Route != want.Route || out.Does != want.Does || out.Asked != "" {
			t.Errorf("%s: %+v", address, out)
		}
	}
}

func TestARequestsRouteIsExplained(t *testing.T) {
	s, err := rules.Compile([]byte(routeSpec), 0)
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"https://www.a.test/api/x?y": `service   web
route     rest
does      asks pool main
asked     /in/api/x?y of host b.test
looked at old (not: path /old)
looked at some (not: path /some/…)
looked at beta (not: header x-beta is 1)
looked at rest (matches)
`,
		"https://www.a.test/old?x":  "service   web\nroute     old\ndoes      redirects (301) to https://www.a.test/new?x\nlooked at old (matches)\n",
		"http://www.a.test/x":       "service   web\ndoes      redirects (308) to https://www.a.test/x\n",
		"https://b.test/":           "does      answers 404: no service has this host at this port\n",
		"https://www.a.test/some/x": "service   web\nroute     some\ndoes      asks a pool by weight: main 9, main 1 (by request)\nlooked at old (not: path /old)\nlooked at some (matches)\n",
	} {
		out, err := routeOf(s.Spec, address, &wire.Head{Method: []byte("GET")})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if showRouted(&b, out); b.String() != want {
			t.Errorf("%s:\n%s", address, b.String())
		}
	}
	for _, address := range []string{"ftp://a.test/", "https://a.test/../x", "x"} {
		if _, err := routeOf(s.Spec, address, &wire.Head{}); err == nil {
			t.Errorf("%s is taken", address)
		}
	}
}
