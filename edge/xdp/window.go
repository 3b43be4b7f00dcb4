package xdp

import (
	"sync"
	"sync/atomic"
)

// window lets others look into the tables of a session while it lasts. It is
// safe for concurrent use; who looks holds up nobody but the session's end.
type window struct {
	looking sync.RWMutex // the session's tables are closed by who holds it alone
	sight   atomic.Pointer[sight]
}

// sight is tables, and the desired state that they were last brought in line with.
type sight struct {
	kernel *kernel
	want   *desired
}

func (w *window) show(k *kernel, d *desired) { w.sight.Store(&sight{k, d}) }

// shut ends all looking at these tables before they are closed.
func (w *window) shut(k *kernel) {
	w.looking.Lock()
	defer w.looking.Unlock()
	if s := w.sight.Load(); s != nil && s.kernel == k {
		w.sight.Store(nil)
	}
}

// look calls f with what there is to be seen, or gives errNotAttached.
func (w *window) look(f func(*kernel, *desired) error) error {
	w.looking.RLock()
	defer w.looking.RUnlock()
	s := w.sight.Load()
	if s == nil {
		return errNotAttached
	}
	return f(s.kernel, s.want)
}
