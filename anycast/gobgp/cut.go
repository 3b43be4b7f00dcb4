package gobgp

import (
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// cut ends this process's TCP connections to the neighbors, so that nothing more
// can be said by them: gobgp closes no session without a NOTIFICATION, after
// which a neighbor takes all routes back, restart or not (RFC 4724 section 4).
func cut(neighbors map[netip.Addr]neighbor) error {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range list {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		to, err := unix.Getpeername(fd)
		if err != nil {
			continue
		}
		var at netip.AddrPort
		switch to := to.(type) {
		case *unix.SockaddrInet4:
			at = netip.AddrPortFrom(netip.AddrFrom4(to.Addr), uint16(to.Port))
		case *unix.SockaddrInet6:
			at = netip.AddrPortFrom(netip.AddrFrom16(to.Addr).Unmap(), uint16(to.Port))
		}
		if n, ok := neighbors[at.Addr()]; ok && n.port == at.Port() {
			_ = unix.Shutdown(fd, unix.SHUT_RDWR) // it fails where the neighbor was faster
		}
	}
	return nil
}
