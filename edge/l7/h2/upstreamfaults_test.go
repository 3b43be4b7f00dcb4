package h2

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"meridian/edge/l7"
)

// An answer that is malformed, or not as long as it says, is never taken for a
// whole one.
func TestBadAnswersOfEndpoints(t *testing.T) {
	for name, play := range map[string]func(p *peer, id uint32){
		"connection field": func(p *peer, id uint32) { p.head(id, true, ":status", "200", "connection", "close") },
		"no status":        func(p *peer, id uint32) { p.head(id, true, "a", "b") },
		"status":           func(p *peer, id uint32) { p.head(id, true, ":status", "2000") },
		"two lengths": func(p *peer, id uint32) {
			p.head(id, true, ":status", "200", "content-length", "1", "content-length", "2")
		},
		"no body": func(p *peer, id uint32) { p.head(id, true, ":status", "200", "content-length", "1") },
		"short body": func(p *peer, id uint32) {
			p.head(id, false, ":status", "200", "content-length", "5")
			p.WriteData(id, true, []byte("four"))
		},
		"long body": func(p *peer, id uint32) {
			p.head(id, false, ":status", "200", "content-length", "3")
			p.WriteData(id, true, []byte("four"))
		},
		"a body before the head": func(p *peer, id uint32) {
			p.WriteData(id, true, []byte("four"))
			p.head(id, true, ":status", "200")
		},
		"a body and no head": func(p *peer, id uint32) { p.WriteData(id, true, nil) },
		"reset": func(p *peer, id uint32) {
			p.head(id, false, ":status", "200")
			p.WriteRSTStream(id, http2.ErrCodeInternal)
		},
		"end of the connection": func(p *peer, id uint32) {
			p.head(id, false, ":status", "200")
			p.c.Close()
		},
		"1xx that ends the stream": func(p *peer, id uint32) { p.head(id, true, ":status", "103") },
		"push": func(p *peer, id uint32) {
			p.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, BlockFragment: p.block(":method", "GET"), EndHeaders: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			at := fake(t, func(p *peer) { play(p, p.asked()); p.asked() })
			if status, got, err := fetch(to(t, at, nil), request("GET", "/"), ""); err == nil || errors.Is(err, l7.ErrRefused) {
				t.Errorf("%d %q %v", status, got, err)
			}
		})
	}
}

// Dials that fail tell all that wait for them, and none later.
func TestFailedDials(t *testing.T) {
	var dials atomic.Int64
	fail := errors.New("refused")
	u := NewUpstream(func(ctx context.Context) (net.Conn, error) {
		dials.Add(1)
		<-time.After(10 * time.Millisecond)
		return nil, fail
	}, false)
	defer u.Close()
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if _, err := u.Open(context.Background(), time.Time{}, request("GET", "/"), true); err != fail {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if dials.Load() > 10 {
		t.Error(dials.Load())
	}
}
