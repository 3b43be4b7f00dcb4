package l7

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"meridian/fleet"
)

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
	c := r.client("192.0.2.1:80", nil)
	var all, lost atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				res, err := c.Get("http://www.demo.test/")
				all.Add(1)
				if err != nil || res.StatusCode != 200 {
					lost.Add(1)
				}
				if err == nil {
					res.Body.Close()
				}
			}
		})
	}
	some := func() {
		from := all.Load()
		until(t, "requests", func() bool { return all.Load() > from+2000 })
	}
	some()
	for i, s := range servers[:2] {
		s.CloseClientConnections()
		s.Close()
		some()
		until(t, "ejection", func() bool { return r.ejected(addresses[i]) })
	}
	some()
	close(stop)
	wg.Wait()
	if n := lost.Load(); n != 0 {
		t.Errorf("%d of %d requests are lost", n, all.Load())
	}
}
