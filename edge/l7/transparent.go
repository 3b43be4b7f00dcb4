package l7

import (
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// transparent makes d connect from an address that is not this machine's, the
// client's, at a port that the kernel picks (ip(7), IP_TRANSPARENT). It takes
// CAP_NET_ADMIN, and routes by which the endpoint's packets for that address come
// back here and are taken for local: docs/resilience.md.
func transparent(d *net.Dialer, network string, from netip.Addr) {
	if network == "udp" {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	} else {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	d.Control = func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = transparentOptions(int(fd), from) }); e != nil {
			return e
		}
		return err
	}
}

func transparentOptions(fd int, from netip.Addr) error {
	level, option := unix.IPPROTO_IP, unix.IP_TRANSPARENT
	if from.Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT
	}
	if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
		return err
	}
	// The port is picked when the endpoint is known, so that there are as many for
	// each client and endpoint. Linux has it at this level for both families.
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
}
