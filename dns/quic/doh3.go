package quic

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"meridian/dns/server"
)

// maxHeader is how long the header of a request may be, in octets: a message of
// 64 K in base64 is among what it may hold.
const maxHeader = 100 << 10

// activity is what one connection of HTTP/3 has asked.
type activity struct {
	requests atomic.Uint64 // that have come whole, up to their body
	working  atomic.Int32  // of them, those that are not answered yet
}

// activityKey is the activity's in the context of a request.
type activityKey struct{}

// serveHTTP3 serves DNS over HTTP/3 until the listener closes, and returns when
// all connections are done.
func serveHTTP3(ctx context.Context, l *quic.EarlyListener, e *server.Endpoint, log *slog.Logger) {
	var open sync.WaitGroup
	defer open.Wait()
	s := &http3.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if a, ok := r.Context().Value(activityKey{}).(*activity); ok {
				a.requests.Add(1)
				a.working.Add(1)
				defer a.working.Add(-1)
			}
			if a, ok := r.Context().Value(http3.RemoteAddrContextKey).(net.Addr); ok {
				r.RemoteAddr = server.ClientOf(a).String()
			}
			e.HTTP.ServeHTTP(w, r)
		}),
		ConnContext: func(ctx context.Context, c *quic.Conn) context.Context {
			a := new(activity)
			open.Go(func() { endIdle(c, a, e) })
			return context.WithValue(ctx, activityKey{}, a)
		},
		MaxHeaderBytes: maxHeader,
		Logger:         log,
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	defer s.Close()
	for {
		c, err := l.Accept(ctx)
		if err != nil {
			return
		}
		open.Go(func() { _ = s.ServeQUICConn(c) }) // ends with the connection
	}
}

// endIdle closes a connection on which no request has come for once or twice
// the idle time, and returns when it is closed. Neither packets that keep a
// connection alive nor requests that never come whole are requests.
func endIdle(c *quic.Conn, a *activity, e *server.Endpoint) {
	for {
		before := a.requests.Load()
		timer := time.NewTimer(e.Limits().Idle)
		select {
		case <-c.Context().Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if a.requests.Load() == before && a.working.Load() == 0 {
			_ = c.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "idle")
			return
		}
	}
}
