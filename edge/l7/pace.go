package l7

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// errSlow ends a request whose body comes more slowly than its route allows.
var errSlow = errors.New("the body comes too slowly")

// paceGrace is how long a body may take whatever its size.
const paceGrace = 5 * time.Second

// maxBody bounds the request's body, in octets.
func (x *exchange) maxBody() int64 {
	if n := x.way.set.Bounds.Body; n > 0 && n < x.g.cfg.MaxBody {
		return n
	}
	return x.g.cfg.MaxBody
}

// minRate is the octets a second that a body must bring; 0 for no matter.
func (x *exchange) minRate() int { return x.way.set.Bounds.MinRate }

// boundBody has a body of that length come in the time that it may take; -1
// lifts the bound.
func (x *exchange) boundBody(length int64) {
	rate := x.minRate()
	if rate == 0 {
		return
	}
	x.bound()
	if length < 0 {
		return
	}
	end := x.g.now().add(paceGrace + time.Duration(length)*time.Second/time.Duration(rate))
	x.f.Deadlines(x.g.time(sooner(end, x.writeEnd())), x.g.time(x.writeEnd()))
}

// pace watches an upload; nil where nobody has to.
type pace struct {
	octets atomic.Int64
	done   chan struct{}
	over   sync.WaitGroup
}

// watch ends the upload once it is slower than rate, after the grace.
func (x *exchange) watch(up asked, rate int) *pace {
	if rate == 0 {
		return nil
	}
	p := &pace{done: make(chan struct{})}
	p.over.Go(func() {
		begun := time.Now()
		for wait := paceGrace; ; wait = time.Second {
			t := time.NewTimer(wait)
			select {
			case <-p.done:
				t.Stop()
				return
			case now := <-t.C:
				if due := float64(rate) * (now.Sub(begun) - paceGrace).Seconds(); float64(p.octets.Load()) < due {
					x.bodyBroke(up, errSlow)
					return
				}
			}
		}
	})
	return p
}

func (p *pace) received(n int) {
	if p != nil {
		p.octets.Add(int64(n))
	}
}

// stop ends the watch, and waits for it.
func (p *pace) stop() {
	if p != nil {
		close(p.done)
		p.over.Wait()
	}
}
