package l7

import (
	"bufio"
	"net/http"
	"net/netip"
	"strings"
	"testing"
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
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET / HTTP/1.1\r\nHost: www.demo.test\r\n" + fields + "\r\n")))
		if err != nil {
			return
		}
		x := &exchange{r: r, scheme: "https", client: netip.MustParseAddr("203.0.113.9"), id: requestID(r.Header)}
		out := x.requestHeader()
		for k, want := range map[string]string{"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": r.Host} {
			if v := out[k]; len(v) != 1 || v[0] != want {
				t.Errorf("%s is %q", k, v)
			}
		}
		if v := out["X-Request-Id"]; len(v) != 1 || !validID(v[0]) {
			t.Errorf("X-Request-Id is %q", v)
		}
		switching := upgrade(r.Header) != ""
		for k := range out {
			canonical := http.CanonicalHeaderKey(strings.ReplaceAll(k, "_", "-"))
			if strings.Contains(k, "_") && forwards(canonical) {
				t.Errorf("%s passes", k)
			}
			if hopByHop[k] && k != "Te" && !(switching && (k == "Connection" || k == "Upgrade")) {
				t.Errorf("%s passes", k)
			}
			if token(r.Header["Connection"], k) && !forwards(k) && k != "Te" && k != "User-Agent" && !(switching && k == "Upgrade") {
				t.Errorf("%s is named by Connection and passes", k)
			}
		}
		if te := out["Te"]; te != nil && (len(te) != 1 || te[0] != "trailers") {
			t.Errorf("TE is %q", te)
		}
	})
}

func TestToken(t *testing.T) {
	for _, tc := range []struct {
		values []string
		want   bool
	}{
		{[]string{"upgrade"}, true}, {[]string{"keep-alive, Upgrade"}, true}, {[]string{"x", " UPGRADE\t,"}, true},
		{nil, false}, {[]string{"upgrades"}, false}, {[]string{"up, grade"}, false},
	} {
		if got := token(tc.values, "upgrade"); got != tc.want {
			t.Errorf("%q: %t", tc.values, got)
		}
	}
}
