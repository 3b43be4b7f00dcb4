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
	since   time.Time       // when it was accepted
	state   atomic.Int32
	rested  atomic.Int64 // the moment since when state is stateIdle
	carried bool         // by HTTP/2; set before any other goroutine reads it
	veiled  bool         // TLS is on it
	abort   Abort
	client  netip.AddrPort // as a balancer before the gateway says, if any
	vip     netip.AddrPort
	proxied bool   // it is one of a balancer's before the gateway
	ahead   []byte // was read, and comes before what else is read

	in  reader
	out writer

	reading, writing arm
	look             func(fd uintptr) bool // methods as values, made once
	glance           func(fd uintptr)
	got              *buffer // what look read
	err              error
	seen             int // what glance saw: see peek
}

func newConn(nc net.Conn) *conn {
	c := &conn{Conn: nc, since: time.Now()}
	if tcp, ok := nc.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			c.tcp, c.raw = tcp, raw
			c.look, c.glance = c.tryRead, c.tryPeek
			c.in.begin(raw)
			c.out.begin(raw)
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
	return c.in.read(p)
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	if c.raw == nil {
		return c.Conn.Write(p)
	}
	if err := c.out.write(p, nil, nil); err != nil {
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
	if c.raw.Control(c.glance) != nil {
		return -1
	}
	return c.seen
}

func (c *conn) tryPeek(fd uintptr) {
	c.seen = peek(int(fd))
	if c.seen > 0 && c.veiled && ended(int(fd)) {
		c.seen = -1
	}
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
