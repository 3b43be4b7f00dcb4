package l7

import (
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a client's connection is at.
const (
	stateNew    int32 = iota // no request has come yet
	stateIdle                // between requests
	stateActive              // a request is under way
	stateKicked              // was idle, and was told to end
)

// conn is a client's connection.
type conn struct {
	net.Conn
	tcp     *net.TCPConn    // nil where it is none
	raw     syscall.RawConn // of tcp
	since   moment          // when it was accepted
	state   atomic.Int32
	rested  atomic.Int64 // the moment since when state is stateIdle
	carried bool         // by HTTP/2; set before any other goroutine reads it
	veiled  bool         // TLS is on it
	abort   Abort
	origin
	ahead []byte // was read, and comes before what else is read

	reading, writing arm
	look             func(fd uintptr) bool // tryRead, as a value that is made once
	got              *buffer               // what look read
	err              error
}

// origin is who a connection is from, and what it is for.
type origin struct {
	client  netip.AddrPort // unmapped, without zone; as a balancer before the gateway says, if any
	vip     netip.AddrPort
	text    []byte // of the client's address
	proxied bool   // the connection is a trusted balancer's
}

func (o *origin) from(client, vip netip.AddrPort) {
	o.client, o.vip = client, vip
	if client.IsValid() {
		o.text = client.Addr().AppendTo(make([]byte, 0, 16))
	}
}

func newConn(nc net.Conn, now moment) *conn {
	c := &conn{Conn: nc, since: now}
	if tcp, ok := nc.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			c.tcp, c.raw, c.look = tcp, raw, c.tryRead
		}
	}
	return c
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
			c.ahead = nil
		}
		return n, nil
	}
	if c.raw == nil || len(p) == 0 {
		return c.Conn.Read(p)
	}
	return readSocket(c.raw, p)
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	if c.raw == nil {
		return c.Conn.Write(p)
	}
	if err := writeSocket(c.raw, p, nil); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite passes on a half-close; tunnels use it.
func (c *conn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return c.Conn.Close()
}

// await waits for octets without holding a buffer meanwhile.
func (c *conn) await() (*buffer, error) {
	c.err = nil
	if err := c.raw.Read(c.look); err != nil {
		return nil, err
	}
	b := c.got
	c.got = nil
	return b, c.err
}

// tryRead must read whenever it is called: a wait without it could miss what
// came before.
func (c *conn) tryRead(fd uintptr) bool {
	b := takeBuffer()
	n, err := receive(fd, b.data)
	if n > 0 {
		b.w = n
		c.got, c.err = b, nil
		return true
	}
	b.free()
	c.err = err
	return err != unix.EAGAIN
}

// peek says whether octets are there to be read (> 0), none (0), or never will
// be (< 0). Below TLS it is never as well once the client has ended its direction:
// what waits is its goodbye.
func (c *conn) peek() int {
	if c.raw == nil {
		return 0
	}
	seen := -1
	_ = c.raw.Control(func(fd uintptr) { // which fails where it is closed
		if seen = peek(int(fd)); seen > 0 && c.veiled && ended(int(fd)) {
			seen = -1
		}
	})
	return seen
}

// ended says whether the other side has ended its direction.
func ended(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0
}

func peek(fd int) int {
	var b [1]byte
	for {
		// It never waits, so that the scheduler need not know of it.
		n, _, err := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b)), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return 0
		case err != 0 || n == 0:
			return -1
		default:
			return 1
		}
	}
}

// deadlines bounds reads and writes from now on.
func (c *conn) deadlines(read, write time.Time) {
	c.reading.set(read, c.Conn.SetReadDeadline)
	c.writing.set(write, c.Conn.SetWriteDeadline)
}

// readBy sets the deadline of reads exactly.
func (c *conn) readBy(t time.Time) {
	c.reading.forget()
	c.Conn.SetReadDeadline(t)
}
