package h3

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
)

// What a client asks is what the exchange is asked, and the other way round.
func TestRequestsAndAnswersComeThrough(t *testing.T) {
	r := start(t, func(r *rig) {
		r.serve = func(f l7.Front, h *wire.Head, _ *l7.Abort) {
			if h.Version != wire.HTTP3 || string(h.Scheme) != "https" || string(h.Authority) != "demo.test" || string(h.Target) != "/a?b=c" || !h.Is("GET") || h.Length != 0 {
				t.Errorf("%s %s at %s, length %d", h.Method, h.Target, h.Authority, h.Length)
			}
			if v := h.Fields[h.Find("x-long", 0)].Value; string(v) != strings.Repeat("long,", 1000) {
				t.Errorf("a long field has %d octets", len(v))
			}
			early := &wire.Head{Status: 103}
			early.Add("Link", "</style.css>; rel=preload")
			if err := f.Interim(early); err != nil {
				t.Error(err)
			}
			a := &wire.Head{Status: 299}
			a.Add("Server", "meridian")
			a.Add("X-Own", strings.Repeat("more,", 1000))
			a.Add("Vary", "accept-encoding")
			a.Add("Connection", "close")
			if err := errors.Join(f.Answer(a, false), f.Write([]byte("one ")), f.Flush(), f.Write([]byte("two"))); err != nil {
				t.Error(err)
			}
			trailers := &wire.Head{}
			trailers.Add("X-Sum", "7")
			if err := f.End(trailers); err != nil {
				t.Error(err)
			}
		}
	})
	q, _ := http.NewRequest("GET", "https://demo.test/a?b=c", nil)
	q.Header.Set("X-Long", strings.Repeat("long,", 1000))
	a, err := r.client().Do(q)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(a.Body)
	if err != nil || string(b) != "one two" || a.StatusCode != 299 || a.Trailer.Get("X-Sum") != "7" {
		t.Errorf("%d %q, trailers %v, %v", a.StatusCode, b, a.Trailer, err)
	}
	if a.Header.Get("Server") != "meridian" || len(a.Header.Get("X-Own")) != 5000 || a.Header.Get("Vary") != "accept-encoding" || a.Header.Get("Connection") != "" {
		t.Errorf("%v", a.Header)
	}
}

// Bodies of 20 MB, of all shapes of frames, come back as they went.
func TestLargeBodiesBothWays(t *testing.T) {
	r := start(t, nil)
	body := make([]byte, 20<<20)
	rand.NewChaCha8([32]byte{}).Read(body)
	q, _ := http.NewRequest("POST", "https://demo.test/", io.MultiReader(bytes.NewReader(body)))
	q.Trailer = http.Header{"X-End": {"there"}}
	a, err := r.client().Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, a.Body)
	if want := sha256.Sum256(body); err != nil || n != int64(len(body)) || !bytes.Equal(sum.Sum(nil), want[:]) {
		t.Errorf("%d octets of %d, %v", n, len(body), err)
	}
	if a.Trailer.Get("X-End") != "there" {
		t.Errorf("trailers %v", a.Trailer)
	}
}

// One connection carries many requests at a time, and more than its streams in all.
func TestManyRequestsOnOneConnection(t *testing.T) {
	r := start(t, nil)
	c := r.client()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 50 {
				if code, body := get(t, c, "https://demo.test/x"); code != 200 || body != "GET /x at demo.test" {
					t.Errorf("%d %s", code, body)
				}
			}
		})
	}
	all.Wait()
	if n := r.connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
	r.faultless()
}
