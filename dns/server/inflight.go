package server

import (
	"net/http"
	"sync"
	"time"
)

// inFlight counts the requests of one connection that are being answered:
// HTTP/2 leaves them to themselves when the connection ends.
type inFlight struct {
	http.Handler

	mu   sync.Mutex // guards what follows
	n    int
	over bool          // the connection has ended
	gone chan struct{} // closed when it has and n is 0
}

func newInFlight(h http.Handler) *inFlight {
	return &inFlight{Handler: h, gone: make(chan struct{})}
}

// ServeHTTP answers a request, unless its connection has ended before it began.
func (f *inFlight) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	if f.over {
		f.mu.Unlock()
		return
	}
	f.n++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.n--; f.over && f.n == 0 {
			close(f.gone)
		}
	}()
	f.Handler.ServeHTTP(w, r)
}

// wait is called once, when the connection has ended. It waits for the
// requests that are being answered, so long at most; false says that some are
// left.
func (f *inFlight) wait(limit time.Duration) bool {
	f.mu.Lock()
	f.over = true
	idle := f.n == 0
	f.mu.Unlock()
	if idle {
		return true
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-f.gone:
		return true
	case <-timer.C:
		return false
	}
}
