package wire

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"meridian/edge/l7/garden"
)

// What is accepted net/http must accept, and read in the same way.
func FuzzRequestAgainstNetHTTP(f *testing.F) {
	for _, s := range []string{
		browser, "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhello", "PUT /x HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: 1\r\n\r\n",
		"GET http://a.test?x HTTP/1.1\r\n" + host + "\r\n", "OPTIONS * HTTP/1.0\r\n\r\n", "GET /%41 HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
		"POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "GET //a/b HTTP/1.1\r\n" + host + "\r\n",
	} {
		f.Add([]byte(s))
	}
	for _, s := range hostile() {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var h Head
		n, fault := ParseRequest(in, &h, usual)
		if n == 0 || fault != NoFault {
			return
		}
		rd := bufio.NewReader(bytes.NewReader(in))
		r, err := http.ReadRequest(rd)
		if err != nil && strings.Contains(err.Error(), "bad trailer key") {
			return // an announcement, which the gateway does not pass on
		}
		if err != nil {
			t.Fatalf("net/http: %v", err)
		}
		if r.Method != string(h.Method) {
			t.Errorf("method %q", r.Method)
		}
		if h.Scheme == nil && r.Method != "CONNECT" && r.RequestURI != string(h.Target) {
			t.Errorf("target %q, net/http %q", h.Target, r.RequestURI)
		}
		if path, err := url.PathUnescape(string(h.Path())); r.Method != "CONNECT" && r.Method != "OPTIONS" && path != r.URL.Path && h.Scheme == nil {
			t.Errorf("path %q, net/http %q, %v", path, r.URL.Path, err)
		}
		if r.Host != string(h.Authority) && !sameAuthority([]byte(r.Host), h.Authority, h.Scheme) {
			t.Errorf("host %q, net/http %q", h.Authority, r.Host)
		}
		if chunked := len(r.TransferEncoding) > 0; chunked != h.Chunked || !chunked && r.ContentLength != h.Length {
			t.Errorf("length %d chunked %t, net/http %d %q", h.Length, h.Chunked, r.ContentLength, r.TransferEncoding)
		}
		count := 0
		for _, v := range r.Header {
			count += len(v)
		}
		if want := len(h.Fields) - h.Count(Host) - h.Count(TransferEncoding) - h.Count(Trailer); h.Count(Trailer) == 0 && count != want {
			t.Errorf("%d fields, net/http %d", want, count)
		}
		if h.Chunked {
			sameChunks(t, in[n:], r.Body)
		}
	})
}

func sameChunks(t *testing.T, in []byte, std io.Reader) {
	t.Helper()
	body, c, _, fault := unchunk(in, len(in))
	if fault != NoFault || !c.Ended() {
		return
	}
	got, err := io.ReadAll(std)
	if err != nil || !bytes.Equal(got, body) {
		t.Errorf("body %q, net/http %q, %v", body, got, err)
	}
}

func FuzzChunksAgainstNetHTTP(f *testing.F) {
	for _, s := range []string{"5\r\nhello\r\n0\r\n\r\n", "5;a\r\nhello\r\n00\r\nX: y\r\n\r\n", "1\r\nx\n0\r\n\r\n", "ffffffffffffffff\r\n"} {
		f.Add([]byte(s))
	}
	for _, s := range hostile() {
		if _, chunks, ok := strings.Cut(s, "Transfer-Encoding: chunked\r\n\r\n"); ok {
			f.Add([]byte(chunks))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader("PUT / HTTP/1.1\r\n"+host+"Transfer-Encoding: chunked\r\n\r\n"), bytes.NewReader(in))))
		if err != nil {
			t.Fatal(err)
		}
		sameChunks(t, in, r.Body)
		whole, c, left, fault := unchunk(in, len(in))
		steps, c2, left2, fault2 := unchunk(in, 1)
		if c.Ended() != c2.Ended() || c.Ended() && (!bytes.Equal(whole, steps) || left != left2) || (fault == NoFault) != (fault2 == NoFault) {
			t.Errorf("all at once: %q %q, octet by octet: %q %q", whole, fault, steps, fault2)
		}
	})
}

// hostile gives the garden's requests, but for the largest.
func hostile() (list []string) {
	for _, r := range garden.All() {
		if s := r.Octets.For("a.test", "000000"); len(s) < 16<<10 {
			list = append(list, s)
		}
	}
	return list
}
