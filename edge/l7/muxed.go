package l7

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"

	"meridian/edge/l7/wire"
)

// maxMuxes bounds the TLS names by which one endpoint's connections are kept
// apart.
const maxMuxes = 64

// muxes are an endpoint's connections with many requests each, by the name that
// they were verified for.
type muxes struct {
	mu      sync.Mutex
	byName  map[string]Mux
	parting []Mux // used no more, but by requests under way
	retired bool
}

// of gives those for a name.
func (m *muxes) of(u *upstream, name string) Mux {
	m.mu.Lock()
	defer m.mu.Unlock()
	mux := m.byName[name]
	if mux != nil {
		return mux
	}
	if len(m.byName) >= maxMuxes {
		for old := range m.byName {
			m.part(old)
			break
		}
	}
	if m.byName == nil {
		m.byName = map[string]Mux{}
	}
	name = strings.Clone(name) // it lies in a request
	mux = u.g.cfg.Mux(func(ctx context.Context) (net.Conn, error) { return u.dialMux(ctx, name) }, u.tls != nil)
	if m.retired {
		mux.Retire() // a request that had begun before asks for it alone
	}
	m.byName[name] = mux
	return mux
}

// part lets the connections for some names end with their requests. mu is held.
func (m *muxes) part(names ...string) {
	for _, name := range names {
		m.parting = append(m.parting, m.byName[name])
		delete(m.byName, name)
	}
	m.parting = slices.DeleteFunc(m.parting, Mux.Retire)
}

// retire lets all connections end with their requests, and says whether none is
// left.
func (m *muxes) retire() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.retired = true
	m.part(slices.Collect(maps.Keys(m.byName))...)
	return len(m.parting) == 0
}

func (m *muxes) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, mux := range m.byName {
		mux.Close()
	}
	for _, mux := range m.parting {
		mux.Close()
	}
}

// dialMux makes a connection that speaks HTTP/2.
func (u *upstream) dialMux(ctx context.Context, name string) (net.Conn, error) {
	if u.limit > 0 {
		c, cancel := context.WithTimeout(ctx, u.limit)
		defer cancel()
		ctx = c
	}
	raw, err := u.gates.dial(ctx, &u.dial, u.address)
	if err != nil || u.tls == nil {
		return raw, err
	}
	config := u.tls.Clone()
	config.ServerName, config.NextProtos = name, []string{"h2"}
	c := tls.Client(raw, config)
	if err = c.HandshakeContext(ctx); err == nil && c.ConnectionState().NegotiatedProtocol != "h2" {
		err = fmt.Errorf("the endpoint chose the protocol %.20q, not h2", c.ConnectionState().NegotiatedProtocol)
	}
	if err != nil {
		raw.Close()
		return nil, err
	}
	return c, nil
}

// call begins the exchange's request on one of the connections.
func (u *upstream) call(x *exchange, fresh bool) (asked, bool, error) {
	// Servers of gRPC want the end in a frame of its own, after the head.
	end := x.body.whole && len(x.body.kept) == 0 && !x.grpc
	h, target, authority := x.h, x.h.Target, x.h.Authority
	h.Target, h.Authority = x.to.targetOr(target), x.to.hostOr(authority)
	c, err := u.muxes.of(u, x.serverName()).Open(u.g.base, u.g.time(x.until()), h, end)
	h.Target, h.Authority = target, authority // as the client has named them
	if err != nil {
		if err != ErrRefused {
			err = &connectError{err}
		}
		return nil, false, err
	}
	x.connected = x.g.now()
	x.muxed = muxed{x: x, c: c}
	return &x.muxed, !fresh, nil
}

// muxed is a request on a connection with others.
type muxed struct {
	x     *exchange
	c     Call
	in    *buffer
	spoke bool
}

func (m *muxed) stop() { m.c.Stop() }

// send sends a body that is here; the head has gone already.
func (m *muxed) send(_, body []byte) error {
	m.deadlines()
	switch {
	case !m.x.body.whole:
		return m.c.Flush()
	case len(body) == 0 && !m.x.grpc:
		return nil // the head said so
	}
	if err := m.c.Write(body); err != nil {
		return err
	}
	return m.c.End(nil)
}

func (m *muxed) write(p []byte) error {
	if err := m.c.Write(p); err != nil {
		return err
	}
	return m.c.Flush()
}

func (m *muxed) endUpload(trailers *wire.Head) error { return m.c.End(trailers) }

// deadlines has a wait end in time to look up, and gives that time.
func (m *muxed) deadlines() moment {
	x := m.x
	by := sooner(x.g.now().add(x.nextGlance()), x.until())
	m.c.Deadlines(x.g.time(by), x.g.time(x.writeEnd()))
	return by
}

// again says whether a wait that ended so goes on, and else why not.
func (m *muxed) again(err error, by moment) (bool, error) {
	if !errors.Is(err, os.ErrDeadlineExceeded) || !by.passed(m.x.g.now()) {
		return false, err
	}
	if err := m.x.lookUp(); err != nil {
		return false, err
	}
	return true, nil
}

func (m *muxed) head(h *wire.Head) error {
	if err := m.x.waiting(); err != nil {
		return err
	}
	for {
		by := m.deadlines()
		err := m.c.Head(h)
		if err == nil {
			m.spoke = true
			return nil
		}
		if on, err := m.again(err, by); !on {
			return err
		}
	}
}

func (m *muxed) piece() ([]byte, error) {
	if m.in == nil {
		m.in = takeBuffer()
	}
	var by moment
	if !m.c.Ready() {
		if err := m.x.waiting(); err != nil {
			return nil, err
		}
		by = m.deadlines()
	}
	for {
		n, err := m.c.Body(m.in.data)
		if err == nil || err == io.EOF {
			return m.in.data[:n], err
		}
		on, err := m.again(err, by)
		if !on {
			return nil, err
		}
		by = m.deadlines()
	}
}

func (m *muxed) trailers() *wire.Head { return m.c.BodyTrailers() }
func (m *muxed) silent() bool         { return !m.spoke }
func (m *muxed) discard()             {}
func (m *muxed) bare() *net.TCPConn   { return nil }

func (m *muxed) release(bool) {
	m.c.Close()
	if m.in != nil {
		m.in.free()
	}
	*m = muxed{}
}

// arrived is a Front that knows whether a whole body has arrived ahead of being
// read, and its length: HTTP/2's, whose clients need not tell the length.
type arrived interface{ Arrived() (n int, whole bool) }
