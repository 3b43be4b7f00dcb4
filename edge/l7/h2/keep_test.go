package h2

import (
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
)

// carry serves one end of a pipe inside a synctest bubble.
func carry(t *testing.T, s *session) (p *peer, ended chan struct{}) {
	a, b := net.Pipe()
	ended = make(chan struct{})
	go func() {
		New().Carry(buffered(b), s)
		close(ended)
	}()
	p = greeted(t, buffered(a))
	p.c.SetDeadline(time.Time{})
	return p, ended
}

// buffered gives a pipe a buffer: two ends that write at a time would wait for
// each other. What was written before Close still arrives.
func buffered(c net.Conn) net.Conn {
	q := &pipeEnd{Conn: c, out: make(chan []byte, 1000), gone: make(chan struct{})}
	go func() {
		defer c.Close()
		for {
			select {
			case b := <-q.out:
				if _, err := c.Write(b); err != nil {
					return
				}
				continue
			default:
			}
			select {
			case b := <-q.out:
				if _, err := c.Write(b); err != nil {
					return
				}
			case <-q.gone:
				return
			}
		}
	}()
	return q
}

type pipeEnd struct {
	net.Conn
	out  chan []byte
	once sync.Once
	gone chan struct{}
}

func (q *pipeEnd) Write(b []byte) (int, error) {
	select {
	case q.out <- append([]byte(nil), b...):
		return len(b), nil
	case <-q.gone:
		return 0, net.ErrClosed
	}
}

func (q *pipeEnd) Close() error {
	q.once.Do(func() { close(q.gone) })
	return nil
}

// A connection that shall end is told so twice (RFC 9113 section 6.8): requests
// that were under way to here are served, later ones are not.
func TestLeavingInTwoSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		s := newSession(func(f l7.Front, h *wire.Head, _ *l7.Abort) {
			<-goOn
			say(f, 200, "served")
		})
		p, ended := carry(t, s)
		p.ask(1, true)
		synctest.Wait()
		close(s.leaving)
		if f := p.away(); f.LastStreamID != 1<<31-1 || f.ErrCode != http2.ErrCodeNo {
			t.Error(f)
		}
		p.ask(3, true) // crossed the GOAWAY
		ping := p.until(func(f http2.Frame) bool { _, ok := f.(*http2.PingFrame); return ok }).(*http2.PingFrame)
		p.WritePing(true, ping.Data)
		if f := p.away(); f.LastStreamID != 3 {
			t.Error(f)
		}
		p.ask(5, true) // comes too late
		close(goOn)
		if got := p.ended(3); got != "served" {
			t.Errorf("%q", got)
		}
		<-ended
		if s.abused(t) != "" {
			t.Error(s.abuse)
		}
	})
}

// One that does not answer the PING is left after a second all the same.
func TestLeavingADeafClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSession(nil)
		p, ended := carry(t, s)
		synctest.Wait()
		began := time.Now()
		close(s.leaving)
		p.away()
		p.away()
		<-ended
		if d := time.Since(began); d < farewellWait || d > 2*farewellWait {
			t.Error(d)
		}
	})
}

func TestTimesOfAConnection(t *testing.T) {
	for _, tc := range []struct {
		name     string
		at, late time.Duration
		reason   string
		code     http2.ErrCode
		play     func(p *peer)
	}{
		{"idle", time.Minute, 70 * time.Second, "", http2.ErrCodeNo, func(p *peer) { p.WriteSettingsAck() }},
		{"no preface", 5 * time.Second, 11 * time.Second, "slow_head", http2.ErrCodeEnhanceYourCalm, nil},
		{"settings not taken", 10 * time.Second, 20 * time.Second, "settings_timeout", http2.ErrCodeSettingsTimeout, func(p *peer) {}},
		{"half a frame", 5 * time.Second, 11 * time.Second, "slow_head", http2.ErrCodeEnhanceYourCalm, func(p *peer) {
			p.WriteSettingsAck()
			p.c.Write([]byte{0, 0, 10, 1})
		}},
		{"half a block, with PINGs forbidden within it", 5 * time.Second, 11 * time.Second, "slow_head", http2.ErrCodeEnhanceYourCalm, func(p *peer) {
			p.WriteSettingsAck()
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(":method", "GET")})
		}},
		{"silence under a request", 45 * time.Second, time.Minute, "", 0, func(p *peer) {
			p.WriteSettingsAck()
			p.ask(1, false)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSession(nil)
				a, b := net.Pipe()
				client := buffered(a)
				defer client.Close()
				ended := make(chan struct{})
				began := time.Now()
				go func() {
					New().Carry(buffered(b), s)
					close(ended)
				}()
				seen := make(chan *http2.GoAwayFrame, 1)
				p := &peer{Framer: http2.NewFramer(client, client), t: t, c: client}
				if tc.play != nil {
					p = greeted(t, client)
					client.SetDeadline(time.Time{})
					tc.play(p)
				}
				go func() {
					defer close(seen)
					for {
						f, err := p.ReadFrame()
						if err != nil {
							return
						}
						if g, ok := f.(*http2.GoAwayFrame); ok {
							seen <- g
							return
						}
					}
				}()
				<-ended
				if d := time.Since(began); d < tc.at || d > tc.late {
					t.Errorf("ended after %v", d)
				}
				if g := <-seen; (g == nil) != (tc.code == 0 && tc.reason == "" && tc.name != "idle") || g != nil && g.ErrCode != tc.code {
					t.Errorf("said %v", g)
				}
				if s.abused(t) != tc.reason {
					t.Errorf("told of %q", s.abuse)
				}
			})
		})
	}
}

