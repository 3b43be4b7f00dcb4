package server

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"meridian/dns/answer"
	"meridian/dns/limit"
)

const (
	batch       = 64                    // messages a system call
	steady      = 16                    // batches after which the runtime hears that work goes on, and
	awake       = 256                   // how often it does from then on
	turns       = 64                    // waits in the kernel before others have a turn
	busy        = 8                     // messages at a time that make it worth to leave the epoll set
	maxQuery    = 4096                  // octets; a longer message is no query that we could answer
	controlSize = 64                    // room for one PKTINFO
	sendWait    = 100                   // milliseconds that answers wait for the interface
	dense       = 50 * time.Microsecond // between batches, so that the next is worth waiting for in the kernel
	apart       = 64                    // octets between buffers, which would else compete for the same lines of the cache
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
	waiting
	local    net.Addr
	stats    *stats
	anywhere bool // bound to no address, so that each message tells the one it came to

	in, out  [batch]mmsghdr
	inVec    [batch]unix.Iovec
	outVec   [batch]unix.Iovec
	names    [batch][unix.SizeofSockaddrInet6]byte
	controls [batch][controlSize]byte
	queries  [batch][maxQuery + apart]byte
	answers  [batch][answer.PayloadUDP]byte
	work     answer.Worker
	client   answer.Client
	tally    tally
	receive  func(uintptr) bool // a method value, made once
	second   int64              // in which notes were begun
	notes    int                // records that may still be kept in it
	received int
	batches  int           // since the socket's goroutine slept last
	waits    int           // of these, such as it waited for in the kernel
	at       time.Time     // of the last batch
	gap      time.Duration // from the one before
	n        int           // messages to be sent, from sent on
	sent     int
	errno    syscall.Errno
}

func newUDPSocket(c *net.UDPConn, anywhere bool, st *stats) (*udpSocket, error) {
	local := c.LocalAddr()
	wait, err := newWaiting(c)
	if err != nil {
		return nil, err
	}
	u := &udpSocket{waiting: wait, local: local, stats: st, anywhere: anywhere, received: batch}
	for i := range batch {
		u.inVec[i].Base = &u.queries[i][0]
		u.inVec[i].SetLen(maxQuery)
		h := &u.in[i].hdr
		h.Iov, h.Name = &u.inVec[i], &u.names[i][0]
		h.SetIovlen(1)
		if anywhere {
			h.Control = &u.controls[i][0]
		}
		u.outVec[i].Base = &u.answers[i][0]
		h = &u.out[i].hdr
		h.Iov = &u.outVec[i]
		h.SetIovlen(1)
	}
	u.receive = u.recvmmsg
	return u, nil
}

// serve answers until ctx ends.
func (u *udpSocket) serve(ctx context.Context, s *Server) error {
	defer context.AfterFunc(ctx, u.stop)()
	defer u.close()
	for {
		u.makeRoom()
		if err := u.poll.Read(u.receive); err != nil || u.errno != 0 {
			if ctx.Err() != nil {
				return nil
			}
			if err == nil && (u.errno == unix.ENOMEM || u.errno == unix.ENOSPC || u.errno == unix.ENOBUFS || u.errno == unix.ENETDOWN) {
				u.stats.drop(dropReceive)
				select { // passes by itself; ENOSPC is that of too many files in epoll sets
				case <-ctx.Done():
				case <-time.After(50 * time.Millisecond):
				}
				continue
			}
			return fmt.Errorf("dns server: receiving on %s: %w", u.local, cmp.Or(err, error(u.errno)))
		}
		u.answerAll(s)
	}
}

// makeRoom takes back what the kernel said of the messages received last.
func (u *udpSocket) makeRoom() {
	for i := range u.received {
		h := &u.in[i].hdr
		h.Namelen, h.Flags = unix.SizeofSockaddrInet6, 0
		if u.anywhere {
			h.SetControllen(controlSize)
		}
	}
	u.received = 0
}

// recvmmsg takes what there is; false where there is nothing yet, and the
// poller will tell. A call that does not wait does not let another goroutine have
// the processor: to get it back costs more than the call. The runtime has to hear
// of one all the same where work goes on: what has goroutines take turns sleeps
// while all do, and is woken by such calls alone.
//
// While messages follow closely on one another, the next is waited for in the
// kernel, which costs less than sleeping by the poller; with a timeout, and but so
// many times, since others have their turn late meanwhile.
func (u *udpSocket) recvmmsg(set uintptr) bool {
	u.errno = 0
	for {
		errno := u.take(unix.MSG_DONTWAIT, u.batches%awake == steady)
		if errno == unix.EAGAIN && u.gap < dense && u.waits < turns {
			u.waits++
			errno = u.take(unix.MSG_WAITFORONE, true)
		}
		switch errno {
		case 0:
			u.batches++
			if u.watched && u.received >= busy {
				u.errno = u.watch(set, false)
			}
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			u.batches, u.waits = 0, 0
			u.work.Rest()
			if !u.watched {
				u.errno = u.watch(set, true)
			}
			return u.errno != 0
		default:
			u.errno = errno
			return true
		}
	}
}

