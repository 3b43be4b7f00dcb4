package l7

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// lastLook is how long a connection that is told to end waits for a request
// that has arrived at the same moment.
const lastLook = 100 * time.Millisecond

// client serves HTTP/1.1 on one connection: one goroutine does all, request by
// request. It is all that an idle connection keeps.
type client struct {
	s    *server
	c    *conn
	nc   net.Conn // c, or TLS on it
	sess *session
	one  [1]byte
}

func newClient(s *server, c *conn, nc net.Conn, state *tls.ConnectionState) *client {
	return &client{s: s, c: c, nc: nc, sess: newSession(s, c, state)}
}

// run serves until the connection has ended. Here the goroutine waits when it
// is idle, with little on its stack.
func (cl *client) run() {
	defer cl.end()
	for {
		b, err := cl.await()
		if err != nil {
			cl.left(err)
			return
		}
		cl.s.begun(cl.c)
		if !cl.requests(b) {
			return
		}
		cl.c.rested.Store(int64(cl.s.g.now()))
		cl.c.state.Store(stateIdle)
	}
}

func (cl *client) end() {
	cl.sess.end()
	if cl.nc != net.Conn(cl.c) {
		cl.nc.Close() // which says so to the client
	}
}

// left counts what is worth it: a client that goes between requests is not.
func (cl *client) left(err error) {
	if err != io.EOF && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
		cl.s.g.stranger(err)
	}
}

// await waits for the first octets of a request.
func (cl *client) await() (*buffer, error) {
	wait := cl.s.idle
	if cl.c.state.Load() == stateNew {
		wait = min(wait, 2*headerTimeout)
	}
	if wait > 0 {
		cl.c.reading.set(time.Now().Add(wait), cl.c.Conn.SetReadDeadline)
	}
	if cl.c.state.Load() == stateKicked {
		cl.c.readBy(past) // set may have lifted it
	}
	b, err := cl.read()
	if err != nil && cl.c.state.Load() == stateKicked && cl.c.peek() > 0 {
		cl.c.readBy(time.Now().Add(lastLook))
		return cl.read()
	}
	return b, err
}

func (cl *client) read() (*buffer, error) {
	if cl.c.raw != nil && len(cl.c.ahead) == 0 && cl.nc == net.Conn(cl.c) && !cl.s.g.cfg.slow {
		return cl.c.await()
	}
	// One octet makes TLS read a record; what else is in it is there at once.
	n, err := cl.nc.Read(cl.one[:])
	if n == 0 {
		return nil, err
	}
	b := takeBuffer()
	b.data[0], b.w = cl.one[0], 1
	return b, nil
}

// requests serves what has come and what follows it without a pause; false:
// the connection is over.
func (cl *client) requests(b *buffer) bool {
	f := fronts.Get().(*clientFront)
	f.begin(cl, b)
	defer f.free()
	for {
		if !f.request() {
			f.close()
			return false
		}
		if f.in.r == f.in.w {
			return true
		}
	}
}
