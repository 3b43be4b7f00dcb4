package plan

import (
	"errors"
	"time"
)

// Timing of a node's own readiness. Losing it counts quickly, since packets
// are being lost; gaining it must prove itself, longer after each loss, so
// that a node that flaps does not shake the routes.
const (
	fallAfter = 500 * time.Millisecond
	riseAfter = time.Second
	riseMost  = time.Minute
	forget    = 10 * time.Minute // after so long without a loss the delay is the least again
)

// Hold debounces the readiness of the node's own data plane. The zero Hold
// takes the node for not ready. Not safe for concurrent use.
type Hold struct {
	ready bool
	err   error     // last reason of not being ready, while held
	from  time.Time // when what is seen began to differ from ready
	last  time.Time // when readiness was last lost
	delay time.Duration
}

// Update takes what the node says of itself at now and gives what to act on:
// nil for ready, else the reason.
func (h *Hold) Update(local error, now time.Time) error {
	if local != nil {
		h.err = local
	}
	if (local == nil) == h.ready {
		h.from = time.Time{}
		return h.result()
	}
	if h.from.IsZero() {
		h.from = now
	}
	switch {
	case h.ready && now.Sub(h.from) >= fallAfter:
		h.ready, h.from = false, time.Time{}
		h.lost(now)
	case !h.ready && now.Sub(h.from) >= max(h.delay, riseAfter):
		h.ready, h.from = true, time.Time{}
	}
	return h.result()
}

func (h *Hold) lost(now time.Time) {
	if h.last.IsZero() || now.Sub(h.last) > forget {
		h.delay = riseAfter
	} else {
		h.delay = min(2*h.delay, riseMost)
	}
	h.last = now
}

func (h *Hold) result() error {
	if h.ready {
		return nil
	}
	if h.err == nil {
		return errStarting
	}
	return h.err
}

// errStarting is the reason before readiness has first proved itself.
var errStarting = errors.New("readiness has not lasted a second yet")
