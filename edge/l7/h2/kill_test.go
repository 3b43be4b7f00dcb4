package h2

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
)

// Of three endpoints two go under load, the first with a GOAWAY, the second at once:
// no request is lost, with HTTP/2 on both sides, though nobody checks them meanwhile.
// Answers are heads alone: one of which more has begun cannot be asked for again.
func TestEndpointsThatGoCostNoRequest(t *testing.T) {
	var servers []*httptest.Server
	var at []string
	for range 3 {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
		t.Cleanup(s.Close)
		servers, at = append(servers, s), append(at, s.Listener.Addr().String())
	}
	c := gateway(t, spec("", "protocol: h2", at...)).client(t)
	var all, lost atomic.Int64
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for range 32 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				res, err := c.Get("https://www.demo.test/")
				if err != nil {
					t.Error(err)
					return
				}
				res.Body.Close()
				if all.Add(1); res.StatusCode != 200 {
					lost.Add(1)
				}
			}
		})
	}
	some := func() {
		from := all.Load()
		if !eventually(func() bool { return all.Load() > from+1000 || t.Failed() }) {
			t.Error("no requests")
		}
	}
	some()
	if err := servers[0].Config.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	some()
	servers[1].CloseClientConnections()
	servers[1].Close()
	some()
	close(stop)
	clients.Wait()
	if lost.Load() != 0 {
		t.Errorf("%d of %d requests are lost", lost.Load(), all.Load())
	}
}
