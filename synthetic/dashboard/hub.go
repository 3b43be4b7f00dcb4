package dashboard

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

const (
	// keptMessages is how far back a stream can be resumed.
	keptMessages = 256
	// clientQueue is how many messages a slow client may lag behind.
	clientQueue = 32
)

// message is one server-sent event, ready for the wire.
type message []byte

// errBusy refuses a stream beyond the limit, errClosed one after the end.
var (
	errBusy   = errors.New("too many streams are open")
	errClosed = errors.New("the dashboard is stopping")
)

// hub holds the published state as JSON and hands its changes to the clients
// of the stream. A change is a patch: those top-level keys of State whose
// value changed, and of the events only the new ones.
type hub struct {
	build string // of the assets, so that a page older than the program reloads
	epoch string // makes IDs of an earlier process differ
	limit int

	mu      sync.Mutex
	seq     uint64
	current State                      // the published state
	keys    map[string]json.RawMessage // the same as JSON, but for its events
	log     []message                  // the latest patches; the last one has number seq
	clients map[chan message]struct{}
	closed  bool
	refused uint64 // streams beyond the limit
	dropped uint64 // clients too slow
}

func newHub(build string, limit int) *hub {
	var b [6]byte
	rand.Read(b[:])
	return &hub{build: build, epoch: hex.EncodeToString(b[:]), limit: limit, clients: map[chan message]struct{}{}}
}

// publish takes the new state and sends what changed.
func (h *hub) publish(st State) error {
	bare := st
	bare.Events = nil
	doc, err := json.Marshal(bare)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(doc, &keys); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	delete(keys, "events")

	h.mu.Lock()
	defer h.mu.Unlock()
	patch := map[string]any{}
	for k, v := range keys {
		if !bytes.Equal(h.keys[k], v) {
			patch[k] = v
		}
	}
	var last uint64
	if n := len(h.current.Events); n > 0 {
		last = h.current.Events[n-1].ID
	}
	var fresh []Event
	for _, e := range st.Events {
		if e.ID > last {
			fresh = append(fresh, e)
		}
	}
	if len(fresh) > 0 {
		patch["events"] = fresh
	}
	h.keys, h.current = keys, st
	if len(patch) == 0 {
		return nil
	}
	h.seq++
	m, err := h.message("patch", patch)
	if err != nil {
		return err
	}
	if h.log = append(h.log, m); len(h.log) > keptMessages {
		h.log = append([]message{}, h.log[1:]...)
	}
	h.broadcast(m)
	return nil
}

// broadcast gives a message to every client and drops those that lag behind.
// The hub is locked.
func (h *hub) broadcast(m message) {
	for c := range h.clients {
		select {
		case c <- m:
		default:
			delete(h.clients, c)
			close(c)
			h.dropped++
		}
	}
}

// beat sends a sign of life, so that both ends notice a dead connection.
func (h *hub) beat() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broadcast(message("event: beat\ndata: {}\n\n"))
}

// message writes one event with the current number as its ID.
func (h *hub) message(kind string, data any) (message, error) {
	doc, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	return fmt.Appendf(nil, "event: %s\nid: %s\ndata: %s\n\n", kind, h.id(), doc), nil
}

// id names the published state. The hub is locked.
func (h *hub) id() string { return h.epoch + "-" + strconv.FormatUint(h.seq, 10) }

// state gives the published state, the same as one JSON object, and its ID.
func (h *hub) state() (st State, doc []byte, id string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	doc, err = json.Marshal(h.whole())
	return h.current, doc, h.id(), err
}

func (h *hub) whole() map[string]any {
	out := map[string]any{"id": h.id(), "build": h.build, "events": h.current.Events}
	for k, v := range h.keys {
		out[k] = v
	}
	return out
}

// join opens a stream: what the client missed since the ID that it saw last
// (the patches, or the whole state where they are not kept), then a channel
// with what follows. The channel is closed when the client is dropped.
func (h *hub) join(lastID string) (missed []message, c chan message, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return nil, nil, errClosed
	case len(h.clients) >= h.limit:
		h.refused++
		return nil, nil, errBusy
	}
	missed, ok := h.since(lastID)
	if !ok {
		whole, err := h.message("state", h.whole())
		if err != nil {
			return nil, nil, err
		}
		missed = []message{whole}
	}
	c = make(chan message, clientQueue)
	h.clients[c] = struct{}{}
	return missed, c, nil
}

// since lists the patches after the one with that ID.
func (h *hub) since(id string) ([]message, bool) {
	epoch, num, _ := strings.Cut(id, "-")
	n, err := strconv.ParseUint(num, 10, 64)
	if err != nil || epoch != h.epoch || n > h.seq || h.seq-n > uint64(len(h.log)) {
		return nil, false
	}
	return append([]message{}, h.log[uint64(len(h.log))-(h.seq-n):]...), true
}

// leave ends a stream; a client that was dropped may leave as well.
func (h *hub) leave(c chan message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.clients[c]; ok {
		delete(h.clients, c)
		close(c)
	}
}

// close drops every client and refuses new ones.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for c := range h.clients {
		delete(h.clients, c)
		close(c)
	}
}
