package l7

import (
	"context"
	"fmt"
	"net"
	"testing"
)

// countedMux is a Mux with one request under way.
type countedMux struct {
	Mux
	busy, closed bool
}

func (m *countedMux) Retire() bool { return !m.busy }
func (m *countedMux) Close()       { m.closed = true }

// Connections for more names than are kept push others out, which end with their
// requests, or with the gateway.
func TestConnectionsOfNamesThatArePushedOut(t *testing.T) {
	var made []*countedMux
	u := &upstream{g: &Gateway{cfg: Config{Mux: func(func(context.Context) (net.Conn, error), bool) Mux {
		m := &countedMux{busy: true}
		made = append(made, m)
		return m
	}}}}
	const names = maxMuxes + 10
	for i := range names {
		u.muxes.of(u, fmt.Sprint(i))
	}
	if n := len(u.muxes.byName); n != maxMuxes || len(made) != names || len(u.muxes.parting) != 10 {
		t.Errorf("%d are kept of %d, %d part", n, len(made), len(u.muxes.parting))
	}
	u.muxes.parting[3].(*countedMux).busy = false
	u.muxes.of(u, "another")
	if n := len(u.muxes.parting); n != 10 {
		t.Errorf("%d part: those whose requests have ended stay", n)
	}
	if u.muxes.retire() {
		t.Error("gone with requests under way")
	}
	ended := 0
	u.muxes.close()
	for _, m := range made {
		if !m.busy {
			ended++
		} else if !m.closed {
			t.Error("a connection outlives the gateway")
		}
	}
	if ended != 1 {
		t.Errorf("%d have ended", ended)
	}
}
