package filter

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// head gives a header of fields NAME: VALUE; the first line is METHOD TARGET.
func head(line string, fields ...string) *wire.Head {
	h := &wire.Head{Length: -1, Status: 200}
	method, target, _ := strings.Cut(line, " ")
	h.Method, h.Target = []byte(method), []byte(target)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		h.Add(name, value)
	}
	return h
}

func show(h *wire.Head) string {
	var out []string
	for _, f := range h.Fields {
		out = append(out, fmt.Sprintf("%s: %s", f.Name, f.Value))
	}
	return strings.Join(out, "\n")
}

// document is a fleet with one service that has the filters.
func document(filters, routes string) string {
	return "regions: [{id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.1]}}]\n" +
		"certificates: [{id: a, cert: \"file:a\", key: \"file:b\"}]\n" +
		"services: [{service: web, protocol: https, ports: [443], filters: {" + filters + "}, routes: [" + routes + "], pools: [{id: main, endpoints: [{address: \"10.0.0.1:80\"}]}]}]\n"
}

// sets compiles the filters of a service and of its one route.
func sets(t *testing.T, filters string, objects ...fleet.Object) *Sets {
	t.Helper()
	s, err := fleet.Compile([]byte(document(filters, "{pool: main}")), 1, Check)
	if err != nil {
		t.Fatal(err)
	}
	all := map[fleet.ObjectKey]fleet.Object{}
	for _, o := range objects {
		all[o.Key] = o
	}
	out, err := Compile(&s.Spec.Services[0], all, [32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFieldsChange(t *testing.T) {
	s := sets(t, `request_fields: {remove: [X-Secret], set: {X-Client: "{client_ip}/{request_id}", X-Where: "{region} {node} {service} {route}"}, add: {Via: "1.1 edge", X-Brace: "{{{host}}"}}`).Service
	h := head("GET /a?b", "x-secret: 1", "X-Client: liar", "x-client: again", "Via: 1.0 a", "Accept: */*")
	v := &Vars{Client: netip.MustParseAddr("192.0.2.7"), RequestID: []byte("id"), Region: "fra", Node: "n", Service: "web", Route: "0", Host: []byte("h")}
	s.Request.Apply(h, v)
	want := "Via: 1.0 a\nAccept: */*\nX-Client: 192.0.2.7/id\nX-Where: fra n web 0\nVia: 1.1 edge\nX-Brace: {h}"
	if got := show(h); got != want {
		t.Errorf("got:\n%s", got)
	}
	if n := testing.AllocsPerRun(100, func() {
		h.Reset()
		h.AddID(wire.Accept, "x")
		s.Request.Apply(h, v)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestWhoseWordIsBelieved(t *testing.T) {
	prefixes := func(list ...string) (out []netip.Prefix) {
		for _, s := range list {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	for _, tc := range []struct {
		field  fleet.TrustedField
		peer   string
		fields []string
		want   string
	}{
		{"x_forwarded_for", "192.0.2.1", []string{"X-Forwarded-For: 1.1.1.1", "X-Forwarded-Proto: https"}, "192.0.2.1 "}, // a stranger
		{"x_forwarded_for", "10.0.0.1", nil, "10.0.0.1 "},
		{"x_forwarded_for", "10.0.0.1", []string{"X-Forwarded-For: 1.1.1.1", "X-Forwarded-Proto: https"}, "1.1.1.1 https"},
		{"x_forwarded_for", "10.0.0.1", []string{"X-Forwarded-For: 6.6.6.6, 1.1.1.1, 10.0.0.2"}, "1.1.1.1 "}, // what is left of it is made up
		{"x_forwarded_for", "10.0.0.1", []string{"X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 1.1.1.1"}, "1.1.1.1 "},
		{"x_forwarded_for", "10.0.0.1", []string{"X-Forwarded-For: 10.0.0.3,10.0.0.2"}, "10.0.0.3 "},
		{"x_forwarded_for", "10.0.0.1", []string{"X-Forwarded-For: 1.1.1.1, nonsense, 10.0.0.2"}, "10.0.0.2 "},
		{"x_forwarded_for", "10.0.0.1", []string{"X-Forwarded-For: "}, "10.0.0.1 "},
		{"x_forwarded_for", "10.0.0.1", []string{"X-Forwarded-For: 1.1.1.1:4711"}, "1.1.1.1 "},
		{"x_forwarded_for", "10.0.0.1", []string{"X-Forwarded-For: [2001:db8::1]:4711"}, "2001:db8::1 "},
		{"x_forwarded_for", "fd00::1", []string{"X-Forwarded-For: 2001:db8::1", "X-Forwarded-Proto: ftp"}, "2001:db8::1 "},
		{"x_forwarded_for", "10.0.0.1", []string{"Forwarded: for=1.1.1.1"}, "10.0.0.1 "}, // not the field that they speak by
		{"forwarded", "10.0.0.1", []string{"Forwarded: for=6.6.6.6, FOR=\"[2001:db8::1]:80\";Proto=https;by=a, for=10.0.0.2;proto=http", "X-Forwarded-For: 9.9.9.9"}, "2001:db8::1 https"},
		{"forwarded", "10.0.0.1", []string{`Forwarded: for="a,b", for=1.1.1.1`}, "1.1.1.1 "},
		{"forwarded", "10.0.0.1", []string{"Forwarded: for=_hidden"}, "10.0.0.1 "},
	} {
		p := NewProxies(&fleet.Gateway{TrustedProxies: prefixes("10.0.0.0/8", "fd00::/8"), TrustedField: tc.field})
		client, scheme := p.Client(netip.MustParseAddr(tc.peer), head("GET /", tc.fields...))
		if got := client.String() + " " + scheme; got != tc.want {
			t.Errorf("%s %q: got %q, want %q", tc.peer, tc.fields, got, tc.want)
		}
	}
	p := NewProxies(&fleet.Gateway{TrustedProxies: prefixes("10.0.0.0/8")})
	h, peer := head("GET /", "X-Forwarded-For: 1.1.1.1, 10.0.0.2"), netip.MustParseAddr("10.0.0.1")
	if n := testing.AllocsPerRun(100, func() { p.Client(peer, h) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if got := string(AppendForwarded(nil, netip.MustParseAddr("2001:db8::1"), []byte("a.test:80"), "https")); got != `for="[2001:db8::1]";host="a.test:80";proto=https` {
		t.Errorf("Forwarded: %s", got)
	}
}

func FuzzWhoseWordIsBelieved(f *testing.F) {
	f.Add("for=1.1.1.1, for=\"[::1]:80\"")
	f.Add("1.1.1.1,,10.0.0.1")
	f.Fuzz(func(t *testing.T, value string) {
		for _, field := range []fleet.TrustedField{fleet.TrustForwarded, fleet.TrustXForwardedFor} {
			p := NewProxies(&fleet.Gateway{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, TrustedField: field})
			h := head("GET /", "Forwarded: "+value, "X-Forwarded-For: "+value)
			client, scheme := p.Client(netip.MustParseAddr("10.0.0.1"), h)
			if !client.IsValid() || scheme != "" && scheme != "http" && scheme != "https" {
				t.Errorf("%q: %v %q", value, client, scheme)
			}
		}
	})
}

func TestAccessByAddress(t *testing.T) {
	for _, tc := range []struct{ list, client, want string }{
		{"10.0.0.0/8", "10.1.1.1", "true"}, {"10.0.0.0/8", "11.1.1.1", "false"},
		{`"!10.0.0.5", 10.0.0.0/8`, "10.0.0.5", "false"}, {`"!10.0.0.5", 10.0.0.0/8`, "10.0.0.6", "true"},
		{`"!10.0.0.0/8"`, "10.0.0.6", "false"}, {`"!10.0.0.0/8"`, "192.0.2.1", "true"}, {`"!10.0.0.0/8"`, "2001:db8::1", "true"},
		{"2001:db8::/32", "2001:db8::1", "true"}, {"2001:db8::/32", "10.0.0.1", "false"},
	} {
		got := fmt.Sprint(sets(t, "access: ["+tc.list+"]").Service.Access.Allows(netip.MustParseAddr(tc.client)))
		if got != tc.want {
			t.Errorf("%s: %s: %s", tc.list, tc.client, got)
		}
	}
}

func TestWhichAnswersAreCompressed(t *testing.T) {
	c := sets(t, "compression: {}").Service.Compression
	for _, tc := range []struct{ accept, answer, want string }{
		{"gzip", "Content-Type: text/html", "gzip"},
		{"gzip, deflate, br, zstd", "Content-Type: application/json; charset=utf-8", "zstd"},
		{"gzip, br;q=0.9", "Content-Type: TEXT/HTML", "gzip"},
		{"br;q=1.0, zstd;q=0.001", "Content-Type: text/css", "br"},
		{"*", "Content-Type: text/css", "zstd"},
		{"*;q=0.5, zstd;q=0", "Content-Type: text/css", "br"},
		{"gzip;q=0", "Content-Type: text/css", ""},
		{"gzip;q=2", "Content-Type: text/css", ""},
		{"gzip;q=0.5, identity", "Content-Type: text/css", ""},
		{"x-gzip", "Content-Type: text/css", "gzip"},
		{"", "Content-Type: text/css", ""},
		{"deflate", "Content-Type: text/css", ""},
		{"gzip", "", ""},
		{"gzip", "Content-Type: image/png", ""},
		{"gzip", "Content-Type: text/event-stream", ""},
		{"gzip", "Content-Type: text/html|Content-Encoding: br", ""},
		{"gzip", "Content-Type: text/html|Cache-Control: public, no-transform", ""},
		{"gzip", "Content-Type: text/html|Content-Range: bytes 0-1/2", ""},
	} {
		answer := head("", strings.Split(tc.answer, "|")...)
		if got := c.Choose(head("GET /", "Accept-Encoding: "+tc.accept), answer); string(got) != tc.want {
			t.Errorf("%q, %q: got %q, want %q", tc.accept, tc.answer, got, tc.want)
		}
	}
	for what, change := range map[string]func(req, answer *wire.Head){
		"HEAD":         func(req, _ *wire.Head) { req.Method = []byte("HEAD") },
		"Range":        func(req, _ *wire.Head) { req.Add("Range", "bytes=0-1") },
		"204":          func(_, answer *wire.Head) { answer.Status = 204 },
		"206":          func(_, answer *wire.Head) { answer.Status = 206 },
		"304":          func(_, answer *wire.Head) { answer.Status = 304 },
		"a short one":  func(_, answer *wire.Head) { answer.Length = 1023 },
		"no-transform": func(req, _ *wire.Head) { req.Add("Cache-Control", "no-transform") },
	} {
		req, answer := head("GET /", "Accept-Encoding: gzip"), head("", "Content-Type: text/html")
		if change(req, answer); c.Choose(req, answer) != "" {
			t.Errorf("%s is compressed", what)
		}
	}
	req, answer := head("GET /", "Accept-Encoding: gzip, br"), head("", "Content-Type: text/html")
	if n := testing.AllocsPerRun(100, func() { answer.Fields = answer.Fields[:1]; c.negotiate(req); c.typed(answer.Fields[0].Value) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestACompressedAnswerSaysSo(t *testing.T) {
	c := sets(t, "compression: {encodings: [gzip], types: [text/html], min_length: 1}").Service.Compression
	answer := head("", "Content-Type: text/html", "Content-Length: 9", `ETag: "a"`, "Vary: Cookie", "Accept-Ranges: bytes")
	answer.Length = 9
	Mark(answer, c.Choose(head("GET /", "Accept-Encoding: gzip"), answer))
	want := "Content-Type: text/html\nETag: W/\"a\"\nVary: Cookie\nVary: Accept-Encoding\nContent-Encoding: gzip"
	if got := show(answer); got != want || answer.Length != -1 {
		t.Errorf("got:\n%s", got)
	}
	// Another client gets it as it is, and caches are told that it depends.
	answer = head("", "Content-Type: text/html", "Vary: accept-encoding")
	if got := c.Choose(head("GET /"), answer); got != "" || show(answer) != "Content-Type: text/html\nVary: accept-encoding" {
		t.Errorf("%s: %s", got, show(answer))
	}
}

func TestCORS(t *testing.T) {
	c := sets(t, `cors: {origins: ["https://a.test", "https://*.b.test"], methods: [GET, PUT], headers: [X-One], expose: [X-Two], credentials: true}`).Service.CORS
	for origin, want := range map[string]string{
		"https://a.test": "https://a.test", "https://x.b.test": "https://x.b.test", "https://x.y.b.test": "https://x.y.b.test",
		"https://b.test": "", "http://a.test": "", "https://a.test.evil.test": "", "https://evil.test/.b.test": "", "https://evil.test@x.b.test": "",
	} {
		answer := head("", "Access-Control-Allow-Origin: *")
		c.Answer(head("GET /", "Origin: "+origin), answer)
		if got := string(field(answer, "Access-Control-Allow-Origin")); got != want {
			t.Errorf("%s: got %q", origin, got)
		}
	}
	pre := head("OPTIONS /", "Origin: https://a.test", "Access-Control-Request-Method: PUT")
	answer := head("")
	c.Answer(pre, answer)
	want := "Vary: Origin\nAccess-Control-Allow-Origin: https://a.test\nAccess-Control-Allow-Credentials: true\nAccess-Control-Allow-Methods: GET, PUT\nAccess-Control-Max-Age: 600\nAccess-Control-Allow-Headers: X-One"
	if !c.Preflight(pre) || show(answer) != want {
		t.Errorf("got:\n%s", show(answer))
	}
	if c.Preflight(head("OPTIONS /", "Origin: https://a.test")) {
		t.Error("a plain OPTIONS is taken for a preflight")
	}
}

func TestPages(t *testing.T) {
	page := fleet.Object{Key: fleet.ObjectKey{Kind: fleet.ObjectPage, ID: "file:404.html"}, Data: []byte("<p style={x}>{status}: {request_id}")}
	s := sets(t, `error_pages: [{status: ["404"], body: "file:404.html", endpoints: true}, {status: [5xx, "404"], body: "sorry {status}"}]`, page).Service
	v := &Vars{Status: 404, RequestID: []byte("id")}
	if p := s.Page(404, true); p == nil || string(p.Body(nil, v)) != "<p style={x}>404: id" || p.Type != "text/html; charset=utf-8" {
		t.Errorf("404: %+v", p)
	}
	if p := s.Page(503, false); p == nil || string(p.Body(nil, &Vars{Status: 503})) != "sorry 503" || p.Type != "text/plain; charset=utf-8" {
		t.Errorf("503: %+v", p)
	}
	if s.Page(503, true) != nil || s.Page(400, false) != nil {
		t.Error("a page that is not asked for")
	}
}

func TestMaintenanceSparesSomeClients(t *testing.T) {
	s := sets(t, `maintenance: {on: true, retry_after: 90s, body: "back soon", except: [10.0.0.0/8]}`).Service
	m := s.Maintenance
	if !m.Holds(netip.MustParseAddr("192.0.2.1")) || m.Holds(netip.MustParseAddr("10.1.1.1")) || m.RetryAfter != "90" || m.Status != 503 || string(m.Page.Body) != "back soon" {
		t.Errorf("%+v", m)
	}
	if sets(t, `maintenance: {body: x}`).Service.Maintenance != nil {
		t.Error("it is in force while off")
	}
}

func TestHSTS(t *testing.T) {
	for filters, want := range map[string]string{
		"":                  "max-age=86400",
		"hsts: {off: true}": "",
		"hsts: {max_age: 8760h, include_subdomains: true, preload: true}": "max-age=31536000; includeSubDomains; preload",
	} {
		if got := sets(t, filters).Service.HSTS; got != want {
			t.Errorf("%s: %q", filters, got)
		}
	}
}

// Each key of a route's filters goes in place of the service's, and of no other.
func TestARoutesFilters(t *testing.T) {
	s, err := fleet.Compile([]byte(document("access: [10.0.0.0/8], answer_fields: {set: {X-A: s}}, bounds: {body: 5}",
		"{pool: main}, {pool: main, path: /x, filters: {bounds: {header: 9}, hsts: {off: true}}}")), 1, Check)
	if err != nil {
		t.Fatal(err)
	}
	out, err := Compile(&s.Spec.Services[0], nil, [32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	if own := out.Routes[1]; out.Routes[0] != out.Service || own.Bounds.Body != 0 || own.Bounds.Header != 9 || own.HSTS != "" || own.Access == nil || own.Answer == nil {
		t.Errorf("%+v", own)
	}
	s, err = fleet.Compile([]byte(document(`jwt: {keys: "file:k"}, forward_auth: {pool: main}, stale_if_error: {}`,
		`{pool: main}, {pool: main, path: /open, filters: {jwt: {off: true}, forward_auth: {off: true}, stale_if_error: {off: true}}}, {pool: main, path: /old, filters: {basic_auth: {users: "file:u"}}}`)), 1, Check)
	if err != nil {
		t.Fatal(err)
	}
	objects := map[fleet.ObjectKey]fleet.Object{}
	for id, data := range map[string]string{"file:k": `{"keys":[{"kty":"oct","k":"` + b64(make([]byte, 32)) + `"}]}`, "file:u": "a:$2y$04$" + strings.Repeat("a", 53)} {
		key := fleet.ObjectKey{Kind: fleet.ObjectSecret, ID: id}
		objects[key] = fleet.Object{Key: key, Data: []byte(data)}
	}
	if out, err = Compile(&s.Spec.Services[0], objects, [32]byte{}); err != nil {
		t.Fatal(err)
	}
	if r := out.Routes[0]; r.JWT == nil || r.Forward == nil || r.Stale == nil || r.Basic != nil {
		t.Errorf("the service's: %+v", r)
	}
	if r := out.Routes[1]; !r.Plain() || r.Stale != nil {
		t.Errorf("all off: %+v", r)
	}
	if r := out.Routes[2]; r.JWT != nil || r.Basic == nil || r.Forward == nil {
		t.Errorf("basic_auth in place of jwt: %+v", r)
	}

	if !sets(t, "").Service.Plain() || out.Service.Plain() {
		t.Error("Plain")
	}
}

func TestFiltersThatAreRefused(t *testing.T) {
	for filters, want := range map[string]string{
		`request_fields: {set: {X: "{nothing}"}}`:   `request_fields.set.X: {nothing} is unknown; expected one of {client_ip}, {host}, {method}, {node}, {path}, {query}, {region}, {request_id}, {route}, {scheme}, {service}, or {{ for a brace`,
		`request_fields: {set: {meridian-hop: x}}`:  `request_fields.set.meridian-hop: Meridian-Hop is the gateways' own`,
		`request_fields: {remove: [Connection]}`:    `request_fields.remove[0]: Connection belongs to the connection`,
		`answer_fields: {add: {"a b": x}}`:          `answer_fields.add.a b: "a b" is not a field name`,
		`answer_fields: {add: {a: "x\ny"}}`:         `answer_fields.add.a: "x\ny" cannot be the value of a field`,
		`request_fields: {set: {host: x}}`:          `request_fields.set.host: Host is changed by a route's rewrite.host`,
		`cors: {origins: [a.test]}`:                 `cors.origins[0]: "a.test": expected an origin such as https://app.example.com, https://*.example.com, or *`,
		`cors: {origins: ["*"], credentials: true}`: `cors.credentials: goes with no origin *: any page could read what its visitors may`,
		`compression: {types: [html]}`:              `compression.types[0]: "html": expected a media type such as text/html or text/*`,
		`compression: {encodings: [br, br]}`:        `compression.encodings[1]: br is given twice`,
		`error_pages: [{status: [2xx], body: x}]`:   `error_pages[0].status[0]: "2xx": expected a status of failure such as 404 or 5xx`,
		`bounds: {methods: ["a b"]}`:                `bounds.methods[0]: "a b" is not a method`,
		`jwt: {keys: "file:k", claims: {Te: sub}}`:  `jwt.claims.Te: Te belongs to the connection`,
		`forward_auth: {pool: main, path: /../x}`:   `forward_auth.path: "/../x": the path holds . or .. segments`,
	} {
		_, err := fleet.Compile([]byte(document(filters, "{pool: main}")), 1, Check)
		list := fleet.FieldErrors(err)
		if len(list) != 1 || list[0].Path+": "+list[0].Msg != "services[0].filters."+want {
			t.Errorf("%s:\ngot  %v\nwant %s", filters, err, want)
		}
	}
	if slices.Contains([]string{contentType("", " <p>")}, "text/plain") {
		t.Error("a page of HTML is called text")
	}
}
