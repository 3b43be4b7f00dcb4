package l7

import (
	"net/http"
	"strings"
	"testing"

	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// Requests of every form are read alike by the engine and by net/http.
func TestTwoOpinionsAgree(t *testing.T) {
	b := backend(t, "b", nil)
	r := newRig(t, httpSpec("", b), func(c *Config) { c.SecondOpinion = 1 })
	r.waitState(b, fleet.Up)
	all := []string{
		"GET / HTTP/1.1\r\nHost: www.demo.test\r\n",
		"GET /a%20b?x=1&y HTTP/1.1\r\nHost: WWW.demo.test:80\r\nCookie: a=b\r\ncookie: c=d\r\n",
		"GET http://www.demo.test/x?y HTTP/1.1\r\nHost: www.demo.test\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: www.demo.test\r\n",
		"HEAD // HTTP/1.1\r\nHost: www.demo.test\r\nAccept:\r\n",
		"GET / HTTP/1.1\r\nHost: www.demo.test\r\nPragma: no-cache\r\n",
		"GET / HTTP/1.1\r\nHost: www.demo.test\r\nTrailer: X-T\r\n",
		"CONNECT www.demo.test:80 HTTP/1.1\r\nHost: www.demo.test:80\r\n",
		"OPTIONS http://www.demo.test HTTP/1.1\r\nHost: www.demo.test\r\n",
		"GET http://www.demo.test/a|b?{c}%zz HTTP/1.1\r\nHost: www.demo.test\r\n",
		"GET http://www.demo.test?c/d HTTP/1.1\r\nHost: www.demo.test\r\n",
	}
	for _, head := range all {
		r.raw("192.0.2.1:80", head+"Connection: close\r\n\r\n")
	}
	r.raw("192.0.2.1:80", "POST / HTTP/1.1\r\nHost: www.demo.test\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
	r.raw("192.0.2.1:80", "POST / HTTP/1.1\r\nHost: www.demo.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\nConnection: close\r\n\r\n0\r\nX-T: 1\r\n\r\n")
	eventually(t, "all are read twice", func() bool { return counted(t, r.g.metrics.stress.parsed) == float64(len(all)+2) })
	if n := counted(t, r.g.metrics.stress.disagreements); n != 0 {
		t.Errorf("%v disagreements", n)
	}
}

// A disagreement ends the connection and the request under way, is counted, and told
// without what the request said.
func TestTwoOpinionsDisagree(t *testing.T) {
	b := backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	})
	r := newRig(t, httpSpec("", b), func(c *Config) {
		c.SecondOpinion = 1
		c.theirs = func(octets []byte) (opinion, bool) {
			o, ok := theirs(octets)
			o.Length++
			return o, ok
		}
	})
	r.waitState(b, fleet.Up)
	if got := r.raw("192.0.2.1:80", "GET /secret HTTP/1.1\r\nHost: www.demo.test\r\n\r\n"); got != "" {
		t.Errorf("the client got %q", got)
	}
	eventually(t, "the request ends", func() bool { return r.g.gen.Load().services[0].pools[0].endpoints[0].vital.Active() == 0 })
	if n := counted(t, r.g.metrics.stress.disagreements); n != 1 {
		t.Errorf("%v disagreements", n)
	}
}

// Each part of an opinion counts.
func TestOpinions(t *testing.T) {
	head := "POST /a?b HTTP/1.1\r\nHost: h.test\r\nContent-Length: 5\r\nX: 1\r\nX: 2\r\n\r\n"
	var h wire.Head
	if n, fault := wire.ParseRequest([]byte(head), &h, wire.Limit{Octets: 4096, Line: wire.MaxLine, Fields: wire.MaxFields}); n != len(head) {
		t.Fatal(n, fault)
	}
	first := ours(&h)
	for old, changed := range map[string]string{"POST": "PUT", "/a?b": "/a?c", "h.test": "i.test", ": 5": ": 6", "X: 2\r\n": "", "Content-Length: 5": "Transfer-Encoding: chunked"} {
		if o, ok := theirs([]byte(strings.Replace(head, old, changed, 1))); !ok || o == first {
			t.Errorf("%q in the place of %q makes no difference", changed, old)
		}
	}
	if o, ok := theirs([]byte(head)); !ok || o != first {
		t.Errorf("%+v, %+v", o, first)
	}
}

func TestRedact(t *testing.T) {
	got := redact([]byte("GET /secret?k=v HTTP/1.1\r\nHost: a.test\r\nCookie: id=7;\x00 \xff\r\n\r\n" + strings.Repeat("y", 5000)))
	want := "xxx /xxxxxx?x=x xxxx/x.x\r\nHost: x.xxxx\r\nCookie: xx=x;\x00 x\r\n\r\n"
	if !strings.HasPrefix(got, want) || len(got) > 4<<10 {
		t.Errorf("%q", got[:min(len(got), 100)])
	}
}
