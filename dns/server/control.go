package server

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receiveBuffer is what each UDP socket asks of the kernel, in octets: room
// for bursts of some ten thousand queries.
const receiveBuffer = 8 << 20

// controlUDP sets what a socket needs before it is bound: several sockets for
// one address, the address that each query came to where that may be any
// (answers leave from it), and no path MTU (RFC 9715 section 3.1): what forged ICMP says of it neither makes
// fragments of our answers, which are short enough for any path, nor has them
// refused. To set DF on Linux is to listen to it, which that RFC warns of.
func controlUDP(v6, anywhere bool) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		set := func(fd, level, option, value int) {
			if e := unix.SetsockoptInt(fd, level, option, value); e != nil && err == nil {
				err = e
			}
		}
		if e := c.Control(func(f uintptr) {
			fd := int(f)
			set(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			level, tells, mtu, omit := unix.IPPROTO_IP, unix.IP_PKTINFO, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT
			if v6 {
				level, tells, mtu, omit = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT
			}
			set(fd, level, mtu, omit)
			if anywhere {
				set(fd, level, tells, 1)
			}
			// The first needs CAP_NET_ADMIN, the second is bounded by rmem_max;
			// neither is needed to serve.
			if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
				_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
			}
		}); e != nil {
			return e
		}
		return err
	}
}

// controlTCP lets a new socket listen before the old one at its port closes.
func controlTCP(_, _ string, c syscall.RawConn) error { return reusePort(c, 0) }

// controlQUIC does so for a socket of dns/quic.
func controlQUIC(_, _ string, c syscall.RawConn) error { return reusePort(c, receiveBuffer) }

func reusePort(c syscall.RawConn, buffer int) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		if buffer > 0 && unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
		}
	}); e != nil {
		return e
	}
	return err
}

// kernelDrops is how many datagrams the kernel has thrown away for lack of room
// since the socket was opened; 0 where that cannot be told.
func kernelDrops(c syscall.RawConn) uint64 {
	const drops = 8 // SK_MEMINFO_DROPS, the last of nine numbers
	var info [drops + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	_ = c.Control(func(fd uintptr) {
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			info[drops] = 0
		}
	})
	return uint64(info[drops])
}