// Without a limit an idle connection stays.
func TestNoIdleLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSession(nil)
		s.limits.Idle = 0
		p, ended := carry(t, s)
		p.WriteSettingsAck()
		p.ask(1, true)
		p.ended(1)
		time.Sleep(24 * time.Hour)
		p.ask(3, true)
		p.ended(3)
		p.c.Close()
		<-ended
	})
}

// A client that answers PINGs keeps its connection however long a request
// takes.
func TestPingsKeepALongRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		s := newSession(func(f l7.Front, h *wire.Head, _ *l7.Abort) {
			<-done
			say(f, 200, "at last")
		})
		p, ended := carry(t, s)
		p.ask(1, true)
		pings := 0
		go func() {
			time.Sleep(10 * time.Minute)
			close(done)
		}()
		p.until(func(f http2.Frame) bool {
			if ping, ok := f.(*http2.PingFrame); ok && !ping.IsAck() {
				pings++
				p.WritePing(true, ping.Data)
			}
			d, ok := f.(*http2.DataFrame)
			return ok && d.StreamEnded()
		})
		if pings < 10 || pings > 25 {
			t.Errorf("%d PINGs in ten minutes", pings)
		}
		p.c.Close()
		<-ended
	})
}

// Streams whose client opens no window are reset after a while; many of them
// end the connection.
func TestZeroWindowStallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := make(chan error, 100)
		s := newSession(func(f l7.Front, h *wire.Head, _ *l7.Abort) {
			f.Answer(&wire.Head{Status: 200}, false)
			failed <- f.Write(make([]byte, 100000))
		})
		p, ended := carry(t, s)
		began := time.Now()
		p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		for i := range 20 {
			p.ask(uint32(2*i+1), true)
		}
		go func() {
			for {
				f, err := p.ReadFrame()
				if err != nil {
					return
				}
				if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
					p.WriteSettingsAck()
				}
				if ping, ok := f.(*http2.PingFrame); ok {
					p.WritePing(true, ping.Data)
				}
			}
		}()
		for range 20 {
			if err := <-failed; err == nil {
				t.Error("was written without a window")
			}
		}
		if d := time.Since(began); d < stallLimit || d > stallLimit+2*longTick {
			t.Errorf("cut after %v", d)
		}
		<-ended
		if s.abused(t) != "zero_window" {
			t.Error(s.abuse)
		}
	})
}

// An exchange's own deadlines bound its waits for the client.
func TestDeadlinesOfAnExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type result struct {
			read, write   error
			readIn, total time.Duration
		}
		got := make(chan result, 1)
		s := newSession(func(f l7.Front, h *wire.Head, _ *l7.Abort) {
			began := time.Now()
			f.Deadlines(began.Add(3*time.Second), began.Add(7*time.Second))
			var r result
			_, r.read = f.Body(make([]byte, 1))
			r.readIn = time.Since(began)
			f.Answer(&wire.Head{Status: 200}, false)
			r.write = f.Write(make([]byte, 100000))
			r.total = time.Since(began)
			got <- r
		})
		p, ended := carry(t, s)
		go func() {
			for {
				if _, err := p.ReadFrame(); err != nil {
					return
				}
			}
		}()
		p.ask(1, false)
		r := <-got
		if r.read != errTime || r.write != errTime || r.readIn != 3*time.Second || r.total != 7*time.Second {
			t.Errorf("%+v", r)
		}
		p.c.Close()
		<-ended
	})
}
