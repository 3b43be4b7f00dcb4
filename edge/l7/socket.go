package l7

import (
	"io"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Reads and writes of sockets by the plain system calls. They never wait, so
// that the scheduler need not know of them: a P that is thought to sit in the
// kernel for long would be taken away, at the cost of two switches of threads.
// Where there is nothing to do the runtime's poller waits, with its deadlines,
// as for any net.Conn.

// readSocket and writeSocket are for clients' connections, of which most are idle:
// what a call needs is not theirs.
func readSocket(raw syscall.RawConn, p []byte) (int, error) {
	r := readers.Get().(*reader)
	r.raw = raw
	n, err := r.read(p)
	r.raw = nil
	readers.Put(r)
	return n, err
}

func writeSocket(raw syscall.RawConn, a, b []byte) error {
	w := writers.Get().(*writer)
	w.raw = raw
	err := w.write(a, b, nil)
	w.raw = nil
	writers.Put(w)
	return err
}

var (
	readers = sync.Pool{New: func() any { r := new(reader); r.begin(nil); return r }}
	writers = sync.Pool{New: func() any { w := new(writer); w.begin(nil); return w }}
)

// reader reads one socket. It is for one goroutine at a time.
type reader struct {
	raw syscall.RawConn
	f   func(fd uintptr) bool // made once
	p   []byte
	n   int
	err error
}

func (r *reader) begin(raw syscall.RawConn) { r.raw, r.f = raw, r.try }

// read implements io.Reader; p must not be empty.
func (r *reader) read(p []byte) (int, error) {
	r.p, r.n, r.err = p, 0, nil
	err := r.raw.Read(r.f)
	r.p = nil
	if err != nil {
		return 0, err
	}
	return r.n, r.err
}

// try must read whenever it is called: a wait without it could miss what came
// before.
func (r *reader) try(fd uintptr) bool {
	n, err := receive(fd, r.p)
	r.n, r.err = n, err
	return err != unix.EAGAIN
}

// receive reads once.
func receive(fd uintptr, p []byte) (int, error) {
	for {
		n, _, err := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return 0, unix.EAGAIN
		case err != 0:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return int(n), nil
		}
	}
}

// writer writes one socket. It is for one goroutine at a time.
type writer struct {
	raw   syscall.RawConn
	f     func(fd uintptr) bool
	parts [3][]byte
	err   error
}

func (w *writer) begin(raw syscall.RawConn) { w.raw, w.f = raw, w.try }

// write sends all parts in order, in one system call where the socket takes
// them.
func (w *writer) write(a, b, c []byte) error {
	w.parts, w.err = [3][]byte{a, b, c}, nil
	defer w.forget()
	return w.finish()
}

// finish sends what is left of the parts.
func (w *writer) finish() error {
	if err := w.raw.Write(w.f); err != nil {
		return err
	}
	return w.err
}

func (w *writer) forget() { w.parts = [3][]byte{} }

func (w *writer) try(fd uintptr) bool {
	for {
		n, err := w.send(fd)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return false
		case err != 0:
			w.err = err
			return true
		}
		for i, p := range w.parts {
			k := min(n, len(p))
			w.parts[i] = p[k:]
			n -= k
		}
		if w.left() == 0 {
			return true
		}
	}
}

// left is how many octets are still to be sent.
func (w *writer) left() int { return len(w.parts[0]) + len(w.parts[1]) + len(w.parts[2]) }

func (w *writer) send(fd uintptr) (int, syscall.Errno) {
	var iov [len(w.parts)]unix.Iovec
	count := 0
	for _, p := range w.parts {
		if len(p) > 0 {
			iov[count].Base = &p[0]
			iov[count].SetLen(len(p))
			count++
		}
	}
	const flags = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
	if count == 1 {
		n, _, err := unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(iov[0].Base)), uintptr(iov[0].Len), flags, 0, 0)
		return int(n), err
	}
	msg := unix.Msghdr{Iov: &iov[0]}
	msg.SetIovlen(count)
	n, _, err := unix.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&msg)), flags)
	return int(n), err
}
