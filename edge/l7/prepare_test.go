package l7

import (
	"bufio"
	"bytes"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// Whatever a client sends, the endpoint hears of the client from the gateway
// alone, and nothing of the client's connection.
func FuzzRequestHeader(f *testing.F) {
	for _, s := range []string{
		"X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n",
		"Connection: close, X-Forwarded-For, x-hop\r\nX-Hop: 1\r\n",
		"x_forwarded_for: 1\r\nX_Real-IP: 2\r\nX-Request_ID: 3\r\n",
		"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n",
		"TE: trailers\r\nTE: gzip\r\nTrailer: X\r\n",
		"X-Request-ID: a\r\nX-Request-ID: b\r\n",
		"Transfer-Encoding: chunked\r\nKeep-Alive: 1\r\nProxy-Connection: x\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, fields string) {
		var h wire.Head
		in := []byte("GET / HTTP/1.1\r\nHost: www.demo.test\r\n" + fields + "\r\n")
		if n, fault := wire.ParseRequest(in, &h, wire.Limit{Octets: 64 << 10, Line: wire.MaxLine, Fields: wire.MaxFields}); n == 0 || fault != wire.NoFault {
			return
		}
		switching := h.Upgrade != nil
		g := &Gateway{}
		sess := &session{origin: new(origin), s: &server{g: g, profile: profile{protocol: fleet.HTTPS}}}
		sess.from(netip.MustParseAddrPort("203.0.113.9:1"), netip.AddrPort{})
		x := &exchange{g: g, gen: &generation{}, pool: &pool{}, sess: sess, h: &h, client: sess.client.Addr(), way: &way{}}
		x.identify()
		x.prepare()
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(x.request)))
		if err != nil {
			t.Fatalf("%q: %v", x.request, err)
		}
		out := r.Header
		for k, want := range map[string]string{"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "www.demo.test"} {
			if v := out[k]; len(v) != 1 || v[0] != want {
				t.Errorf("%s is %q", k, v)
			}
		}
		if v := out["X-Request-Id"]; len(v) != 1 || !validID([]byte(v[0])) {
			t.Errorf("X-Request-Id is %q", v)
		}
		for k := range out {
			name := []byte(strings.ReplaceAll(k, "_", "-"))
			if strings.Contains(k, "_") && forwards(&wire.Field{ID: wire.Lookup(name), Name: name}) {
				t.Errorf("%s passes", k)
			}
			if wire.Lookup([]byte(k)).HopByHop() && k != "Te" && k != "Trailer" && !(switching && (k == "Connection" || k == "Upgrade")) {
				t.Errorf("%s passes", k)
			}
		}
		if te := out["Te"]; te != nil && (len(te) != 1 || te[0] != "trailers") {
			t.Errorf("TE is %q", te)
		}
	})
}
