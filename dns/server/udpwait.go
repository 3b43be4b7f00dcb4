package server

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// inKernel is how long a socket's goroutine waits in the kernel at most, for a
// message that follows closely; the kernel counts in ticks.
const inKernel = time.Millisecond

// waiting is how a UDP socket waits for messages. Where a socket is in an epoll
// set, as the runtime's poller has one, the kernel wakes that for each message
// that comes and for each answer that has left, which costs more than all that
// we do for an answer. So the socket is in a set of its own, and only while
// there is little to do; that set is what the runtime's poller watches.
type waiting struct {
	file *os.File        // the socket, out of the runtime's sight
	raw  syscall.RawConn // of file; what others than the socket's goroutine use it by
	fd   uintptr         // of file
	set  *os.File        // an epoll set, for file
	poll syscall.RawConn // of set

	watched bool            // the socket is in the set
	calls   uint64          // system calls for the socket
	event   unix.EpollEvent // that the set is to tell
}

// newWaiting takes over a socket, and closes c.
func newWaiting(c *net.UDPConn) (w waiting, err error) {
	defer c.Close()
	w.event.Events = unix.EPOLLIN
	raw, err := c.SyscallConn()
	if err != nil {
		return w, err
	}
	if e := raw.Control(func(fd uintptr) {
		var dup, set int
		if dup, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return
		}
		_ = unix.SetNonblock(dup, false) // so that os.NewFile leaves it to us
		w.file, w.fd = os.NewFile(uintptr(dup), "udp"), uintptr(dup)
		if err = unix.SetsockoptTimeval(dup, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: inKernel.Microseconds()}); err != nil {
			return
		}
		if set, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
			return
		}
		_ = unix.SetNonblock(set, true)
		w.set = os.NewFile(uintptr(set), "epoll")
	}); e != nil {
		err = e
	}
	if err == nil {
		w.raw, err = w.file.SyscallConn()
	}
	if err == nil {
		w.poll, err = w.set.SyscallConn()
	}
	if err != nil {
		w.close()
		return w, fmt.Errorf("waiting on a socket: %w", err)
	}
	return w, nil
}

// stop ends the goroutine's waiting, now or next time.
func (w *waiting) stop() { w.set.Close() }

func (w *waiting) close() {
	if w.set != nil {
		w.set.Close()
	}
	if w.file != nil {
		w.file.Close()
	}
}

// watch puts the socket in the set, so that the poller tells when a message is
// there, be it one that has come meanwhile; or takes it out.
func (w *waiting) watch(set uintptr, in bool) syscall.Errno {
	w.calls++
	op := unix.EPOLL_CTL_DEL
	if in {
		op = unix.EPOLL_CTL_ADD
	}
	if err := unix.EpollCtl(int(set), op, int(w.fd), &w.event); err != nil {
		errno, _ := err.(syscall.Errno)
		return errno
	}
	w.watched = in
	return 0
}
