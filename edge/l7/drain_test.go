package l7

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"meridian/fleet"
)

// Clients that send without pause lose nothing when the gateway stops: each
// request is answered until the connection is closed in good order.
func TestDrainLosesNoRequest(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1"} {
		t.Run(proto, func(t *testing.T) {
			b := backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
				w.(http.Flusher).Flush()
				io.WriteString(w, "done")
			})
			r := newRig(t, httpsSpec("", b), func(c *Config) { c.Grace = 300 * time.Millisecond })
			pool := r.certificate("c1", "www.demo.test")
			if err := r.apply(httpsSpec("", b)); err != nil {
				t.Fatal(err)
			}
			left := make(chan struct{})
			var leave sync.Once
			var wg sync.WaitGroup
			var requests atomic.Int64
			for range 4 {
				c := r.client(tlsVIP, pool)
				tr := c.Transport.(*http.Transport)
				tr.ForceAttemptHTTP2 = proto == "HTTP/2.0"
				wg.Go(func() {
					for {
						res, err := c.Get("https://www.demo.test/")
						if err != nil {
							if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ECONNRESET) {
								t.Errorf("after %d requests: %v", requests.Load(), err)
							}
							return
						}
						body, err := io.ReadAll(res.Body)
						res.Body.Close()
						if err != nil || string(body) != "done" || res.Proto != proto {
							t.Errorf("%s %q, %v", res.Proto, body, err)
						}
						if requests.Add(1) == 40 {
							leave.Do(func() { close(left) })
						}
					}
				})
			}
			<-left
			r.stop()
			wg.Wait()
		})
	}
}

func TestDrainWaitsForRequestsUnderWay(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	b := backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		io.WriteString(w, "late")
	})
	r := newRig(t, httpSpec("", b))
	r.waitState(b, fleet.Up)
	if err := r.g.Ready(); err != nil {
		t.Fatalf("not ready: %v", err)
	}
	got := make(chan string, 1)
	go func() {
		_, body := get(t, r.client(webVIP, nil), "http://www.demo.test/")
		got <- body
	}()
	<-arrived
	r.stop()
	for r.g.Ready() == nil {
		<-time.After(time.Millisecond)
	}
	for { // the socket closes while the request is still under way
		c, err := net.Dial("tcp", r.addr(webVIP))
		if err != nil {
			break
		}
		c.Close()
		<-time.After(time.Millisecond)
	}
	close(release)
	if body := <-got; body != "late" {
		t.Errorf("got %q", body)
	}
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	r.ended <- nil
	if err := r.apply(httpSpec("", b)); !errors.Is(err, ErrStopped) {
		t.Errorf("Apply after the end: %v", err)
	}
}

func TestDrainEndsInTime(t *testing.T) {
	arrived := make(chan struct{})
	b := backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	r := newRig(t, httpSpec("timeouts: {drain: 100ms}\n", b))
	go r.client(webVIP, nil).Get("http://www.demo.test/")
	<-arrived
	r.stop()
	select {
	case <-r.ended:
	case <-time.After(5 * time.Second):
		t.Fatal("a request that never ends holds the gateway up")
	}
	r.ended <- nil
}

func TestNodeSetToDrainIsNotReadyAndServes(t *testing.T) {
	b := backend(t, "b", nil)
	r := newRig(t, httpSpec("", b))
	r.waitState(b, fleet.Up)
	if err := r.apply(strings.Replace(httpSpec("", b), "roles: [l7]", "roles: [l7], state: draining", 1)); err != nil {
		t.Fatal(err)
	}
	if err := r.g.Ready(); err == nil {
		t.Error("ready")
	}
	if status, _ := get(t, r.client(webVIP, nil), "http://www.demo.test/"); status != 200 {
		t.Error(status)
	}
}

// echo is an endpoint that upgrades to a protocol of lines; it answers each
// with its upper-case form, and with "bye" when the client has finished.
