package h2

import (
	"errors"
	"time"

	"meridian/edge/l7"
)

// Times of a connection.
const (
	farewellWait = time.Second      // for the client to have seen the first GOAWAY
	quietLimit   = 30 * time.Second // without a word from a peer that has streams, before it is asked
	pingLimit    = 15 * time.Second // for its answer
	ackLimit     = 10 * time.Second // for our settings to be taken
	stallLimit   = time.Minute      // of a stream whose peer opens no window
	longTick     = 5 * time.Second
	linger       = 250 * time.Millisecond // for a peer to read why its connection ends
	lastWrite    = time.Second            // for the words that say so
)

// stage is how far a server's farewell has come (RFC 9113 section 6.8).
type stage uint8

const (
	staying    stage = iota
	going            // the client was told to open no more streams; those under way to here are served
	goingFinal       // and told which was the last
)

// errLeft says that a connection ended in good order.
var errLeft = errors.New("http2: left")

// errDead says that a peer has gone without a word.
var errDead = errors.New("http2: no sign of life")

// watch is what the keeper saw of the connection when it last looked.
type watch struct {
	activity  uint64
	active    time.Time // when that changed
	shown     uint64
	moved     time.Time // when frames last came to their end
	newest    uint32
	requested time.Time // when there was last a request
	asked     time.Time // when the PING was sent
	began     time.Time
	told      time.Time // when the first GOAWAY was sent
}

// keep is the keeper of a client's connection.
func (s *server) keep() {
	now := time.Now()
	w := watch{active: now, moved: now, requested: now, began: now}
	limits := s.session.Limits()
	tick := min(limits.HeaderTimeout/2, longTick)
	if limits.Idle > 0 {
		tick = min(tick, limits.Idle/2)
	}
	tick = max(tick, 10*time.Millisecond)
	timer := time.NewTimer(tick)
	defer timer.Stop()
	leaving := s.session.Leaving()
	for {
		select {
		case <-s.done:
			return
		case <-s.kick:
		case <-leaving:
			leaving = nil
			s.goAway(&w)
			timer.Reset(farewellWait)
		case <-timer.C:
			s.look(&w, s.session.Limits())
			timer.Reset(tick)
		}
		s.mu.Lock()
		s.send()
		s.depart(&w)
		s.mu.Unlock()
	}
}

// goAway begins the farewell. What the client has sent by the time that it
// answers the PING is still served.
func (s *server) goAway(w *watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving != staying {
		return
	}
	s.leaving = going
	s.out = appendGoAway(s.out, largestWindow, NoError)
	s.out = appendPing(s.out, 0, [8]byte{'l', 'e', 'a', 'v', 'i', 'n', 'g'})
	s.pingSent, s.pingAnswered = true, false
	w.told = time.Now()
	w.asked = w.told
}

// depart takes the farewell on. mu is held.
func (s *server) depart(w *watch) {
	if s.leaving == going && (s.pingAnswered || time.Since(w.told) >= farewellWait) {
		s.leaving, s.last = goingFinal, s.newest
		s.out = appendGoAway(s.out, s.last, NoError)
		s.send()
	}
	if s.leaving == goingFinal && s.running == 0 && len(s.out) == 0 && !s.sending {
		s.fail(errLeft)
	}
}

// look finds what has gone on for too long.
func (s *server) look(w *watch, limits l7.Limits) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.activity != w.activity {
		w.activity, w.active = s.activity, now
	}
	if s.shown != w.shown || !s.mid {
		w.shown, w.moved = s.shown, now
	}
	if s.newest != w.newest || s.running > 0 {
		w.newest, w.requested = s.newest, now
	}
	switch {
	case s.mid && now.Sub(w.moved) >= limits.HeaderTimeout:
		s.fail(broken(EnhanceYourCalm, "slow_head"))
	case !s.settingsAck && now.Sub(w.began) >= ackLimit:
		s.fail(broken(SettingsTimeout, "settings_timeout"))
	case s.pingSent && s.leaving == staying && now.Sub(w.active) >= quietLimit+pingLimit && now.Sub(w.asked) >= pingLimit:
		s.fail(errDead)
	case s.running > 0 && !s.pingSent && now.Sub(w.active) >= quietLimit:
		s.out = appendPing(s.out, 0, [8]byte{'a', 'l', 'i', 'v', 'e'})
		s.pingSent, w.asked = true, now
	case limits.Idle > 0 && s.leaving == staying && s.running == 0 && now.Sub(w.requested) >= limits.Idle:
		s.leaving, s.last = goingFinal, s.newest
		s.out = appendGoAway(s.out, s.last, NoError)
	}
	s.cutStalled(now)
	if s.running == 0 {
		s.shrink()
		s.dismiss()
	}
}

// cutStalled resets streams whose peer has opened no window for long, and ends
// a connection that has many. mu is held; it is let go meanwhile.
func (s *server) cutStalled(now time.Time) {
	var cut []*stream
	for _, st := range s.streams {
		if !st.stalled.IsZero() && now.Sub(st.stalled) >= stallLimit && !st.lost {
			st.kept = true
			st.breakOff(Cancel)
			cut = append(cut, st)
		}
	}
	if len(cut) == 0 {
		return
	}
	if s.stalls += len(cut); s.stalls > 16 {
		s.fail(broken(EnhanceYourCalm, "zero_window"))
	}
	s.mu.Unlock()
	for _, st := range cut {
		s.gone(st)
	}
	s.mu.Lock()
}

// dismiss ends the workers that wait. mu is held; it is let go meanwhile.
func (s *server) dismiss() {
	n := s.resting
	s.resting = 0
	s.mu.Unlock()
	for range n {
		s.work <- nil
	}
	s.mu.Lock()
}

// farewell ends a connection of which nothing more is read: it says why, cuts
// the exchanges off, and waits until all goroutines are gone.
func (s *server) farewell(err error) {
	s.drained()
	s.mu.Lock()
	if s.err != nil {
		err = s.err // what the keeper or a write found came first
	}
	last := s.newest
	s.fail(err)
	s.mu.Unlock()
	s.end(err)
	close(s.done)
	f, abuse := err.(*fault)
	if abuse {
		s.session.Abuse(f.reason)
		s.lastWords(appendGoAway(nil, last, f.code))
	}
	if abuse || err == errLeft {
		s.conn.linger()
	}
	s.net.Close()
	s.mu.Lock()
	s.dismiss()
	s.mu.Unlock()
	s.workers.Wait()
}

// lastWords writes what c still has to say, and words.
func (c *conn) lastWords(words []byte) {
	c.net.SetWriteDeadline(time.Now().Add(lastWrite))
	c.mu.Lock()
	for c.sending {
		c.free.Wait()
	}
	words = append(c.out, words...)
	c.out = nil
	c.mu.Unlock()
	c.net.Write(words)
}

// linger lets the peer read the last words: what it is still sending must not
// make its system throw them away. The read buffer is the reader's, which has
// ended.
func (c *conn) linger() {
	cw, ok := c.net.(interface{ CloseWrite() error })
	if !ok || cw.CloseWrite() != nil {
		return
	}
	c.net.SetReadDeadline(time.Now().Add(linger))
	for range 64 {
		if _, err := c.net.Read(c.in); err != nil {
			return
		}
	}
}
