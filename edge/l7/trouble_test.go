package l7

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"meridian/fleet"
)

// load is clients that ask without pause.
type load struct {
	r         *rig
	began     time.Time
	all, lost atomic.Int64
	stop      context.CancelFunc
	clients   sync.WaitGroup
}

func (r *rig) load() *load {
	ctx, stop := context.WithCancel(r.t.Context())
	l := &load{r: r, began: time.Now(), stop: stop}
	c := r.client(webVIP, nil)
	for range 32 {
		l.clients.Go(func() {
			for ctx.Err() == nil {
				res, err := c.Get("http://www.demo.test/")
				if l.all.Add(1); err != nil || res.StatusCode != 200 {
					l.lost.Add(1)
				}
				if err == nil {
					res.Body.Close()
				}
			}
		})
	}
	return l
}

// some waits for that many more requests.
func (l *load) some(n int64) {
	l.r.t.Helper()
	from := l.all.Load()
	until(l.r.t, "requests", func() bool { return l.all.Load() > from+n })
}

// end stops the load and sees that no request failed, and that there were no more
// retries than the budget by default gives: 20 % of requests, ten a second, and a
// hundred that were saved up.
func (l *load) end() {
	l.r.t.Helper()
	l.stop()
	l.clients.Wait()
	all, retries := l.all.Load(), l.r.metric("meridian_l7_retries_total")
	if n := l.lost.Load(); n != 0 {
		l.r.t.Errorf("%d of %d requests are lost", n, all)
	}
	if most := 0.2*float64(all) + 10*time.Since(l.began).Seconds() + 100; retries > most {
		l.r.t.Errorf("%d requests made %v retries, of %v at most", all, retries, most)
	}
}

// Of three endpoints two are killed under load, one after the other, so that
// less is healthy than the panic threshold: no request is lost, though checks are
// seconds apart and retries have a budget.
func TestKilledEndpointsCostNoRequest(t *testing.T) {
	var servers []*httptest.Server
	var addresses []string
	for range 3 {
		s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		t.Cleanup(s.Close)
		servers, addresses = append(servers, s), append(addresses, s.Listener.Addr().String())
	}
	r := newRig(t, httpSpec("healthcheck: {interval: 5s, timeout: 1s}\n", addresses...))
	for _, a := range addresses {
		r.waitState(a, fleet.Up)
	}
	l := r.load()
	l.some(2000)
	for i, s := range servers[:2] {
		s.CloseClientConnections()
		s.Close()
		l.some(2000)
		until(t, "ejection", func() bool { return r.ejected(addresses[i]) })
	}
	l.some(2000)
	l.end()
}

// What else may happen to endpoints and to the Spec under load loses no request
// either, as long as there is an endpoint that is well.
func TestTroubleCostsNoRequest(t *testing.T) {
	for name, tc := range map[string]struct {
		more string
		do   func(w *troubled)
	}{
		"drained, disabled, removed": {do: func(w *troubled) {
			for _, state := range []string{"draining", "disabled"} {
				w.apply("", fmt.Sprintf("{address: %q, state: %s}", w.addresses[0], state), w.addresses[1], w.addresses[2])
				w.load.some(300)
			}
			w.apply("", w.addresses[1:]...)
			w.unasked()
		}},
		"not ready, then gone": {more: "healthcheck: {interval: 100ms, timeout: 100ms, ready_path: /ready}\n", do: func(w *troubled) {
			w.unready.Store(true)
			w.unasked()
			w.servers[0].Close()
			w.load.some(300)
		}},
		"slow": {more: "outlier: {min_requests: 5}\n", do: func(w *troubled) {
			w.slow.Store(true)
			until(w.t, "ejection", func() bool { return w.ejected(w.addresses[0]) })
		}},
		"slower than a try may be": {more: "retries: {per_try_timeout: 200ms, retry_on: [connect_failure, reset, timeout]}\n", do: func(w *troubled) {
			w.slow.Store(true)
			until(w.t, "ejection", func() bool { return w.ejected(w.addresses[0]) })
		}},
		"answers 503": {do: func(w *troubled) {
			w.busy.Store(true)
			until(w.t, "ejection", func() bool { return w.ejected(w.addresses[0]) })
		}},
		"the Spec, 100 times": {do: func(w *troubled) {
			for i := range 100 {
				w.apply(fmt.Sprintf("timeouts: {idle: %ds}\nrouting_policy: %s\n", 30+i, []string{"round_robin", "peak_ewma", "consistent_hash"}[i%3]), w.addresses[:2+i%2]...)
				w.load.some(20)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTroubled(t, tc.more)
			w.load.some(300)
			tc.do(w)
			w.load.some(300)
			w.load.end()
		})
	}
}

// troubled is a gateway under load with three endpoints, of which the first does as
// it is told.
type troubled struct {
	*rig
	load                *load
	servers             []*httptest.Server
	addresses           []string
	slow, busy, unready atomic.Bool
	asked               atomic.Int64 // requests that the first endpoint got
}

func newTroubled(t *testing.T, more string) *troubled {
	w := &troubled{}
	for i := range 3 {
		s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if i == 0 {
				w.first(rw, r)
			}
			if r.URL.Path == "/" { // so that some requests are always under way
				<-time.After(time.Millisecond)
			}
		}))
		t.Cleanup(s.Close)
		w.servers, w.addresses = append(w.servers, s), append(w.addresses, s.Listener.Addr().String())
	}
	w.rig = newRig(t, httpSpec(more, w.addresses...))
	for _, a := range w.addresses {
		w.waitState(a, fleet.Up)
	}
	w.load = w.rig.load()
	return w
}

func (w *troubled) first(rw http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/ready" && w.unready.Load():
		rw.WriteHeader(503)
	case r.URL.Path != "/":
	case w.busy.Load():
		w.asked.Add(1)
		rw.WriteHeader(503)
	case w.slow.Load():
		w.asked.Add(1)
		select {
		case <-time.After(2 * time.Second):
		case <-r.Context().Done():
		}
	default:
		w.asked.Add(1)
	}
}

func (w *troubled) apply(more string, endpoints ...string) {
	w.t.Helper()
	if err := w.rig.apply(httpSpec(more, endpoints...)); err != nil {
		w.t.Fatal(err)
	}
}

// unasked waits until the first endpoint gets no more requests.
func (w *troubled) unasked() {
	w.t.Helper()
	until(w.t, "the endpoint is left", func() bool {
		before := w.asked.Load()
		w.load.some(100)
		return w.asked.Load() == before
	})
}
