package l7

import (
	"context"
	"errors"
	"net"
	"sync"

	"meridian/edge/l7/limit"
)

// errFull says that there are as many connections, or requests that wait for
// one, as there may be: it is no fault of the endpoint.
var errFull = errors.New("no connection to spare")

// connGates bound the connections to one endpoint.
type connGates struct {
	pool *limit.Circuit
	own  *limit.EndpointCircuit
}

// open connects, if there is room. The connection counts until leave is called.
func (g connGates) open(ctx context.Context, d *net.Dialer, address string) (c *net.TCPConn, leave func(), err error) {
	if !g.pool.Pending.Enter() {
		return nil, nil, errFull
	}
	defer g.pool.Pending.Leave()
	if !g.pool.Connections.Enter() {
		return nil, nil, errFull
	}
	if !g.own.Connections.Enter() {
		g.pool.Connections.Leave()
		return nil, nil, errFull
	}
	leave = func() {
		g.pool.Connections.Leave()
		g.own.Connections.Leave()
	}
	to, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		leave()
		return nil, nil, err
	}
	return to.(*net.TCPConn), leave, nil
}

// dial gives a connection that counts until it is closed.
func (g connGates) dial(ctx context.Context, d *net.Dialer, address string) (net.Conn, error) {
	c, leave, err := g.open(ctx, d, address)
	if err != nil {
		return nil, err
	}
	return &countedConn{TCPConn: c, leave: sync.OnceFunc(leave)}, nil
}

// countedConn is a connection that counts until it is closed.
type countedConn struct {
	*net.TCPConn
	leave func()
}

func (c *countedConn) Close() error {
	defer c.leave()
	return c.TCPConn.Close()
}
