package xdp

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// What a tunnel adds to a packet, octets.
const (
	Overhead4 = 20 // outer header IPv4
	Overhead6 = 40 // outer header IPv6
)

// MSS gives the TCP segment size that a gateway behind a tunnel may ask of its
// clients, so that their packets pass a path of that MTU with the tunnel's
// header on. It reckons with the larger outer header.
func MSS(mtu int, v6 bool) int {
	const tcpHeader, ip4, ip6 = 20, 20, 40
	if v6 {
		return mtu - Overhead6 - ip6 - tcpHeader
	}
	return mtu - Overhead6 - ip4 - tcpHeader
}

// ListenControl is for net.ListenConfig.Control: a listener made with it tells
// clients, in its SYN-ACKs, the MSS that passes a tunnel on a path of that
// MTU. Clients whose own link allows less are not affected, so a path that is
// wide enough costs nothing.
func ListenControl(mtu int) func(network, address string, c syscall.RawConn) error {
	return func(network, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) {
			switch network {
			case "tcp4":
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, MSS(mtu, false))
			case "tcp6":
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, MSS(mtu, true))
			}
		})
		if cerr != nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("set the MSS: %w", err)
		}
		return nil
	}
}
