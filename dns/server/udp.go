package server

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"meridian/dns/answer"
)

const (
	batch       = 32   // messages a system call
	maxQuery    = 4096 // octets; a longer message is no query that we could answer
	controlSize = 64   // room for one PKTINFO
)

// mmsghdr is that of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// udpSocket is one socket and the buffers of the goroutine that serves it. It
// reads and writes many messages a system call, and waits by the runtime's
// poller.
type udpSocket struct {
	conn  *net.UDPConn
	raw   syscall.RawConn
	stats *stats

	in, out  [batch]mmsghdr
	inVec    [batch]unix.Iovec
	outVec   [batch]unix.Iovec
	names    [batch][unix.SizeofSockaddrInet6]byte
	controls [batch][controlSize]byte
	queries  [batch][maxQuery]byte
	answers  [batch][answer.PayloadUDP]byte
	work     answer.Worker
	receive  func(fd uintptr) bool // method values, made once
	transmit func(fd uintptr) bool
	n        int // messages received, or to be sent from sent on
	sent     int
	errno    syscall.Errno
}

func newUDPSocket(c *net.UDPConn, st *stats) (*udpSocket, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	u := &udpSocket{conn: c, raw: raw, stats: st}
	for i := range batch {
		u.inVec[i].Base = &u.queries[i][0]
		u.inVec[i].SetLen(maxQuery)
		u.in[i].hdr.Iov = &u.inVec[i]
		u.in[i].hdr.SetIovlen(1)
		u.outVec[i].Base = &u.answers[i][0]
	}
	u.receive, u.transmit = u.recvmmsg, u.sendmmsg
	return u, nil
}

// serve answers until ctx ends.
func (u *udpSocket) serve(ctx context.Context, s *Server) error {
	stop := context.AfterFunc(ctx, func() { u.conn.Close() })
	defer stop()
	for {
		for i := range batch {
			h := &u.in[i].hdr
			h.Name, h.Namelen = &u.names[i][0], unix.SizeofSockaddrInet6
			h.Control = &u.controls[i][0]
			h.SetControllen(controlSize)
			h.Flags = 0
		}
		if err := u.raw.Read(u.receive); err != nil || u.errno != 0 {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			if err == nil && (u.errno == unix.ENOMEM || u.errno == unix.ENOBUFS || u.errno == unix.ENETDOWN) {
				u.stats.drop(dropReceive)
				select { // passes by itself
				case <-ctx.Done():
				case <-time.After(50 * time.Millisecond):
				}
				continue
			}
			return fmt.Errorf("dns server: receiving on %s: %w", u.conn.LocalAddr(), cmp.Or(err, error(u.errno)))
		}
		u.answerAll(s, s.plan.Load())
	}
}

// recvmmsg takes what there is; false where there is nothing yet.
func (u *udpSocket) recvmmsg(fd uintptr) bool {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&u.in[0])), batch, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			u.n, u.errno = int(n), 0
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			u.errno = errno
			return true
		}
	}
}

// answerAll answers the batch received, all from one plan.
func (u *udpSocket) answerAll(s *Server, p *answer.Plan) {
	sends, now := 0, uint32(time.Now().Unix())
	for i := range u.n {
		m := &u.in[i]
		client, ok := addrOf(&u.names[i])
		if !ok || m.hdr.Flags&unix.MSG_TRUNC != 0 {
			u.stats.drop(dropOversize)
			continue
		}
		query := u.queries[i][:m.len]
		n, outcome := p.Answer(&u.work, query, answer.Client{Addr: client.Addr(), Port: client.Port(), Now: now}, u.answers[sends][:])
		answerFrom(&u.controls[i], int(m.hdr.Controllen))
		if outcome.Special && s.cfg.Special != nil {
			if !u.queueSpecial(s, query, client, u.controls[i][:m.hdr.Controllen]) {
				u.stats.drop(dropSpecial)
			}
			continue
		}
		u.stats.count(outcome)
		if n == 0 {
			continue
		}
		o := &u.out[sends].hdr
		u.outVec[sends].SetLen(n)
		o.Iov = &u.outVec[sends]
		o.SetIovlen(1)
		o.Name, o.Namelen = m.hdr.Name, m.hdr.Namelen
		o.Control, o.Controllen = m.hdr.Control, m.hdr.Controllen
		o.Flags = 0
		sends++
	}
	u.n, u.sent = sends, 0
	for u.sent < u.n {
		if err := u.raw.Write(u.transmit); err != nil {
			return // closed
		}
		if u.errno != 0 { // the first of the rest cannot be sent, as to a network that is not there
			u.stats.drop(dropSend)
			u.sent++
		}
	}
}

// sendmmsg sends the rest of the batch; false where the socket is full.
func (u *udpSocket) sendmmsg(fd uintptr) bool {
	for u.sent < u.n {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&u.out[u.sent])), uintptr(u.n-u.sent), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			u.sent += int(n)
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			u.errno = errno
			return true
		}
	}
	u.errno = 0
	return true
}

// addrOf reads a socket address of either family.
func addrOf(b *[unix.SizeofSockaddrInet6]byte) (netip.AddrPort, bool) {
	port := binary.BigEndian.Uint16(b[2:])
	switch *(*uint16)(unsafe.Pointer(b)) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), port), true
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), port), true
	}
	return netip.AddrPort{}, false
}

// answerFrom turns the PKTINFO received into one that sends from the address
// the query came to: by any interface, but for link-local addresses.
func answerFrom(control *[controlSize]byte, n int) {
	if n < unix.SizeofCmsghdr {
		return
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(control))
	data := control[unix.SizeofCmsghdr:]
	switch {
	case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO:
		clear(data[0:4])            // interface
		copy(data[4:8], data[8:12]) // source = destination of the query
	case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO:
		if a := netip.AddrFrom16([16]byte(data[:16])); !a.IsLinkLocalUnicast() {
			clear(data[16:20])
		}
	}
}
