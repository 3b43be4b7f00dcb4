package l7

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"meridian/edge/l7/wire"
)

// fakeMux has one connection, which ends when it is told to.
type fakeMux struct{ retired, ended, closed atomic.Bool }

func (m *fakeMux) Open(context.Context, time.Time, *wire.Head, bool) (Call, error) {
	return nil, errors.New("nobody is there")
}

func (m *fakeMux) Retire() bool { m.retired.Store(true); return m.ended.Load() }
func (m *fakeMux) Close()       { m.closed.Store(true) }

func fakeMuxes(made *[]*fakeMux) MuxMaker {
	return func(func(context.Context) (net.Conn, error), bool) Mux {
		m := new(fakeMux)
		*made = append(*made, m)
		return m
	}
}

// The connections for a name that is used no more end with their requests, and at the
// latest with the endpoint's others.
func TestConnectionsForManyNamesAreBoundedAndNotForgotten(t *testing.T) {
	var made []*fakeMux
	u := &upstream{g: &Gateway{cfg: Config{Mux: fakeMuxes(&made)}}}
	more := func() *fakeMux {
		u.muxes.of(u, fmt.Sprint("name ", len(made)))
		return made[len(made)-1]
	}
	for range maxMuxes + 2 {
		more()
	}
	retired := 0
	for _, m := range made {
		if m.retired.Load() {
			retired++
			m.ended.Store(true)
		}
	}
	if retired != 2 || len(u.muxes.byName) != maxMuxes {
		t.Errorf("%d names, %d retired", len(u.muxes.byName), retired)
	}
	more()
	if n := len(u.muxes.parting); n != 1 {
		t.Errorf("%d that are retired are kept, though but one has a connection left", n)
	}
	if u.muxes.retire() {
		t.Error("none is left, although none has ended")
	}
	if !more().retired.Load() {
		t.Error("one that is made for the last requests outlives them")
	}
	u.muxes.close()
	for i, m := range made {
		if !m.ended.Load() && (!m.retired.Load() || !m.closed.Load()) {
			t.Errorf("%d was forgotten", i)
		}
	}
}

// Names outlive the requests that they come from, whose memory serves again.
func TestNamesOfConnectionsAreTheirOwn(t *testing.T) {
	var made []*fakeMux
	u := &upstream{g: &Gateway{cfg: Config{Mux: fakeMuxes(&made)}}}
	request := []byte("a.test")
	u.muxes.of(u, view(request))
	copy(request, "b.test")
	u.muxes.of(u, view(request))
	if u.muxes.of(u, "a.test") != Mux(made[0]) || u.muxes.of(u, "b.test") != Mux(made[1]) || len(made) != 2 {
		t.Errorf("%d names", len(made))
	}
}

// What an endpoint's last request leaves behind goes without another Apply.
func TestEndpointsThatAreGoneAreForgotten(t *testing.T) {
	var made []*fakeMux
	h2 := func(at string) string {
		return httpSpec(noChecks) + "    - {address: \"" + at + "\"}\n    protocol: h2\n"
	}
	r := newRig(t, h2("127.0.0.1:1"), func(c *Config) { c.Mux = fakeMuxes(&made) })
	get(t, r.client(webVIP, nil), "http://www.demo.test/")
	if err := r.apply(h2("127.0.0.1:2")); err != nil {
		t.Fatal(err)
	}
	left := func() int {
		r.g.sweepOnce()
		r.g.mu.Lock()
		defer r.g.mu.Unlock()
		return len(r.g.parting)
	}
	if n := left(); n != 1 {
		t.Errorf("%d are left while a request is under way", n)
	}
	made[0].ended.Store(true)
	if n := left(); n != 0 {
		t.Errorf("%d are left", n)
	}
}