// take is the system call; the runtime hears of it where told is set.
func (u *udpSocket) take(flags uintptr, told bool) syscall.Errno {
	u.calls++
	call := unix.RawSyscall6
	if told {
		call = unix.Syscall6
	}
	n, _, errno := call(unix.SYS_RECVMMSG, u.fd, uintptr(unsafe.Pointer(&u.in[0])), batch, flags, 0, 0)
	if errno == 0 {
		u.received = int(n)
	}
	return errno
}

// answerAll answers the batch received, all from one plan.
func (u *udpSocket) answerAll(s *Server) {
	p, set, now := s.plan.Load(), s.settings.Load(), time.Now()
	if sec := now.Unix(); sec != u.second {
		u.second, u.notes = sec, ringRate
	}
	u.gap, u.at = now.Sub(u.at), now
	sends := 0
	for i := range u.received {
		if n := u.answer(s, p, set, now, i, sends); n > 0 {
			u.put(i, sends, n)
			sends++
		}
	}
	u.stats.countAll(&u.tally)
	u.stats.calls.Store(u.calls)
	u.n = sends
	u.transmit()
}

// transmit sends the answers of the batch.
func (u *udpSocket) transmit() {
	for u.sent = 0; u.sent < u.n; {
		lost := u.sendmmsg()
		u.stats.drops[dropSend].Add(uint64(lost))
		u.sent += lost
	}
}

// answer writes the answer to message i of the batch at place to among those
// that are sent, and gives its length; 0 for none.
func (u *udpSocket) answer(s *Server, p *moment, set *settings, now time.Time, i, to int) int {
	m, out := &u.in[i], u.answers[to][:]
	sender, ok := addrOf(&u.names[i])
	if !ok || m.hdr.Flags&unix.MSG_TRUNC != 0 {
		u.stats.drop(dropOversize)
		return 0
	}
	query, client := u.queries[i][:m.len], sender
	if len(set.proxies) > 0 && set.proxied(sender.Addr()) {
		skip, told, err := parseProxy(query, proxyDatagram)
		if err != nil {
			u.stats.drop(dropProxy)
			return 0
		}
		query = query[skip:]
		if told.IsValid() {
			client = told
		}
	} else if startsProxy(query) {
		u.stats.drop(dropProxy)
		return formErr(query, out)
	}
	u.client.Addr, u.client.Port, u.client.Now = client.Addr(), client.Port(), uint32(u.second)
	n, outcome := p.Reply(&u.work, query, &u.client, out), &u.work.Outcome
	answerFrom(&u.controls[i], int(m.hdr.Controllen))
	if outcome.Special && s.cfg.Special != nil {
		u.stats.handed.Add(1)
		if !u.queueSpecial(s, query, client, sender, u.controls[i][:m.hdr.Controllen]) {
			u.stats.drop(dropSpecial)
		}
		return 0
	}
	u.tally.add(u.stats, outcome)
	what := answered
	if set.limiter != nil && n > 0 && !outcome.Cookie {
		n, what = u.limit(set.limiter, client.Addr(), now, out[:n])
	}
	if u.notes > 0 {
		u.notes--
		u.stats.ring.try(p, &observed{query, out[:n], client, UDP, *outcome, what}, now)
	}
	if s.tapped(u.stats) {
		s.tap(&observed{query, out[:n], client, UDP, *outcome, what}, now)
	}
	return n
}

// limit holds an answer to the rate limit: it gives what is left of it.
func (u *udpSocket) limit(l *limit.Limiter, client netip.Addr, now time.Time, out []byte) (int, fate) {
	switch l.Check(client, now) {
	case limit.Drop:
		u.stats.limited.Add(1)
		return 0, limited
	case limit.Truncate:
		u.stats.slipped.Add(1)
		return truncate(out), slipped
	}
	return len(out), answered
}

// put makes the answer at place to one to be sent to the sender of message i.
func (u *udpSocket) put(i, to, n int) {
	m, o := &u.in[i], &u.out[to].hdr
	u.outVec[to].SetLen(n)
	o.Name, o.Namelen = m.hdr.Name, m.hdr.Namelen
	o.Control, o.Controllen = m.hdr.Control, m.hdr.Controllen
}

// sendmmsg sends the rest of the batch and gives how many messages stand first
// that are not to be sent: one that cannot be, as to a network that is not
// there, or all where the interface does not keep up.
func (u *udpSocket) sendmmsg() (lost int) {
	for u.sent < u.n {
		u.calls++
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, u.fd, uintptr(unsafe.Pointer(&u.out[u.sent])), uintptr(u.n-u.sent), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			u.sent += int(n)
		case unix.EINTR:
		case unix.EAGAIN:
			room := []unix.PollFd{{Fd: int32(u.fd), Events: unix.POLLOUT}}
			u.calls++
			if n, err := unix.Poll(room, sendWait); n == 0 || err != nil && err != unix.EINTR {
				return u.n - u.sent
			}
		default:
			return 1
		}
	}
	return 0
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
