package server

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// lingering is a Handler that takes a while to end after it was told to.
type lingering struct {
	begun   chan struct{}
	working *atomic.Int32
}

func (h lingering) Handle(ctx context.Context, _ *Request) {
	h.working.Add(1)
	defer h.working.Add(-1)
	close(h.begun)
	<-ctx.Done()
	<-time.After(200 * time.Millisecond)
}

// When Run returns, nothing works on a request over HTTP/2 any more.
func TestRunWaitsForRequestsOverHTTP2(t *testing.T) {
	h := lingering{make(chan struct{}), new(atomic.Int32)}
	asked := make(chan struct{})
	t.Cleanup(func() { // after the server's own, which waits for Run
		if n := h.working.Load(); n != 0 {
			t.Errorf("%d requests are being worked on", n)
		}
		<-asked
	})
	s, ca := startSecure(t, func(c *Config) { c.Special = h })
	notify := new(dns.Msg)
	notify.SetNotify("demo.test.")
	b, err := notify.Pack()
	if err != nil {
		t.Fatal(err)
	}
	c := client(ca)
	t.Cleanup(c.CloseIdleConnections)
	go func() {
		defer close(asked)
		if r, err := c.Post("https://"+s.AddrsOf(HTTPS)[0].String()+"/dns-query", dnsMessage, strings.NewReader(string(b))); err == nil {
			r.Body.Close()
		}
	}()
	<-h.begun
}

// The wait for requests ends with them, or at its limit; none begins after it.
func TestInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for takes, want := range map[time.Duration]bool{time.Second: true, time.Minute: false} {
			answered := 0
			f := newInFlight(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { answered++; <-time.After(takes) }))
			var request sync.WaitGroup
			request.Go(func() { f.ServeHTTP(nil, nil) })
			defer request.Wait()
			synctest.Wait()
			began := time.Now()
			if got := f.wait(writeLimit); got != want || time.Since(began) != min(takes, writeLimit) {
				t.Errorf("%s: %v after %s", takes, got, time.Since(began))
			}
			if f.ServeHTTP(nil, nil); answered != 1 {
				t.Error("a request begins when the connection has ended")
			}
		}
		if !newInFlight(nil).wait(0) {
			t.Error("waits for nothing")
		}
	})
}
