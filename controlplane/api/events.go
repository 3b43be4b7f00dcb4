package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// FeedEvent is one event as clients get it.
type FeedEvent struct {
	ID   uint64 // grows by one, from 1 since the node started
	Kind string // the event's name in the stream
	Data []byte // JSON
}

// kept is how many events a Feed remembers.
const kept = 1024

// Feed is a bounded record of events for any number of readers, each at its
// own pace. The zero value is not ready; see NewFeed. Its methods are safe for
// concurrent use and do not block.
type Feed struct {
	mu   sync.Mutex
	last uint64
	list []FeedEvent
	more chan struct{} // closed when there are more
}

// NewFeed makes an empty record.
func NewFeed() *Feed { return &Feed{more: make(chan struct{})} }

// Add appends an event; what does not encode as JSON is left out.
func (f *Feed) Add(kind string, data any) {
	b, err := json.Marshal(data)
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last++
	f.list = append(f.list, FeedEvent{f.last, kind, b})
	if n := len(f.list) - kept; n > 0 {
		f.list = append([]FeedEvent(nil), f.list[n:]...)
	}
	close(f.more)
	f.more = make(chan struct{})
}

// After gives the remembered events after the one with that ID, and a channel
// that is closed as soon as there are more. An ID from the future, as of
// before a restart, gives all.
func (f *Feed) After(id uint64) ([]FeedEvent, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if id > f.last {
		id = 0
	}
	for i, e := range f.list {
		if e.ID > id {
			return append([]FeedEvent(nil), f.list[i:]...), f.more
		}
	}
	return nil, f.more
}

const (
	heartbeat   = 15 * time.Second
	streamWrite = 10 * time.Second // a reader that takes longer for one piece is dropped
)

// events streams what happens as server-sent events. Last-Event-ID resumes;
// without it the stream begins with what happens from now on, with
// Last-Event-ID: 0 with all that is remembered.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	after, err := s.resume(r)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{})
	send := func(text string) bool {
		_ = rc.SetWriteDeadline(time.Now().Add(streamWrite))
		if _, err := fmt.Fprint(w, text); err != nil {
			return false
		}
		return rc.Flush() == nil
	}
	if !send(": meridian\n\n") {
		return
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		list, more := s.cfg.Events.After(after)
		for _, e := range list {
			if !send(fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", e.ID, e.Kind, e.Data)) {
				return
			}
			after = e.ID
		}
		select {
		case <-more:
		case <-beat.C:
			if !send(": still here\n\n") {
				return
			}
		case <-r.Context().Done():
			return
		case <-s.stop.Done():
			return
		}
	}
}

func (s *Server) resume(r *http.Request) (uint64, error) {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		s.cfg.Events.mu.Lock()
		defer s.cfg.Events.mu.Unlock()
		return s.cfg.Events.last, nil
	}
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("Last-Event-ID: %q is not a number", text)
	}
	return id, nil
}
